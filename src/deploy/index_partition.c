/*-------------------------------------------------------------------------
 *
 * index_partition.c
 *	  A registered index on a partitioned table, without blocking writers.
 *
 * The server builds none concurrently.  So: an index ON ONLY the parent, which
 * has no rows, each leaf's concurrently, and each attached to that of its
 * parent; with the last one the parent's becomes valid.  Each call takes the
 * first step that is missing.  A partition that comes meanwhile gets its index
 * from the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/index.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "base/lock.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "deploy/index_definition.h"
#include "evmig.h"
#include "integrity/concurrent.h"
#include "job/worker.h"

#define ATTACH_PAUSE_MS 200
#define ATTACH_HINT \
	"What is built stays. Once they have ended, deploy again, or call evmig_index_build_all(): it goes on with what is missing. evmig.lock_wait_max says how long to try."

typedef enum StepKind
{
	STEP_NONE,
	STEP_CREATE,				/* ON ONLY a partitioned table */
	STEP_BUILD,					/* of a leaf, concurrently */
	STEP_DROP,					/* an invalid one of a leaf */
	STEP_ATTACH
} StepKind;

typedef struct Step
{
	StepKind	kind;
	IndexDefinition definition;
	Oid			index;			/* to drop or attach */
	Oid			parent;			/* to attach to */
} Step;

/* the job's state: the index that it tries to attach, and since when */
typedef struct Attaching
{
	Oid			index;
	LockPoll	poll;
} Attaching;

/* ---- looking ---- */

/* The partition's index that belongs to this one of its parent; InvalidOid: none. */
static Oid
attached_index(List *indexes, Oid parent)
{
	ListCell   *lc;

	foreach(lc, indexes)
		if (get_rel_relispartition(lfirst_oid(lc)) &&
			get_partition_parent(lfirst_oid(lc), false) == parent)
			return lfirst_oid(lc);
	return InvalidOid;
}

/* A valid index of the partition that is the same but for its name, and nobody's yet. */
static Oid
same_index(List *indexes, const IndexDefinition *wanted)
{
	ListCell   *lc;

	foreach(lc, indexes)
	{
		IndexDefinition like = *wanted;
		Oid			found;

		if (get_rel_relispartition(lfirst_oid(lc)))
			continue;
		like.name = get_rel_name(lfirst_oid(lc));
		if (index_definition_find(&like, &found) == FOUND_EQUAL)
			return lfirst_oid(lc);
	}
	return InvalidOid;
}

/*
 * The same name each time, so that what an interrupted build has left is found
 * again, and another one for each partition: names that differ at their end
 * alone, as those of months do, would be the same once they are cut.
 */
static char *
part_name(Oid partition, const char *parent)
{
	char	   *name = get_rel_name(partition);

	if (strlen(name) + strlen(parent) + 1 < NAMEDATALEN)
		return object_name(name, parent, NULL);
	return object_name(name, parent, psprintf("%u", partition));
}

static IndexDefinition
partition_definition(const IndexDefinition *parent, Oid partition)
{
	IndexDefinition d = *parent;
	char		relkind = get_rel_relkind(partition);

	d.target = partition;
	d.partitioned = relkind == RELKIND_PARTITIONED_TABLE;
	d.name = part_name(partition, parent->name);
	if (relkind == RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot build index \"%s\": partition \"%s\" is a foreign table",
						parent->name, get_rel_name(partition))));
	return d;
}

static bool find_step(const IndexDefinition *parent, Oid parent_index, Step *step);

/*
 * The step for a partition that is partitioned itself: all of its parts come
 * before it is attached.  Were it attached first, the last one would make two
 * levels valid, for which the server takes ACCESS EXCLUSIVE on the upper table.
 */
static bool
find_part_of_tree(Oid parent_index, Step *step)
{
	IndexDefinition d = step->definition;
	Oid			index = step->index;

	if (find_step(&d, index, step))
		return true;
	step->kind = STEP_ATTACH;
	step->definition = d;
	step->index = index;
	step->parent = parent_index;
	return true;
}

