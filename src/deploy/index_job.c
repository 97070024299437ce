/*-------------------------------------------------------------------------
 *
 * index_job.c
 *	  The job that builds a registered index concurrently.
 *
 * Each batch looks at what there is and takes one step, so a job that was
 * stopped anywhere goes on from there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "utils/builtins.h"

#include "base/sqltext.h"
#include "deploy/index_definition.h"
#include "evmig.h"
#include "integrity/concurrent.h"
#include "job/kinds.h"
#include "job/worker.h"

static void
index_prepare(Job *job)
{
	job_begin(job);
	(void) job_check_target(job);
	job_commit(job);
}

static bool
is_invalid(Job *job, void *arg, Oid *index, char **quoted)
{
	if (index_definition_find(index_definition_of_job(job), index) != FOUND_INVALID)
		return false;
	*quoted = quote_relation(*index);
	return true;
}

static void
drop_invalid(Job *job, int lock_timeout, bool must)
{
	ErrorData  *error;

	job_phase(job, "dropping an invalid index", -1);
	error = drop_index_concurrently(job, job->target, lock_timeout, is_invalid, NULL);
	if (error && must)
		ReThrowError(error);
	if (error)
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT ": an invalid index is left: %s", job->id,
						error->message)));
}

/* One step; false once the index is there. */
static bool
index_batch(Job *job)
{
	IndexDefinition *d;
	IndexFound	found;
	ErrorData  *error;
	Oid			index;
	char	   *sql;

	job_begin(job);
	(void) job_check_target(job);
	d = index_definition_of_job(job);
	found = index_definition_find(d, &index);
	sql = index_definition_text(d, true);
	job_commit(job);
	if (d->partitioned)
		return index_partition_step(job, d);

	switch (found)
	{
		case FOUND_EQUAL:
			return false;
		case FOUND_OTHER:
		case FOUND_FOREIGN:
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("the name of index \"%s\" is taken", d->name),
					 errdetail("Something else has it since the job was started.")));
			break;
		case FOUND_INVALID:
			drop_invalid(job, NO_TIMEOUT, true);
			return true;
		case FOUND_NOTHING:
			break;
	}
	job_phase(job, psprintf("building index %s", d->name), -1);
	error = run_patiently(sql, NO_TIMEOUT);
	if (error)
	{
		/* a job that ends waits for nobody: the next build drops what is left */
		drop_invalid(job, evmig_step_lock_timeout, false);

		/* which key is duplicated: the job's row keeps the message alone */
		if (error->detail)
			error->message = psprintf("%s: %s", error->message, error->detail);
		ReThrowError(error);
	}
	return true;
}

static bool
index_verify(Job *job)
{
	Oid			index;
	IndexFound	found;

	job_begin(job);
	found = index_definition_find(index_definition_of_job(job), &index);
	job_commit(job);
	if (found != FOUND_EQUAL)
		return true;
	job_outcome(job, "succeeded", 0, NULL);
	return false;
}

/*
 * Two builds on one table wait for each other's transactions, which the
 * server calls a deadlock: one at a time in a whole partition tree, because a
 * partition may have a job of its own.
 */
const JobKind registered_index_kind = {
	.name = "index",
	.integrity = false,
	.indexes = true,
	.in_turn = true,
	.prepare = index_prepare,
	.batch = index_batch,
	.verify = index_verify,
};
