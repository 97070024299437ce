/*-------------------------------------------------------------------------
 *
 * registered_index.c
 *	  Registered indexes: evmig.index, and the lane that builds them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "base/subxact.h"
#include "deploy/deploy.h"
#include "deploy/index_definition.h"
#include "integrity/index.h"
#include "job/job.h"
#include "job/recover.h"
#include "job/worker.h"

PG_FUNCTION_INFO_V1(evmig_index_register);
PG_FUNCTION_INFO_V1(evmig_index_unregister);
PG_FUNCTION_INFO_V1(evmig_index_build_all);

typedef struct RegisteredIndex
{
	char	   *name;
	Oid			owner;			/* who registered it */
	IndexDefinition definition;
} RegisteredIndex;

/* ---- the registry ---- */

/* The row of that name, whosever it is; NULL: there is none. */
static RegisteredIndex *
load_index(const char *name, bool lock)
{
	RegisteredIndex *r;
	SqlArgs		args = {0};

	arg_text(&args, name);
	if (spi_catalog(psprintf("SELECT target::oid, index_name::text, is_unique, tail, owner::oid FROM evmig.index"
							 " WHERE name = $1%s", lock ? " FOR UPDATE" : ""), &args) == 0)
		return NULL;
	r = palloc0(sizeof(RegisteredIndex));
	r->name = pstrdup(name);
	r->owner = spi_oid(0, 4);
	r->definition.target = spi_oid(0, 0);
	r->definition.name = spi_text(0, 1);
	r->definition.unique = spi_bool(0, 2);
	r->definition.tail = spi_text(0, 3);
	r->definition.partitioned = get_rel_relkind(r->definition.target) == RELKIND_PARTITIONED_TABLE;
	return r;
}

/* Is its table ours, or, where that is gone, the registration? */
static bool
is_ours(const RegisteredIndex *r)
{
	if (get_rel_name(r->definition.target) != NULL)
		return owns_relation(r->definition.target);
	return has_privs_of_role(GetUserId(), r->owner);
}

static void
require_ours(const RegisteredIndex *r)
{
	if (get_rel_name(r->definition.target) != NULL)
		require_owner(r->definition.target);
	else if (!is_ours(r))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("index \"%s\" was registered by role \"%s\"", r->name,
						GetUserNameFromId(r->owner, false)),
				 errhint("Call it as a member of that role.")));
}

/* The same, locked, of ours: looked at before, so that nobody locks others' rows. */
static RegisteredIndex *
load_ours(const char *name)
{
	RegisteredIndex *r = load_index(name, false);

	if (r == NULL)
		return NULL;
	require_ours(r);
	r = load_index(name, true);
	if (r)
		require_ours(r);
	return r;
}

/* Write it down; false: somebody else has registered that name meanwhile. */
static bool
write_index(bool known, const char *name, const IndexDefinition *d, const char *sql)
{
	SqlArgs		args = {0};

	arg_text(&args, name);
	arg_oid(&args, d->target);
	arg_text(&args, d->name);
	arg_bool(&args, d->unique);
	arg_text(&args, d->tail);
	arg_text(&args, sql);
	arg_oid(&args, GetUserId());
	if (known)
		return spi_catalog("UPDATE evmig.index SET target = $2::regclass, index_name = $3::name, is_unique = $4, tail = $5,"
						   " definition = $6, owner = $7::regrole, registered_at = pg_catalog.clock_timestamp()"
						   " WHERE name = $1 RETURNING name", &args) > 0;
	return spi_catalog("INSERT INTO evmig.index (name, target, index_name, is_unique, tail, definition, owner)"
					   " VALUES ($1, $2::regclass, $3::name, $4, $5, $6, $7::regrole)"
					   " ON CONFLICT DO NOTHING RETURNING name", &args) > 0;
}

/* A job that has not dropped it yet would do so after it was registered, and found to be there. */
static void
refuse_while_dropped(const IndexDefinition *d)
{
	SqlArgs		args = {0};

	arg_oid(&args, d->target);
	arg_text(&args, d->name);
	if (spi_catalog("SELECT job_id FROM evmig.job WHERE kind = 'index_drop' AND target = $1"
					" AND spec ->> 'index_name' = $2 AND state IN ('queued', 'running', 'paused')"
					" ORDER BY job_id DESC LIMIT 1", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("index \"%s\" is being dropped by job " INT64_FORMAT, d->name, spi_int8(0, 0)),
				 errhint("CALL evmig_wait(" INT64_FORMAT "), and register it then.", spi_int8(0, 0))));
}

/*
 * evmig_index_register(name text, definition text) returns boolean
 *
 * Register an index; false where the same one is there already.  Builds
 * nothing.
 */
Datum
evmig_index_register(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "name");
	char	   *sql = required_text(fcinfo, 1, "definition");
	RegisteredIndex *old;
	IndexDefinition *d;
	bool		same;

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name must not be empty")));
	require_writable();
	spi_begin();
	d = index_definition_read(sql, name);

	/* no limit: once more only where others have registered, or forgotten, this name since we looked */
	do
	{
		old = load_ours(name);
		same = old && index_definition_equal(&old->definition, d);
		if (!same)
			refuse_while_dropped(d);
	} while (!same && !write_index(old != NULL, name, d, sql));
	spi_end();
	PG_RETURN_BOOL(!same);
}

