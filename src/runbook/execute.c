/*-------------------------------------------------------------------------
 *
 * execute.c
 *	  Walk through the steps of a runbook.
 *
 * Each step's start is written down in the transaction that creates its job,
 * its end when the job has ended; a direct step's start and end are one
 * transaction with what it does.  So the events tell at any moment where to go
 * on.  The jobs belong to background workers: whoever waits here may go away.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "evmig.h"
#include "job/job.h"
#include "job/worker.h"
#include "runbook/event.h"
#include "runbook/limits.h"
#include "runbook/step.h"

PG_FUNCTION_INFO_V1(evmig_runbook_execute);

/* how often an incomplete job of one step is followed by another */
#define INCOMPLETE_RETRIES 2

/* what the last sample of the KPIs covers */
#define SAMPLE_AFTER_US INT64CONST(10000000)

/* the step at hand */
typedef struct Progress
{
	Runbook    *rb;
	const StepList *list;
	const Step *step;
	int			number;			/* from 1 */
	bool		redo;			/* an earlier step was done again */
	LimitWatch	watch;
} Progress;

compat_noreturn static void raise_step_error(Progress *p, ErrorData *edata);
compat_noreturn static void step_failed(Progress *p, int64 job, ErrorData *edata);
compat_noreturn static void paused_at_limit(Progress *p);
compat_noreturn static void job_failed(Progress *p, int64 job, const char *state);

/* ---- what the events say ---- */

/* the last event of the step: its name, "" for none; *job is its job */
static char *
last_event(Progress *p, int64 *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, p->rb->id);
	arg_text(&args, p->step->name);
	*job = 0;
	if (spi_catalog("SELECT event, job_id FROM evmig.runbook_event"
					" WHERE runbook_id = $1 AND subject = $2"
					" AND event IN ('step started', 'step done', 'step failed')"
					" ORDER BY seq DESC LIMIT 1", &args) == 0)
		return pstrdup("");
	*job = spi_int8(0, 1);
	return spi_text(0, 0);
}

/* Is the job still to be waited for, or has it succeeded unseen? */
static bool
job_counts(int64 job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job);
	return spi_catalog("SELECT 1 FROM evmig.job WHERE job_id = $1"
					   " AND state IN ('queued', 'running', 'paused', 'succeeded')", &args) > 0;
}

/* The counters and times of a job that has ended, as data of an event. */
static char *
job_figures(int64 job, int64 *rows, double *seconds)
{
	SqlArgs		args = {0};

	arg_int8(&args, job);
	spi_catalog("SELECT coalesce(c.changed, 0)::bigint,"
				" extract(epoch FROM j.finished_at - coalesce(j.started_at, j.created_at))::float8,"
				" pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('kind', j.kind, 'state', j.state,"
				"  'rows_done', coalesce(c.changed, 0), 'rows_skipped', coalesce(c.skipped, 0),"
				"  'rows_unchanged', coalesce(c.unchanged, 0), 'rows_failed', coalesce(c.failed, 0),"
				"  'remaining', j.remaining, 'batches', c.batches, 'message', j.message, 'result', j.result,"
				"  'seconds', pg_catalog.round(extract(epoch FROM j.finished_at"
				"   - coalesce(j.started_at, j.created_at))::numeric, 3)))::text"
				" FROM evmig.job j LEFT JOIN LATERAL (SELECT sum(changed) AS changed, sum(skipped) AS skipped,"
				"  sum(unchanged) AS unchanged, sum(failed) AS failed, sum(batches) AS batches"
				"  FROM evmig.job_chunk WHERE job_id = j.job_id) c ON true"
				" WHERE j.job_id = $1", &args);
	*rows = spi_int8(0, 0);
	*seconds = spi_float8(0, 1);
	return spi_text(0, 2);
}

/* ---- failures ---- */

/* Raise an error with the step's number and what to do next. */
static void
raise_step_error(Progress *p, ErrorData *edata)
{
	edata->message = psprintf("step %d of %d (%s) of runbook " INT64_FORMAT " failed: %s",
							  p->number, p->list->n, p->step->name, p->rb->id, edata->message);
	edata->hint = psprintf("%s%sEverything stays as it is; CALL %s(" INT64_FORMAT ") goes on at this step.",
						   edata->hint ? edata->hint : "", edata->hint ? " " : "",
						   p->list->procedure, p->rb->id);
	ThrowErrorData(edata);
	pg_unreachable();
}

/*
 * Record the failure of a step and raise it.  The transaction must be in
 * order; it is committed.
 */
