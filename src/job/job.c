/*-------------------------------------------------------------------------
 *
 * job.c
 *	  A job's catalog rows and its legal state transitions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/governor.h"
#include "job/job.h"
#include "job/kinds.h"
#include "job/worker.h"

#define NOTIFY_CHANNEL "evmig"

int64		current_runbook = 0;

/* ---- telling who listens ---- */

/*
 * Send the job's new state to channel evmig when the transaction commits.
 * Whoever listens may be anybody: no message, no figures.
 */
static void
notify_state(int64 id)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	spi_catalog("SELECT pg_catalog.json_build_object('job_id', job_id, 'kind', kind,"
				" 'name', pg_catalog.left(name, 500), 'target', target_name, 'state', state)"
				" FROM evmig.job WHERE job_id = $1", &args);
	Async_Notify(NOTIFY_CHANNEL, spi_text(0, 0));
}

/* ---- creation ---- */

void
require_runbook(const char *step)
{
	if (evmig_require_runbook && current_runbook == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s is allowed only within an approved runbook", step),
				 errdetail("evmig.require_runbook is on."),
				 errhint("Use evmig_runbook_open, evmig_runbook_approve and CALL evmig_runbook_execute.")));
}

/* Refuse a second integrity job; the caller holds the table's creation lock. */
static void
check_no_other_job(Target *target)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	if (spi_catalog("SELECT job_id, kind, state FROM evmig.job"
					" WHERE target = $1 AND integrity"
					" AND state IN ('queued', 'running', 'paused')", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " (%s, %s) is at work on table %s",
						spi_int8(0, 0), spi_text(0, 1), spi_text(0, 2), target->quoted),
				 errdetail("One integrity job at a time may work on a table."),
				 errhint("CALL evmig_wait(" INT64_FORMAT "), or SELECT evmig_job_cancel(" INT64_FORMAT ").",
						 spi_int8(0, 0), spi_int8(0, 0))));
}

int64
job_create(Target *target, const JobRequest *request)
{
	const JobKind *kind = job_kind(request->kind);
	Oid			role = job_role(target->relid);
	int64		id;
	SqlArgs		args = {0};
	SqlArgs		none = {0};
	char	   *settings;

	/* what Path A changes; registered backfills are no part of it */
	if (kind->integrity)
		require_runbook(psprintf("job %s", kind->name));

	spi_begin();

	/* what the caller's session has set goes along; the rest the worker reads */
	spi_run("SELECT coalesce(pg_catalog.jsonb_object_agg(name, setting), '{}')"
			" FROM pg_catalog.pg_settings"
			" WHERE name OPERATOR(pg_catalog.~~) 'evmig.%'"
			" AND context OPERATOR(pg_catalog.=) 'user'"
			" AND source IN ('session', 'client', 'interactive')", &none);
	settings = spi_text(0, 0);

	if (kind->integrity)
	{
		job_lock_xact(target->relid, JOB_LOCK_TARGET);
		check_no_other_job(target);
	}

	arg_text(&args, kind->name);
	arg_text(&args, request->name ? request->name :
			 psprintf("%s %s", kind->name, target->quoted));
	arg_oid(&args, target->relid);
	arg_text(&args, target->quoted);
	arg_datum(&args, OIDOID, ObjectIdGetDatum(target->filenumber), false);	/* 0: no storage */
	arg_text(&args, target->key.name);
	arg_oid(&args, GetUserId());
	arg_oid(&args, role);
	arg_bool(&args, kind->integrity);
	arg_datum(&args, INT8OID, Int64GetDatum(current_runbook), current_runbook == 0);
	arg_jsonb(&args, request->spec ? request->spec : "{}");
	arg_jsonb(&args, settings);
	arg_jsonb(&args, request->settings ? request->settings : "{}");
	arg_int4(&args, Max(request->workers, 1));
	arg_text(&args, request->queued ? WAITS_FOR_TURN : NULL);
	spi_catalog("INSERT INTO evmig.job (kind, name, target, target_name, filenumber,"
				" key_column, owner, run_as, integrity, runbook_id, spec, settings, workers, phase)"
				" VALUES ($1, $2, $3, $4, $5, $6::name, $7, $8, $9, $10, $11, $12 || $13, $14, $15)"
				" RETURNING job_id", &args);
	id = spi_int8(0, 0);
	notify_state(id);
	spi_end();

	if (!request->in_session && !request->queued)
		worker_start_at_commit(id, role);
	return id;
}

/* ---- loading ---- */

