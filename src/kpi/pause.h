/*-------------------------------------------------------------------------
 *
 * pause.h
 *	  Pausing the writers of a table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_PAUSE_H
#define EVMIG_KPI_PAUSE_H

#include "kpi/watch.h"
#include "nodes/parsenodes.h"

/*
 * Raise lock_not_available where writes on the relation are paused, unless
 * this is one of our own workers.  In a transaction with a snapshot.
 */
extern void pause_check(WatchEntry *entry);

/*
 * The same for all that a utility statement writes: what a TRUNCATE reaches;
 * the table that a COPY FROM loads (InvalidOid: it is none) and, as nobody knows
 * yet where its rows belong, all partitions.
 */
extern void pause_check_utility(Node *stmt, Oid loads);

/* Is the statement at hand being refused by a pause? */
extern bool pause_refused;

/* Put the pauses that evmig.ingest_pause names into shared memory; inside SPI. */
extern void pause_load(void);

/*
 * Pause, and resume, the writers of a table as the SQL functions do; inside
 * SPI, as the current user.  Pausing raises object_in_use where they are
 * paused already; resuming says false where they are not.
 */
extern void ingest_pause(Oid relid, const char *reason);
extern bool ingest_resume(Oid relid);
extern bool ingest_is_paused(Oid relid);

/* From _PG_init. */
extern void pause_init(void);

#endif							/* EVMIG_KPI_PAUSE_H */
