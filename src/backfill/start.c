/*-------------------------------------------------------------------------
 *
 * start.c
 *	  Starting registered backfills: by name, or all that are due.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "backfill/registry.h"
#include "backfill/start.h"
#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "evmig.h"
#include "job/job.h"
#include "job/recover.h"
#include "job/worker.h"

PG_FUNCTION_INFO_V1(evmig_backfill_start);
PG_FUNCTION_INFO_V1(evmig_backfill_start_all);

/* ---- one ---- */

/* The job's spec: the definition as it is now. */
static char *
spec_json(const Backfill *b, const char *tenants)
{
	SqlArgs		args = {0};

	arg_text(&args, b->set_list);
	arg_text(&args, b->routine);
	arg_text(&args, b->where_clause);
	arg_text(&args, b->search_path);
	arg_text(&args, b->tenant_column);
	arg_text(&args, tenants);
	arg_int8(&args, b->max_failures);
	arg_bool(&args, b->undo);
	spi_catalog("SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
				"'set_list', $1, 'routine', $2, 'where_clause', $3, 'search_path', $4,"
				" 'tenant_column', $5, 'tenants', $6, 'max_failures', $7, 'undo', $8))::text", &args);
	return spi_text(0, 0);
}

/* The settings that its jobs start with. */
static char *
settings_json(const Backfill *b)
{
	SqlArgs		args = {0};

	arg_jsonb(&args, b->settings);
	arg_int4(&args, b->batch_size);
	arg_int4(&args, b->sleep_ms);
	arg_bool(&args, b->adaptive);
	spi_catalog("SELECT ($1 || pg_catalog.jsonb_build_object('evmig.batch_size', $2::text,"
				" 'evmig.batch_sleep', $3::text, 'evmig.adaptive', CASE WHEN $4 THEN 'on' ELSE 'off' END))::text",
				&args);
	return spi_text(0, 0);
}

int64
backfill_create_job(const Backfill *backfill, int workers, const char *tenants, bool in_session)
{
	Definition *definition;
	Target	   *target = backfill_resolve(backfill, &definition);
	JobRequest	request = {"backfill"};

	if (tenants && backfill->tenant_column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill \"%s\" has no tenant column", backfill->name),
				 errhint("Register it with tenant_column to run it for some tenants.")));
	request.name = backfill->name;
	request.workers = workers > 0 ? workers : backfill->workers;
	request.spec = spec_json(backfill, tenants);
	request.settings = settings_json(backfill);
	request.in_session = in_session;
	return job_create(target, &request);
}

/* A job that has not ended: resumed where nobody is at work on it. */
static int64
start_again(const char *name, int64 job, const char *state, Oid run_as)
{
	if (strcmp(state, "paused") == 0)
		job_set_state(job, "queued");
	else if (job_lock_is_held(job, JOB_LOCK_LEADER))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " of backfill \"%s\" is %s", job, name, state),
				 errhint("CALL evmig_wait(" INT64_FORMAT "), or SELECT evmig_job_cancel(" INT64_FORMAT ").",
						 job, job)));
	worker_start_at_commit(job, run_as);
	return job;
}

/*
 * evmig_backfill_start(name text, workers int DEFAULT NULL, tenants text[]
 * DEFAULT NULL) returns bigint
 *
 * Start the backfill's job when the transaction commits; a paused or
 * interrupted one is resumed.  Raises object_in_use while one is at work.
 */
Datum
evmig_backfill_start(PG_FUNCTION_ARGS)
{
	Backfill   *backfill;
	char	   *tenants = NULL;
	char	   *state;
	Oid			run_as;
	int64		job;
	int			workers = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
	if (!PG_ARGISNULL(1) && (workers < 1 || workers > evmig_max_workers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("workers must be between 1 and %d", evmig_max_workers),
				 errhint("Raise evmig.max_workers to allow more.")));
	if (!PG_ARGISNULL(2))
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(TEXTARRAYOID, &output, &varlena);
		tenants = OidOutputFunctionCall(output, PG_GETARG_DATUM(2));
	}

	require_writable();
	spi_begin();
	backfill = backfill_load(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	job = backfill_active_job(backfill->name, &state, &run_as);
	if (job != 0)
		job = start_again(backfill->name, job, state, run_as);
	else
		job = backfill_create_job(backfill, workers, tenants, false);
	spi_end();
	PG_RETURN_INT64(job);
}

