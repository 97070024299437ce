/*-------------------------------------------------------------------------
 *
 * enforce_locks.c
 *	  Strong locks of a session's own statements: judged by the rules that a
 *	  migration's text is judged by, and not waited for without end.
 *
 * One Guard lives as long as the transaction and knows the strong locks that
 * were taken in it.  What a rolled back subtransaction took is forgotten: the
 * state before it is kept where a statement in it changes that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "commands/defrem.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "evmig.h"
#include "guard/catalog.h"
#include "guard/enforce_internal.h"
#include "guard/rules.h"
#include "guard/settings.h"

/* the state before a subtransaction's first statement */
typedef struct Mark
{
	int			nest_level;
	GuardTransaction tx;
} Mark;

static Guard *live = NULL;		/* of this transaction, in a context of it */
static List *marks = NIL;		/* Mark, the innermost last; in live->context */

/* ---- the transaction ---- */

void
enforce_locks_forget(void)
{
	live = NULL;
	marks = NIL;
}

static void
set_mark(void)
{
	int			nest_level = GetCurrentTransactionNestLevel();
	MemoryContext oldcontext;
	Mark	   *mark;

	if (nest_level == 1 || (marks != NIL && ((Mark *) llast(marks))->nest_level >= nest_level))
		return;
	oldcontext = MemoryContextSwitchTo(live->context);
	mark = palloc(sizeof(Mark));
	mark->nest_level = nest_level;
	mark->tx = live->tx;
	mark->tx.locks = list_copy(live->tx.locks);
	mark->tx.not_valid = list_copy(live->tx.not_valid);
	mark->tx.enum_values = list_copy(live->tx.enum_values);
	marks = lappend(marks, mark);
	MemoryContextSwitchTo(oldcontext);
}

/* Still in the subtransaction that ends. */
void
enforce_locks_subxact(SubXactEvent event)
{
	int			nest_level = GetCurrentTransactionNestLevel();

	while (marks != NIL)
	{
		Mark	   *mark = llast(marks);
		int			n = list_length(marks);

		if (mark->nest_level < nest_level)
			return;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			live->tx = mark->tx;
		else if (nest_level > 2 &&
				 (n == 1 || ((Mark *) list_nth(marks, n - 2))->nest_level < nest_level - 1))
		{
			/* now it is the outer one's */
			mark->nest_level = nest_level - 1;
			return;
		}
		marks = list_delete_last(marks);
	}
}

/* ---- lock_timeout ---- */

static bool
has_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return defGetBoolean(option);
	}
	return false;
}

static bool
detaches_concurrently(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_DetachPartition && ((PartitionCmd *) cmd->def)->concurrent)
			return true;
	}
	return false;
}

/*
 * Does it queue for locks that stop others?  What runs CONCURRENTLY does not,
 * and a timeout of its waits would leave an invalid index behind.
 */
static bool
queues_for_locks(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_IndexStmt:
			return !((IndexStmt *) stmt)->concurrent;
		case T_DropStmt:
			return !((DropStmt *) stmt)->concurrent;
		case T_AlterTableStmt:
			return !detaches_concurrently((AlterTableStmt *) stmt);
		case T_ReindexStmt:
			return !has_option(((ReindexStmt *) stmt)->params, "concurrently");
		case T_VacuumStmt:
			return has_option(((VacuumStmt *) stmt)->options, "full");
		case T_LockStmt:
			return !((LockStmt *) stmt)->nowait;
		case T_ClusterStmt:
		case T_TruncateStmt:
		case T_RefreshMatViewStmt:
			return true;
		case T_CreateTableAsStmt:
			return false;
		default:
			return GetCommandLogLevel(stmt) == LOGSTMT_DDL;
	}
}

/* It commits by itself, and what was set for the statement would end there. */
static bool
commits_itself(Node *stmt)
{
	return IsA(stmt, VacuumStmt) || IsA(stmt, ClusterStmt) || IsA(stmt, ReindexStmt);
}

int
enforce_ddl_timeout(void)
{
	return LockTimeout == 0 ? evmig_ddl_lock_timeout : Min(LockTimeout, evmig_ddl_lock_timeout);
}

/* ms that the statement will wait for a lock at most; 0: for ever */
static int
lock_timeout_of(Node *stmt)
{
	return queues_for_locks(stmt) ? enforce_ddl_timeout() : LockTimeout;
}

