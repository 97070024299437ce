/*-------------------------------------------------------------------------
 *
 * run.c
 *	  Procedures that run registered backfills: one in the calling session,
 *	  or all that are due by workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "backfill/start.h"
#include "base/latch.h"
#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/job.h"
#include "job/worker.h"

#define POLL_MS 500

PG_FUNCTION_INFO_V1(evmig_backfill_run);
PG_FUNCTION_INFO_V1(evmig_backfill_run_all);

/*
 * Code of the table runs in this session, so the session must be logged in as
 * the role that a worker would be: from any other one, RESET SESSION
 * AUTHORIZATION in a trigger would climb out.
 */
static void
require_session_role(const Backfill *backfill, Oid role)
{
	if (GetUserId() != role || GetSessionUserId() != role)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("backfill \"%s\" must be run by role \"%s\" itself", backfill->name,
						GetUserNameFromId(role, false)),
				 errdetail("The table's triggers and expressions would run with the rights of this session, which is logged in as \"%s\".",
						   GetUserNameFromId(GetSessionUserId(), false)),
				 errhint("Log in as that role, or use evmig_backfill_start.")));
}

static void
require_read_committed(void)
{
	if (XactIsoLevel != XACT_READ_COMMITTED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a backfill runs only at isolation level read committed"),
				 errhint("Set default_transaction_isolation to 'read committed'.")));
}

/* The job to work on: a new one, or one that waits for somebody. */
static int64
session_job(const char *name)
{
	Backfill   *backfill;
	char	   *state;
	Oid			run_as;
	int64		job;

	backfill = backfill_load(name);
	require_session_role(backfill, job_role(backfill->target));
	job = backfill_active_job(name, &state, &run_as);
	if (job == 0)
		return backfill_create_job(backfill, 1, NULL, true);
	if (job_lock_is_held(job, JOB_LOCK_LEADER))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " of backfill \"%s\" is %s", job, name, state),
				 errhint("CALL evmig_wait(" INT64_FORMAT ").", job)));
	if (run_as != GetUserId())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("job " INT64_FORMAT " of backfill \"%s\" runs as role \"%s\"", job, name,
						GetUserNameFromId(run_as, true)),
				 errhint("Cancel it first.")));
	if (strcmp(state, "paused") == 0)
		job_set_state(job, "queued");
	return job;
}

/*
 * CALL evmig_backfill_run(name text)
 *
 * Run the backfill in this session, committing each batch, with its progress
 * as NOTICEs; raises an error unless it succeeded.  A cancel ends the job; what
 * was committed stays.
 */
Datum
evmig_backfill_run(PG_FUNCTION_ARGS)
{
	char	   *name;
	char	   *state;
	int64		job;
	SqlArgs		args = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
	require_nonatomic(fcinfo, "evmig_backfill_run");
	require_writable();
	require_read_committed();
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	spi_begin_nonatomic();
	job = session_job(name);
	spi_commit();
	run_in_session(job);
	arg_int8(&args, job);
	spi_catalog("SELECT state, changed, unchanged, failed FROM evmig.job j,"
				" LATERAL (SELECT coalesce(sum(changed), 0)::bigint AS changed,"
				"  coalesce(sum(unchanged), 0)::bigint AS unchanged, coalesce(sum(failed), 0)::bigint AS failed"
				"  FROM evmig.job_chunk c WHERE c.job_id = j.job_id) c WHERE job_id = $1", &args);
	state = spi_text(0, 0);
	if (strcmp(state, "succeeded") != 0)
		raise_job_error(job, state);
	ereport(NOTICE,
			(errmsg("job " INT64_FORMAT " (%s) %s: %s rows changed, %s left as they are, %s failed",
					job, name, state, spi_text(0, 1), spi_text(0, 2), spi_text(0, 3))));
	spi_end();
	PG_RETURN_VOID();
}

/* ---- all ---- */

/* Names of the backfills whose job somebody has stopped meanwhile. */
static void
collect_failures(List *jobs, StringInfo failed)
{
	ListCell   *lc;

	foreach(lc, jobs)
	{
		SqlArgs		args = {0};

		arg_int8(&args, *(int64 *) lfirst(lc));
		if (spi_catalog("SELECT pg_catalog.format('\"%s\"', name),"
						" pg_catalog.format('%s%s', state, ': ' || message)"
						" FROM evmig.job WHERE job_id = $1"
						" AND state IN ('cancelled', 'paused')", &args) > 0)
			appendStringInfo(failed, "%s%s (%s)", failed->len ? ", " : "",
							 spi_text(0, 0), spi_text(0, 1));
	}
}

/* Wait without a snapshot for a moment. */
static void
wait_a_moment(void)
{
	spi_commit();
	latch_pause_bare(POLL_MS);
}

/*
 * CALL evmig_backfill_run_all(timeout interval DEFAULT NULL)
 *
 * Start what is due until nothing is, and wait for it; raises an error that
 * names what failed, so that a scheduler's log says so.  After the timeout it
 * raises query_canceled, and the jobs go on.
 */
Datum
evmig_backfill_run_all(PG_FUNCTION_ARGS)
{
	TimestampTz start = GetCurrentTimestamp();
	int64		timeout_ms = PG_ARGISNULL(0) ? -1 : interval_ms(PG_GETARG_INTERVAL_P(0), "timeout");
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	List	   *jobs = NIL;
	StartSummary summary = {0};

	require_nonatomic(fcinfo, "evmig_backfill_run_all");
	require_writable();
	context = AllocSetContextCreate(caller, "evmig run all", ALLOCSET_SMALL_SIZES);
	spi_begin_nonatomic();
	for (;;)
	{
		int64	   *started;
		int			n;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		summary.busy = 0;
		summary.not_started = NIL;
		summary.since = start;
		initStringInfo(&summary.failed);
		started = start_all("low", &n, &summary);
		MemoryContextSwitchTo(caller);
		for (int i = 0; i < n; i++)
		{
			int64	   *job = palloc(sizeof(int64));

			*job = started[i];
			jobs = lappend(jobs, job);
		}
		if (summary.busy == 0)
			break;
		if (timeout_ms >= 0 && TimestampDifferenceExceeds(start, GetCurrentTimestamp(), timeout_ms))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("%d backfills are not done yet", summary.busy),
					 errdetail("The waiting ended, the jobs go on.")));
		wait_a_moment();
	}
	collect_failures(jobs, &summary.failed);
	if (summary.failed.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfills failed: %s", summary.failed.data),
				 errhint("SELECT * FROM evmig_jobs shows why; evmig_backfill_start starts one again.")));
	spi_end();
	MemoryContextDelete(context);
	PG_RETURN_VOID();
}