typedef struct ActiveJob
{
	int64		id;
	char	   *state;
	Oid			run_as;
	bool		same;			/* definition as is registered */
} ActiveJob;

/* The job of this index that has not ended; false: none. */
static bool
find_active_job(const RegisteredIndex *r, ActiveJob *job)
{
	SqlArgs		args = {0};

	arg_oid(&args, r->definition.target);
	arg_text(&args, r->definition.name);
	arg_bool(&args, r->definition.unique);
	arg_text(&args, r->definition.tail);
	if (spi_catalog("SELECT job_id, state, run_as, spec -> 'unique' = to_jsonb($3) AND spec ->> 'tail' = $4"
					" FROM evmig.job WHERE kind = 'index' AND target = $1"
					" AND spec ->> 'index_name' = $2 AND state IN ('queued', 'running', 'paused')"
					" ORDER BY job_id DESC LIMIT 1", &args) == 0)
		return false;
	job->id = spi_int8(0, 0);
	job->state = spi_text(0, 1);
	job->run_as = spi_oid(0, 2);
	job->same = spi_bool(0, 3);
	return true;
}

/* Start a job that drops the index, and end one that builds it; 0: there is none to drop. */
static int64
start_drop(const RegisteredIndex *r)
{
	ActiveJob	build;
	bool		building = find_active_job(r, &build);
	Target	   *target = target_resolve(r->definition.target, NULL, NULL,
										TARGET_CHANGE | TARGET_NO_KEY | TARGET_INDEXED);
	Oid			index;

	if (building)
		job_cancel(build.id);
	switch (index_definition_find(&r->definition, &index))
	{
		case FOUND_EQUAL:
		case FOUND_INVALID:
			index_require_droppable(target, index);
			break;
		case FOUND_OTHER:
		case FOUND_FOREIGN:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("\"%s\" is not the index that was registered", r->definition.name),
					 errhint("Unregister it with drop_index => false.")));
			break;
		case FOUND_NOTHING:
			/* what the build is just making */
			if (!building)
				return 0;
			break;
	}
	return index_drop_start(r->name, target, &r->definition);
}

/*
 * evmig_index_unregister(name text, drop_index boolean) returns bigint
 *
 * Forget a registered index; with drop_index a job drops it concurrently, whose
 * id is returned.
 */
Datum
evmig_index_unregister(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "name");
	RegisteredIndex *r;
	SqlArgs		args = {0};
	int64		job = 0;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("drop_index must not be null")));
	require_writable();
	spi_begin();
	r = load_ours(name);
	if (r == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("index \"%s\" is not registered", name),
				 errhint("SELECT name FROM evmig.index shows the ones that you may see.")));
	if (PG_GETARG_BOOL(1) && get_rel_name(r->definition.target))
		job = start_drop(r);
	arg_text(&args, name);
	spi_catalog("DELETE FROM evmig.index WHERE name = $1", &args);
	spi_end();
	if (job == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(job);
}

/* ---- building ---- */

typedef struct IndexCall
{
	int64		deploy;
	const char *name;
	List	   *turns;			/* tables for which this transaction has started a job */
	int64		job;			/* the one to wait for; 0: none */
	bool		started;		/* it has got a worker, too */
} IndexCall;

/* Start the job, or have it wait for one that has just been started on the same table. */
static void
start_build(IndexCall *call, const RegisteredIndex *r)
{
	Target	   *target = target_resolve(r->definition.target, NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY | TARGET_INDEXED);
	JobRequest	request = {"index"};

	request.spec = index_definition_spec(&r->definition);
	request.name = psprintf("index %s", r->name);
	request.queued = list_member_oid(call->turns, turn_of(request.kind, target->relid));
	call->job = job_create(target, &request);
	call->started = !request.queued;
	deploy_item(call->deploy, "indexes", r->name, "started", 0, call->job, NULL);
}

/*
 * There is a job that has not ended: its worker is gone, where it was
 * interrupted or nobody was left to start it.
 */