static void
explain_timeout(void *arg)
{
	if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
		errhint("evmig.guard lets schema changes wait for a lock for evmig.ddl_lock_timeout (%d ms) at most, because the application queues up behind them. Try again, or look for the holder with pg_blocking_pids().",
				evmig_ddl_lock_timeout);
}

void
enforce_timeout_begin(EnforceTimeout *timeout, PlannedStmt *pstmt)
{
	Node	   *stmt = pstmt->utilityStmt;
	int			ms = lock_timeout_of(stmt);

	memset(timeout, 0, sizeof(EnforceTimeout));
	if (ms == LockTimeout)
		return;
	timeout->active = true;
	timeout->saved = LockTimeout;
	if (commits_itself(stmt))
		LockTimeout = ms;
	else
	{
		timeout->nest_level = NewGUCNestLevel();
		(void) set_config_option("lock_timeout", psprintf("%d", ms), PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	}
	timeout->callback.callback = explain_timeout;
	timeout->callback.arg = NULL;
	timeout->callback.previous = error_context_stack;
	error_context_stack = &timeout->callback;
}

void
enforce_timeout_end(EnforceTimeout *timeout, bool failed)
{
	if (!timeout->active)
		return;
	if (timeout->nest_level == 0)
		LockTimeout = timeout->saved;
	else if (!failed)
		AtEOXact_GUC(false, timeout->nest_level);
	if (!failed)
		error_context_stack = timeout->callback.previous;
}

/* ---- judging ---- */

Guard *
enforce_guard(PlannedStmt *pstmt, const EnforceText *text)
{
	GuardFrame *frame;

	if (live == NULL)
	{
		MemoryContext context = AllocSetContextCreate(TopTransactionContext, "evmig guard",
													  ALLOCSET_DEFAULT_SIZES);

		live = MemoryContextAllocZero(context, sizeof(Guard));
		live->context = context;
		live->statement_context = AllocSetContextCreate(context, "evmig guard statement",
														ALLOCSET_DEFAULT_SIZES);
		live->live = true;
		live->target_version = guard_server_version();
		marks = NIL;
	}
	set_mark();

	MemoryContextReset(live->statement_context);
	if (live->sizes != NULL)
		hash_destroy(live->sizes);
	live->sizes = NULL;
	live->findings = NIL;
	frame = MemoryContextAllocZero(live->statement_context, sizeof(GuardFrame));
	frame->text = text->source ? text->source : "";
	frame->len = strlen(frame->text);
	live->source = live->frame = frame;
	live->tree_offset = Min(Max(text->location, 0), frame->len);
	guard_statement(live, live->tree_offset,
					text->len > 0 ? Min(text->len, frame->len - live->tree_offset) :
					frame->len - live->tree_offset);
	live->tree = pstmt->utilityStmt;

	live->tx.open = live->tx.explicit_begin = IsTransactionBlock();
	live->tx.lock_timeout = lock_timeout_of(pstmt->utilityStmt);
	live->tx.statement_timeout = StatementTimeout;
	return live;
}

static void
tell(const GuardFinding *finding, const EnforceText *text)
{
	EnforceEvent event = {0};

	event.rule = finding->rule->id;
	event.severity = finding->severity;
	event.relation = finding->relation;
	event.what = finding->message;
	if (finding->lock_mode)
		event.why = finding->blocks ?
			psprintf("It takes %s, which blocks %s.", finding->lock_mode, finding->blocks) :
			psprintf("It takes %s.", finding->lock_mode);
	event.hint = finding->hint;
	event.text = text;
	enforce_event(&event);
}

void
enforce_utility_locks(Guard *guard, PlannedStmt *pstmt, const EnforceText *text)
{
	ListCell   *lc;

	/* the rules may keep parts of the tree, and the statement's own must not change */
	guard->tree = copyObject(pstmt->utilityStmt);
	guard_locks(guard, guard->tree);

	/* what refuses the statement makes the rest idle talk */
	foreach(lc, guard->findings)
		if (((GuardFinding *) lfirst(lc))->severity == GUARD_ERROR)
			tell(lfirst(lc), text);
	foreach(lc, guard->findings)
		if (((GuardFinding *) lfirst(lc))->severity != GUARD_ERROR)
			tell(lfirst(lc), text);

	/* a migration of many statements is one transaction */
	list_free_deep(guard->findings);
	guard->findings = NIL;
}