Job *
job_load(int64 id, MemoryContext context)
{
	SqlArgs		args = {0};
	MemoryContext oldcontext;
	Job		   *job = NULL;

	arg_int8(&args, id);
	if (spi_catalog("SELECT kind, name, target, target_name, filenumber, key_column::text,"
					" owner, run_as, runbook_id, spec::text, workers"
					" FROM evmig.job WHERE job_id = $1", &args) == 0)
		return NULL;

	oldcontext = MemoryContextSwitchTo(context);
	job = palloc0(sizeof(Job));
	job->id = id;
	job->context = context;
	job->kind = job_kind(spi_text(0, 0));
	job->name = MemoryContextStrdup(context, spi_text(0, 1));
	job->target = spi_oid(0, 2);
	job->target_name = MemoryContextStrdup(context, spi_text(0, 3));
	job->filenumber = spi_oid(0, 4);
	job->key_column = spi_isnull(0, 5) ? NULL : MemoryContextStrdup(context, spi_text(0, 5));
	job->owner = spi_oid(0, 6);
	job->run_as = spi_oid(0, 7);
	job->runbook_id = spi_int8(0, 8);
	job->spec = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(spi_text(0, 9))));
	job->workers = (int) spi_int8(0, 10);
	job->batch_context = AllocSetContextCreate(context, "evmig batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(oldcontext);
	return job;
}

static JsonbValue *
spec_value(Job *job, const char *field)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&job->spec->root, field,
													 strlen(field), NULL);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

char *
job_spec_text(Job *job, const char *field)
{
	JsonbValue *value = spec_value(job, field);

	if (value == NULL)
		return NULL;
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	if (value->type == jbvBool)
		return pstrdup(value->val.boolean ? "true" : "false");
	return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
}

int64
job_spec_int8(Job *job, const char *field, int64 missing)
{
	JsonbValue *value = spec_value(job, field);

	if (value == NULL || value->type != jbvNumeric)
		return missing;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(value->val.numeric)));
}

bool
job_spec_bool(Job *job, const char *field, bool missing)
{
	JsonbValue *value = spec_value(job, field);

	return value == NULL || value->type != jbvBool ? missing : value->val.boolean;
}

void
job_spec_merge(Job *job, const char *json)
{
	SqlArgs		args = {0};
	char	   *spec;
	MemoryContext oldcontext;

	arg_int8(&args, job->id);
	arg_jsonb(&args, json);
	spi_catalog("UPDATE evmig.job SET spec = spec || $2 WHERE job_id = $1"
				" RETURNING spec::text", &args);
	spec = spi_text(0, 0);
	oldcontext = MemoryContextSwitchTo(job->context);
	job->spec = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(spec)));
	MemoryContextSwitchTo(oldcontext);
}

/* ---- a job's transactions ---- */

void
job_begin_bare(Job *job)
{
	if (job->in_session)
	{
		/* not by subxact_try(): it begins and ends in different callbacks of the kind */
		job->session_owner = CurrentResourceOwner;
		BeginInternalSubTransaction(NULL);
		job_pin_session();
	}
	else
	{
		job_pin_worker();
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}
	MemoryContextSwitchTo(job->batch_context);
	spi_begin();
}

void
job_begin_untimed(Job *job)
{
	job_begin_bare(job);
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * A worker does not arm this by itself.  A procedure's caller may have set one
 * for the whole CALL: whichever ends first counts.
 */
void
job_arm_timeout(Job *job, int ms)
{
	TimestampTz end = ms > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms) : 0;

	if (job->deadline != 0 && (end == 0 || job->deadline < end))
		end = job->deadline;
	if (end != 0)
		enable_timeout_at(STATEMENT_TIMEOUT, end);
	else
	{
		/* one that has fired since the statement is over is no cancel */
		disable_timeout(STATEMENT_TIMEOUT, true);
		if (get_timeout_indicator(STATEMENT_TIMEOUT, true))
			QueryCancelPending = false;
	}
}

void
job_begin(Job *job)
{
	job_begin_untimed(job);
	job_arm_timeout(job, evmig_data_statement_timeout);
}

void
job_commit(Job *job)
{
	if (ActiveSnapshotSet())
	{
		governor_before_commit(job);
		PopActiveSnapshot();
	}
	spi_end();
	if (job->in_session)
	{
		ReleaseCurrentSubTransaction();
		CurrentResourceOwner = job->session_owner;
		MemoryContextSwitchTo(job->batch_context);
		spi_commit();
	}
	else
		CommitTransactionCommand();
	job_arm_timeout(job, 0);
	MemoryContextSwitchTo(job->batch_context);
}

void
job_abort(Job *job)
{
	if (job->in_session)
	{
		/* the subtransaction takes SPI levels of the user's code along */
		if (IsSubTransaction())
		{
			RollbackAndReleaseCurrentSubTransaction();
			CurrentResourceOwner = job->session_owner;
		}
		MemoryContextSwitchTo(job->batch_context);
		spi_rollback();
	}
	else
		AbortCurrentTransaction();
	job_arm_timeout(job, 0);
	MemoryContextSwitchTo(job->batch_context);
}

