/*-------------------------------------------------------------------------
 *
 * locks_tx.c
 *	  The transaction that the source's statements would run in: which locks
 *	  it holds, and what the rules make of that.
 *
 * Without BEGIN each top-level statement is a transaction of its own; what
 * runs inside a DO block or a function belongs to its caller's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "guard/locks.h"
#include "guard/locks_session.h"
#include "guard/rules.h"

LockSession *
lock_session(Guard *guard)
{
	if (guard->session == NULL)
	{
		guard->session = MemoryContextAllocZero(guard->context, sizeof(LockSession));
		guard->session->statement = -1;
		guard->session->timeout = TIMEOUT_UNSET;
		guard->session->timeout_at_begin = TIMEOUT_UNSET;
	}
	return guard->session;
}

/* Forget what a transaction held. */
static void
new_transaction(Guard *guard)
{
	LockSession *session = lock_session(guard);

	guard->tx.locks = guard->tx.not_valid = guard->tx.enum_values = NIL;
	session->savepoints = session->made_types = NIL;
	session->after_ax_reported = session->wide_reported = false;
	session->number++;
	session->timeout_at_begin = session->timeout;
	guard->tx.lock_timeout = session->timeout;	/* SET LOCAL is over */
}

/* what a DO block or a function runs, as against the source's own statements */
static bool
in_routine(Guard *guard)
{
	return lock_session(guard)->nested ||
		(guard->frame && guard->frame->via && guard->frame->parent);
}

bool
lock_in_transaction(Guard *guard)
{
	return guard->tx.open || in_routine(guard);
}

bool
lock_concurrently(Guard *guard, GuardRelation *relation, const char *statement)
{
	if (guard->live || !lock_in_transaction(guard))
		return false;
	(void) guard_report(guard, "concurrently-in-tx", -1, relation->name,
						in_routine(guard) ?
						"Put the statement at the top level of a file of its own, outside BEGIN ... COMMIT; a DO block or a function cannot run it." :
						guard->tx.explicit_begin ?
						"COMMIT; before the statement, and BEGIN; again behind it." :
						"Put the statement into a file of its own, and tell the tool that runs it not to wrap it in a transaction.",
						"%s cannot run inside a %s: the statement fails",
						statement, in_routine(guard) ? "DO block or function" :
						"transaction");
	return true;
}

/* ---- locks ---- */

static bool
same_relation(const LockHeld *held, const GuardRelation *relation)
{
	return OidIsValid(held->relid) ? held->relid == relation->relid :
		strcmp(held->name, relation->name) == 0;
}

LOCKMODE
lock_held(Guard *guard, GuardRelation *relation)
{
	LockSession *session = lock_session(guard);
	LOCKMODE	mode = NoLock;
	ListCell   *lc;

	foreach(lc, guard->tx.locks)
	{
		LockHeld   *held = lfirst(lc);

		if (held->sequence != session->sequence && same_relation(held, relation))
			mode = Max(mode, held->mode);
	}
	return mode;
}

static const char *
mode_in_words(LOCKMODE mode)
{
	switch (mode)
	{
		case ShareLock:
			return "SHARE";
		case ShareRowExclusiveLock:
			return "SHARE ROW EXCLUSIVE";
		case ExclusiveLock:
			return "EXCLUSIVE";
		default:
			return "ACCESS EXCLUSIVE";
	}
}

/* the way out for a transaction that holds too much */
#define COMMIT_BETWEEN "-- before this statement\nCOMMIT;\nBEGIN;"

/* The server's own setting, which a role or the configuration may have. */
static bool
timeout_by_default(void)
{
	const char *value = GetConfigOptionResetString("lock_timeout");

	return value && strcmp(value, "0") != 0;
}

static void
check_timeout(Guard *guard, GuardRelation *relation, LOCKMODE mode)
{
	LockSession *session = lock_session(guard);
	GuardFinding *finding;

	if (guard->tx.lock_timeout > 0 || (guard->tx.lock_timeout == TIMEOUT_UNSET && timeout_by_default()))
		return;
	session->waited_unlimited |= guard->tx.lock_timeout == 0;
	/* once is enough, but a large table is worth a second look */
	if (session->timeout_reported && (session->timeout_reported_large || !relation->large))
		return;
	finding = lock_report(guard, "lock-timeout", relation, mode, -1,
						  guard->tx.lock_timeout == 0 ?
						  "-- before this statement, as 0 means no limit; and try again when it times out\nSET lock_timeout = '2s';" :
						  "-- before this statement; and try again when it times out\nSET lock_timeout = '2s';",
						  "%s waits for its %s lock without a limit, and every later query on the table waits behind it",
						  relation->name, mode_in_words(mode));
	if (finding)
	{
		session->timeout_reported = true;
		session->timeout_reported_large |= relation->large;
	}
}

