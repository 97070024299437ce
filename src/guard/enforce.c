/*-------------------------------------------------------------------------
 *
 * enforce.c
 *	  The guard live: judges a session's own statements as they run.
 *
 * The executor's and the utility hooks see every statement, whatever driver,
 * function or dynamic SQL it comes from.  Told apart, and not judged: this
 * extension's own statements, scripts of extensions, event triggers, and what
 * triggers and foreign keys do for rows that the application owns; a trigger
 * of a temporary or a new table is no way around the guard.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/spi.h"
#include "guard/enforce_internal.h"

static ProcessUtility_hook_type next_utility = NULL;
static ExecutorStart_hook_type next_start = NULL;
static ExecutorRun_hook_type next_run = NULL;
static ExecutorFinish_hook_type next_finish = NULL;
static needs_fmgr_hook_type next_needs_fmgr = NULL;
static fmgr_hook_type next_fmgr = NULL;

static bool preloaded = false;

/* whose rows the innermost statement changes that changes any */
static RowsOf firing = ROWS_NONE;

/* what this transaction has changed, for the triggers that wait for its end */
static bool changed_exempt = false;
static bool changed_application = false;

static int	event_trigger_depth = 0;

bool
enforce_preloaded(void)
{
	return preloaded;
}

/* ---- transactions ---- */

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	changed_exempt = changed_application = false;
	enforce_event_forget();
	enforce_locks_forget();
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId subid,
					 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
		enforce_locks_subxact(event);
}

/* A session that is never judged pays for no callback. */
static void
watch_transactions(void)
{
	static bool watching = false;

	if (watching)
		return;
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
	watching = true;
}

/* ---- whose statement ---- */

static int
trigger_depth(void)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetInt32(pg_trigger_depth(fcinfo));
}

/* In a trigger, a foreign key's too, that was fired by rows of the application. */
static bool
in_application_trigger(void)
{
	if (trigger_depth() == 0)
		return false;
	if (firing == ROWS_NONE)	/* deferred: one of the statements before */
		return changed_application || !changed_exempt;
	return firing == ROWS_APPLICATION;
}

/* Is the statement at hand the session's own, and the session judged? */
static bool
judged(void)
{
	if (spi_own_depth > 0 || creating_extension || event_trigger_depth > 0)
		return false;
	return enforce_level() != ENFORCE_OFF && !in_application_trigger();
}

/*
 * Note whose rows a statement is about to change; returns what was known
 * before, which must be put back behind it.
 */
static RowsOf
fire(RowsOf rows)
{
	RowsOf		before = firing;

	if (rows == ROWS_NONE)
		return before;
	if (spi_own_depth > 0 || in_application_trigger())
		rows = ROWS_APPLICATION;
	firing = rows;
	if (rows == ROWS_APPLICATION)
		changed_application = true;
	else
		changed_exempt = true;
	return before;
}

/* ---- event triggers: somebody else's statements ---- */

static bool
needs_fmgr(Oid function)
{
	if (next_needs_fmgr && next_needs_fmgr(function))
		return true;
	return enforce_armed && get_func_rettype(function) == EVENT_TRIGGEROID;
}

/* what is kept between the start and the end of a call */
typedef struct EventCall
{
	bool		event_trigger;
	Datum		next;			/* the next hook's */
} EventCall;

static void
fmgr_event(FmgrHookEventType event, FmgrInfo *flinfo, Datum *private)
{
	EventCall  *call = (EventCall *) DatumGetPointer(*private);

	if (call == NULL)
	{
		call = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(EventCall));
		call->event_trigger = get_func_rettype(flinfo->fn_oid) == EVENT_TRIGGEROID;
		*private = PointerGetDatum(call);
	}
	if (next_fmgr)
		next_fmgr(event, flinfo, &call->next);
	if (call->event_trigger)
		event_trigger_depth += event == FHET_START ? 1 : -1;
}

/* ---- the executor ---- */

static bool
changes_data(QueryDesc *query)
{
	return (query->plannedstmt->commandType != CMD_SELECT ||
			query->plannedstmt->hasModifyingCTE) &&
		query->plannedstmt->commandType != CMD_UTILITY;
}

static pg_attribute_hot void
executor_start(QueryDesc *queryDesc, int eflags)
{
	if (next_start)
		next_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);

	/* behind it: who may not do this at all is told so first */
	if (enforce_armed && changes_data(queryDesc) &&
		!(eflags & EXEC_FLAG_EXPLAIN_ONLY) && judged())
	{
		MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "evmig guard event",
													  ALLOCSET_DEFAULT_SIZES);
		MemoryContext oldcontext = MemoryContextSwitchTo(context);

		watch_transactions();
		enforce_plan(queryDesc);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextDelete(context);
	}
}

