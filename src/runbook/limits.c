/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  What a runbook measures of the application while it is at work, and what
 *	  it does when the application suffers.
 *
 * The session that executes the runbook looks once a second, while it waits
 * for a job, and keeps a sample every ten.  What it does at a limit it writes
 * down in the runbook's events.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "kpi/pause.h"
#include "kpi/sample.h"
#include "kpi/watch.h"
#include "runbook/event.h"
#include "runbook/limits.h"

PG_FUNCTION_INFO_V1(evmig_runbook_limits);

#define SAMPLE_S 10
#define CHECK_MS 1000
#define CHECK_US INT64CONST(10000000)	/* what is held against the limits */
#define MIN_WRITES 10			/* fewer say nothing */

#define LIMIT_PAUSE "pause_runbook"
#define LIMIT_INGEST "pause_ingest_and_finish"

/* behind this step nothing is left that needs writers to be away */
#define LAST_STEP_OF_INGEST "helper index dropped"

/* ---- setting them ---- */

static void
arg_limit(FunctionCallInfo fcinfo, int n, const char *name, double most, SqlArgs *args)
{
	double		limit = PG_ARGISNULL(n) ? 0 : PG_GETARG_FLOAT8(n);

	if (!PG_ARGISNULL(n) && (isnan(limit) || limit <= 0 || limit > most))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be greater than 0%s, or NULL for no limit", name,
						most == 1 ? " and at most 1" : "")));
	arg_datum(args, FLOAT8OID, Float8GetDatum(limit), PG_ARGISNULL(n));
}

/*
 * evmig_runbook_limits(id bigint, write_error_rate float8, p95_ms float8,
 * action text) returns void
 */
Datum
evmig_runbook_limits(PG_FUNCTION_ARGS)
{
	char	   *action = ARG_TEXT(3);
	SqlArgs		args = {0};
	Runbook    *rb;
	StringInfoData buf;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id must not be null")));
	if (action == NULL || (strcmp(action, LIMIT_PAUSE) != 0 && strcmp(action, LIMIT_INGEST) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown action \"%s\"", action ? action : "NULL"),
				 errhint("Say %s or %s.", LIMIT_PAUSE, LIMIT_INGEST)));
	require_writable();
	arg_int8(&args, PG_GETARG_INT64(0));
	arg_limit(fcinfo, 1, "write_error_rate", 1, &args);
	arg_limit(fcinfo, 2, "p95_ms", 1e9, &args);
	arg_text(&args, action);

	spi_begin();
	rb = runbook_load(PG_GETARG_INT64(0), true);
	if (strcmp(rb->state, RUNBOOK_OPEN) != 0 && strcmp(rb->state, RUNBOOK_APPROVED) != 0 &&
		strcmp(rb->state, RUNBOOK_EXECUTING) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " is %s", rb->id, rb->state)));
	watch_load();
	if (watch_find(rb->target, NULL) == NULL)
		ereport(NOTICE,
				(errmsg("writes on table %s are not measured, so no limit will be noticed", rb->quoted),
				 errhint("Have evmig in shared_preload_libraries, and call evmig_kpi_watch.")));
	spi_catalog("INSERT INTO evmig.runbook_limit (runbook_id, write_error_rate, p95_ms, action)"
				" VALUES ($1, $2, $3, $4) ON CONFLICT (runbook_id) DO UPDATE"
				" SET write_error_rate = EXCLUDED.write_error_rate, p95_ms = EXCLUDED.p95_ms,"
				" action = EXCLUDED.action", &args);
	json_begin(&buf);
	if (!PG_ARGISNULL(1))
		json_float8(&buf, "write_error_rate", PG_GETARG_FLOAT8(1));
	if (!PG_ARGISNULL(2))
		json_float8(&buf, "p95_ms", PG_GETARG_FLOAT8(2));
	json_text(&buf, "action", action);
	runbook_event(rb->id, EVENT_LIMITS, NULL, 0, json_end(&buf));
	spi_end();
	PG_RETURN_VOID();
}

/* ---- measuring ---- */

void
runbook_watch_table(Oid relid)
{
	watch_if_possible(relid);
}

void
runbook_sample(Runbook *rb, const char *label, int64 us)
{
	SqlArgs		args = {0};

	arg_oid(&args, rb->target);
	if (spi_catalog("SELECT 1 FROM evmig.kpi_watch WHERE target = $1", &args) > 0)
		(void) kpi_sample_take(rb->target, label, rb->id, us, NULL);
}

/* ---- what happens at a limit ---- */

static bool
ingest_paused_by(Runbook *rb)
{
	SqlArgs		args = {0};

	arg_int8(&args, rb->id);
	return spi_catalog("SELECT 1 FROM evmig.runbook_limit WHERE runbook_id = $1 AND ingest_paused",
					   &args) > 0;
}

static void
set_ingest_paused(Runbook *rb, bool paused)
{
	SqlArgs		args = {0};

	arg_int8(&args, rb->id);
	arg_bool(&args, paused);
	spi_catalog("UPDATE evmig.runbook_limit SET ingest_paused = $2 WHERE runbook_id = $1", &args);
}

