/*-------------------------------------------------------------------------
 *
 * deploy.c
 *	  CALL evmig_deploy(): the lanes in order, each item on record.
 *
 * Only a migration that fails, or sessions that were not to be there, end a
 * deployment with an error; indexes and backfills are jobs, which warn.  One
 * deployment at a time: a session lock, polled without a snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "backfill/start.h"
#include "base/latch.h"
#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "deploy/deploy.h"
#include "evmig.h"
#include "job/worker.h"

#define POLL_MS 250

PG_FUNCTION_INFO_V1(evmig_deploy);

int			evmig_ddl_retries;
int			evmig_deploy_wait_max;
int			evmig_quiesce_timeout;

typedef enum Phase
{
	PHASE_CONNECTIONS,
	PHASE_MIGRATIONS,
	PHASE_INDEXES,
	PHASE_BACKFILLS,
	PHASE_COUNT
} Phase;

static const char *const phase_names[PHASE_COUNT] = {"connections", "migrations", "indexes", "backfills"};

typedef struct Deploy
{
	int64		id;
	char	   *quiesce;
	Phase		wait_for;		/* migrations: jobs are not waited for */
	bool		wanted[PHASE_COUNT];
	Datum		phases;			/* as given */
} Deploy;

void
deploy_settings(void)
{
	DefineCustomIntVariable("evmig.ddl_retries",
							"How often a migration that met a lock timeout or a deadlock is tried again.",
							NULL, &evmig_ddl_retries, 10, 0, 1000, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("evmig.deploy_wait_max",
							"How long a deployment waits for another one to end.",
							NULL, &evmig_deploy_wait_max, 600000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("evmig.quiesce_timeout",
							"How long a deployment waits for other sessions to go.",
							NULL, &evmig_quiesce_timeout, 60000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/* ---- the record ---- */

void
deploy_record(int64 deploy, const char *phase, const char *item, const char *status,
			  double seconds, int64 job_id, const char *detail)
{
	SqlArgs		args = {0};

	if (deploy == 0)
		return;
	arg_int8(&args, deploy);
	arg_text(&args, phase);
	arg_text(&args, item);
	arg_text(&args, status);
	arg_float8(&args, seconds);
	arg_datum(&args, INT8OID, Int64GetDatum(job_id), job_id == 0);
	arg_text(&args, detail);
	spi_catalog("INSERT INTO evmig.deploy_item (deploy_id, phase, item, status, seconds, job_id, detail)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7)", &args);
}

void
deploy_notice(const char *phase, const char *item, const char *status, const char *detail)
{
	ereport(NOTICE,
			(errmsg("%s: %s: %s%s%s", phase, item, status, detail ? ": " : "", detail ? detail : "")));
}

void
deploy_item(int64 deploy, const char *phase, const char *item, const char *status,
			double seconds, int64 job_id, const char *format,...)
{
	StringInfoData detail;
	char	   *text = NULL;

	initStringInfo(&detail);
	while (format)
	{
		va_list		ap;
		int			needed;

		va_start(ap, format);
		needed = appendStringInfoVA(&detail, format, ap);
		va_end(ap);
		if (needed == 0)
		{
			text = detail.data;
			break;
		}
		enlargeStringInfo(&detail, needed);
	}
	if (text && text[0] == '\0')
		text = NULL;
	deploy_record(deploy, phase, item, status, seconds, job_id, text);

	/* what is an error or a WARNING is said by that */
	if (deploy != 0 && strcmp(status, "failed") != 0 && strcmp(status, "warning") != 0)
		deploy_notice(phase, item, status, text);
}

static void
set_deploy_state(int64 deploy, const char *state)
{
	SqlArgs		args = {0};

	arg_int8(&args, deploy);
	arg_text(&args, state);
	spi_catalog("UPDATE evmig.deploy SET state = $2, finished_at = pg_catalog.clock_timestamp()"
				" WHERE deploy_id = $1", &args);
}

void
deploy_failed(int64 deploy)
{
	set_deploy_state(deploy, "failed");
}

static int64
create_deploy(const Deploy *d)
{
	SqlArgs		args = {0};

	arg_oid(&args, GetUserId());
	arg_text(&args, d->quiesce);
	arg_text(&args, phase_names[d->wait_for]);
	arg_datum(&args, TEXTARRAYOID, d->phases, false);
	spi_catalog("INSERT INTO evmig.deploy (deployed_by, quiesce, wait_for, phases)"
				" VALUES ($1::regrole, $2, $3, $4) RETURNING deploy_id", &args);
	return spi_int8(0, 0);
}

/* ---- lanes ---- */

static void
run_migrations(Deploy *d)
{
	List	   *pending = pending_migrations();
	ListCell   *lc;

	spi_commit();
	if (pending == NIL)
		deploy_item(d->id, phase_names[PHASE_MIGRATIONS], "all", "skipped", 0, 0, "none is pending");
	spi_commit();
	foreach(lc, pending)
		apply_migration(d->id, (char *) lfirst(lc));
}

/* One registered backfill, and its newest job. */
typedef struct BackfillItem
{
	char	   *name;
	int64		job;			/* 0: none */
	char	   *state;
	char	   *message;
	char	   *finished;
	bool		ours;
} BackfillItem;

static BackfillItem *
read_backfills(uint64 *n)
{
	SqlArgs		args = {0};
	BackfillItem *items;

	arg_oid(&args, GetUserId());
	*n = spi_catalog("SELECT b.name, j.job_id, j.state, j.message, j.finished_at::text,"
					 " pg_catalog.pg_has_role($1, b.owner, 'USAGE') OR EXISTS (SELECT FROM pg_catalog.pg_class c"
					 "  WHERE c.oid = b.target AND pg_catalog.pg_has_role($1, c.relowner, 'USAGE'))"
					 " FROM evmig.backfill b LEFT JOIN LATERAL (SELECT * FROM evmig.job j WHERE j.kind = 'backfill'"
					 "  AND j.name = b.name ORDER BY job_id DESC LIMIT 1) j ON true"
					 " ORDER BY pg_catalog.array_position('{high,medium,low}', b.priority), b.registered_at, b.name", &args);
	items = palloc(sizeof(BackfillItem) * (*n + 1));
	for (uint64 i = 0; i < *n; i++)
	{
		items[i].name = spi_text(i, 0);
		items[i].job = spi_int8(i, 1);
		items[i].state = spi_text(i, 2);
		items[i].message = spi_text(i, 3);
		items[i].finished = spi_text(i, 4);
		items[i].ours = spi_bool(i, 5);
	}
	return items;
}

/* Why it could not be started, which was a WARNING; NULL: it could, or need not. */
static const char *
reason_not_started(const StartSummary *summary, const char *name)
{
	ListCell   *lc;

	foreach(lc, summary->not_started)
	{
		StartFailure *failure = lfirst(lc);

		if (strcmp(failure->name, name) == 0)
			return failure->reason;
	}
	return NULL;
}

/* Is it still to be waited for, or just where it was to be started? */
static bool
is_at_work(const BackfillItem *b, const char *reason)
{
	if (b->job == 0 || (strcmp(b->state, "queued") != 0 && strcmp(b->state, "running") != 0))
		return false;
	return reason == NULL || job_lock_is_held(b->job, JOB_LOCK_LEADER);
}

/* What the lane made of one; returns its job if it is at work. */
static int64
note_backfill(Deploy *d, const BackfillItem *b, const int64 *started, int nstarted, const char *reason)
{
	const char *phase = phase_names[PHASE_BACKFILLS];
	bool		new = false;

	for (int i = 0; i < nstarted; i++)
		new = new || started[i] == b->job;
	if (!b->ours)
		deploy_item(d->id, phase, b->name, "skipped", 0, 0, "it is not yours");
	else if (new || is_at_work(b, reason))
	{
		deploy_item(d->id, phase, b->name, "started", 0, b->job, "%s", new ? "" : "it is at work");
		return b->job;
	}
	else if (reason)
		deploy_item(d->id, phase, b->name, "warning", 0, 0, "not started: %s", reason);
	else if (b->job == 0)
		deploy_item(d->id, phase, b->name, "skipped", 0, 0, "it was registered meanwhile");
	else if (strcmp(b->state, "succeeded") == 0)
		deploy_item(d->id, phase, b->name, "skipped", 0, 0, "job " INT64_FORMAT " succeeded at %s",
					b->job, b->finished);
	else
	{
		ereport(WARNING,
				(errmsg("backfill \"%s\" is not started: its job " INT64_FORMAT " is %s", b->name, b->job, b->state),
				 b->message ? errdetail("%s", b->message) : 0,
				 errhint("SELECT evmig_backfill_start(%s) starts it.", quote_literal_cstr(b->name))));
		deploy_item(d->id, phase, b->name, "warning", 0, 0, "not started: job " INT64_FORMAT " is %s%s%s",
					b->job, b->state, b->message ? ": " : "", b->message ? b->message : "");
	}
	return 0;
}

/* Start what is due; more than there are workers for wait in the queue.  An item for each. */
static List *
start_backfills(Deploy *d, List *jobs)
{
	MemoryContext context = CurrentMemoryContext;
	StartSummary summary = {0};
	BackfillItem *items;
	uint64		n;
	int			nstarted;
	int64	   *started;

	initStringInfo(&summary.failed);
	summary.queue = true;
	started = start_all("low", &nstarted, &summary);
	items = read_backfills(&n);
	for (uint64 i = 0; i < n; i++)
	{
		int64	   *job = MemoryContextAlloc(context, sizeof(int64));

		*job = note_backfill(d, &items[i], started, nstarted,
							 reason_not_started(&summary, items[i].name));
		if (*job != 0)
			jobs = lappend(jobs, job);
	}
	if (n == 0)
		deploy_item(d->id, phase_names[PHASE_BACKFILLS], "all", "skipped", 0, 0, "none is registered");
	return jobs;
}

/* Wait for a job.  One whose role cannot log in any more does not start, which is a warning: NULL. */
static char *
wait_or_warn(int64 job)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *volatile state = NULL;

	PG_TRY();
	{
		state = wait_for_job(job, -1, true);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
			PG_RE_THROW();
		FlushErrorState();
		spi_rollback();
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("%s", error->message),
				 error->detail ? errdetail("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0));
	}
	PG_END_TRY();
	return state;
}

/* Wait for jobs; one that does not succeed is a warning. */
static void
wait_for_jobs(List *jobs)
{
	ListCell   *lc;

	foreach(lc, jobs)
	{
		int64		job = *(int64 *) lfirst(lc);
		char	   *state = wait_or_warn(job);
		SqlArgs		args = {0};

		if (state && strcmp(state, "succeeded") != 0)
		{
			arg_int8(&args, job);
			spi_catalog("SELECT name, coalesce(message, ''), CASE WHEN pg_catalog.strpos(message, detail) = 0 THEN detail END"
						" FROM evmig.job WHERE job_id = $1", &args);
			ereport(WARNING,
					(errmsg("job " INT64_FORMAT " (%s) is %s: %s", job, spi_text(0, 0), state, spi_text(0, 1)),
					 spi_text(0, 2) ? errdetail("%s", spi_text(0, 2)) : 0,
					 errhint("The deployment does not depend on it; it can be started again.")));
		}
		spi_commit();
	}
}

/*
 * An index or a backfill whose registration somebody is just changing is a
 * warning, too: its row is waited for no longer than a migration's lock.
 */
static int
begin_lane(void)
{
	int			nest = NewGUCNestLevel();

	if (LockTimeout == 0 || LockTimeout > evmig_ddl_lock_timeout)
		(void) set_config_option("lock_timeout", psprintf("%d", evmig_ddl_lock_timeout), PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

static void
run_phases(Deploy *d)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *indexes = NIL;
	List	   *backfills = NIL;
	int			nest;

	if (d->wanted[PHASE_CONNECTIONS])
		deploy_connections(d->id, d->quiesce);
	if (d->wanted[PHASE_MIGRATIONS])
		run_migrations(d);
	nest = begin_lane();
	if (d->wanted[PHASE_INDEXES])
		indexes = build_indexes(d->id, NIL);
	AtEOXact_GUC(false, nest);
	spi_commit();
	MemoryContextSwitchTo(context);
	if (d->wait_for >= PHASE_INDEXES)
		wait_for_jobs(indexes);
	nest = begin_lane();
	if (d->wanted[PHASE_BACKFILLS])
		backfills = start_backfills(d, NIL);
	AtEOXact_GUC(false, nest);
	spi_commit();
	MemoryContextSwitchTo(context);
	if (d->wait_for >= PHASE_BACKFILLS)
		wait_for_jobs(backfills);
	set_deploy_state(d->id, "succeeded");
	spi_commit();
	ereport(NOTICE,
			(errmsg("deployment " INT64_FORMAT " succeeded", d->id),
			 errhint("SELECT * FROM evmig_deploy_report(" INT64_FORMAT ") shows how its jobs go on.", d->id)));
}

/* ---- one at a time ---- */

/* Wait for another deployment, without a snapshot. */
static void
lock_deployments(void)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		told = false;

	while (!job_lock_try_hard(0, JOB_LOCK_DEPLOY, ExclusiveLock))
	{
		int			pid = 0;

		(void) job_lock_pids(0, JOB_LOCK_DEPLOY, &pid, 1);
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), evmig_deploy_wait_max))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("another deployment is at work"),
					 errdetail("Its process is %d.", pid),
					 errhint("evmig.deploy_wait_max says how long to wait for it.")));
		if (!told)
			ereport(NOTICE,
					(errmsg("waiting for the deployment of process %d", pid)));
		told = true;
		spi_commit();
		latch_pause_bare(POLL_MS);
	}
}

