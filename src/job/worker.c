/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Background worker entry and loop.
 *
 * A worker logs in as the job's role itself, so code of the table cannot
 * climb out of it.  The leader holds the job's session lock as long as it
 * lives: that, not a pid, says that the job is alive.  Helpers hold a second
 * lock in shared mode; the leader waits for it before it counts the result.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/chunk.h"
#include "job/governor.h"
#include "job/kinds.h"
#include "job/launcher.h"
#include "job/recover.h"
#include "job/worker.h"

#define MAX_RETRIES 10
#define RETRY_FIRST_MS 100.0
#define RETRY_LAST_MS 5000.0
#define HELPER_POLL_MS 50

/* one protected call, and what came of it */
typedef bool (*JobStep) (Job *job);
typedef struct Attempt
{
	bool		more;			/* what the step returned */
	ErrorData  *error;			/* NULL if it went well */
	bool		timed_out;		/* the error is a statement timeout */
} Attempt;

/* ---- protected steps ---- */

static bool
step_check(Job *job)
{
	worker_check(job);
	return false;
}

static bool
step_prepare(Job *job)
{
	job->kind->prepare(job);
	return false;
}

static bool
step_batch(Job *job)
{
	bool		more;

	worker_check(job);
	if (!job->in_session)
		pgstat_report_activity(STATE_RUNNING, job->name);
	more = job->kind->batch(job);
	if (job->in_session)
		notice_job(job);
	return more;
}

static bool
step_governor_end(Job *job)
{
	governor_end(job);
	return false;
}

static bool
step_verify(Job *job)
{
	if (!job->in_session)
		pgstat_report_activity(STATE_RUNNING, job->name);
	return job->kind->verify(job);
}

/* The server gives both the same SQLSTATE; message_id is not translated. */
bool
is_statement_timeout(Job *job, const ErrorData *error)
{
	if (job->deadline != 0 && GetCurrentTimestamp() >= job->deadline)
		return false;
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->message_id != NULL &&
		strcmp(error->message_id, "canceling statement due to statement timeout") == 0;
}

/* Run a step; an error is caught, rolled back and returned. */
static Attempt
attempt(Job *job, JobStep step)
{
	Attempt		result = {0};
	volatile bool more = false;
	ErrorData  *volatile error = NULL;

	job->no_retry = false;
	MemoryContextReset(job->batch_context);
	MemoryContextSwitchTo(job->batch_context);
	PG_TRY();
	{
		more = step(job);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(job->context);
		error = CopyErrorData();
		FlushErrorState();
		job_abort(job);
	}
	PG_END_TRY();

	result.more = more;
	result.error = error;
	result.timed_out = error && is_statement_timeout(job, error);
	return result;
}

static bool
is_retryable(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

static bool
step_backoff(Job *job)
{
	worker_sleep(job, job->backoff_ms * (0.5 + pg_prng_double(&pg_global_prng_state)));
	job->backoff_ms = Min(job->backoff_ms * 2, RETRY_LAST_MS);
	return false;
}

/*
 * Run a step.  Deadlocks, serialization failures and lock timeouts are retried
 * with back-off, at most ten times in a row.
 */
static Attempt
once(Job *job, JobStep step)
{
	int			retries = 0;

	job->backoff_ms = RETRY_FIRST_MS;
	for (;;)
	{
		Attempt		result = attempt(job, step);

		if (result.error == NULL)
			return result;
		if (job->no_retry || !is_retryable(result.error) || ++retries > MAX_RETRIES)
			return result;
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT ": attempt %d of %d failed: %s",
						job->id, retries, MAX_RETRIES, result.error->message)));
		FreeErrorData(result.error);
		result = attempt(job, step_backoff);
		if (result.error)
			return result;
	}
}

/* Run a step until it says that nothing is left, or fails for good. */
static Attempt
run_until_done(Job *job, JobStep step)
{
	Attempt		result;

	do
		result = once(job, step);
	while (result.error == NULL && result.more);
	return result;
}

void
worker_run_kind(Job *job, const char *name)
{
	const JobKind *kind = job_kind(name);
	void	   *state = job->state;

	job->state = NULL;
	PG_TRY();
	{
		MemoryContextReset(job->batch_context);
		kind->prepare(job);
		do
		{
			worker_check(job);
			MemoryContextReset(job->batch_context);
		} while (kind->batch(job));
	}
	PG_FINALLY();
	{
		job->state = state;
	}
	PG_END_TRY();
}

/* ---- how a job ends ---- */