static void
run_next(COMPAT_EXECUTOR_RUN_PARAMS)
{
	if (next_run)
		next_run(COMPAT_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(COMPAT_EXECUTOR_RUN_ARGS);
}

static pg_attribute_hot void
executor_run(COMPAT_EXECUTOR_RUN_PARAMS)
{
	RowsOf		before;

	if (!enforce_armed || !changes_data(queryDesc) || enforce_level() == ENFORCE_OFF)
	{
		run_next(COMPAT_EXECUTOR_RUN_ARGS);
		return;
	}
	watch_transactions();
	before = fire(enforce_plan_rows(queryDesc));
	PG_TRY();
	{
		run_next(COMPAT_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		firing = before;
	}
	PG_END_TRY();
}

static void
finish_next(QueryDesc *queryDesc)
{
	if (next_finish)
		next_finish(queryDesc);
	else
		standard_ExecutorFinish(queryDesc);
}

/* AFTER triggers are fired here */
static pg_attribute_hot void
executor_finish(QueryDesc *queryDesc)
{
	RowsOf		before;

	if (!enforce_armed || !changes_data(queryDesc) || enforce_level() == ENFORCE_OFF)
	{
		finish_next(queryDesc);
		return;
	}
	watch_transactions();
	before = fire(enforce_plan_rows(queryDesc));
	PG_TRY();
	{
		finish_next(queryDesc);
	}
	PG_FINALLY();
	{
		firing = before;
	}
	PG_END_TRY();
}

/* ---- utility statements ---- */

/* Those that neither change anything themselves nor take a lock that matters. */
static bool
harmless(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_TransactionStmt:
		case T_VariableSetStmt:
		case T_VariableShowStmt:
		case T_PlannedStmt:
		case T_DeclareCursorStmt:
		case T_ClosePortalStmt:
		case T_FetchStmt:
		case T_PrepareStmt:
		case T_ExecuteStmt:
		case T_DeallocateStmt:
		case T_DoStmt:
		case T_CallStmt:
		case T_NotifyStmt:
		case T_ListenStmt:
		case T_UnlistenStmt:
		case T_LoadStmt:
		case T_DiscardStmt:
		case T_ConstraintsSetStmt:
		case T_CheckPointStmt:
			return true;
		case T_ExplainStmt:
			{
				Query	   *query = castNode(Query, ((ExplainStmt *) stmt)->query);

				return query->commandType != CMD_UTILITY ||
					!IsA(query->utilityStmt, CreateTableAsStmt);
			}
		default:
			return false;
	}
}

static void
judge_utility(PlannedStmt *pstmt, const char *source)
{
	EnforceText text = {source, pstmt->stmt_location, pstmt->stmt_len};
	Guard	   *guard = enforce_guard(pstmt, &text);
	MemoryContext oldcontext = MemoryContextSwitchTo(guard->statement_context);

	/* what refuses the statement first */
	enforce_utility_data(pstmt, &text);
	enforce_utility_locks(guard, pstmt, &text);
	enforce_utility_copies(guard, pstmt, &text);
	MemoryContextSwitchTo(oldcontext);
}

static void
utility_next(PlannedStmt *pstmt, const char *source, bool readOnlyTree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (next_utility)
		next_utility(pstmt, source, readOnlyTree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, source, readOnlyTree, context, params, env, dest, qc);
}

/* The statement's parts are the statement's; the others are looked at. */
static void
utility(PlannedStmt *pstmt, const char *source, bool readOnlyTree,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	EnforceTimeout timeout;
	RowsOf		before;

	if (!enforce_armed || context == PROCESS_UTILITY_SUBCOMMAND ||
		harmless(pstmt->utilityStmt) || !judged())
	{
		utility_next(pstmt, source, readOnlyTree, context, params, env, dest, qc);
		return;
	}
	watch_transactions();
	judge_utility(pstmt, source);
	before = fire(enforce_utility_rows(pstmt));
	enforce_timeout_begin(&timeout, pstmt);
	PG_TRY();
	{
		utility_next(pstmt, source, readOnlyTree, context, params, env, dest, qc);
	}
	PG_CATCH();
	{
		firing = before;
		enforce_timeout_end(&timeout, true);
		PG_RE_THROW();
	}
	PG_END_TRY();
	firing = before;
	enforce_timeout_end(&timeout, false);
}

/* ---- start ---- */

void
enforce_init(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
	enforce_settings();

	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	next_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	next_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	next_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	next_needs_fmgr = needs_fmgr_hook;
	needs_fmgr_hook = needs_fmgr;
	next_fmgr = fmgr_hook;
	fmgr_hook = fmgr_event;
}