/* ---- the procedure ---- */

static void
unknown_value(const char *param, const char *value, const char *known)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown %s: \"%s\"", param, value),
			 errhint("Known are %s.", known)));
}

static Phase
find_phase(const char *param, const char *name)
{
	for (int i = 0; i < PHASE_COUNT; i++)
		if (strcmp(phase_names[i], name) == 0 && (i > 0 || strcmp(param, "phases") == 0))
			return i;
	unknown_value(strcmp(param, "phases") == 0 ? "phase" : param, name, strcmp(param, "phases") == 0
				  ? "connections, migrations, indexes and backfills"
				  : "migrations, indexes and backfills");
	return PHASE_COUNT;			/* not reached */
}

static void
read_arguments(FunctionCallInfo fcinfo, Deploy *d)
{
	char	   *wait_for;
	Datum	   *values;
	bool	   *nulls;
	int			n;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be null", i == 0 ? "quiesce" : i == 1 ? "wait_for" : "phases")));
	d->quiesce = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (strcmp(d->quiesce, "warn") != 0 && strcmp(d->quiesce, "wait") != 0 &&
		strcmp(d->quiesce, "fail") != 0 && strcmp(d->quiesce, "terminate") != 0)
		unknown_value("quiesce", d->quiesce, "warn, wait, fail and terminate");
	wait_for = text_to_cstring(PG_GETARG_TEXT_PP(1));
	d->wait_for = find_phase("wait_for", wait_for);
	d->phases = PointerGetDatum(PG_GETARG_ARRAYTYPE_P_COPY(2));
	deconstruct_array(DatumGetArrayTypeP(d->phases), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("phases must not contain null")));
		d->wanted[find_phase("phases", TextDatumGetCString(values[i]))] = true;
	}
}

/*
 * CALL evmig_deploy(quiesce text, wait_for text, phases text[])
 *
 * Raises an error only where a migration failed, or sessions that were not to
 * be there.  Each migration takes its own locks; indexes and backfills are
 * left to jobs.
 */
Datum
evmig_deploy(PG_FUNCTION_ARGS)
{
	Deploy		d = {0};

	read_arguments(fcinfo, &d);
	require_nonatomic(fcinfo, "evmig_deploy");
	require_writable();
	require_deployer();
	spi_begin_nonatomic();
	lock_deployments();
	PG_TRY();
	{
		d.id = create_deploy(&d);
		spi_commit();
		run_phases(&d);
	}
	PG_FINALLY();
	{
		job_unlock(0, JOB_LOCK_DEPLOY, ExclusiveLock);
	}
	PG_END_TRY();
	spi_end();
	PG_RETURN_VOID();
}