/* ---- all ---- */

typedef enum Due
{
	DUE_START,
	DUE_QUEUED,					/* its job has no worker yet */
	DUE_RESUME,					/* its job was interrupted */
	DUE_BUSY,					/* a job of it is at work */
	DUE_LATER,					/* finished, or left alone */
	DUE_FAILED
} Due;

/*
 * Is a backfill due?  Left alone is what somebody paused or cancelled, what
 * failed, and what succeeded less than evmig.recheck_interval ago or whose
 * tables nobody has written to since.  What ended incomplete is tried again.
 * What ended after since is not looked at again.
 */
static Due
is_due(const Backfill *backfill, TimestampTz since, int64 *job, Oid *run_as)
{
	SqlArgs		args = {0};
	char	   *state;
	int64		writes;
	bool		fresh;
	TimestampTz finished;
	bool		only_failures;	/* are what it left: another run would meet them again */
	Definition *definition;

	arg_text(&args, backfill->name);
	arg_int4(&args, evmig_recheck_interval);
	if (spi_catalog("SELECT job_id, state, run_as, coalesce((result ->> 'writes')::bigint, -1),"
					" finished_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2), finished_at,"
					" (SELECT sum(failed) > 0 AND sum(failed) + sum(unchanged) >= j.remaining"
					"  FROM evmig.job_chunk c WHERE c.job_id = j.job_id)"
					" FROM evmig.job j WHERE kind = 'backfill' AND name = $1"
					" AND created_at >= (SELECT registered_at FROM evmig.backfill WHERE name = $1)"
					" ORDER BY job_id DESC LIMIT 1", &args) == 0)
		return DUE_START;
	*job = spi_int8(0, 0);
	state = spi_text(0, 1);
	*run_as = spi_oid(0, 2);
	writes = spi_int8(0, 3);
	fresh = spi_bool(0, 4);
	finished = spi_time(0, 5);
	only_failures = spi_bool(0, 6);

	if (strcmp(state, "queued") == 0 || strcmp(state, "running") == 0)
		return job_lock_is_held(*job, JOB_LOCK_LEADER) ? DUE_BUSY :
			strcmp(state, "queued") == 0 ? DUE_QUEUED : DUE_RESUME;
	if (strcmp(state, "failed") == 0)
		return DUE_FAILED;
	if (strcmp(state, "incomplete") == 0 && since != 0 && finished >= since)
		return DUE_FAILED;
	if (strcmp(state, "incomplete") == 0 && !only_failures)
		return DUE_START;
	if (strcmp(state, "succeeded") != 0 && strcmp(state, "incomplete") != 0)
		return DUE_LATER;
	if (fresh || (since != 0 && finished >= since))
		return DUE_LATER;
	(void) backfill_resolve(backfill, &definition);
	return count_writes(definition->relations) == writes ? DUE_LATER : DUE_START;
}

/* The names, the most urgent first. */
static char **
names_by_priority(const char *max_priority, int *n)
{
	SqlArgs		args = {0};
	char	  **names;

	if (strcmp(max_priority, "high") != 0 && strcmp(max_priority, "medium") != 0 &&
		strcmp(max_priority, "low") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown priority: \"%s\"", max_priority),
				 errhint("Priorities are high, medium and low.")));
	arg_text(&args, max_priority);
	*n = (int) spi_catalog("SELECT b.name FROM evmig.backfill b,"
						   " (VALUES ('high', 1), ('medium', 2), ('low', 3)) p(priority, rank),"
						   " (VALUES ('high', 1), ('medium', 2), ('low', 3)) m(priority, rank)"
						   " WHERE p.priority = b.priority AND m.priority = $1 AND p.rank <= m.rank"
						   " ORDER BY p.rank, b.registered_at, b.name", &args);
	names = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		names[i] = spi_text(i, 0);
	return names;
}

