/*-------------------------------------------------------------------------
 *
 * measure.c
 *	  The hooks that measure the writes on watched tables.
 *
 * Each hook begins with watch_any(), so that a server where nothing is watched
 * pays a comparison of two numbers.  What a statement writes is known when
 * its execution starts: the relations of its plan, at any depth, for what
 * functions, triggers and foreign keys do counts for the statement that the
 * client sent.  Only sessions of clients are measured: a background worker,
 * also one of ours, has no message that arrives.
 *
 * Rows are what the server tells the client.  Where a statement writes several
 * relations (WITH, rules, partitions) it tells one number; then rows.c adds them
 * up, as far as track_counts is on.
 *
 * A commit leaves little of all this in the processor's caches.  What every
 * statement runs, here and beside it, is marked as hot, so that it lies
 * together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "job/worker.h"
#include "kpi/command.h"
#include "kpi/measure.h"
#include "kpi/pause.h"
#include "kpi/rows.h"

static int	level = 0;

/* who is asked next */
static post_parse_analyze_hook_type next_analyze = NULL;
static ExecutorStart_hook_type next_start = standard_ExecutorStart;
static ExecutorRun_hook_type next_run = standard_ExecutorRun;
static ExecutorFinish_hook_type next_finish = standard_ExecutorFinish;
static ExecutorEnd_hook_type next_end = standard_ExecutorEnd;
static ProcessUtility_hook_type next_utility = standard_ProcessUtility;

int
measure_level(void)
{
	return level;
}

static inline bool
measuring(void)
{
	return watch_any() && MyBackendType == B_BACKEND && !job_in_this_session;
}

/* Read our tables; the statements that do are none of the client's. */
static void
load(void)
{
	if (!ActiveSnapshotSet())
		return;
	level++;
	PG_TRY();
	{
		watch_load();
	}
	PG_FINALLY();
	{
		level--;
	}
	PG_END_TRY();
}

static void
refuse_if_paused(WatchEntry *entry)
{
	level++;
	PG_TRY();
	{
		pause_check(entry);
	}
	PG_FINALLY();
	{
		level--;
	}
	PG_END_TRY();
}

/* ---- what a statement writes ---- */

static void
parsed_target(Query *query)
{
	WatchEntry *entry = NULL;

	if (query->resultRelation > 0)
		entry = watch_lookup(rt_fetch(query->resultRelation, query->rtable)->relid);
	for (int i = 0; entry && i < entry->ntargets && command_parsed.ntargets < COMMAND_MAX_TARGETS; i++)
		command_parsed.targets[command_parsed.ntargets++] = entry->target[i];
}

/* Remember what the client's statement is going to write, in case it fails. */
static pg_attribute_hot void
analyze(ParseState *pstate, Query *query, JumbleState *jstate)
{
	ListCell   *lc;

	if (next_analyze)
		next_analyze(pstate, query, jstate);
	if (!measuring() || level > 0)
		return;
	command_parsed.message = 0;
	command_parsed.us = 0;
	command_parsed.text = 0;
	command_parsed.ntargets = 0;
	if (query->commandType == CMD_UTILITY ||
		(query->resultRelation == 0 && !query->hasModifyingCTE))
		return;
	parsed_target(query);
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (IsA(cte->ctequery, Query))
			parsed_target((Query *) cte->ctequery);
	}
	if (command_parsed.ntargets == 0)
		return;
	command_parsed.message = GetCurrentStatementStartTimestamp();

	/* in the simple protocol, which has no parameters, its message is the same */
	if (pstate->p_paramref_hook == NULL)
		return;
	command_parsed.us = GetCurrentTimestamp() - command_parsed.message;
	command_parsed.text = hash_bytes((const unsigned char *) pstate->p_sourcetext,
									 strlen(pstate->p_sourcetext));
}

/* In any process: no relation that is written may be paused. */
static void
check_pause(PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->resultRelations)
	{
		WatchEntry *entry = watch_lookup(rt_fetch(lfirst_int(lc), stmt->rtable)->relid);

		if (entry && entry->pause)
			refuse_if_paused(entry);
	}
}

/* The same for partitions that rows went to by way of their parent. */
static void
check_routed(EState *estate)
{
	ListCell   *lc;

	foreach(lc, estate->es_tuple_routing_result_relations)
	{
		ResultRelInfo *result = lfirst(lc);
		WatchEntry *entry = watch_lookup(RelationGetRelid(result->ri_RelationDesc));

		if (entry && entry->pause)
			refuse_if_paused(entry);
	}
}

