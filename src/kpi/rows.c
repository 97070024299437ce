/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  Rows of executions that write several relations.
 *
 * What such an execution tells is one number, or none.  The rows of a watched
 * table are that number where the table has all of the relations, else what the
 * session has counted for pg_stat_user_tables since the execution began, less
 * what executions inside it have told of the table; and so are the inserted ones
 * among them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "nodes/execnodes.h"
#include "parser/parsetree.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "kpi/command.h"
#include "kpi/rows.h"

/* a relation of an execution, once for each table that it counts for */
typedef struct Counted
{
	const void *execution;
	int			depth;
	Oid			relid;
	WatchTarget target;			/* table NULL: done */
	int64		before;
	int64		inserted_before;
	uint64		rows;			/* of the table, that the command had counted */
	uint64		inserted;		/* the same */
} Counted;

/* a stack: executions inside others end before them */
static Counted *counted = NULL;
static int	size = 0;
int			rows_relations = 0;

void
rows_begin(int depth)
{
	while (rows_relations > 0 && counted[rows_relations - 1].depth >= depth)
		rows_relations--;
}

static Counted *
push(void)
{
	if (counted == NULL)
	{
		counted = MemoryContextAlloc(TopMemoryContext, 16 * sizeof(Counted));
		size = 16;
	}
	else if (rows_relations == size)
	{
		counted = repalloc(counted, 2 * size * sizeof(Counted));
		size *= 2;
	}
	return &counted[rows_relations++];
}

static bool
has_target(const WatchEntry *entry, const WatchTarget *target)
{
	for (int i = 0; i < entry->ntargets; i++)
		if (entry->target[i].table == target->table)
			return true;
	return false;
}

/* It writes the relation of entry; except: whose tables do not matter, NULL for none. */
static void
before(const void *execution, const WatchEntry *entry, int depth, const WatchEntry *except)
{
	/* a WITH may write it, too */
	for (int i = rows_relations - 1; i >= 0 && counted[i].execution == execution; i--)
		if (counted[i].relid == entry->relid)
			return;
	for (int i = 0; i < entry->ntargets; i++)
	{
		Counted    *c;

		if (except && has_target(except, &entry->target[i]))
			continue;
		c = push();
		c->execution = execution;
		c->depth = depth;
		c->relid = entry->relid;
		c->target = entry->target[i];
		c->before = compat_rows_written(entry->relid, &c->inserted_before);
		c->rows = command_rows_so_far(&c->target, &c->inserted);
	}
}

void
rows_before_routing(const void *execution, WatchEntry *entry, int depth, bool told)
{
	watch_find_leaves(entry);
	for (int i = 0; i < entry->nleaves; i++)
	{
		WatchEntry *leaf = watch_lookup(entry->leaves[i]);

		if (leaf && !(told && leaf->ntargets <= entry->ntargets))
			before(execution, leaf, depth, told ? entry : NULL);
	}
}

/* The rows of the table of counted[first]; the same of its other relations is done. */
static void
count_table(int first, int end, const WatchEntry *whole, uint64 told)
{
	WatchTarget target = counted[first].target;
	uint64		inserted_within;
	int64		rows = counted[first].rows - command_rows_so_far(&target, &inserted_within);
	int64		inserted = counted[first].inserted - inserted_within;

	for (int i = first; i < end; i++)
	{
		Counted    *c = &counted[i];
		int64		inserted_now;

		if (c->target.table != target.table)
			continue;
		rows += compat_rows_written(c->relid, &inserted_now) - c->before;
		inserted += inserted_now - c->inserted_before;
		c->target.table = NULL;
	}
	if (whole && has_target(whole, &target))
		command_rows(&target, told, Min(Max(inserted, 0), (int64) told));
	else if (rows > 0)
	{
		/* where rows were routed, nobody has said so before */
		WatchEntry	entry = {.ntargets = 1, .target = {target}};

		command_writes(&entry);
		command_rows(&target, rows, Max(inserted, 0));
	}
}

