/*-------------------------------------------------------------------------
 *
 * index_drop.c
 *	  The job that drops a registered index, and what a build of it has left.
 *
 * A table's index goes with DROP INDEX CONCURRENTLY, which the server does not
 * have for a partitioned table's.  That one needs ACCESS EXCLUSIVE on the
 * table, its partitions and all their indexes: taken together or not at all,
 * and polled, so that nobody is held up for longer than the step's lock timeout
 * and the drop itself, which is done in the catalogs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_inherits.h"
#include "utils/builtins.h"

#include "base/lock.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "deploy/index_definition.h"
#include "evmig.h"
#include "integrity/concurrent.h"
#include "job/kinds.h"
#include "job/worker.h"

int64
index_drop_start(const char *name, Target *target, const IndexDefinition *definition)
{
	JobRequest	request = {"index_drop"};

	request.spec = index_definition_spec(definition);
	request.name = psprintf("drop of index %s", name);
	return job_create(target, &request);
}

/* Is it there?  Something else under its name is not ours to drop. */
static bool
find_index(const IndexDefinition *d, Oid *index)
{
	switch (index_definition_find(d, index))
	{
		case FOUND_EQUAL:
		case FOUND_INVALID:
			return true;
		case FOUND_OTHER:
		case FOUND_FOREIGN:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("\"%s\" is not the index that was registered", d->name),
					 errdetail("Something else has its name since the job was started.")));
			break;
		case FOUND_NOTHING:
			break;
	}
	return false;
}

/* The index, or what is left of it on a partition; NULL: nothing. */
static IndexDefinition *
find_next(Job *job)
{
	IndexDefinition *d;
	IndexDefinition part;
	Oid			index;
	bool		found;

	job_begin(job);
	(void) job_check_target(job);
	d = index_definition_of_job(job);
	found = find_index(d, &index);
	if (!found && index_partition_leftover(d, &part))
	{
		*d = part;
		found = true;
	}
	job_commit(job);
	return found ? d : NULL;
}

/* ---- of a table ---- */

static bool
is_there(Job *job, void *arg, Oid *index, char **quoted)
{
	if (!find_index(arg, index))
		return false;
	*quoted = quote_relation(*index);
	return true;
}

/* ---- of a partitioned table ---- */

/* What DROP INDEX locks, in its order: the tables, each before its indexes. */
static List *
relations_of(const IndexDefinition *d, Oid index)
{
	List	   *tables = find_all_inheritors(d->target, NoLock, NULL);
	List	   *indexes = find_all_inheritors(index, NoLock, NULL);
	List	   *all = list_make2_oid(d->target, index);

	all = list_concat_unique_oid(all, tables);
	return list_concat_unique_oid(all, indexes);
}

static void
drop_tree(Job *job, const IndexDefinition *d)
{
	SqlArgs		none = {0};
	List	   *relations = NIL;
	Oid			index;

	job_begin(job);
	if (find_index(d, &index))
		relations = relations_of(d, index);
	job_commit(job);
	if (relations == NIL)
		return;
	worker_lock_relations(job, relations, AccessExclusiveLock,
						  psprintf("The index is there, and not registered any more: DROP INDEX %s, or register and unregister it again. evmig.lock_wait_max says how long to try.",
								   quote_identifier(d->name)));
	job_limit_waits(evmig_step_lock_timeout);	/* for a partition that has come since */
	if (find_index(d, &index))
		spi_run(psprintf("DROP INDEX %s", quote_relation(index)), &none);
	job_commit(job);
}

/* ---- the job ---- */

static void
index_drop_prepare(Job *job)
{
	job_begin(job);
	(void) job_check_target(job);
	job_commit(job);
}

static bool
index_drop_batch(Job *job)
{
	IndexDefinition *d = find_next(job);
	ErrorData  *error = NULL;

	if (d == NULL)
		return false;
	job_phase(job, psprintf("dropping index %s", d->name), -1);
	if (d->partitioned)
		drop_tree(job, d);
	else
		error = drop_index_concurrently(job, d->target, NO_TIMEOUT, is_there, d);
	if (error)
		ReThrowError(error);
	return true;
}

static bool
index_drop_verify(Job *job)
{
	if (find_next(job) != NULL)
		return true;
	job_outcome(job, "succeeded", 0, NULL);
	return false;
}

/* In turn, because the build of what it drops may be ending; first, because nobody wants the index. */
const JobKind index_drop_kind = {
	.name = "index_drop",
	.integrity = false,
	.indexes = true,
	.in_turn = true,
	.first = true,
	.prepare = index_drop_prepare,
	.batch = index_drop_batch,
	.verify = index_drop_verify,
};