/* May it update rows where it finds that they are there? */
static pg_noinline bool
is_upsert(PlannedStmt *stmt)
{
	return stmt->commandType == CMD_INSERT && IsA(stmt->planTree, ModifyTable) &&
		((ModifyTable *) stmt->planTree)->onConflictAction == ONCONFLICT_UPDATE;
}

/*
 * One relation, and one number of rows that the server tells, all of one kind?
 * An upsert has at least two relations to name.
 */
static inline bool
is_simple(PlannedStmt *stmt)
{
	return likely(stmt->canSetTag) && likely(!stmt->hasModifyingCTE) &&
		likely(list_length(stmt->resultRelations) == 1) &&
		(likely(list_length(stmt->rtable) == 1) || !is_upsert(stmt));
}

static inline void
execution_writes(QueryDesc *query)
{
	PlannedStmt *stmt = query->plannedstmt;
	WatchEntry *entry;

	if (unlikely(!is_simple(stmt)))
	{
		rows_begin_several(query, level);
		return;
	}
	entry = watch_lookup(rt_fetch(linitial_int(stmt->resultRelations), stmt->rtable)->relid);
	if (entry == NULL)
		return;
	command_writes(entry);
	if (unlikely(entry->routes))
	{
		rows_begin(level);
		rows_before_routing(query, entry, level, true);
	}
}

static inline void
count_rows_of(QueryDesc *query)
{
	PlannedStmt *stmt = query->plannedstmt;
	uint64		rows = query->estate->es_processed;
	WatchEntry *entry;

	if (unlikely(!is_simple(stmt)))
	{
		rows_after_several(query);
		return;
	}
	entry = watch_lookup(rt_fetch(linitial_int(stmt->resultRelations), stmt->rtable)->relid);
	for (int i = 0; entry && i < entry->ntargets; i++)
		command_rows(&entry->target[i], rows,
					 likely(query->operation == CMD_INSERT) ? rows : rows_inserted(query));
	if (unlikely(rows_relations > 0))
		rows_after(query, entry, rows);
}

/* ---- the executor ---- */

static void
begin(QueryDesc *query)
{
	if (level > 0)
		return;

	/*
	 * A deferred trigger at the end of the transaction, or a function that the
	 * planner calls, is no statement; whatever was at hand is over.
	 */
	if (ActivePortal == NULL)
	{
		command_end();
		return;
	}
	rows_relations = 0;
	command_begin(query);
}

compat_noreturn static void abandon(QueryDesc *query);

/* An error leaves an execution, NULL where it has routed nothing. */
static void
abandon(QueryDesc *query)
{
	level--;
	rows_abandon(query);
	PG_RE_THROW();
}

/* Partitions are pruned by what functions return, whose statements are within. */
static void
start_within(QueryDesc *query, int eflags)
{
	level++;
	PG_TRY();
	{
		next_start(query, eflags);
	}
	PG_CATCH();
	{
		abandon(NULL);
	}
	PG_END_TRY();
	level--;
}