static void
step_failed(Progress *p, int64 job, ErrorData *edata)
{
	StringInfoData buf;
	int64		rows;
	double		seconds;

	json_begin(&buf);
	json_text(&buf, "sqlstate", unpack_sql_state(edata->sqlerrcode));
	json_text(&buf, "message", edata->message);
	json_text(&buf, "detail", edata->detail);
	if (job != 0)
	{
		(void) job_figures(job, &rows, &seconds);
		json_float8(&buf, "seconds", seconds);
		json_int8(&buf, "rows_done", rows);
	}
	limits_end(&p->watch);
	runbook_event(p->rb->id, EVENT_FAILED, p->step->name, job, json_end(&buf));
	limits_resume_ingest(p->rb);
	spi_commit();
	raise_step_error(p, edata);
}

/*
 * Raise what a job that did not succeed has to say.  One that is paused or
 * lost its worker has not ended: the step is still under way.
 */
static void
job_failed(Progress *p, int64 job, const char *state)
{
	ErrorData  *edata = palloc0(sizeof(ErrorData));
	SqlArgs		args = {0};
	char	   *sqlstate;
	char	   *message;

	arg_int8(&args, job);
	spi_catalog("SELECT sqlstate, message, detail, hint FROM evmig.job WHERE job_id = $1", &args);
	sqlstate = spi_text(0, 0);
	message = spi_text(0, 1);
	edata->elevel = ERROR;
	edata->sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	if (sqlstate)
		edata->sqlerrcode = MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]);
	edata->message = psprintf("job " INT64_FORMAT " is %s%s%s", job, state,
							  message ? ": " : "", message ? message : "");
	edata->detail = spi_text(0, 2);
	edata->hint = spi_text(0, 3);
	if (strcmp(state, "paused") == 0)
	{
		edata->hint = psprintf("SELECT evmig_job_resume(" INT64_FORMAT ") first.", job);
		raise_step_error(p, edata);
	}
	if (strcmp(state, "interrupted") == 0)
		raise_step_error(p, edata);
	step_failed(p, job, edata);
}

/* ---- one step ---- */

typedef struct StepCall
{
	Progress   *progress;
	Target	   *target;
	StringInfoData data;		/* of the event */
	int64		job;			/* 0: the step is done */
} StepCall;

static void
call_step(void *arg)
{
	StepCall   *call = arg;
	Progress   *p = call->progress;

	call->job = p->step->start(p->rb, call->target, &call->data);
}

/*
 * Start the step; a failure is rolled back, recorded and raised.  Returns the
 * job, or 0 when the step is done.
 */
static int64
start_step(Progress *p, Target *target)
{
	StepCall	call = {p, target};
	TimestampTz start = GetCurrentTimestamp();
	ErrorData  *error;

	json_begin(&call.data);
	current_runbook = p->rb->id;
	error = subxact_try(call_step, &call);
	current_runbook = 0;
	if (error && is_cancel(error))
		ReThrowError(error);
	if (error)
		step_failed(p, 0, error);

	if (call.job == 0)
	{
		double		seconds = TimestampDifferenceMilliseconds(start, GetCurrentTimestamp()) / 1000.0;

		json_float8(&call.data, "seconds", seconds);
		runbook_event(p->rb->id, EVENT_STARTED, p->step->name, 0, NULL);
		runbook_event(p->rb->id, EVENT_DONE, p->step->name, 0, json_end(&call.data));
		ereport(NOTICE,
				(errmsg("step %d of %d: %s: done in %.1f s",
						p->number, p->list->n, p->step->name, seconds)));
	}
	else
		runbook_event(p->rb->id, EVENT_STARTED, p->step->name, call.job, json_end(&call.data));
	return call.job;
}

static bool
tick(void *arg, int64 job)
{
	return limits_tick(arg, job);
}

/* A limit is reached: the job pauses, and so do we. */
static void
paused_at_limit(Progress *p)
{
	limits_end(&p->watch);
	spi_commit();
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("runbook " INT64_FORMAT " paused at step %d of %d (%s): %s",
					p->rb->id, p->number, p->list->n, p->step->name, p->watch.reached),
			 errdetail("Its job pauses after the batch at hand; the build of an index goes on."),
			 errhint("CALL %s(" INT64_FORMAT ") goes on at this step; evmig_runbook_limits sets other limits.",
					 p->list->procedure, p->rb->id)));
}