static void
check_window(Guard *guard, GuardRelation *relation)
{
	LockSession *session = lock_session(guard);
	ListCell   *lc;

	if (session->wide_reported)
		return;
	foreach(lc, guard->tx.locks)
	{
		LockHeld   *held = lfirst(lc);

		if (held->mode != AccessExclusiveLock || held->sequence == session->sequence ||
			same_relation(held, relation))
			continue;
		(void) guard_report_as(guard, relation->large || held->large ?
							   guard_rule("wide-lock-window")->severity : GUARD_INFO,
							   "wide-lock-window", -1, relation->name, COMMIT_BETWEEN,
							   "the transaction already holds ACCESS EXCLUSIVE on %s when it takes it on %s: both are closed until it ends",
							   held->name, relation->name);
		session->wide_reported = true;
		return;
	}
}

void
lock_taken(Guard *guard, GuardRelation *relation, LOCKMODE mode)
{
	LockSession *session = lock_session(guard);
	MemoryContext old;
	LockHeld   *held;

	if (mode < ShareLock || lock_is_ours(relation))
		return;
	check_timeout(guard, relation, mode);
	if (mode == AccessExclusiveLock)
		check_window(guard, relation);

	old = MemoryContextSwitchTo(guard->context);
	held = palloc0(sizeof(LockHeld));
	held->name = pstrdup(relation->name);
	held->relid = relation->relid;
	held->large = relation->large;
	held->mode = mode;
	held->sequence = session->sequence;
	guard->tx.locks = lappend(guard->tx.locks, held);
	MemoryContextSwitchTo(old);
}

/* ---- statements ---- */

/* may it run or wait for long, while earlier locks are held? */
static bool
takes_time(Node *tree)
{
	switch (nodeTag(tree))
	{
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
		case T_CopyStmt:
		case T_CreateTableAsStmt:
		case T_RefreshMatViewStmt:
		case T_AlterTableStmt:
		case T_IndexStmt:
		case T_ReindexStmt:
		case T_ClusterStmt:
		case T_DropStmt:
		case T_RenameStmt:
		case T_TruncateStmt:
		case T_CreateTrigStmt:
		case T_LockStmt:
		case T_DoStmt:
		case T_CallStmt:
		case T_ExecuteStmt:
			return true;
		default:
			return false;
	}
}

static void
check_after_exclusive(Guard *guard)
{
	LockSession *session = lock_session(guard);
	ListCell   *lc;

	foreach(lc, guard->tx.locks)
	{
		LockHeld   *held = lfirst(lc);

		if (held->mode != AccessExclusiveLock)
			continue;
		(void) guard_report_as(guard, held->large ?
							   guard_rule("statement-after-ax")->severity : GUARD_INFO,
							   "statement-after-ax", -1, held->name, COMMIT_BETWEEN,
							   "the transaction holds ACCESS EXCLUSIVE on %s since an earlier statement, and keeps everybody out while this one runs",
							   held->name);
		session->after_ax_reported = true;
		return;
	}
}

void
lock_statement_begin(Guard *guard, Node *tree)
{
	LockSession *session = lock_session(guard);

	session->sequence++;
	session->nested = guard->tree && guard->tree != tree && !IsA(guard->tree, ExplainStmt);
	if (!guard->live && guard->statement_offset != session->statement)
	{
		session->statement = guard->statement_offset;
		if (!guard->tx.open)
		{
			new_transaction(guard);
			guard_names_commit(guard, false);
		}
	}
	if (!session->after_ax_reported && takes_time(tree) && !lock_is_set_config(tree))
		check_after_exclusive(guard);
	lock_check_enum_use(guard, tree);
}

void
lock_statement_end(Guard *guard, Node *tree)
{
}

/* ---- BEGIN to COMMIT ---- */