/* Write state and error of a job that ends here. */
static void
finish(Job *job, const char *state, const ErrorData *error)
{
	SqlArgs		args = {0};

	MemoryContextReset(job->batch_context);
	job_begin(job);
	arg_int8(&args, job->id);
	arg_datum(&args, INT8OID, Int64GetDatum(job->remaining), job->outcome == NULL);
	arg_jsonb(&args, job->result);
	arg_text(&args, error ? unpack_sql_state(error->sqlerrcode) : NULL);
	arg_text(&args, error ? error->message : job->message);
	arg_text(&args, error ? error->detail : NULL);
	arg_text(&args, error ? error->hint : NULL);
	spi_catalog("UPDATE evmig.job SET remaining = $2, result = coalesce($3, result), sqlstate = $4,"
				" message = $5, detail = $6, hint = $7 WHERE job_id = $1", &args);
	job_set_state(job->id, state);
	job_commit(job);
	ereport(LOG,
			(errmsg("evmig job " INT64_FORMAT " (%s) %s%s%s", job->id, job->name, state,
					error || job->message ? ": " : "",
					error ? error->message : job->message ? job->message : "")));
}

/* An error ended the work: asked for, or a failure. */
static void
finish_with_error(Job *job, const Attempt *failed)
{
	const char *state = "failed";

	if (failed->error->sqlerrcode == ERRCODE_QUERY_CANCELED && !failed->timed_out)
	{
		char	   *request = worker_request(job);

		state = request && strcmp(request, "pause") == 0 ? "paused" : "cancelled";
		job->message = NULL;
		if (request != NULL && strcmp(request, "stop") != 0)
		{
			job->outcome = NULL;
			finish(job, state, NULL);
			return;
		}
	}
	job->outcome = NULL;
	finish(job, state, failed->error);
}

/* ---- leader and helpers ---- */

/*
 * Wait until no helper is at work any more and take back the chunks that they
 * left; returns true if there is work again.
 */
static bool
step_reclaim(Job *job)
{
	SqlArgs		args = {0};
	bool		left;

	while (!job_lock_try(job->id, JOB_LOCK_HELPER, ExclusiveLock))
		worker_sleep(job, HELPER_POLL_MS);

	job_begin(job);
	chunks_reclaim(job);
	arg_int8(&args, job->id);
	left = spi_catalog("SELECT 1 FROM evmig.job_chunk WHERE job_id = $1 AND state = 'todo' LIMIT 1",
					   &args) > 0;
	job_commit(job);

	job_unlock(job->id, JOB_LOCK_HELPER, ExclusiveLock);
	return left;
}

/* Make helpers leave at their next batch; the job is about to end. */
static bool
step_stop_helpers(Job *job)
{
	SqlArgs		args = {0};

	job_begin(job);
	arg_int8(&args, job->id);
	spi_catalog("UPDATE evmig.job SET request = 'stop' WHERE job_id = $1 AND request IS NULL",
				&args);
	job_commit(job);
	return step_reclaim(job);
}

static void
start_helpers(Job *job)
{
	if (!job->kind->parallel)
		return;
	for (int i = 1; i < job->workers; i++)
		if (!worker_start(job->id, MyDatabaseId, job->run_as, i))
		{
			ereport(LOG,
					(errmsg("evmig job " INT64_FORMAT " works with %d of %d workers: no background worker is free",
							job->id, i, job->workers),
					 errhint("Raise max_worker_processes.")));
			break;
		}
}

/* The leader's way through a job; returns the failed attempt, or one without error. */
static Attempt
lead(Job *job)
{
	Attempt		result;

	result = run_until_done(job, step_check);
	if (result.error == NULL)
		result = attempt(job, step_reclaim);
	if (result.error == NULL)
		result = run_until_done(job, step_prepare);
	if (result.error == NULL)
		start_helpers(job);
	while (result.error == NULL)
	{
		result = run_until_done(job, step_batch);
		if (result.error == NULL)
			result = attempt(job, step_governor_end);
		else
			(void) attempt(job, step_governor_end);
		if (result.error == NULL)
			result = attempt(job, step_reclaim);
		if (result.error == NULL && !result.more)
			result = once(job, step_verify);
		if (!result.more)
			break;
	}
	if (result.error && job->kind->parallel && job->workers > 1)
		(void) attempt(job, step_stop_helpers);
	return result;
}

/* a transaction of the worker's own, beside those of its job */
static void
begin_look(void)
{
	StartTransactionCommand();
	spi_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_look(void)
{
	PopActiveSnapshot();
	spi_end();
	CommitTransactionCommand();
}

/*
 * Load the job and, as leader, mark it running.  NULL if there is nothing to
 * do: the job is gone, or not in a state to be worked on.
 */
static Job *
load_job(int64 job_id, bool leader)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "evmig job",
												  ALLOCSET_DEFAULT_SIZES);
	Job		   *job = NULL;
	SqlArgs		args = {0};
	char	   *state;

	begin_look();
	arg_int8(&args, job_id);
	if (spi_catalog("SELECT state FROM evmig.job WHERE job_id = $1", &args) > 0)
	{
		state = spi_text(0, 0);
		if (strcmp(state, "running") == 0 || (leader && strcmp(state, "queued") == 0))
			job = job_load(job_id, context);
	}
	if (job)
	{
		job->leader = leader;
		if (leader && strcmp(state, "running") == 0)
			count_restart(job_id);
		if (leader)
			job_set_state(job_id, "running");
		job_apply_settings(job);
	}
	end_look();
	return job;
}

