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
	RECOVER_ALL					/* anybody's, but none that keeps dying */
} RecoverWhat;

/*
 * Start a worker when the transaction commits for each job that should have
 * one and has none, as long as evmig.max_workers allows; returns how many.
 * *unfinished: how many jobs should be at work.  Inside SPI.
 */
extern int	jobs_recover(RecoverWhat what, int *unfinished);

/* Workers that evmig.max_workers leaves room for, beside those at work; inside SPI. */
extern int	free_workers(void);

/*
 * Is this worker among the evmig.max_workers oldest ones of the cluster?
 * Waits a second for one to end.  Outside a transaction.
 */
extern bool worker_has_place(void);

#endif							/* EVMIG_RECOVER_H */
