/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  What a person does with jobs: look, wait, pause, resume, cancel, set.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/latch.h"
#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/job.h"
#include "job/recover.h"
#include "job/worker.h"

#define POLL_MS 100
#define RESTART_MS 2000
#define MAX_STARTS 5

PG_FUNCTION_INFO_V1(evmig_job_interrupted);
PG_FUNCTION_INFO_V1(evmig_job_pause);
PG_FUNCTION_INFO_V1(evmig_job_resume);
PG_FUNCTION_INFO_V1(evmig_job_cancel);
PG_FUNCTION_INFO_V1(evmig_job_set);
PG_FUNCTION_INFO_V1(evmig_stop_all);
PG_FUNCTION_INFO_V1(evmig_wait);

/* a job's row as the functions here need it */
typedef struct JobState
{
	char	   *state;
	Oid			owner;
	Oid			run_as;
	char	   *phase;
	double		percent;
	int64		changed;
	char	   *message;
	char	   *detail;
	char	   *hint;
	char	   *sqlstate;
} JobState;

static void
no_such_job(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("job " INT64_FORMAT " does not exist", id),
			 errhint("SELECT * FROM evmig_jobs shows the jobs that you may see.")));
}

/* Read a job's row; inside SPI.  False if there is none. */
static bool
read_job(int64 id, JobState *state)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	if (spi_catalog("SELECT j.state, j.owner, j.run_as, coalesce(j.phase, ''), j.message, j.detail,"
					" j.hint, j.sqlstate, coalesce(j.progress * 100, c.percent, 0)::float8,"
					" coalesce(c.changed, 0)::bigint"
					" FROM evmig.job j LEFT JOIN LATERAL"
					" (SELECT 100.0 * sum(CASE WHEN state = 'done' OR pass > 1 THEN block_to - block_from"
					"   ELSE (pg_catalog.split_part(pg_catalog.btrim(cursor::text, '()'), ',', 1))::bigint - block_from END)"
					"  / nullif(sum(block_to - block_from), 0) AS percent, sum(changed) AS changed"
					"  FROM evmig.job_chunk WHERE job_id = j.job_id) c ON true"
					" WHERE j.job_id = $1", &args) == 0)
		return false;
	state->state = spi_text(0, 0);
	state->owner = spi_oid(0, 1);
	state->run_as = spi_oid(0, 2);
	state->phase = spi_text(0, 3);
	state->message = spi_text(0, 4);
	state->detail = spi_text(0, 5);
	state->hint = spi_text(0, 6);
	state->sqlstate = spi_text(0, 7);
	state->percent = spi_float8(0, 8);
	state->changed = spi_int8(0, 9);
	return true;
}

/* Raise unless the current user may steer the job; the job stays locked. */
static void
require_job(int64 id, JobState *state)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	spi_catalog("SELECT 1 FROM evmig.job WHERE job_id = $1 FOR UPDATE", &args);
	if (!read_job(id, state))
		no_such_job(id);

	/* others' jobs are not visible, so they do not exist */
	if (!has_privs_of_role(GetUserId(), state->owner) &&
		!has_privs_of_role(GetUserId(), state->run_as))
		no_such_job(id);
}

static bool
is_final(const char *state)
{
	return strcmp(state, "succeeded") == 0 || strcmp(state, "incomplete") == 0 ||
		strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
}

/*
 * evmig.job_interrupted(job bigint) returns boolean
 *
 * Is nobody at work on a job that is running?  For views and reports, whose
 * snapshot may be older than the end of the job: its worker writes that while
 * it lives, so the row is read after the look at the lock.
 */
Datum
evmig_job_interrupted(PG_FUNCTION_ARGS)
{
	SqlArgs		args = {0};
	bool		interrupted;

	if (job_lock_is_held(PG_GETARG_INT64(0), JOB_LOCK_LEADER))
		PG_RETURN_BOOL(false);
	spi_begin();
	arg_int8(&args, PG_GETARG_INT64(0));
	interrupted = spi_catalog("SELECT 1 FROM evmig.job WHERE job_id = $1 AND state = 'running'", &args) > 0;
	spi_end();
	PG_RETURN_BOOL(interrupted);
}