/* ---- places and turns ---- */

static bool
take_lock(int64 id, JobLock kind, LOCKMODE mode)
{
	bool		taken;

	StartTransactionCommand();
	taken = job_lock_try_hard(id, kind, mode);
	CommitTransactionCommand();
	return taken;
}

/* The job, whose lock is ours, has to wait: say why in its row; somebody who ends starts it. */
static void
leave_queued(int64 job_id, const char *why)
{
	SqlArgs		args = {0};

	begin_look();
	arg_int8(&args, job_id);
	arg_text(&args, why);
	if (spi_catalog("UPDATE evmig.job SET phase = $2 WHERE job_id = $1 AND state IN ('queued', 'running')"
					" RETURNING state = 'running'", &args) > 0 && spi_bool(0, 0))
	{
		count_restart(job_id);
		job_set_state(job_id, "queued");
	}
	end_look();
}

/* May the job, whose lock is ours, begin now?  Else it is queued.  Takes its turn, where it has one. */
static bool
may_begin(int64 job_id, Oid *turn)
{
	begin_look();
	*turn = job_turn(job_id);
	end_look();
	if (!worker_has_place(true))
		leave_queued(job_id, "waiting for a worker: evmig.max_workers are at work");
	else if (OidIsValid(*turn) && !take_lock((int64) *turn, JOB_LOCK_TURN, ExclusiveLock))
		leave_queued(job_id, WAITS_FOR_TURN);
	else
		return true;
	return false;
}

/*
 * Become the job's leader; false: another worker is, or the job has to wait.
 * Who ended while we were at it took our lock for that of a worker at work, so
 * without it we look once more.
 */
static bool
become_leader(int64 job_id, Oid *turn)
{
	bool		again;

	do
	{
		if (!take_lock(job_id, JOB_LOCK_LEADER, ExclusiveLock))
			return false;
		if (may_begin(job_id, turn))
			return true;
		job_unlock(job_id, JOB_LOCK_LEADER, ExclusiveLock);
		begin_look();
		again = !turn_is_taken(*turn);
		end_look();
	} while (again && worker_has_place(false));
	return false;
}

/* This worker is at its end: start the job that waits longest. */
static void
start_next(int64 job_id, Oid turn)
{
	int			unfinished;

	if (OidIsValid(turn))
		job_unlock((int64) turn, JOB_LOCK_TURN, ExclusiveLock);
	job_unlock(job_id, JOB_LOCK_LEADER, ExclusiveLock);
	begin_look();
	(void) jobs_recover(RECOVER_QUEUED, &unfinished);
	end_look();
}

void
lead_to_the_end(Job *job)
{
	Attempt		result = lead(job);

	/* a cancel that comes now comes too late: the end must be written down */
	HOLD_CANCEL_INTERRUPTS();
	if (result.error)
		finish_with_error(job, &result);
	else
		finish(job, job->outcome, NULL);
	RESUME_CANCEL_INTERRUPTS();
}

static void
run_leader(int64 job_id)
{
	Job		   *job;
	Oid			turn;

	if (!become_leader(job_id, &turn))
		return;
	job = load_job(job_id, true);
	if (job)
		lead_to_the_end(job);
	HOLD_CANCEL_INTERRUPTS();
	start_next(job_id, turn);
	RESUME_CANCEL_INTERRUPTS();
}

static void
run_helper(int64 job_id)
{
	Job		   *job;
	Attempt		result;

	if (!take_lock(job_id, JOB_LOCK_HELPER, ShareLock))
		return;					/* the leader is about to count */
	if (!worker_has_place(true))
		return;					/* the leader does it alone */
	job = load_job(job_id, false);
	if (job == NULL)
		return;

	/* what it leaves undone the leader takes back, and fails at it if it must */
	result = run_until_done(job, step_prepare);
	if (result.error == NULL)
		result = run_until_done(job, step_batch);
	if (result.error && result.error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT ": a helper stopped: %s",
						job_id, result.error->message)));
}

/* ---- entry ---- */

void
evmig_worker_main(Datum main_arg)
{
	WorkerArgs	args;
	char		name[NAMEDATALEN];

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));

	/* cancel and terminate work as for any backend */
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(args.database, args.role, 0);

	job_pin_worker();
	snprintf(name, sizeof(name), "evmig job " INT64_FORMAT, args.job_id);
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_SESSION);

	if (args.number == 0)
		run_leader(args.job_id);
	else
		run_helper(args.job_id);
}
