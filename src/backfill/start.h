/*-------------------------------------------------------------------------
 *
 * start.h
 *	  Starting registered backfills.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_START_H
#define EVMIG_START_H

#include "datatype/timestamp.h"
#include "backfill/registry.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

/*
 * Create the job of a backfill whose row is locked; inside SPI.  workers 0: as
 * registered; tenants: text of a text[], NULL for all.  in_session: no worker
 * is started.
 */
extern int64 backfill_create_job(const Backfill *backfill, int workers,
								 const char *tenants, bool in_session);

/* what was due and could not be started */
typedef struct StartFailure
{
	char	   *name;
	char	   *reason;
} StartFailure;

/* what start_all left */
typedef struct StartSummary
{
	TimestampTz since;			/* in: what ended incomplete later is not tried again */
	bool		queue;			/* in: jobs without a free worker wait for one */
	StringInfoData failed;		/* names of what failed, and of what cannot start */
	List	   *not_started;	/* the latter: StartFailure */
	int			busy;			/* at work, or waiting for a free worker */
} StartSummary;

/*
 * Start what is due; returns the jobs.  What cannot start is a WARNING.  Inside
 * SPI.  summary may be NULL; what it is to hold is zero.
 */
extern int64 *start_all(const char *max_priority, int *njobs, StartSummary *summary);

#endif							/* EVMIG_START_H */
