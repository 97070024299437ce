/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  What a runbook measures of the application while it is at work, and what
 *	  it does when the application suffers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_LIMITS_H
#define EVMIG_LIMITS_H

#include "runbook/runbook.h"

#define LIMIT_TEXT_SIZE 200

/* one execution */
typedef struct LimitWatch
{
	Runbook    *rb;
	TimestampTz sampled;		/* when the last sample was taken, or it began */
	bool		has_sample;
	TimestampTz checked;		/* when the limits were looked at */
	bool		index_done;		/* writers need not be away any more */
	char		reached[LIMIT_TEXT_SIZE];	/* the limit that stops it */
} LimitWatch;

/*
 * Keep a sample of the KPIs of the runbook's table, where it is watched; with
 * what happened in the last us microseconds.  Inside SPI.
 */
extern void runbook_sample(Runbook *rb, const char *label, int64 us);

/* A runbook's table is watched from its opening on, where that is possible. */
extern void runbook_watch_table(Oid relid);

/*
 * To be called again and again while a job of the runbook is at work; inside
 * SPI.  True: a limit is reached at which the runbook pauses; the job has been
 * asked to.
 */
extern bool limits_tick(LimitWatch *watch, int64 job);

/*
 * The execution ends: where it was too short for a sample keep one of all of
 * it; inside SPI.
 */
extern void limits_end(LimitWatch *watch);

/* The step is done: was it the last one for which ingest was paused? */
extern void limits_step_done(LimitWatch *watch, const char *step);

/* Let writers go on where this runbook has paused them; inside SPI. */
extern void limits_resume_ingest(Runbook *rb);

/* Let a job go on that was paused at a limit, for the runbook goes on. */
extern void limits_resume_job(Runbook *rb);

#endif							/* EVMIG_LIMITS_H */