/* ---- pause, resume, cancel ---- */

/*
 * Ask a job to pause or cancel.  A job that no worker is at is put into that
 * state here; a worker at work is asked, and cancel interrupts its statement.
 */
static void
request_job(int64 id, const char *request, const char *state_name)
{
	JobState	state;
	SqlArgs		args = {0};

	require_writable();
	spi_begin();
	require_job(id, &state);
	if (job_lock_is_held(id, JOB_LOCK_LEADER) && strcmp(state.state, "running") == 0)
	{
		arg_int8(&args, id);
		arg_text(&args, request);
		spi_catalog("UPDATE evmig.job SET request = $2 WHERE job_id = $1", &args);
		tell_workers_at_commit(id, state.run_as, strcmp(request, "cancel") == 0);
	}
	else if (strcmp(state.state, state_name) != 0)
		job_set_state(id, state_name);
	spi_end();
}

Datum
evmig_job_pause(PG_FUNCTION_ARGS)
{
	request_job(PG_GETARG_INT64(0), "pause", "paused");
	PG_RETURN_VOID();
}

void
job_cancel(int64 id)
{
	request_job(id, "cancel", "cancelled");
}

Datum
evmig_job_cancel(PG_FUNCTION_ARGS)
{
	job_cancel(PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

Datum
evmig_job_resume(PG_FUNCTION_ARGS)
{
	int64		id = PG_GETARG_INT64(0);
	JobState	state;

	require_writable();
	spi_begin();
	require_job(id, &state);
	if (strcmp(state.state, "paused") == 0)
		job_set_state(id, "queued");
	else if (strcmp(state.state, "running") == 0 && job_lock_is_held(id, JOB_LOCK_LEADER))
	{
		/* a pause that has not acted yet is taken back */
		SqlArgs		args = {0};

		arg_int8(&args, id);
		spi_catalog("UPDATE evmig.job SET request = NULL WHERE job_id = $1 AND request = 'pause'", &args);
		spi_end();
		PG_RETURN_VOID();
	}
	else if (strcmp(state.state, "running") != 0 && strcmp(state.state, "queued") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is %s and cannot be resumed", id, state.state),
				 errhint("Start a new job; what this one has done stays done.")));
	spi_end();
	worker_start_at_commit(id, state.run_as);
	PG_RETURN_VOID();
}

/*
 * evmig_stop_all() returns int
 *
 * Cancel each job that is queued or running and that the caller may steer, when
 * the transaction commits.  Returns how many.
 */
Datum
evmig_stop_all(PG_FUNCTION_ARGS)
{
	SqlArgs		args = {0};
	int			n;
	int64	   *ids;

	require_writable();
	spi_begin();
	arg_oid(&args, GetUserId());
	n = (int) spi_catalog("SELECT job_id FROM evmig.job WHERE state IN ('queued', 'running')"
						  " AND (pg_catalog.pg_has_role($1, owner, 'USAGE')"
						  "  OR pg_catalog.pg_has_role($1, run_as, 'USAGE')) ORDER BY job_id", &args);
	ids = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
		ids[i] = spi_int8(i, 0);
	for (int i = 0; i < n; i++)
		job_cancel(ids[i]);
	spi_end();
	PG_RETURN_INT32(n);
}

/* ---- settings of one job ---- */

/*
 * evmig_job_set(job bigint, setting text, value text) returns void
 *
 * Change a setting of one job, at work or not; NULL takes it back to what role,
 * database and server say.  A worker acts on it within two seconds.  Raises
 * what SET would raise.
 */
Datum
evmig_job_set(PG_FUNCTION_ARGS)
{
	int64		id;
	char	   *value = ARG_TEXT(2);
	char	   *name;
	JobState	state;
	SqlArgs		args = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job and setting must not be null")));
	id = PG_GETARG_INT64(0);
	require_writable();
	name = job_check_setting(text_to_cstring(PG_GETARG_TEXT_PP(1)), value);
	spi_begin();
	require_job(id, &state);
	if (is_final(state.state))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is %s", id, state.state)));
	arg_int8(&args, id);
	arg_text(&args, name);
	arg_text(&args, value);
	spi_catalog("UPDATE evmig.job SET settings = settings || pg_catalog.jsonb_build_object($2, $3),"
				" settings_version = settings_version + 1 WHERE job_id = $1", &args);
	tell_workers_at_commit(id, state.run_as, false);
	spi_end();
	PG_RETURN_VOID();
}

/* ---- waiting ---- */

/* A NOTICE when the phase changed, or another tenth is done. */
static void
notice_progress(int64 id, const JobState *state, char *last_phase, int *last_tenth)
{
	int			tenth = (int) (state->percent / 10);

	if (strcmp(state->state, "running") != 0 ||
		(strncmp(last_phase, state->phase, NAMEDATALEN - 1) == 0 && tenth == *last_tenth))
		return;
	strlcpy(last_phase, state->phase, NAMEDATALEN);
	*last_tenth = tenth;
	ereport(NOTICE,
			(errmsg("job " INT64_FORMAT ": %s, %d %%, " INT64_FORMAT " rows", id,
					state->phase[0] ? state->phase : "working",
					(int) state->percent, state->changed)));
}

/*
 * Start a job that nobody is at.  A worker that started and never got to the
 * job cannot log in; the server log has its error.
 */
static void
restart_worker(int64 job_id, const JobState *state, int *starts, bool notices)
{
	if (*starts >= MAX_STARTS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " does not start", job_id),
				 errdetail("Its worker was started %d times as role \"%s\" and ended before it reached the job.",
						   *starts, GetUserNameFromId(state->run_as, true)),
				 errhint("The server log says why. Is the role still allowed to log in to this database?")));
	if (worker_start(job_id, MyDatabaseId, state->run_as, 0))
		(*starts)++;
	else if (notices)
		ereport(NOTICE,
				(errmsg("job " INT64_FORMAT ": waiting for a free background worker", job_id),
				 errhint("Raise max_worker_processes.")));
}