static void
pause_writers(Runbook *rb, const char *reached)
{
	ingest_pause(rb->target, psprintf("runbook " INT64_FORMAT ": %s", rb->id, reached));
	set_ingest_paused(rb, true);
	ereport(NOTICE,
			(errmsg("%s: writers are paused until duplicates are removed and the index is built", reached)));
}

void
limits_resume_ingest(Runbook *rb)
{
	if (!ingest_paused_by(rb))
		return;
	(void) ingest_resume(rb->target);
	set_ingest_paused(rb, false);
	runbook_event(rb->id, EVENT_INGEST_RESUMED, NULL, 0, NULL);
	ereport(NOTICE,
			(errmsg("writers go on")));
}

void
limits_step_done(LimitWatch *watch, const char *step)
{
	if (strcmp(step, LAST_STEP_OF_INGEST) != 0)
		return;
	watch->index_done = true;
	limits_resume_ingest(watch->rb);
}

static void
steer_job(int64 job, const char *function)
{
	SqlArgs		args = {0};

	arg_int8(&args, job);
	spi_run(psprintf("SELECT %s%s($1)", extension_schema_prefix(), function), &args);
}

void
limits_resume_job(Runbook *rb)
{
	SqlArgs		args = {0};
	int64		job;

	arg_int8(&args, rb->id);
	if (spi_catalog("SELECT e.job_id FROM evmig.runbook_event e JOIN evmig.job j USING (job_id)"
					" WHERE e.runbook_id = $1 AND e.event = '" EVENT_PAUSED "'"
					" AND (j.state = 'paused' OR j.request = 'pause')"
					" ORDER BY e.seq DESC LIMIT 1", &args) == 0)
		return;
	job = spi_int8(0, 0);
	steer_job(job, "evmig_job_resume");
}

/* Which limit is reached, in words; NULL for none.  *ingest: what to do. */
static char *
reached_limit(Runbook *rb, bool *ingest, StringInfo data)
{
	KpiWindow  *window = palloc(sizeof(KpiWindow));
	KpiTable   *table;
	SqlArgs		args = {0};
	double		max_rate;
	double		max_p95;
	double		errors;
	double		attempts;
	double		p95;

	arg_int8(&args, rb->id);
	if (spi_catalog("SELECT write_error_rate, p95_ms, action FROM evmig.runbook_limit"
					" WHERE runbook_id = $1 AND NOT ingest_paused", &args) == 0)
		return NULL;
	max_rate = spi_float8(0, 0);
	max_p95 = spi_float8(0, 1);
	*ingest = strcmp(spi_text(0, 2), LIMIT_INGEST) == 0;
	table = watch_find(rb->target, NULL);
	if (table == NULL)
		return NULL;
	kpi_read(table, CHECK_US, window);
	errors = window->counter[KPI_ERRORS];
	attempts = errors + window->counter[KPI_WRITES];
	if (attempts < MIN_WRITES)
		return NULL;
	p95 = kpi_percentile(window, KPI_STATEMENT, 0.95);
	json_float8(data, "writes", attempts - errors);
	json_float8(data, "write_errors", errors);
	json_float8(data, "p95_ms", Max(p95, 0));
	if (max_rate > 0 && errors / attempts >= max_rate)
		return psprintf("write_error_rate is %.4g, its limit %.4g", errors / attempts, max_rate);
	if (max_p95 > 0 && p95 >= max_p95)
		return psprintf("p95_ms is %.4g, its limit %.4g", p95, max_p95);
	return NULL;
}

static void
sample_during(LimitWatch *watch, int64 us)
{
	runbook_sample(watch->rb, "during", us);
	watch->sampled = GetCurrentTimestamp(); /* so that no two of them overlap */
	watch->has_sample = true;
}

void
limits_end(LimitWatch *watch)
{
	if (watch->rb && !watch->has_sample)
		sample_during(watch, Max(GetCurrentTimestamp() - watch->sampled, USECS_PER_SEC));
}

bool
limits_tick(LimitWatch *watch, int64 job)
{
	TimestampTz now = GetCurrentTimestamp();
	StringInfoData data;
	char	   *reached;
	bool		ingest = false;

	if (!TimestampDifferenceExceeds(watch->checked, now, CHECK_MS))
		return false;
	watch->checked = now;
	if (TimestampDifferenceExceeds(watch->sampled, now, SAMPLE_S * 1000))
		sample_during(watch, SAMPLE_S * USECS_PER_SEC);
	json_begin(&data);
	reached = reached_limit(watch->rb, &ingest, &data);
	if (reached == NULL)
		return false;
	json_text(&data, "reached", reached);
	if (ingest)
	{
		if (watch->index_done || ingest_is_paused(watch->rb->target))
			return false;		/* no use, or somebody has done it already */
		runbook_event(watch->rb->id, EVENT_INGEST_PAUSED, NULL, job, json_end(&data));
		pause_writers(watch->rb, reached);
		return false;
	}
	strlcpy(watch->reached, reached, LIMIT_TEXT_SIZE);
	runbook_event(watch->rb->id, EVENT_PAUSED, NULL, job, json_end(&data));
	steer_job(job, "evmig_job_pause");
	return true;
}