/* Wait for the step's job and record its end; returns its final state. */
static char *
wait_for_step(Progress *p, int64 job)
{
	char	   *state;
	char	   *figures;
	int64		rows;
	double		seconds;

	ereport(NOTICE,
			(errmsg("step %d of %d: %s: job " INT64_FORMAT,
					p->number, p->list->n, p->step->name, job)));
	state = wait_for_job_ticking(job, -1, true, p->watch.rb ? tick : NULL, &p->watch);
	EnsurePortalSnapshotExists();
	if (strcmp(state, "stopped") == 0)
		paused_at_limit(p);
	if (strcmp(state, "succeeded") != 0)
		return state;
	figures = job_figures(job, &rows, &seconds);
	runbook_event(p->rb->id, EVENT_DONE, p->step->name, job, figures);
	spi_commit();
	if (rows > 0)
		ereport(NOTICE,
				(errmsg("step %d of %d: %s: done, " INT64_FORMAT " rows in %.1f s",
						p->number, p->list->n, p->step->name, rows, seconds)));
	else
		ereport(NOTICE,
				(errmsg("step %d of %d: %s: done in %.1f s",
						p->number, p->list->n, p->step->name, seconds)));
	return state;
}

/*
 * Has the step been done, and does it hold?  Then it is passed over, unless an
 * earlier one had to be done again: new rows may have come in meanwhile.
 */
static bool
already_done(Progress *p, Target *target, const char *event)
{
	if (strcmp(event, EVENT_DONE) != 0 || p->redo || p->step->repeated)
		return false;
	if (p->step->holds == NULL || p->step->holds(p->rb, target))
	{
		ereport(NOTICE,
				(errmsg("step %d of %d: %s: was done before",
						p->number, p->list->n, p->step->name)));
		return true;
	}
	ereport(NOTICE,
			(errmsg("step %d of %d: %s: is no longer there, done again",
					p->number, p->list->n, p->step->name)));
	p->redo = true;
	return false;
}

static void
run_step(Progress *p)
{
	int			incomplete = 0;

	for (bool first = true;; first = false)
	{
		Target	   *target;
		int64		job;
		char	   *event;
		char	   *state;

		EnsurePortalSnapshotExists();
		target = runbook_target(p->rb, TARGET_CHANGE | TARGET_ORDER);
		event = last_event(p, &job);
		if (first && already_done(p, target, event))
			return;
		if (!first || strcmp(event, EVENT_STARTED) != 0 || job == 0 || !job_counts(job))
			job = start_step(p, target);
		spi_commit();
		if (job == 0)
			return;
		state = wait_for_step(p, job);
		if (strcmp(state, "succeeded") == 0 && !p->step->repeated)
			return;
		if (strcmp(state, "succeeded") == 0)
			continue;
		if (strcmp(state, "incomplete") != 0 || incomplete++ == INCOMPLETE_RETRIES)
			job_failed(p, job, state);
		ereport(NOTICE,
				(errmsg("step %d of %d: %s: job " INT64_FORMAT " is incomplete, starting another",
						p->number, p->list->n, p->step->name, job)));
	}
}

void
run_steps(Runbook *rb, const StepList *list)
{
	Progress	p = {rb, list};

	/* a rollback goes through, whatever it costs */
	if (list != &rollback_steps)
	{
		p.watch.rb = rb;
		p.watch.checked = p.watch.sampled = GetCurrentTimestamp();
	}
	for (int i = 0; i < list->n; i++)
	{
		p.step = &list->steps[i];
		p.number = i + 1;
		if (p.step->wanted && !p.step->wanted(rb))
			ereport(NOTICE,
					(errmsg("step %d of %d: %s: not asked for", p.number, list->n, p.step->name)));
		else
			run_step(&p);
		if (p.watch.rb)
		{
			EnsurePortalSnapshotExists();
			limits_step_done(&p.watch, p.step->name);
			spi_commit();
		}
	}
	EnsurePortalSnapshotExists();
	limits_end(&p.watch);
	spi_commit();
}

/* ---- the procedure ---- */

void
with_runbook_locked(int64 id, void (*body) (int64 id))
{
	(void) runbook_load(id, false);
	if (!job_lock_try_hard(id, JOB_LOCK_RUNBOOK, ExclusiveLock))
	{
		int			pid = 0;

		(void) job_lock_pids(id, JOB_LOCK_RUNBOOK, &pid, 1);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("runbook " INT64_FORMAT " is being executed by another session", id),
				 errdetail("Its process is %d.", pid)));
	}
	PG_TRY();
	{
		body(id);
	}
	PG_FINALLY();
	{
		current_runbook = 0;
		job_unlock(id, JOB_LOCK_RUNBOOK, ExclusiveLock);
	}
	PG_END_TRY();
}