static pg_attribute_hot void
executor_start(QueryDesc *query, int eflags)
{
	bool		measured = measuring() && !(eflags & EXEC_FLAG_EXPLAIN_ONLY);
	bool		prunes = false;

	if (measured)
	{
		begin(query);
		if (query->plannedstmt->resultRelations != NIL)
		{
			if (unlikely(!watch_database_read))
				load();
			execution_writes(query);
			prunes = query->plannedstmt->appendRelations != NIL;
		}
	}
	if (unlikely(prunes))
		start_within(query, eflags);
	else
		next_start(query, eflags);
	if (unlikely(watch_paused) && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		check_pause(query->plannedstmt);
}

static void
enter(void)
{
	level++;
	if (level == 1)
		command.left = 0;
}

static void
leave(bool for_good)
{
	level--;
	if (level == 0 && command.active)
		command_leave(for_good);
}

static pg_attribute_hot void
executor_run(COMPAT_EXECUTOR_RUN_PARAMS)
{
	if (!measuring())
	{
		next_run(COMPAT_EXECUTOR_RUN_ARGS);
		return;
	}

	/* somebody came back to a portal */
	if (level == 0 && !(command.active && command.query == queryDesc))
		begin(queryDesc);
	enter();
	PG_TRY();
	{
		next_run(COMPAT_EXECUTOR_RUN_ARGS);
	}
	PG_CATCH();
	{
		abandon(queryDesc);
	}
	PG_END_TRY();
	leave(queryDesc->operation == CMD_SELECT);
}

/*
 * Can ExecutorFinish run no code of a user?  It fires AFTER triggers, of what
 * relation soever the execution has opened, and reads a WITH that writes to its
 * end.
 */
static bool
finishes_nothing(QueryDesc *query)
{
	EState	   *estate = query->estate;
	ListCell   *lc;

	if (estate->es_auxmodifytables != NIL || estate->es_tuple_routing_result_relations != NIL ||
		estate->es_trig_target_relations != NIL)
		return false;
	foreach(lc, estate->es_opened_result_relations)
		if (((ResultRelInfo *) lfirst(lc))->ri_TrigDesc != NULL)
			return false;
	return true;
}

static pg_attribute_hot void
executor_finish(QueryDesc *query)
{
	bool		measured = measuring();

	if (!measured && watch_paused)
		check_routed(query->estate);
	if (!measured || (finishes_nothing(query) && !watch_paused))
	{
		next_finish(query);
		return;
	}
	enter();
	PG_TRY();
	{
		if (watch_paused)
			check_routed(query->estate);
		next_finish(query);
	}
	PG_CATCH();
	{
		abandon(query);
	}
	PG_END_TRY();
	leave(query->operation == CMD_SELECT);
}

static pg_attribute_hot void
executor_end(QueryDesc *query)
{
	bool		measured = measuring() &&
		!(query->estate->es_top_eflags & EXEC_FLAG_EXPLAIN_ONLY);

	if (measured && query->plannedstmt->resultRelations != NIL)
		count_rows_of(query);
	next_end(query);
	if (!measured || level > 0 || !command.active || command.query != query)
		return;

	/* a SELECT's cursor may be closed long after it was left */
	if (query->operation != CMD_SELECT)
		command_leave(true);

	/* where a rule made several statements of one, the last of them ends it */
	if (list_length(command.stmts) <= 1 || query->plannedstmt == llast(command.stmts))
		command_end();
}

/* ---- utility statements ---- */

/* The relation that a COPY FROM loads; InvalidOid for none. */
static Oid
copy_target(Node *stmt)
{
	CopyStmt   *copy = (CopyStmt *) stmt;

	if (!IsA(stmt, CopyStmt) || !copy->is_from || copy->relation == NULL)
		return InvalidOid;
	return RangeVarGetRelid(copy->relation, NoLock, true);
}

static void
call_utility(Oid loads, PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	pause_check_utility(pstmt->utilityStmt, loads);
	next_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

static void
utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	bool		top = level == 0;
	Oid			loads = InvalidOid;
	WatchEntry *entry = NULL;
	QueryCompletion mine;

	if (!measuring())
	{
		if (kpi_shared && top && IsA(pstmt->utilityStmt, TransactionStmt))
			command_transaction((TransactionStmt *) pstmt->utilityStmt,
								GetCurrentStatementStartTimestamp());
		if (watch_any())
			loads = copy_target(pstmt->utilityStmt);
		call_utility(loads, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		return;
	}
	if (top)
		command_begin(NULL);
	if (top && IsA(pstmt->utilityStmt, TransactionStmt))
		command_transaction((TransactionStmt *) pstmt->utilityStmt, command.start);
	if (IsA(pstmt->utilityStmt, CopyStmt))
	{
		if (!watch_database_read)
			load();
		loads = copy_target(pstmt->utilityStmt);
		if (OidIsValid(loads))
		{
			entry = watch_lookup(loads);
			if (entry)
				command_writes(entry);
			if (entry && entry->routes)
			{
				rows_begin(level);
				rows_before_routing(pstmt, entry, level, true);
			}
		}
		if (qc == NULL)
		{
			InitializeQueryCompletion(&mine);
			qc = &mine;
		}
	}
	enter();
	PG_TRY();
	{
		call_utility(loads, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_CATCH();
	{
		if (OidIsValid(loads) && rows_relations > 0)
			rows_abandon_copy(pstmt);
		abandon(NULL);
	}
	PG_END_TRY();
	if (OidIsValid(loads))
	{
		entry = watch_lookup(loads);
		for (int i = 0; entry && i < entry->ntargets; i++)
			command_rows(&entry->target[i], qc->nprocessed, qc->nprocessed);
		rows_after(pstmt, NULL, 0);
	}
	leave(true);
	if (top)
		command_end();
}

void
measure_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = analyze;
	if (ExecutorStart_hook)
		next_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	if (ExecutorRun_hook)
		next_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	if (ExecutorFinish_hook)
		next_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	if (ExecutorEnd_hook)
		next_end = ExecutorEnd_hook;
	ExecutorEnd_hook = executor_end;
	if (ProcessUtility_hook)
		next_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