/*
 * Start one if it is due; counts down the free workers.  Returns its job or 0;
 * reason: why one that is due was left alone, which is a WARNING already.
 */
static int64
start_if_due(const char *name, TimestampTz since, int *slots, Due *due, char **reason)
{
	Backfill   *backfill = backfill_load(name);
	int64		job = 0;
	Oid			run_as = InvalidOid;

	*due = is_due(backfill, since, &job, &run_as);
	if ((*due != DUE_START && *due != DUE_QUEUED && *due != DUE_RESUME) || *slots <= 0)
		return 0;
	if (*due == DUE_RESUME && !restart_is_due(job, true))
	{
		*due = DUE_FAILED;
		*reason = psprintf("job " INT64_FORMAT " was interrupted again and again", job);
		return 0;
	}
	if (*due == DUE_START)
	{
		int			workers = Min(backfill->workers, *slots);

		job = backfill_create_job(backfill, workers, NULL, false);
		*slots -= workers;
	}
	else
	{
		worker_start_at_commit(job, run_as);
		(*slots)--;
	}
	return job;
}

typedef struct StartCall
{
	const char *name;
	TimestampTz since;
	int		   *slots;
	Due		   *due;
	int64		job;
	char	   *reason;
} StartCall;

static void
call_start(void *arg)
{
	StartCall  *call = arg;

	call->job = start_if_due(call->name, call->since, call->slots, call->due, &call->reason);
}

/* The same; an error becomes a warning. */
static int64
try_start(const char *name, TimestampTz since, int *slots, Due *due, char **reason)
{
	StartCall	call = {name, since, slots, due};
	ErrorData  *error = subxact_try_or_warn(call_start, &call, psprintf("backfill \"%s\" was not started", name));

	if (error)
	{
		*due = DUE_FAILED;
		*reason = error->message;
		return 0;
	}
	*reason = call.reason;
	return call.job;
}

static void
note_not_started(StartSummary *summary, char *name, char *reason)
{
	StartFailure *failure = palloc(sizeof(StartFailure));

	failure->name = name;
	failure->reason = reason;
	summary->not_started = lappend(summary->not_started, failure);
}

int64 *
start_all(const char *max_priority, int *njobs, StartSummary *summary)
{
	int			n;
	char	  **names = names_by_priority(max_priority, &n);
	int64	   *jobs = palloc(sizeof(int64) * Max(n, 1));
	int			slots = summary && summary->queue ? INT_MAX : free_workers();

	*njobs = 0;
	for (int i = 0; i < n; i++)
	{
		SqlArgs		args = {0};
		Backfill	look = {0};
		Due			due = DUE_LATER;
		char	   *reason = NULL;
		int64		job;

		/* whose it is, before its row is locked */
		arg_text(&args, names[i]);
		if (spi_catalog("SELECT target::oid, owner::oid FROM evmig.backfill WHERE name = $1", &args) == 0)
			continue;
		look.target = spi_oid(0, 0);
		look.owner = spi_oid(0, 1);
		if (!backfill_is_ours(&look))
			continue;
		job = try_start(names[i], summary ? summary->since : 0, &slots, &due, &reason);
		if (job != 0)
			jobs[(*njobs)++] = job;
		if (summary == NULL)
			continue;
		if (reason)
			note_not_started(summary, names[i], reason);
		if (due == DUE_FAILED)
			appendStringInfo(&summary->failed, "%s\"%s\"", summary->failed.len ? ", " : "", names[i]);
		else if (due != DUE_LATER)
			summary->busy++;
	}
	return jobs;
}

/*
 * evmig_backfill_start_all(max_priority text DEFAULT 'low') returns setof bigint
 *
 * Start what is due, high before medium before low, while fewer than
 * evmig.max_workers are at work in the cluster.
 */
Datum
evmig_backfill_start_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64	   *jobs;
	int			njobs;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("max_priority must not be null")));
	require_writable();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	spi_begin();
	jobs = start_all(text_to_cstring(PG_GETARG_TEXT_PP(0)), &njobs, NULL);
	spi_end();
	for (int i = 0; i < njobs; i++)
	{
		Datum		value = Int64GetDatum(jobs[i]);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
