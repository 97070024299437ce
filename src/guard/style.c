/*-------------------------------------------------------------------------
 *
 * style.c
 *	  Rarer hazards, and what is better done otherwise: one small function a
 *	  kind of statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "guard/locks_session.h"
#include "guard/rules.h"
#include "guard/style.h"

#define LONG_LOCK_TIMEOUT 60000 /* ms */

bool		guard_style_on;

/* what a source with strong locks sets, and the rule that says so */
static const char *const expected_settings[][2] = {
	{"statement_timeout", "statement-timeout"},
	{"idle_in_transaction_session_timeout", "idle-in-tx-timeout"},
	{"application_name", "application-name"},
};

/* ---- statements ---- */

/* A lock's rule: nothing for the source's own tables, info for small ones. */
static void
report_lock(Guard *guard, const char *rule, GuardRelation *relation, LOCKMODE mode, const char *what)
{
	GuardSeverity severity = relation->large ? guard_rule(rule)->severity : GUARD_INFO;

	if (relation->new_here || relation->temporary)
		return;
	guard_finding_lock(guard_report_as(guard, severity, rule, -1, relation->name, NULL, "%s %s (%s)",
									   what, relation->name, guard_relation_size(relation)), mode);
}

static void
taste(Guard *guard, const char *rule, const char *message)
{
	if (guard_style_on)
		guard_report(guard, rule, -1, NULL, NULL, "%s", message);
}

static void
say_unqualified(Guard *guard, RangeVar *relation)
{
	if (guard_style_on && relation && relation->schemaname == NULL &&
		relation->relpersistence != RELPERSISTENCE_TEMP)
		guard_report(guard, "schema-qualified", relation->location, relation->relname, NULL,
					 "table \"%s\" is named without its schema", relation->relname);
}

static void
alter_table(Guard *guard, AlterTableStmt *stmt)
{
	GuardRelation *relation = guard_relation(guard, stmt->relation);
	ListCell   *lc;

	say_unqualified(guard, stmt->relation);
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		switch (cmd->subtype)
		{
			case AT_AddColumn:
				if (cmd->def && IsA(cmd->def, ColumnDef))
				{
					style_column(guard, (ColumnDef *) cmd->def, relation);
					if (style_is_primary_key(((ColumnDef *) cmd->def)->constraints))
						style_key_added(guard, stmt->relation);
				}
				break;
			case AT_AddConstraint:
				/* what dumps a schema adds the key behind the table */
				if (style_is_primary_key(list_make1(cmd->def)))
					style_key_added(guard, stmt->relation);
				break;
			case AT_EnableTrig:
			case AT_EnableAlwaysTrig:
			case AT_EnableReplicaTrig:
			case AT_DisableTrig:
			case AT_EnableTrigAll:
			case AT_DisableTrigAll:
			case AT_EnableTrigUser:
			case AT_DisableTrigUser:
				report_lock(guard, "toggle-trigger", relation, ShareRowExclusiveLock,
							"triggers are switched under a lock that stops the writes of");
				break;
			case AT_SetTableSpace:
				report_lock(guard, "move-tablespace", relation, AccessExclusiveLock,
							"all of it is copied under a lock that stops the reads and writes of");
				break;
			case AT_SetAccessMethod:
				report_lock(guard, "set-access-method", relation, AccessExclusiveLock,
							"a rewrite under a lock that stops the reads and writes of");
				break;
			default:
				break;
		}
	}
}

static void
drop(Guard *guard, DropStmt *stmt)
{
	ListCell   *lc;

	if (stmt->removeType == OBJECT_TRIGGER)
		foreach(lc, stmt->objects)
		{
			List	   *names = lfirst_node(List, lc);
			RangeVar   *table = makeRangeVarFromNameList(list_truncate(list_copy(names), list_length(names) - 1));

			report_lock(guard, "drop-trigger", guard_relation(guard, table), AccessExclusiveLock,
						"a trigger is dropped under a lock that stops the reads and writes of");
		}
	if (stmt->concurrent && !stmt->missing_ok)
		taste(guard, "robust-statements", "DROP INDEX CONCURRENTLY without IF EXISTS cannot be run again");
}

