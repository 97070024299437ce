/*-------------------------------------------------------------------------
 *
 * build.c
 *	  Jobs that build and drop indexes concurrently.
 *
 * Each batch looks at what there is and takes one step, so a job that was
 * stopped anywhere goes on from there.  A concurrent build waits for every
 * older transaction: none of ours is open meanwhile, and no lock_timeout ends
 * the wait, because that would leave an invalid index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "integrity/concurrent.h"
#include "integrity/index.h"
#include "job/kinds.h"
#include "job/worker.h"

#define SHOWN_GROUPS 5			/* conflicting keys in log and job row */

/* what a step needs to know; lives as long as the batch */
typedef struct Build
{
	Target	   *target;
	bool		unique;
	char	   *name;
	char	   *quoted;			/* schema.name */
	IndexState	state;
	Oid			index;			/* what was found, if anything */
} Build;

/* ---- looking ---- */

static void
look(Job *job, Build *build)
{
	build->target = target_resolve(job->target, job->key_column, NULL, TARGET_CHANGE);
	build->name = job_spec_text(job, "index_name");
	build->quoted = quote_qualified_identifier(build->target->schema, build->name);
	build->state = index_look(build->target, build->name, build->unique, &build->index);
}

static Build *
look_afresh(Job *job, bool unique)
{
	Build	   *build = palloc0(sizeof(Build));

	build->unique = unique;
	job_begin(job);
	(void) job_check_target(job);
	look(job, build);
	job_commit(job);
	return build;
}

/* Add to the result in the job's row; inside a transaction. */
static void
note_result(Job *job, const char *json)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_jsonb(&args, json);
	spi_catalog("UPDATE evmig.job SET result = coalesce(result, '{}') || $2 WHERE job_id = $1",
				&args);
}

/* ---- dropping what is invalid ---- */

static bool
is_still_invalid(Job *job, void *arg, Oid *index, char **quoted)
{
	Build	   *build = arg;

	look(job, build);
	*index = build->index;
	*quoted = build->quoted;
	return build->state == INDEX_INVALID;
}

/* ---- a build that failed ---- */

/*
 * Leave the invalid index to a job of its own, which waits as long as it must
 * while this one ends; returns its id, 0 if there is nothing to be dropped.
 */
static int64
hand_over_drop(Job *job, Build *build)
{
	int64		id = 0;
	int64		runbook = current_runbook;

	if (evmig_require_runbook && job->runbook_id == 0)
		return 0;
	job_begin(job);
	look(job, build);
	if (build->state == INDEX_INVALID)
	{
		current_runbook = job->runbook_id;
		id = drop_index_start(build->target, build->index);
		current_runbook = runbook;
		note_result(job, psprintf("{\"drop_job\": " INT64_FORMAT "}", id));
	}
	job_commit(job);
	return id;
}

/*
 * Get rid of what a failed or cancelled build left.  The job is about to end,
 * so it does not wait for transactions that are open now: that is left to a
 * job of kind drop_index.
 */
static void
leave_nothing_behind(Job *job, Build *build)
{
	ErrorData  *error = drop_index_concurrently(job, job->target, evmig_step_lock_timeout, is_still_invalid, build);
	int64		id;

	if (error == NULL)
		return;
	id = hand_over_drop(job, build);
	if (id > 0)
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT ": job " INT64_FORMAT " drops the invalid index %s once it can",
						job->id, id, build->quoted),
				 errdetail("%s", error->message)));
}

/* ---- a build that met duplicates ---- */

/*
 * Read which keys are there more than once, the largest groups first.  Returns
 * one line for each; the job's row gets them too, with what is to be done next.
 */
static char *
note_conflicts(Job *job, Build *build, int64 failures, bool dedupe)
{
	TargetColumn *key = &build->target->key;
	StringInfoData text;
	SqlArgs		none = {0};
	SqlArgs		args = {0};
	char	   *json;

	initStringInfo(&text);
	job_begin_untimed(job);
	spi_run(psprintf("SELECT pg_catalog.left(%s::pg_catalog.text, 200) AS key,"
					 " pg_catalog.count(*) AS rows FROM ONLY %s WHERE %s IS NOT NULL"
					 " GROUP BY %s HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1"
					 " ORDER BY pg_catalog.count(*) DESC, 1 LIMIT %d",
					 key->quoted, build->target->quoted, key->quoted, key->quoted, SHOWN_GROUPS),
			&none);
	for (uint64 i = 0; i < spi_nrows(); i++)
		appendStringInfo(&text, "%sKey (%s)=(%s): " INT64_FORMAT " rows.", i > 0 ? "\n" : "",
						 key->name, spi_text(i, 0), spi_int8(i, 1));
	if (spi_nrows() == 0)
		appendStringInfoString(&text, "The duplicates that the build met are gone again.");

	arg_text(&args, text.data);
	spi_run("SELECT pg_catalog.to_jsonb(pg_catalog.string_to_array($1, E'\\n'))::pg_catalog.text",
			&args);
	json = spi_text(0, 0);
	note_result(job, psprintf("{\"failed_builds\": " INT64_FORMAT ", \"conflicts\": %s}",
							  failures, json));
	job_spec_merge(job, psprintf("{\"failed_builds\": " INT64_FORMAT ", \"dedupe_due\": %s}",
								 failures, dedupe ? "true" : "false"));
	job_commit(job);
	return text.data;
}

static void
raise_conflicts(Build *build, const char *groups, bool can_dedupe)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("could not build unique index \"%s\": table \"%s\" has duplicate keys",
					build->name, build->target->name),
			 errdetail("%s", groups),
			 can_dedupe ?
			 errhint("Duplicates keep coming in. Keep them out with evmig_ingest_guard(duplicates => 'archive') and a helper index, as CALL evmig_runbook_execute() does, or raise evmig.index_retries from %d.",
					 evmig_index_retries) :
			 errhint("There is no order column to dedupe by: set evmig.order_column, or call evmig_dedupe() first.")));
}