void
job_phase(Job *job, const char *phase, double progress)
{
	SqlArgs		args = {0};

	if (!job->leader)
		return;
	job_begin(job);
	arg_int8(&args, job->id);
	arg_text(&args, phase);
	arg_datum(&args, FLOAT8OID, Float8GetDatum(progress), progress < 0);
	spi_catalog("UPDATE evmig.job SET phase = $2, progress = $3 WHERE job_id = $1", &args);
	job_commit(job);
}

/* Say what happened to the table, rather than what it lacks now. */
static void
check_still_ours(Job *job)
{
	HeapTuple	tup;
	Oid			owner;

	LockRelationOid(job->target, AccessShareLock);
	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(job->target));
	if (!HeapTupleIsValid(tup))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %s was dropped while the job was at work", job->target_name)));
	owner = ((Form_pg_class) GETSTRUCT(tup))->relowner;
	ReleaseSysCache(tup);
	if (!has_privs_of_role(job->run_as, owner) ||
		(owner != job->run_as && job_role(job->target) != job->run_as))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table %s was given to another owner while the job was at work",
						job->target_name),
				 errhint("Start a new job with the new owner's rights.")));
}

bool
job_check_target(Job *job)
{
	Target	   *target;
	SqlArgs		args = {0};

	check_still_ours(job);
	target = target_resolve(job->target, job->key_column, NULL,
							TARGET_CHANGE | (job->key_column ? 0 : TARGET_NO_KEY) |
							(job->kind->indexes ? TARGET_INDEXED : 0));
	if (strcmp(target->quoted, job->target_name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s was renamed to %s while the job was at work",
						job->target_name, target->quoted),
				 errhint("Start a new job on the new name.")));
	(void) require_all_rows(job->target, GetUserId());
	if (target->filenumber == job->filenumber)
		return false;

	arg_int8(&args, job->id);
	arg_datum(&args, OIDOID, ObjectIdGetDatum(target->filenumber), false);
	spi_catalog("UPDATE evmig.job SET filenumber = $2 WHERE job_id = $1", &args);
	job->filenumber = target->filenumber;
	return true;
}

void
job_outcome(Job *job, const char *outcome, int64 remaining,
			const char *message_format,...)
{
	StringInfoData buf;
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);

	job->outcome = outcome;
	job->remaining = remaining;
	job->message = NULL;
	if (message_format)
	{
		initStringInfo(&buf);
		for (;;)
		{
			va_list		ap;
			int			needed;

			va_start(ap, message_format);
			needed = appendStringInfoVA(&buf, message_format, ap);
			va_end(ap);
			if (needed == 0)
				break;
			enlargeStringInfo(&buf, needed);
		}
		job->message = buf.data;
	}
	MemoryContextSwitchTo(oldcontext);
}

void
job_result(Job *job, const char *json)
{
	job->result = MemoryContextStrdup(job->context, json);
}

/* ---- states ---- */

/* from, to: everything else is refused */
static const char *const legal[][2] = {
	{"queued", "running"},
	{"queued", "paused"},
	{"queued", "cancelled"},
	{"queued", "failed"},
	{"running", "running"},		/* resumed after an interruption */
	{"running", "queued"},		/* the same, but it has to wait */
	{"running", "paused"},
	{"running", "succeeded"},
	{"running", "incomplete"},
	{"running", "failed"},
	{"running", "cancelled"},
	{"paused", "queued"},
	{"paused", "cancelled"},
};

void
job_set_state(int64 id, const char *state)
{
	SqlArgs		args = {0};
	SqlArgs		update = {0};
	char	   *old;
	bool		ok = false;

	arg_int8(&args, id);
	if (spi_catalog("SELECT state FROM evmig.job WHERE job_id = $1 FOR UPDATE", &args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job " INT64_FORMAT " does not exist", id)));
	old = spi_text(0, 0);
	for (int i = 0; i < lengthof(legal); i++)
		ok |= strcmp(legal[i][0], old) == 0 && strcmp(legal[i][1], state) == 0;
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is %s and cannot become %s", id, old, state)));

	arg_int8(&update, id);
	arg_text(&update, state);
	spi_catalog("UPDATE evmig.job SET state = $2,"
				" request = CASE WHEN $2 IN ('running', 'queued') THEN nullif(request, 'stop') END,"
				" started_at = CASE WHEN $2 = 'running' THEN coalesce(started_at, pg_catalog.clock_timestamp())"
				" ELSE started_at END,"
				" finished_at = CASE WHEN $2 IN ('succeeded', 'incomplete', 'failed', 'cancelled')"
				" THEN pg_catalog.clock_timestamp() END"
				" WHERE job_id = $1", &update);
	notify_state(id);
}

char *
job_requested(int64 id, int *settings_version)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	if (spi_catalog("SELECT request, settings_version FROM evmig.job WHERE job_id = $1", &args) == 0)
		return "cancel";		/* the extension's tables were emptied */
	*settings_version = (int) spi_int8(0, 1);
	return spi_text(0, 0);
}