static void
alter_enum(Guard *guard, AlterEnumStmt *stmt)
{
	if (stmt->oldVal)
		guard_report(guard, "rename-enum-value", -1, NULL, NULL,
					 "clients that use the value '%s' break", stmt->oldVal);
	else if (!stmt->newValNeighbor)
		taste(guard, "enum-value-order", psprintf("the value '%s' will sort last for good", stmt->newVal));
}

static void
create_function(Guard *guard, CreateFunctionStmt *stmt)
{
	bool		definer = false;
	bool		path = false;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "security") == 0)
			definer = boolVal(option->arg);
		else if (strcmp(option->defname, "set") == 0)
			path = path || strcmp(((VariableSetStmt *) option->arg)->name, "search_path") == 0;
	}
	if (definer && !path)
		guard_report(guard, "secdef-search-path", -1, NULL, NULL,
					 "function \"%s\" runs with its owner's rights under the caller's search_path",
					 strVal(llast(stmt->funcname)));
	if (!stmt->replace)
		taste(guard, "or-replace", "CREATE FUNCTION without OR REPLACE cannot be run again");
}

static void
do_block(Guard *guard, DoStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->args)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "as") != 0)
			continue;
		for (const char *s = strVal(option->arg); *s; s++)
			if (pg_strncasecmp(s, "execute", 7) == 0)
			{
				taste(guard, "opaque-do-block", "a DO block with dynamic SQL");
				return;
			}
	}
}

static void
set_variable(Guard *guard, VariableSetStmt *stmt)
{
	char	   *value;
	int			ms;

	if (stmt->name == NULL || stmt->kind != VAR_SET_VALUE)
		return;
	for (int i = 0; i < lengthof(expected_settings); i++)
		if (strcmp(stmt->name, expected_settings[i][0]) == 0)
			guard->style_set |= 1 << i;
	if (strcmp(stmt->name, "lock_timeout") != 0)
		return;
	value = ExtractSetVariableArgs(stmt);
	if (!parse_int(value, &ms, GUC_UNIT_MS, NULL))
		return;
	if (ms == 0)
		guard_withdrawable(guard, &guard->timeouts_off,
						   guard_report(guard, "lock-timeout-ineffective", -1, NULL, NULL,
										"lock_timeout is switched off: statements behind this one queue for their locks without end"));
	else if (ms > LONG_LOCK_TIMEOUT)
		guard_report(guard, "lock-timeout-ineffective", -1, NULL, NULL,
					 "a lock_timeout of %s stalls the table's users as long", value);
}

/* SET a = a, with or without the table's name */
static void
update(Guard *guard, UpdateStmt *stmt)
{
	ListCell   *lc;

	style_assigned_twice(guard, stmt->targetList, "SET");
	foreach(lc, stmt->targetList)
	{
		ResTarget  *target = lfirst_node(ResTarget, lc);
		Node	   *last;

		if (target->val == NULL || !IsA(target->val, ColumnRef) || target->indirection)
			continue;
		last = llast(((ColumnRef *) target->val)->fields);
		if (IsA(last, String) && strcmp(strVal(last), target->name) == 0 &&
			(list_length(((ColumnRef *) target->val)->fields) == 1 || stmt->fromClause == NIL))
			guard_report(guard, "self-assignment", target->location, stmt->relation->relname, NULL,
						 "column \"%s\" is set to itself", target->name);
	}
}

/* ---- dispatch ---- */

/* Statements that are one finding, whatever is in them. */
static void
whole_statement(Guard *guard, Node *tree)
{
	switch (nodeTag(tree))
	{
		case T_DropdbStmt:
			guard_report(guard, "drop-database", -1, ((DropdbStmt *) tree)->dbname, NULL,
						 "database \"%s\" is dropped with all that is in it", ((DropdbStmt *) tree)->dbname);
			break;
		case T_DropTableSpaceStmt:
			guard_report(guard, "drop-tablespace", -1, NULL, NULL, "tablespace \"%s\" is dropped",
						 ((DropTableSpaceStmt *) tree)->tablespacename);
			break;
		case T_CreateDomainStmt:
			if (((CreateDomainStmt *) tree)->constraints)
				taste(guard, "create-domain-constraint", "a domain's constraint cannot be changed online");
			break;
		case T_CreateEnumStmt:
			taste(guard, "create-enum", "the values of an enum cannot be removed");
			break;
		case T_CreateExtensionStmt:
			taste(guard, "create-extension", psprintf("extension \"%s\" is created by the migration",
													  ((CreateExtensionStmt *) tree)->extname));
			break;
		case T_ViewStmt:
			if (!((ViewStmt *) tree)->replace)
				taste(guard, "or-replace", "CREATE VIEW without OR REPLACE cannot be run again");
			break;
		case T_SelectStmt:
			if (((SelectStmt *) tree)->intoClause)
				taste(guard, "select-into", "SELECT INTO creates a table");
			break;
		default:
			break;
	}
}

