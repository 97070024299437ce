/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  What a job does between its transactions: it hears requests, sleeps,
 *	  and polls for a strong lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/lock.h"
#include "job/worker.h"

char *
worker_request(Job *job)
{
	char	   *request;
	int			version = job->settings_version;

	job_begin(job);
	request = job_requested(job->id, &version);
	if (version != job->settings_version)
		job_apply_settings(job);
	job_commit(job);
	return request;
}

void
worker_check(Job *job)
{
	CHECK_FOR_INTERRUPTS();
	if (worker_request(job) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling job " INT64_FORMAT " as requested", job->id)));
}

void
worker_sleep(Job *job, double ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) ms);

	/* a procedure's session goes on being active */
	if (job->in_session)
		InvalidateCatalogSnapshotConditionally();
	else
		pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (left <= 0)
			break;
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  left, PG_WAIT_EXTENSION) & WL_LATCH_SET)
		{
			/* perhaps somebody asked for something */
			ResetLatch(MyLatch);
			worker_check(job);
		}
	}
}

void
worker_lock_target(Job *job, LOCKMODE mode)
{
	worker_lock_relation(job, job->target, mode);
}

void
worker_lock_relation(Job *job, Oid relid, LOCKMODE mode)
{
	worker_lock_relations(job, list_make1_oid(relid), mode, NULL);
}

void
worker_lock_relations(Job *job, List *relids, LOCKMODE mode, const char *hint)
{
	LockPoll	poll;

	job->no_retry = true;		/* giving up is meant */
	lock_poll_start(&poll, linitial_oid(relids), mode);
	poll.hint = hint;
	for (;;)
	{
		job_begin_bare(job);
		if (lock_poll_try_all(&poll, relids))
			break;
		job_commit(job);
		worker_sleep(job, lock_poll_pause(&poll));
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	job->no_retry = false;
}