/* Note who is in conflict, drop the index; dedupe comes with the next batch. */
static void
handle_duplicates(Job *job, Build *build)
{
	int64		failures = job_spec_int8(job, "failed_builds", 0) + 1;
	bool		can_dedupe = job_spec_text(job, "order_column") != NULL;
	bool		dedupe = can_dedupe && failures <= evmig_index_retries;
	char	   *groups = note_conflicts(job, build, failures, dedupe);
	ErrorData  *error;

	ereport(LOG,
			(errmsg("evmig job " INT64_FORMAT ": build " INT64_FORMAT " of unique index %s met duplicate keys",
					job->id, failures, build->quoted),
			 errdetail_log("%s", groups)));
	if (!dedupe)
	{
		leave_nothing_behind(job, build);
		raise_conflicts(build, groups, can_dedupe);
	}
	job_phase(job, "dropping the invalid index", -1);
	error = drop_index_concurrently(job, job->target, NO_TIMEOUT, is_still_invalid, build);
	if (error)
	{
		leave_nothing_behind(job, build);
		ReThrowError(error);
	}
}

/* ---- kinds unique_index and helper_index ---- */

static void
build_prepare(Job *job)
{
	job_begin(job);
	(void) job_check_target(job);
	job_commit(job);
}

static void
drop_leftover(Job *job, Build *build)
{
	ErrorData  *error;

	job_phase(job, "dropping an invalid index", -1);
	error = drop_index_concurrently(job, job->target, NO_TIMEOUT, is_still_invalid, build);
	if (error)
		ReThrowError(error);
}

static void
create_index(Job *job, Build *build)
{
	ErrorData  *error;

	job_phase(job, psprintf("building index %s", build->name), -1);
	error = run_patiently(psprintf("CREATE %sINDEX CONCURRENTLY %s ON %s USING btree (%s)",
								   build->unique ? "UNIQUE " : "",
								   quote_identifier(build->name), build->target->quoted,
								   build->target->key.quoted), NO_TIMEOUT);
	if (error == NULL)
		return;
	if (build->unique && error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
	{
		handle_duplicates(job, build);
		return;
	}
	leave_nothing_behind(job, build);
	ReThrowError(error);
}

/* One step; false once there is an index that serves. */
static bool
build_batch(Job *job, bool unique)
{
	Build	   *build = look_afresh(job, unique);

	switch (build->state)
	{
		case INDEX_VALID:
			return false;
		case INDEX_OTHER:
			index_name_is_taken(build->target, build->name, unique);
		case INDEX_INVALID:
			drop_leftover(job, build);
			return true;
		case INDEX_ABSENT:
			break;
	}
	if (job_spec_bool(job, "dedupe_due", false))
	{
		worker_run_kind(job, "dedupe");
		job_begin(job);
		job_spec_merge(job, "{\"dedupe_due\": false}");
		job_commit(job);
		return true;
	}
	create_index(job, build);
	return true;
}

static bool
unique_index_batch(Job *job)
{
	return build_batch(job, true);
}

static bool
helper_index_batch(Job *job)
{
	return build_batch(job, false);
}

/* The index is there, or there is work again. */
static bool
build_verify(Job *job, bool unique)
{
	Build	   *build = look_afresh(job, unique);
	SqlArgs		args = {0};

	if (build->state != INDEX_VALID)
		return true;
	job_begin(job);
	arg_text(&args, quote_relation(build->index));
	spi_run("SELECT pg_catalog.jsonb_build_object('index', $1)::pg_catalog.text", &args);
	note_result(job, spi_text(0, 0));
	job_commit(job);
	job_outcome(job, "succeeded", 0, NULL);
	return false;
}

static bool
unique_index_verify(Job *job)
{
	return build_verify(job, true);
}

static bool
helper_index_verify(Job *job)
{
	return build_verify(job, false);
}

const JobKind unique_index_kind = {
	.name = "unique_index",
	.integrity = true,
	.prepare = build_prepare,
	.batch = unique_index_batch,
	.verify = unique_index_verify,
};

const JobKind helper_index_kind = {
	.name = "helper_index",
	.integrity = true,
	.prepare = build_prepare,
	.batch = helper_index_batch,
	.verify = helper_index_verify,
};

/* ---- kind drop_index ---- */

/* Is the job's index still there, under the name that was meant? */
static bool
is_still_there(Job *job, void *arg, Oid *index, char **quoted)
{
	char	   *meant = job_spec_text(job, "index_name");
	char	   *name;

	*index = (Oid) job_spec_int8(job, "index", 0);
	name = get_rel_name(*index);
	if (name == NULL)
		return false;
	if (strcmp(name, meant) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" was renamed to \"%s\" while the job was at work",
						meant, name)));
	*quoted = quote_relation(*index);
	return true;
}

static bool
drop_index_batch(Job *job)
{
	ErrorData  *error;

	job_phase(job, psprintf("dropping index %s", job_spec_text(job, "index_name")), -1);
	error = drop_index_concurrently(job, job->target, NO_TIMEOUT, is_still_there, NULL);
	if (error)
		ReThrowError(error);
	return false;
}

static bool
drop_index_verify(Job *job)
{
	job_outcome(job, "succeeded", 0, NULL);
	return false;
}

/* Not an integrity job: one may have to clear up behind a job that is ending. */
const JobKind drop_index_kind = {
	.name = "drop_index",
	.integrity = false,
	.indexes = true,
	.prepare = build_prepare,
	.batch = drop_index_batch,
	.verify = drop_index_verify,
};