void
guard_style(Guard *guard, Node *tree)
{
	if (guard->live)
		return;
	whole_statement(guard, tree);
	switch (nodeTag(tree))
	{
		case T_CreateStmt:
			if (((CreateStmt *) tree)->if_not_exists &&
				OidIsValid(guard_relation(guard, ((CreateStmt *) tree)->relation)->relid))
				break;			/* does nothing */
			say_unqualified(guard, ((CreateStmt *) tree)->relation);
			style_name_length(guard, ((CreateStmt *) tree)->relation->location);
			style_create_table(guard, (CreateStmt *) tree);
			break;
		case T_AlterTableStmt:
			alter_table(guard, (AlterTableStmt *) tree);
			break;
		case T_IndexStmt:
			say_unqualified(guard, ((IndexStmt *) tree)->relation);
			style_create_index(guard, (IndexStmt *) tree);
			break;
		case T_DropStmt:
			drop(guard, (DropStmt *) tree);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) tree)->renameType == OBJECT_SCHEMA)
				guard_report(guard, "rename-schema", -1, NULL, NULL,
							 "what names schema \"%s\" breaks", ((RenameStmt *) tree)->subname);
			break;
		case T_AlterEnumStmt:
			alter_enum(guard, (AlterEnumStmt *) tree);
			break;
		case T_AlterDomainStmt:
			if (((AlterDomainStmt *) tree)->subtype == 'O')
				guard_report(guard, "domain-set-not-null", -1, NULL, NULL,
							 "every table that uses the domain is read under a lock that stops its writes");
			break;
		case T_RuleStmt:
			report_lock(guard, "create-rule", guard_relation(guard, ((RuleStmt *) tree)->relation),
						AccessExclusiveLock, "statements will be rewritten on");
			break;
		case T_RefreshMatViewStmt:
			if (((RefreshMatViewStmt *) tree)->concurrent)
				report_lock(guard, "refresh-matview-concurrent",
							guard_relation(guard, ((RefreshMatViewStmt *) tree)->relation), ExclusiveLock,
							"a second refresh waits for this one of");
			break;
		case T_CreateFunctionStmt:
			create_function(guard, (CreateFunctionStmt *) tree);
			break;
		case T_DoStmt:
			do_block(guard, (DoStmt *) tree);
			break;
		case T_VariableSetStmt:
			set_variable(guard, (VariableSetStmt *) tree);
			break;
		case T_UpdateStmt:
			update(guard, (UpdateStmt *) tree);
			break;
		case T_InsertStmt:
			style_assigned_twice(guard, ((InsertStmt *) tree)->cols, "INSERT");
			if (((InsertStmt *) tree)->cols == NIL && ((InsertStmt *) tree)->selectStmt)
				taste(guard, "insert-no-columns", "INSERT without a list of columns");
			break;
		default:
			break;
	}
}

void
guard_style_finish(Guard *guard)
{
	bool		strong = false;
	ListCell   *lc;

	/* a dump switches it off for tables that it makes itself, where nobody waits */
	if (!lock_session(guard)->waited_unlimited)
	{
		foreach(lc, guard->timeouts_off)
			guard_withdraw(guard, lfirst(lc));
	}
	if (!guard_style_on || guard->live)
		return;
	foreach(lc, guard->findings)
	{
		GuardFinding *finding = lfirst(lc);

		strong = strong || (finding->lock_mode && strstr(finding->blocks ? finding->blocks : "", "writes"));
	}
	for (int i = 0; strong && i < lengthof(expected_settings); i++)
		if ((guard->style_set & (1 << i)) == 0)
			guard_report(guard, expected_settings[i][1], 0, NULL, NULL,
						 "the source takes strong locks and does not set %s", expected_settings[i][0]);
}