void
rows_after(const void *execution, const WatchEntry *whole, uint64 told)
{
	int			end = rows_relations;
	int			first;

	while (end > 0 && counted[end - 1].execution != execution)
		end--;
	for (first = end; first > 0 && counted[first - 1].execution == execution; first--)
		;
	for (int i = first; i < end; i++)
		if (counted[i].target.table != NULL)
			count_table(i, end, whole, told);
	if (first < end)
		rows_relations = first;
}

/*
 * The relation that all rows of a statement are rows of, so that the server tells
 * their number.  A partitioned one comes last, behind the partitions that the
 * planner left.  NULL for none.
 */
static WatchEntry *
whole_of(const PlannedStmt *stmt)
{
	WatchEntry *entry;

	if (!stmt->canSetTag || stmt->hasModifyingCTE)
		return NULL;
	entry = watch_lookup(rt_fetch(llast_int(stmt->resultRelations), stmt->rtable)->relid);
	return entry && (entry->partitioned || list_length(stmt->resultRelations) == 1) ? entry : NULL;
}

void
rows_begin_several(const QueryDesc *query, int depth)
{
	const PlannedStmt *stmt = query->plannedstmt;
	const WatchEntry *whole = whole_of(stmt);
	ListCell   *lc;

	rows_begin(depth);
	foreach(lc, stmt->resultRelations)
	{
		WatchEntry *entry = watch_lookup(rt_fetch(lfirst_int(lc), stmt->rtable)->relid);

		if (entry == NULL)
			continue;
		command_writes(entry);
		if (!entry->partitioned)
			before(query, entry, depth, whole == entry ? NULL : whole);
		else if (entry->routes || whole == NULL)
			rows_before_routing(query, entry, depth, whole != NULL);
	}
}

uint64
rows_inserted(const QueryDesc *query)
{
	const ModifyTableState *state = (ModifyTableState *) query->planstate;
	uint64		rows = query->estate->es_processed;

	if (query->operation == CMD_INSERT)
		return rows;
	if (query->operation == CMD_MERGE && IsA(state, ModifyTableState))
		return Min(rows, (uint64) state->mt_merge_inserted);
	return 0;
}

void
rows_after_several(const QueryDesc *query)
{
	const WatchEntry *whole = whole_of(query->plannedstmt);
	uint64		rows = query->estate->es_processed;

	if (whole && whole->partitioned)
		for (int i = 0; i < whole->ntargets; i++)
			command_rows(&whole->target[i], rows, rows_inserted(query));
	if (rows_relations > 0)
		rows_after(query, whole, rows);
}

void
rows_abandon(const QueryDesc *query)
{
	ListCell   *lc;

	if (query == NULL || query->estate == NULL)
		return;
	foreach(lc, query->estate->es_tuple_routing_result_relations)
	{
		ResultRelInfo *result = lfirst(lc);
		const WatchEntry *entry = watch_known(RelationGetRelid(result->ri_RelationDesc));

		if (entry)
			command_writes(entry);
	}
}

/* Is it the table of the constraint that the error names? */
static bool
is_named(const WatchTarget *target, const ErrorData *error)
{
	return target->table != NULL && error->schema_name && error->table_name &&
		strncmp(NameStr(target->table->schema), error->schema_name, NAMEDATALEN) == 0 &&
		strncmp(NameStr(target->table->name), error->table_name, NAMEDATALEN) == 0;
}

/*
 * Rows of a COPY are kept for a while before they are written, and which
 * partitions it has opened is its own business.
 */
void
rows_abandon_copy(const PlannedStmt *copy)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(TopTransactionContext);
	ErrorData  *error = CopyErrorData();

	for (int i = 0; i < rows_relations; i++)
	{
		const Counted *c = &counted[i];
		int64		inserted;

		if (c->execution == copy &&
			(is_named(&c->target, error) ||
			 compat_rows_written(c->relid, &inserted) > c->before))
		{
			WatchEntry	entry = {.ntargets = 1, .target = {c->target}};

			command_writes(&entry);
		}
	}
	FreeErrorData(error);
	MemoryContextSwitchTo(oldcontext);
}