static void
begin(Guard *guard)
{
	LockSession *session = lock_session(guard);

	if (guard->tx.open)
		(void) guard_report(guard, "tx-nesting", -1, NULL,
							guard->tx.explicit_begin ? "Leave out this BEGIN." :
							"Leave out BEGIN and COMMIT, or tell the tool that runs the file not to wrap it in a transaction.",
							"BEGIN inside a transaction does nothing, and the next COMMIT ends the outer one");
	else
	{
		new_transaction(guard);
		session->names_mark = guard_names_mark(guard);
	}
	guard->tx.open = true;
	guard->tx.explicit_begin = true;
	guard->tx.begin_offset = guard->statement_offset;
	guard->tx.begin_len = guard->statement_len;
}

static void
end(Guard *guard, bool commit, bool chain, const char *word)
{
	LockSession *session = lock_session(guard);

	if (!guard->tx.open)
		(void) guard_report(guard, "tx-nesting", -1, NULL, NULL,
							"%s outside a transaction does nothing: what was to belong together is committed already",
							word);
	else if (!guard->tx.explicit_begin)
		(void) guard_report(guard, "tx-nesting", -1, NULL,
							"Leave out BEGIN and COMMIT, or tell the tool that runs the file not to wrap it in a transaction.",
							"%s ends the transaction that the file is run in: what follows runs without one",
							word);
	if (commit)
		guard_names_commit(guard, true);
	else
	{
		guard_names_rollback(guard, session->names_mark);
		session->timeout = session->timeout_at_begin;
		lock_constraints_rollback(guard);
	}
	new_transaction(guard);
	guard->tx.open = guard->tx.explicit_begin = chain;
}

static void
savepoint(Guard *guard, const char *name)
{
	LockSession *session = lock_session(guard);
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	LockSavepoint *point = palloc0(sizeof(LockSavepoint));

	point->name = pstrdup(name);
	point->held = list_length(guard->tx.locks);
	point->names_mark = guard_names_mark(guard);
	point->timeout = guard->tx.lock_timeout;
	point->session_timeout = session->timeout;
	session->savepoints = lappend(session->savepoints, point);
	MemoryContextSwitchTo(old);
}

/* Locks taken since the savepoint are given back, settings and names restored. */
static void
rollback_to(Guard *guard, const char *name)
{
	LockSession *session = lock_session(guard);

	for (int i = list_length(session->savepoints) - 1; i >= 0; i--)
	{
		LockSavepoint *point = list_nth(session->savepoints, i);

		if (strcmp(point->name, name) != 0)
			continue;
		guard->tx.locks = list_truncate(guard->tx.locks, point->held);
		session->savepoints = list_truncate(session->savepoints, i + 1);
		guard->tx.lock_timeout = point->timeout;
		session->timeout = point->session_timeout;
		guard_names_rollback(guard, point->names_mark);
		return;
	}
}

void
lock_transaction(Guard *guard, TransactionStmt *stmt)
{
	if (guard->live)
		return;
	switch (stmt->kind)
	{
		case TRANS_STMT_BEGIN:
		case TRANS_STMT_START:
			begin(guard);
			break;
		case TRANS_STMT_COMMIT:
			end(guard, true, stmt->chain, "COMMIT");
			break;
		case TRANS_STMT_ROLLBACK:
			end(guard, false, stmt->chain, "ROLLBACK");
			break;
		case TRANS_STMT_PREPARE:
			end(guard, true, false, "PREPARE TRANSACTION");
			break;
		case TRANS_STMT_SAVEPOINT:
			savepoint(guard, stmt->savepoint_name);
			break;
		case TRANS_STMT_ROLLBACK_TO:
			rollback_to(guard, stmt->savepoint_name);
			break;
		default:
			break;
	}
}

void
guard_locks_finish(Guard *guard)
{
	GuardFrame *frame = guard->frame;

	if (guard->live || !guard->tx.open || !guard->tx.explicit_begin)
		return;
	guard->frame = guard->source;
	guard_statement(guard, guard->tx.begin_offset, guard->tx.begin_len);
	(void) guard_report(guard, "uncommitted-tx", guard->tx.begin_offset, NULL, NULL,
						"the transaction that begins here is never committed: nothing of it is applied");
	guard->frame = frame;
}