/* What is missing in this partition; false: nothing. */
static bool
find_partition_step(const IndexDefinition *parent, Oid parent_index, Oid partition, Step *step)
{
	Relation	rel = RelationIdGetRelation(partition);
	List	   *indexes;
	Oid			index;

	if (!RelationIsValid(rel))
		return false;			/* dropped just now */
	indexes = RelationGetIndexList(rel);
	RelationClose(rel);

	step->definition = partition_definition(parent, partition);
	index = attached_index(indexes, parent_index);
	if (OidIsValid(index))
	{
		IndexDefinition d = step->definition;

		d.name = get_rel_name(index);
		return d.partitioned && find_step(&d, index, step);
	}
	step->parent = parent_index;
	step->index = same_index(indexes, &step->definition);
	if (OidIsValid(step->index))
	{
		step->kind = STEP_ATTACH;
		return true;
	}
	switch (index_definition_find(&step->definition, &step->index))
	{
		case FOUND_NOTHING:
			step->kind = step->definition.partitioned ? STEP_CREATE : STEP_BUILD;
			break;
		case FOUND_INVALID:
			if (step->definition.partitioned)
				return find_part_of_tree(parent_index, step);
			step->kind = STEP_DROP;
			break;
		case FOUND_EQUAL:
			step->kind = STEP_ATTACH;
			break;
		case FOUND_OTHER:
		case FOUND_FOREIGN:
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("the name of index \"%s\" is taken", step->definition.name),
					 errdetail("It was to be that of partition \"%s\".", get_rel_name(partition))));
	}
	return true;
}

/* The first missing step below this index; false: none. */
static bool
find_step(const IndexDefinition *parent, Oid parent_index, Step *step)
{
	List	   *partitions = find_inheritance_children(parent->target, AccessShareLock);
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, partitions)
		if (find_partition_step(parent, parent_index, lfirst_oid(lc), step))
			return true;
	return false;
}

/* Under the name that a build gives it, and in nobody's tree: what it left, or was about to attach. */
static bool
is_leftover(const IndexDefinition *part)
{
	Oid			index;
	IndexFound	found = index_definition_find(part, &index);

	return (found == FOUND_INVALID || found == FOUND_EQUAL) && !get_rel_relispartition(index);
}

bool
index_partition_leftover(const IndexDefinition *parent, IndexDefinition *part)
{
	List	   *partitions = parent->partitioned ? find_inheritance_children(parent->target, AccessShareLock) : NIL;
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, partitions)
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE || get_rel_name(lfirst_oid(lc)) == NULL)
			continue;
		*part = partition_definition(parent, lfirst_oid(lc));
		if (is_leftover(part))
			return true;
		if (part->partitioned)
		{
			IndexDefinition inner = *part;

			if (index_partition_leftover(&inner, part))
				return true;
		}
	}
	return false;
}

static void
look(Job *job, const IndexDefinition *d, Step *step)
{
	Oid			index;

	memset(step, 0, sizeof(Step));
	job_begin(job);
	(void) job_check_target(job);
	switch (index_definition_find(d, &index))
	{
		case FOUND_EQUAL:
			break;
		case FOUND_NOTHING:
			step->kind = STEP_CREATE;
			step->definition = *d;
			break;
		case FOUND_INVALID:
			if (!find_step(d, index, step))
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("index \"%s\" is invalid although each partition has its part", d->name),
						 errdetail("A part is invalid itself, or a partition that had none has gone since: the server does not look again."),
						 errhint("Unregister it with drop_index => true; once it is gone, register it again, and deploy again.")));
			break;
		case FOUND_OTHER:
		case FOUND_FOREIGN:
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("the name of index \"%s\" is taken", d->name),
					 errdetail("Something else has it since the job was started.")));
	}
	job_commit(job);
}

/* ---- doing ---- */

/* SHARE on a table without rows of its own, which stops writers: polled, and held for a moment. */
static void
create_parent(Job *job, Step *step)
{
	SqlArgs		none = {0};
	Oid			index;

	worker_lock_relation(job, step->definition.target, ShareLock);
	if (index_definition_find(&step->definition, &index) == FOUND_NOTHING)
		spi_run(index_definition_text(&step->definition, false), &none);
	job_commit(job);
}

static LockPoll *
poll_of(Job *job, Oid index)
{
	Attaching  *attaching = job->state;

	if (attaching == NULL)
		attaching = job->state = MemoryContextAllocZero(job->context, sizeof(Attaching));
	if (attaching->index != index)
	{
		lock_poll_start(&attaching->poll, index, AccessExclusiveLock);
		attaching->poll.hint = ATTACH_HINT;
		attaching->index = index;
	}
	return &attaching->poll;
}

