/*-------------------------------------------------------------------------
 *
 * locks.c
 *	  Lock rules: each statement goes to the rules of its kind.
 *
 * Works on raw parse trees, those of a source as well as the one that a live
 * session is about to run, and changes neither.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "guard/locks.h"
#include "guard/rules.h"

int
lock_at(Guard *guard, int location)
{
	return location;
}

bool
lock_is_ours(GuardRelation *relation)
{
	return relation->new_here || relation->temporary;
}

/* Nobody is held up; of a relation that does not exist the server says more. */
static bool
holds_up_nobody(Guard *guard, GuardRelation *relation)
{
	return lock_is_ours(relation) || (guard->live && !OidIsValid(relation->relid));
}

char *
lock_described(GuardRelation *relation)
{
	return psprintf("%s (%s)", relation->name, guard_relation_size(relation));
}

static GuardFinding *report_lock(Guard *guard, GuardSeverity severity, const char *rule,
								 GuardRelation *relation, LOCKMODE mode, int offset,
								 const char *hint, const char *format,
								 va_list *args) pg_attribute_printf(8, 0);

static GuardFinding *
report_lock(Guard *guard, GuardSeverity severity, const char *rule,
			GuardRelation *relation, LOCKMODE mode, int offset, const char *hint,
			const char *format, va_list *args)
{
	StringInfoData message;
	GuardFinding *finding;
	int			needed;

	initStringInfo(&message);
	for (;;)
	{
		va_list		copy;

		va_copy(copy, *args);
		needed = appendStringInfoVA(&message, format, copy);
		va_end(copy);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	finding = guard_report_as(guard, severity, rule, offset, relation->name, hint,
							  "%s", message.data);
	if (mode != NoLock)
		guard_finding_lock(finding, mode);
	return finding;
}

GuardFinding *
lock_report(Guard *guard, const char *rule, GuardRelation *relation, LOCKMODE mode,
			int offset, const char *hint, const char *format,...)
{
	GuardFinding *finding;
	va_list		args;

	if (holds_up_nobody(guard, relation))
		return NULL;
	va_start(args, format);
	finding = report_lock(guard, relation->large ? guard_rule(rule)->severity : GUARD_INFO,
						  rule, relation, mode, offset, hint, format, &args);
	va_end(args);
	return finding;
}

GuardFinding *
lock_report_any_size(Guard *guard, const char *rule, GuardRelation *relation,
					 LOCKMODE mode, int offset, const char *hint, const char *format,...)
{
	GuardFinding *finding;
	va_list		args;

	if (holds_up_nobody(guard, relation))
		return NULL;
	va_start(args, format);
	finding = report_lock(guard, guard_rule(rule)->severity, rule, relation, mode, offset,
						  hint, format, &args);
	va_end(args);
	return finding;
}

/* ---- where an action of ALTER TABLE stands ---- */

typedef struct ActionScan
{
	int			wanted;			/* actions to pass over */
	int			depth;			/* of parentheses */
	bool		in_name;		/* of the table; behind it the first action begins */
	bool		after_dot;
	bool		at_start;		/* the next token starts an action */
	int			offset;			/* found; -1: not yet */
} ActionScan;

static bool
scan_action(const GuardToken *token, void *context)
{
	ActionScan *scan = context;

	if (scan->in_name)
	{
		if (token->code == '.' || token->code == '*' || token->code == ')')
		{
			scan->after_dot = token->code == '.';
			return true;
		}
		if (scan->after_dot)
		{
			scan->after_dot = false;
			return true;
		}
		scan->in_name = false;
		scan->at_start = true;
	}
	if (scan->at_start)
	{
		scan->at_start = false;
		if (scan->wanted-- == 0)
		{
			scan->offset = token->offset;
			return false;
		}
	}
	if (token->code == '(' || token->code == '[')
		scan->depth++;
	else if (token->code == ')' || token->code == ']')
		scan->depth--;
	else if (token->code == ',' && scan->depth == 0)
		scan->at_start = true;
	return true;
}

int
lock_action_offset(Guard *guard, AlterTableStmt *stmt, int n)
{
	ActionScan	scan = {n, 0, true, true, false, -1};
	int			start = stmt->relation->location;

	/* most have one action, and the statement's start is near enough */
	if (guard->live || start < 0 || list_length(stmt->cmds) < 2)
		return -1;
	(void) guard_lex(guard->frame->text + start, scan_action, &scan);
	return scan.offset < 0 ? -1 : start + scan.offset;
}

/* ---- the text of a CHECK ---- */

typedef struct CheckScan
{
	int			start;			/* of the opening parenthesis; -1: not yet */
	int			end;
	int			depth;
} CheckScan;

static bool
scan_check(const GuardToken *token, void *context)
{
	CheckScan  *scan = context;

	if (token->code == '(')
	{
		if (scan->depth++ == 0)
			scan->start = token->offset;
	}
	else if (token->code == ')' && --scan->depth <= 0)
	{
		scan->end = token->offset + 1;
		return false;
	}
	return true;
}

char *
lock_check_text(Guard *guard, int location)
{
	CheckScan	scan = {-1, -1, 0};

	if (location < 0 || location >= guard->frame->len)
		return pstrdup("CHECK (...)");
	(void) guard_lex(guard->frame->text + location, scan_check, &scan);
	if (scan.start < 0 || scan.end < 0 || scan.end - scan.start > 1000)
		return pstrdup("CHECK (...)");
	return psprintf("CHECK %.*s", scan.end - scan.start,
					guard->frame->text + location + scan.start);
}

/* The rules of the statement's kind. */
static void
apply_rules(Guard *guard, Node *tree)
{
	switch (nodeTag(tree))
	{
		case T_AlterTableStmt:
			lock_alter_table(guard, (AlterTableStmt *) tree);
			break;
		case T_IndexStmt:
			lock_create_index(guard, (IndexStmt *) tree);
			break;
		case T_ReindexStmt:
			lock_reindex(guard, (ReindexStmt *) tree);
			break;
		case T_DropStmt:
			lock_drop(guard, (DropStmt *) tree);
			break;
		case T_RenameStmt:
			lock_rename(guard, (RenameStmt *) tree);
			break;
		case T_AlterObjectSchemaStmt:
			lock_set_schema(guard, (AlterObjectSchemaStmt *) tree);
			break;
		case T_TruncateStmt:
			lock_truncate(guard, (TruncateStmt *) tree);
			break;
		case T_ClusterStmt:
			lock_cluster(guard, (ClusterStmt *) tree);
			break;
		case T_VacuumStmt:
			lock_vacuum(guard, (VacuumStmt *) tree);
			break;
		case T_RefreshMatViewStmt:
			lock_refresh(guard, (RefreshMatViewStmt *) tree);
			break;
		case T_CreateTrigStmt:
			lock_trigger(guard, (CreateTrigStmt *) tree);
			break;
		case T_LockStmt:
			lock_lock_table(guard, (LockStmt *) tree);
			break;
		case T_CreateStmt:
			lock_create_table(guard, (CreateStmt *) tree);
			break;
		case T_AlterDomainStmt:
			lock_alter_domain(guard, (AlterDomainStmt *) tree);
			break;
		case T_AlterEnumStmt:
			lock_alter_enum(guard, (AlterEnumStmt *) tree);
			break;
		case T_TransactionStmt:
			lock_transaction(guard, (TransactionStmt *) tree);
			break;
		case T_VariableSetStmt:
			lock_set(guard, (VariableSetStmt *) tree);
			break;
		case T_SelectStmt:
			lock_select(guard, tree);
			lock_data(guard, tree);
			break;
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
			lock_data(guard, tree);
			break;
		default:
			break;
	}
}

void
guard_locks(Guard *guard, Node *tree)
{
	lock_statement_begin(guard, tree);
	apply_rules(guard, tree);
	guard_names_statement(guard, tree);
	lock_statement_end(guard, tree);
}
