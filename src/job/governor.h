/*-------------------------------------------------------------------------
 *
 * governor.h
 *	  Makes a job yield to the application: reads the throttle signals, rests
 *	  as long as they ask for, and says which of them is biting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GOVERNOR_H
#define EVMIG_GOVERNOR_H

#include "job/job.h"
#include "job/pace.h"

typedef struct Governor Governor;

/* Define the settings of each signal; from _PG_init. */
extern void governor_settings(void);

/* A pace as the settings say now. */
extern void governor_pace_init(Pace *pace);

/*
 * Before a worker's first batch: wait as long as a signal says stop.  Outside
 * a transaction; resets job->batch_context; raises what worker_sleep() raises.
 */
extern void governor_wait(Job *job);

/*
 * Rest after a batch, in place of worker_sleep(): for rest ms, which
 * pace_next() returned, and longer while a signal bites.  Limits and pace are
 * read again at least once a second.  Outside a transaction; resets
 * job->batch_context; raises what worker_sleep() raises.
 */
extern void governor_rest(Job *job, Pace *pace, double rest);

/*
 * Look, at most once a second, who waits for the locks of a transaction that
 * is about to commit; from job_commit(), inside SPI with a snapshot.
 */
extern void governor_before_commit(Job *job);

/* The batches are over: write down what was counted.  Outside a transaction. */
extern void governor_end(Job *job);

#endif							/* EVMIG_GOVERNOR_H */