/* Without waiting; false: somebody keeps us out, or it was dropped just now. */
static bool
lock_at_once(LockPoll *poll, Oid relid, LOCKMODE mode)
{
	if (!OidIsValid(relid))
		return false;
	if (ConditionalLockRelationOid(relid, mode))
		return true;
	lock_poll_missed(poll, relid, mode);
	return false;
}

/* What else the server locks to attach it: the tables of both as a reader does, and the parent. */
static bool
lock_around(LockPoll *poll, const Step *step)
{
	return lock_at_once(poll, IndexGetRelation(step->index, true), AccessShareLock) &&
		lock_at_once(poll, IndexGetRelation(step->parent, true), AccessShareLock) &&
		lock_at_once(poll, step->parent, ShareUpdateExclusiveLock);
}

/*
 * What the server locks ACCESS EXCLUSIVE to attach it, tables before their
 * indexes: itself, and each tree that its parent is attached to already, as
 * somebody else may have done, because that may become valid with it.
 */
static List *
relations_to_attach(const Step *step)
{
	List	   *relations = list_make1_oid(step->index);

	for (Oid index = step->parent; get_rel_relispartition(index);)
	{
		Oid			table;

		index = get_partition_parent(index, false);
		table = IndexGetRelation(index, true);
		if (!OidIsValid(table))
			break;				/* dropped just now */
		relations = lcons_oid(index, relations);
		relations = lcons_oid(table, relations);
	}
	return relations;
}

/*
 * ACCESS EXCLUSIVE on the new index, which stops who plans a query: polled as
 * well.  Everybody else locks a table before its index, so with the index
 * locked nobody is waited for who may wait for it: false, let go and try again,
 * until evmig.lock_wait_max is over.
 */
static bool
attach(Job *job, Step *step)
{
	SqlArgs		none = {0};
	LockPoll   *poll = poll_of(job, step->index);
	List	   *relations;
	bool		locked;

	job_begin(job);
	relations = relations_to_attach(step);
	job_commit(job);
	worker_lock_relations(job, relations, AccessExclusiveLock, ATTACH_HINT);
	job->no_retry = true;		/* giving up is meant */
	locked = lock_around(poll, step);
	job->no_retry = false;
	job_limit_waits(evmig_step_lock_timeout);
	if (locked && !get_rel_relispartition(step->index))
		spi_run(psprintf("ALTER INDEX %s ATTACH PARTITION %s", quote_relation(step->parent),
						 quote_relation(step->index)), &none);
	job_commit(job);
	return locked;
}

static bool
is_invalid(Job *job, void *arg, Oid *index, char **quoted)
{
	if (index_definition_find(&((Step *) arg)->definition, index) != FOUND_INVALID)
		return false;
	*quoted = quote_relation(*index);
	return true;
}

static void
build(Job *job, Step *step)
{
	char	   *sql;
	ErrorData  *error;

	job_begin(job);
	sql = index_definition_text(&step->definition, true);
	job_commit(job);
	error = run_patiently(sql, NO_TIMEOUT);
	if (error == NULL)
		return;

	/* a job that ends waits for nobody: the next build drops what is left */
	(void) drop_index_concurrently(job, step->definition.target, evmig_step_lock_timeout, is_invalid, step);
	if (error->detail)
		error->message = psprintf("%s: %s", error->message, error->detail);
	ReThrowError(error);
}

bool
index_partition_step(Job *job, const IndexDefinition *d)
{
	Step		step;
	ErrorData  *error;

	look(job, d, &step);
	switch (step.kind)
	{
		case STEP_NONE:
			return false;
		case STEP_CREATE:
			job_phase(job, psprintf("making index %s on a parent", step.definition.name), -1);
			create_parent(job, &step);
			break;
		case STEP_BUILD:
			job_phase(job, psprintf("building index %s", step.definition.name), -1);
			build(job, &step);
			break;
		case STEP_DROP:
			job_phase(job, "dropping an invalid index", -1);
			error = drop_index_concurrently(job, step.definition.target, NO_TIMEOUT, is_invalid, &step);
			if (error)
				ReThrowError(error);
			break;
		case STEP_ATTACH:
			job_phase(job, "attaching an index", -1);
			if (!attach(job, &step))
				worker_sleep(job, ATTACH_PAUSE_MS);
			break;
	}
	return true;
}