/* Refuse an approval that is too old, or that today's rules do not accept. */
static void
check_approval(Runbook *rb)
{
	if (GetCurrentTimestamp() - rb->approved_at > (int64) evmig_approval_ttl * USECS_PER_MINUTE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the approval of runbook " INT64_FORMAT " is too old", rb->id),
				 errdetail("It was given at %s and counts for %d minutes (evmig.approval_ttl).",
						   timestamptz_to_str(rb->approved_at), evmig_approval_ttl),
				 errhint("SELECT evmig_runbook_approve(" INT64_FORMAT ", note) approves it again.", rb->id)));
	if ((evmig_require_second_person || rb->path == 'B') &&
		strcmp(rb->approved_by, rb->opened_by) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("runbook " INT64_FORMAT " was approved by who opened it", rb->id),
				 errhint("It needs the approval of a second person.")));
}

/* The first call of an approved runbook: measure again, and mark it. */
static void
begin_execution(Runbook *rb)
{
	Target	   *target = runbook_target(rb, TARGET_CHANGE | TARGET_ORDER);
	Measured	m;
	char	   *obstacle;

	if (!rb->direct)
		check_approval(rb);
	obstacle = rb->path == 'B' ? path_b_obstacle(target) : NULL;
	if (obstacle)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("path B is no longer possible: %s", obstacle),
				 errhint("Approve path A.")));
	runbook_recheck(rb, target, "executed", &m);
	runbook_set_state(rb, RUNBOOK_EXECUTING);
	runbook_event(rb->id, EVENT_EXECUTION, NULL, 0, NULL);
}

static void
finish_execution(Runbook *rb)
{
	Target	   *target;
	Measured	m;

	EnsurePortalSnapshotExists();
	target = runbook_target(rb, TARGET_CHANGE | TARGET_ORDER);
	runbook_measure(target, &m);
	runbook_event(rb->id, EVENT_AUDIT, "after", 0, m.audit);
	limits_resume_ingest(rb);
	runbook_sample(rb, "after", SAMPLE_AFTER_US);
	runbook_event(rb->id, EVENT_FINISHED, NULL, 0, NULL);
	runbook_set_state(rb, RUNBOOK_SUCCEEDED);
	spi_commit();
	ereport(NOTICE,
			(errmsg("runbook " INT64_FORMAT " succeeded", rb->id),
			 errhint("SELECT evmig_runbook_report(" INT64_FORMAT ") shows the evidence.", rb->id)));
}

void
execute_runbook(int64 id)
{
	Runbook    *rb;

	EnsurePortalSnapshotExists();
	rb = runbook_load(id, true);
	if (strcmp(rb->state, RUNBOOK_SUCCEEDED) == 0)
	{
		ereport(NOTICE,
				(errmsg("runbook " INT64_FORMAT " has succeeded already", id)));
		return;
	}
	if (strcmp(rb->state, RUNBOOK_EXECUTING) == 0)
	{
		(void) runbook_target(rb, TARGET_CHANGE | TARGET_ORDER);
		limits_resume_job(rb);
		runbook_event(id, EVENT_RESUMED, NULL, 0, NULL);
	}
	else if (strcmp(rb->state, RUNBOOK_APPROVED) == 0 ||
			 (rb->direct && strcmp(rb->state, RUNBOOK_OPEN) == 0))
		begin_execution(rb);
	else
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " is %s and cannot be executed", id, rb->state),
				 strcmp(rb->state, RUNBOOK_OPEN) == 0 ?
				 errhint("It needs an approval: SELECT evmig_runbook_approve(" INT64_FORMAT ", note).", id) :
				 errhint("Open a new runbook.")));
	spi_commit();
	run_steps(rb, rb->path == 'B' ? &path_b_steps : &path_a_steps);
	finish_execution(rb);
}

/*
 * CALL evmig_runbook_execute(id bigint)
 *
 * Execute an approved runbook, or go on with one that was stopped.  Strong
 * locks are polled; holds neither lock nor snapshot while it waits for a job.
 */
Datum
evmig_runbook_execute(PG_FUNCTION_ARGS)
{
	require_nonatomic(fcinfo, "evmig_runbook_execute");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id must not be null")));
	require_writable();
	spi_begin_nonatomic();
	with_runbook_locked(PG_GETARG_INT64(0), execute_runbook);
	spi_end();
	PG_RETURN_VOID();
}