void
notice_job(Job *job)
{
	JobState	state;
	int			tenth;

	job_begin(job);
	if (read_job(job->id, &state) &&
		(tenth = (int) (state.percent / 10)) != job->notice_tenth)
	{
		job->notice_tenth = tenth;
		ereport(NOTICE,
				(errmsg("job " INT64_FORMAT " (%s): %d %%, " INT64_FORMAT " rows", job->id,
						job->name, (int) state.percent, state.changed)));
	}
	job_commit(job);
}

static char *
end_wait(MemoryContext caller, MemoryContext context, const char *state)
{
	char	   *result = MemoryContextStrdup(caller, state);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return result;
}

/*
 * Wait for a job within a procedure that may commit (SPI connected
 * nonatomically).  Holds neither a transaction id nor a snapshot while it
 * waits.  Returns the final state, or "paused" or "interrupted" where nobody
 * is at work on it, in the caller's memory; raises query_canceled after
 * timeout_ms (negative: none).
 */
char *
wait_for_job(int64 job_id, int64 timeout_ms, bool notices)
{
	return wait_for_job_ticking(job_id, timeout_ms, notices, NULL, NULL);
}

char *
wait_for_job_ticking(int64 job_id, int64 timeout_ms, bool notices, WaitTick tick, void *arg)
{
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz restarted = start;
	char		last_phase[NAMEDATALEN] = "";
	int			last_tenth = 0;
	bool		was_alive = false;
	int			starts = 0;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "evmig wait", ALLOCSET_SMALL_SIZES);

	for (;;)
	{
		JobState	state;
		bool		alive;
		TimestampTz now;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);

		/* before the row: a worker writes its end while it lives */
		alive = job_lock_is_held(job_id, JOB_LOCK_LEADER);
		if (!read_job(job_id, &state))
			no_such_job(job_id);
		if (!has_privs_of_role(GetUserId(), state.owner) &&
			!has_privs_of_role(GetUserId(), state.run_as))
			no_such_job(job_id);
		if (is_final(state.state) || strcmp(state.state, "paused") == 0)
			return end_wait(caller, context, state.state);
		if (notices)
			notice_progress(job_id, &state, last_phase, &last_tenth);
		if (tick && tick(arg, job_id))
			return end_wait(caller, context, "stopped");

		now = GetCurrentTimestamp();
		if (alive)
			was_alive = true;
		else if (strcmp(state.state, "running") == 0 && was_alive)
			return end_wait(caller, context, "interrupted");
		else if (TimestampDifferenceExceeds(restarted, now, RESTART_MS))
		{
			/* no slot was free, or the server restarted: try again */
			restarted = now;
			if (!job_must_wait(job_id))
				restart_worker(job_id, &state, &starts, notices);
		}
		if (timeout_ms >= 0 && TimestampDifferenceExceeds(start, now, timeout_ms))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("job " INT64_FORMAT " is still %s", job_id, state.state),
					 errdetail("The waiting ended, the job goes on.")));

		spi_commit();
		latch_pause_bare(POLL_MS);
	}
}