static void
take_up(IndexCall *call, const RegisteredIndex *r, const ActiveJob *job)
{
	bool		at_work = job_lock_is_held(job->id, JOB_LOCK_LEADER);
	bool		waits = !at_work && job_must_wait(job->id);

	if (!job->same)
	{
		ereport(WARNING,
				(errmsg("index \"%s\" is not built: job " INT64_FORMAT " builds it as it was registered before", r->name, job->id),
				 errhint("SELECT evmig_job_cancel(" INT64_FORMAT "), and deploy again.", job->id)));
		deploy_item(call->deploy, "indexes", r->name, "warning", 0, 0,
					"job " INT64_FORMAT " builds it as it was registered before", job->id);
		return;
	}
	if (strcmp(job->state, "paused") == 0)
	{
		ereport(WARNING,
				(errmsg("index \"%s\" is not built: its job " INT64_FORMAT " is paused", r->name, job->id),
				 errhint("SELECT evmig_job_resume(" INT64_FORMAT ") lets it go on.", job->id)));
		deploy_item(call->deploy, "indexes", r->name, "warning", 0, 0, "job " INT64_FORMAT " is paused", job->id);
		return;
	}
	if (!at_work && !waits)
	{
		if (strcmp(job->state, "running") == 0 && !restart_is_due(job->id, true))
		{
			deploy_item(call->deploy, "indexes", r->name, "warning", 0, 0,
						"job " INT64_FORMAT " was interrupted again and again", job->id);
			return;
		}
		worker_start_at_commit(job->id, job->run_as);
		call->started = true;
	}
	call->job = job->id;
	deploy_item(call->deploy, "indexes", r->name, "started", 0, job->id, "taken up: job " INT64_FORMAT " %s", job->id,
				at_work ? "is at work" : waits ? "waits" : "is started again");
}

/* Look at one, and start what is to be done. */
static void
build_index(IndexCall *call, const RegisteredIndex *r)
{
	int64		deploy = call->deploy;
	Oid			index;
	ActiveJob	job;

	if (find_active_job(r, &job))
	{
		take_up(call, r, &job);
		return;
	}
	switch (index_definition_find(&r->definition, &index))
	{
		case FOUND_EQUAL:
			deploy_item(deploy, "indexes", r->name, "skipped", 0, 0, "is there and valid");
			return;
		case FOUND_OTHER:
			{
				char	   *there = index_definition_text(index_definition_of(index), false);
				char	   *wanted = index_definition_text(&r->definition, false);

				ereport(WARNING,
						(errcode(ERRCODE_DUPLICATE_TABLE),
						 errmsg("index \"%s\" is there with another definition", r->definition.name),
						 errdetail("There: %s\nRegistered: %s", there, wanted),
						 errhint("Register it under another name, or drop the one that is there.")));
				deploy_item(deploy, "indexes", r->name, "warning", 0, 0,
							"is there as: %s; registered: %s", there, wanted);
				return;
			}
		case FOUND_FOREIGN:
			ereport(WARNING,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("the name of index \"%s\" is taken by something else", r->definition.name)));
			deploy_item(deploy, "indexes", r->name, "warning", 0, 0, "the name is taken by something else");
			return;
		case FOUND_INVALID:
		case FOUND_NOTHING:
			break;
	}
	start_build(call, r);
}

/* What there is to do about one of ours. */
static void
look_at_index(void *arg)
{
	IndexCall  *call = arg;
	RegisteredIndex *r = load_index(call->name, false);

	if (r && !is_ours(r))
	{
		deploy_item(call->deploy, "indexes", r->name, "skipped", 0, 0, "it is not yours");
		return;
	}
	r = load_ours(call->name);
	if (r == NULL)
		return;
	if (get_rel_name(r->definition.target) == NULL)
	{
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of index \"%s\" does not exist any more", r->name),
				 errhint("SELECT evmig_index_unregister(%s) forgets it.", quote_literal_cstr(r->name))));
		deploy_item(call->deploy, "indexes", r->name, "warning", 0, 0, "its table does not exist any more");
		return;
	}
	build_index(call, r);
}

List *
build_indexes(int64 deploy, List *jobs)
{
	MemoryContext context = CurrentMemoryContext;
	IndexCall	call = {deploy};
	SqlArgs		none = {0};
	uint64		n;
	char	  **names;

	n = spi_catalog("SELECT name FROM evmig.index ORDER BY 1", &none);
	names = palloc(sizeof(char *) * (n + 1));
	for (uint64 i = 0; i < n; i++)
		names[i] = spi_text(i, 0);
	for (uint64 i = 0; i < n; i++)
	{
		ErrorData  *error;
		int64	   *job;

		call.name = names[i];
		call.job = 0;
		call.started = false;
		error = subxact_try_or_warn(look_at_index, &call, psprintf("index \"%s\" is not built", names[i]));
		if (error)
			deploy_item(deploy, "indexes", names[i], "warning", 0, 0, "%s", error->message);
		if (error || call.job == 0)
			continue;
		if (call.started)
			call.turns = lappend_oid(call.turns, job_turn(call.job));
		job = MemoryContextAlloc(context, sizeof(int64));
		*job = call.job;
		jobs = lappend(jobs, job);
	}
	if (n == 0)
		deploy_item(deploy, "indexes", "all", "skipped", 0, 0, "none is registered");
	return jobs;
}

/*
 * evmig_index_build_all() returns setof bigint
 *
 * Start a job for each registered index of ours that is not there or invalid.
 */
Datum
evmig_index_build_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *jobs;
	ListCell   *lc;

	require_writable();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	spi_begin();
	jobs = build_indexes(0, NIL);
	foreach(lc, jobs)
	{
		Datum		value = Int64GetDatum(*(int64 *) lfirst(lc));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	spi_end();
	return (Datum) 0;
}
