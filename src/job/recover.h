/*-------------------------------------------------------------------------
 *
 * recover.h
 *	  Starting jobs again that should be at work, under the limit on workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_RECOVER_H
#define EVMIG_RECOVER_H

#include "base/compat.h"

typedef enum RecoverWhat
{
	RECOVER_OWN,				/* the current user's, as asked for */
	RECOVER_QUEUED,				/* anybody's that wait for a worker */
	RECOVER_ALL					/* anybody's */
} RecoverWhat;

/*
 * Start a worker when the transaction commits for each job that should have
 * one and has none, as long as evmig.max_workers allows; returns how many.
 * *unfinished: how many jobs should be at work, without those that are left
 * interrupted.  Inside SPI.
 */
extern int	jobs_recover(RecoverWhat what, int *unfinished);

/* Workers that evmig.max_workers leaves room for, beside those at work; inside SPI. */
extern int	free_workers(void);

/*
 * The table that jobs of this kind take turns on: its topmost parent, where it
 * is a partition.  InvalidOid for a kind that takes no turns.
 */
extern Oid	turn_of(const char *kind, Oid target);

/* That of a job; inside SPI. */
extern Oid	job_turn(int64 job_id);

/* Has another session the turn?  Of InvalidOid nobody has. */
extern bool turn_is_taken(Oid turn);

/* Would a worker find that its job has to wait, for a place or for its turn?  Inside SPI. */
extern bool job_must_wait(int64 job_id);

/*
 * A job that brings its worker, or the server, down must not do so for ever:
 * its worker counts each start after an interruption, and once too many have
 * not got as far as a batch it is started by name only.  warn: tell the caller
 * so.  Inside SPI.
 */
extern void count_restart(int64 job_id);
extern bool restart_is_due(int64 job_id, bool warn);

/*
 * Is this worker among the evmig.max_workers oldest ones of the cluster?
 * wait: a second for one to end.  Outside a transaction.
 */
extern bool worker_has_place(bool wait);

#endif							/* EVMIG_RECOVER_H */
