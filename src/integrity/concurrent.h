/*-------------------------------------------------------------------------
 *
 * concurrent.h
 *	  Statements that build and drop indexes beside readers and writers.
 *
 * For workers, outside a transaction; errors are returned in the caller's
 * memory context, not yet reported to anybody, NULL for none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_CONCURRENT_H
#define EVMIG_CONCURRENT_H

#include "job/job.h"

#define NO_TIMEOUT 0

/* Run a statement at top level under its own lock_timeout (ms; NO_TIMEOUT: none). */
extern ErrorData *run_patiently(const char *sql, int lock_timeout);

/*
 * Drop an index of a table (the job's target, or a partition of it) which no
 * build is at work on.  Waits for who else holds SHARE UPDATE EXCLUSIVE on the
 * table.  The judge decides under that lock, in a transaction without a
 * snapshot: false leaves the index alone, true names it.
 */
typedef bool (*IndexJudge) (Job *job, void *arg, Oid *index, char **quoted);
extern ErrorData *drop_index_concurrently(Job *job, Oid table, int lock_timeout, IndexJudge judge, void *arg);

#endif							/* EVMIG_CONCURRENT_H */