/* Raise where a procedure cannot commit: in a transaction block or a function. */
void
require_nonatomic(FunctionCallInfo fcinfo, const char *procedure)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block or a function", procedure),
				 errdetail("It waits for background workers, which would not see what is not committed."),
				 errhint("CALL it on its own, with autocommit on, as the only statement that is sent.")));
}

/* Raise the error that a job ended with; inside SPI. */
void
raise_job_error(int64 job_id, const char *state)
{
	JobState	job;

	if (!read_job(job_id, &job))
		no_such_job(job_id);
	if (strcmp(state, "interrupted") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " was interrupted: its worker is gone", job_id),
				 errhint("SELECT evmig_jobs_recover() starts it again where it stopped.")));
	ereport(ERROR,
			(errcode(job.sqlstate ? MAKE_SQLSTATE(job.sqlstate[0], job.sqlstate[1], job.sqlstate[2],
												  job.sqlstate[3], job.sqlstate[4]) :
					 ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("job " INT64_FORMAT " is %s%s%s", job_id, state,
					job.message ? ": " : "", job.message ? job.message : ""),
			 job.detail ? errdetail("%s", job.detail) : 0,
			 job.hint ? errhint("%s", job.hint) : 0));
}

int64
interval_ms(const Interval *interval, const char *param)
{
	int64		ms = interval->time / 1000 +
		((int64) interval->month * DAYS_PER_MONTH + interval->day) * (USECS_PER_DAY / 1000);

	if (ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", param)));
	return ms;
}

/*
 * CALL evmig_wait(job bigint, timeout interval DEFAULT NULL)
 *
 * Wait until the job has ended, with its progress as NOTICEs; raises an error
 * unless it succeeded.  Takes no lock and holds no snapshot while it waits.
 */
Datum
evmig_wait(PG_FUNCTION_ARGS)
{
	int64		id = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	int64		timeout_ms = -1;
	char	   *state;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job must not be null")));
	require_nonatomic(fcinfo, "evmig_wait");
	if (!PG_ARGISNULL(1))
		timeout_ms = interval_ms(PG_GETARG_INTERVAL_P(1), "timeout");
	spi_begin_nonatomic();
	state = wait_for_job(id, timeout_ms, true);
	if (strcmp(state, "succeeded") != 0)
		raise_job_error(id, state);
	spi_end();
	PG_RETURN_VOID();
}
