/*-------------------------------------------------------------------------
 *
 * walk.c
 *	  Walk what a statement will run, and look for data changes and calls.
 *
 * Queries are walked to any depth: common table expressions, sub-selects,
 * what EXPLAIN ANALYZE and EXECUTE run.  What is only defined (a view, a
 * rule, a function) runs nothing yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/guard.h"

#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"

#include "guard/catalog.h"
#include "guard/data.h"
#include "guard/style.h"

typedef struct PreparedStatement
{
	char		name[NAMEDATALEN];	/* hash key; must be first */
	char	   *text;			/* of PREPARE; NULL: deallocated */
	int			line;
} PreparedStatement;

static bool walk(Node *node, void *context);
static void run_statement(Guard *guard, Node *node);

/* ---- entry points ---- */

void
guard_tree(Guard *guard, Node *tree, int offset)
{
	int			outer = guard->tree_offset;

	guard->tree_offset = offset;
	if (!guard_too_deep(guard))
		run_statement(guard, tree);
	guard->tree_offset = outer;
}

void
guard_expression(Guard *guard, Node *expr)
{
	(void) walk(expr, guard);
}

/*
 * The server's own walkers check the stack on their way; leave them some, so
 * that we notice first.
 */
pg_noinline bool
guard_too_deep(Guard *guard)
{
	volatile char margin[16384];
	bool		deep;

	margin[0] = '\0';
	deep = stack_is_too_deep();
	margin[1] = deep;
	if (deep)
		guard_report(guard, "unparsed", -1, NULL, NULL,
					 "statement is nested too deeply to be inspected");
	return margin[1];
}

/* ---- queries and expressions ---- */

/* a call that will be evaluated; its arguments are walked by the caller */
static void
walk_call(Guard *guard, FuncCall *call)
{
	guard_data_call(guard, call);
	guard_call(guard, call);
}

/* rows that change; what is evaluated for it is walked by the caller */
static void
walk_change(Guard *guard, Node *node)
{
	switch (nodeTag(node))
	{
		case T_InsertStmt:
			guard_data_insert(guard, (InsertStmt *) node);
			guard_rewrite(guard, ((InsertStmt *) node)->relation, CMD_INSERT);
			break;
		case T_UpdateStmt:
			guard_data_update(guard, (UpdateStmt *) node);
			guard_rewrite(guard, ((UpdateStmt *) node)->relation, CMD_UPDATE);
			break;
		case T_DeleteStmt:
			guard_data_delete(guard, (DeleteStmt *) node);
			guard_rewrite(guard, ((DeleteStmt *) node)->relation, CMD_DELETE);
			break;
		default:
			guard_data_merge(guard, castNode(MergeStmt, node));
			break;
	}
}

/*
 * Long chains of operators, casts and set operations lean to the left, so
 * that side is a loop: 100 kB of "a + b + c ..." need no stack.
 */
static bool
walk(Node *node, void *context)
{
	Guard	   *guard = context;

	while (node != NULL)
	{
		switch (nodeTag(node))
		{
			case T_A_Expr:
				if (((A_Expr *) node)->name)
					guard_operator(guard, ((A_Expr *) node)->name, ((A_Expr *) node)->location);
				if (walk(((A_Expr *) node)->rexpr, guard))
					return true;
				node = ((A_Expr *) node)->lexpr;
				continue;
			case T_TypeCast:
				node = ((TypeCast *) node)->arg;
				continue;
			case T_SelectStmt:
				{
					SelectStmt *select = (SelectStmt *) node;

					guard_data_into(guard, select);
					if (select->op == SETOP_NONE)
						break;
					(void) walk((Node *) select->withClause, guard);
					(void) walk((Node *) select->rarg, guard);
					(void) walk((Node *) select->sortClause, guard);
					(void) walk(select->limitOffset, guard);
					(void) walk(select->limitCount, guard);
					node = (Node *) select->larg;
				}
				continue;
			case T_InsertStmt:
			case T_UpdateStmt:
			case T_DeleteStmt:
			case T_MergeStmt:
				if (!guard_reads_only(guard))
					walk_change(guard, node);
				break;
			case T_FuncCall:
				walk_call(guard, (FuncCall *) node);
				break;
			case T_RangeVar:
				guard_rewrite(guard, (RangeVar *) node, CMD_SELECT);
				break;
			default:
				break;
		}
		CHECK_FOR_INTERRUPTS();
		if (guard_too_deep(guard))
			return false;
		return raw_expression_tree_walker(node, walk, guard);
	}
	return false;
}

/* ---- PREPARE and EXECUTE ---- */

static void
prepare(Guard *guard, PrepareStmt *stmt)
{
	PreparedStatement *prepared;
	char		name[NAMEDATALEN];
	int			col;

	if (guard->prepared == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(PreparedStatement);
		ctl.hcxt = guard->context;
		guard->prepared = hash_create("evmig guard prepared", 16, &ctl,
									  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	strlcpy(name, stmt->name, NAMEDATALEN);
	prepared = hash_search(guard->prepared, name, HASH_ENTER, NULL);
	prepared->text = MemoryContextStrdup(guard->context,
										 guard->frame->text + guard->tree_offset);
	guard_line_col(guard, guard_source_offset(guard, -1), &prepared->line, &col);
}

static PreparedStatement *
find_prepared(Guard *guard, const char *stmt_name)
{
	PreparedStatement *prepared;
	char		name[NAMEDATALEN];

	if (guard->prepared == NULL)
		return NULL;
	strlcpy(name, stmt_name, NAMEDATALEN);
	prepared = hash_search(guard->prepared, name, HASH_FIND, NULL);
	return prepared && prepared->text ? prepared : NULL;
}

static Node *
parse_prepared(const PreparedStatement *prepared)
{
	List	   *trees;

	if (!guard_parse(prepared->text, RAW_PARSE_DEFAULT, &trees, NULL) || trees == NIL)
		return NULL;			/* it was parsed once */
	return castNode(PrepareStmt, linitial_node(RawStmt, trees)->stmt)->query;
}

Node *
guard_prepared_query(Guard *guard, const char *name)
{
	PreparedStatement *prepared = find_prepared(guard, name);

	return prepared ? parse_prepared(prepared) : NULL;
}

/* The statement runs here: so findings are reported here. */
static void
execute(Guard *guard, ExecuteStmt *stmt)
{
	PreparedStatement *prepared = find_prepared(guard, stmt->name);
	GuardFrame	frame = {0};

	guard_expression(guard, (Node *) stmt->params);
	if (prepared == NULL)
	{
		guard_report(guard, "dynamic-sql", -1, NULL,
					 "Prepare the statement in this source, or write it out.",
					 "EXECUTE of %s could not be inspected: the source does not prepare it",
					 quote_identifier(stmt->name));
		return;
	}
	frame.text = prepared->text;
	frame.len = strlen(prepared->text);
	frame.base = -1;
	frame.anchor = guard_source_offset(guard, -1);
	frame.via = psprintf("statement %s, prepared in line %d", quote_identifier(stmt->name),
						 prepared->line);
	guard_push(guard, &frame);
	guard_tree(guard, parse_prepared(prepared), 0);
	guard_pop(guard);
}

static void
deallocate(Guard *guard, const char *name)
{
	HASH_SEQ_STATUS all;
	PreparedStatement *prepared;

	if (guard->prepared == NULL)
		return;
	hash_seq_init(&all, guard->prepared);
	while ((prepared = hash_seq_search(&all)) != NULL)
		if (name == NULL || strncmp(prepared->name, name, NAMEDATALEN - 1) == 0)
			prepared->text = NULL;
}

/* ---- expressions that a definition evaluates over existing rows ---- */

static void
run_constraint(Guard *guard, Constraint *constraint)
{
	ListCell   *lc;

	if (constraint->skip_validation)
		return;
	guard_expression(guard, constraint->raw_expr);
	guard_expression(guard, constraint->where_clause);
	foreach(lc, constraint->exclusions)
		guard_expression(guard, linitial(lfirst_node(List, lc)));
}

static void
run_alter_table(Guard *guard, AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		ListCell   *lc2;

		switch ((int) cmd->subtype)
		{
			case AT_AddColumn:
				guard_expression(guard, castNode(ColumnDef, cmd->def)->raw_default);
				foreach(lc2, castNode(ColumnDef, cmd->def)->constraints)
				{
					run_constraint(guard, lfirst_node(Constraint, lc2));
					guard_data_referred(guard, stmt->relation, lfirst_node(Constraint, lc2));
				}
				break;
			case AT_AlterColumnType:
				guard_expression(guard, castNode(ColumnDef, cmd->def)->raw_default);
				break;
			case AT_AddConstraint:
				run_constraint(guard, castNode(Constraint, cmd->def));
				guard_data_referred(guard, stmt->relation, castNode(Constraint, cmd->def));
				if (castNode(Constraint, cmd->def)->skip_validation)
					guard_constraint_added(guard, stmt->relation, castNode(Constraint, cmd->def));
				break;
			case AT_ValidateConstraint:
				guard_constraint_validated(guard, stmt->relation, cmd->name);
				break;
			case COMPAT_AT_SET_EXPRESSION:
				guard_expression(guard, cmd->def);
				break;
			default:
				break;
		}
	}
}

static void
run_index(Guard *guard, IndexStmt *stmt)
{
	guard_expression(guard, (Node *) stmt->indexParams);
	guard_expression(guard, stmt->whereClause);
}

/* ---- statements ---- */

static bool
is_analyze(ExplainStmt *stmt)
{
	bool		analyze = false;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		/* what is no boolean fails as soon as it is run */
		if (strcmp(option->defname, "analyze") == 0)
			analyze = option->arg == NULL || !guard_is_false(option->arg);
	}
	return analyze;
}

/* What CREATE SCHEMA makes is made in the new schema. */
static RangeVar *
made_name(Node *element)
{
	switch (nodeTag(element))
	{
		case T_CreateStmt:
			return ((CreateStmt *) element)->relation;
		case T_ViewStmt:
			return ((ViewStmt *) element)->view;
		case T_IndexStmt:
			return ((IndexStmt *) element)->relation;
		case T_CreateSeqStmt:
			return ((CreateSeqStmt *) element)->sequence;
		case T_CreateTrigStmt:
			return ((CreateTrigStmt *) element)->relation;
		default:
			return NULL;
	}
}

static void
run_create_schema(Guard *guard, CreateSchemaStmt *stmt)
{
	char	   *schema = stmt->schemaname;
	ListCell   *lc;

	if (schema == NULL && stmt->authrole)
		schema = stmt->authrole->rolename;
	foreach(lc, stmt->schemaElts)
	{
		RangeVar   *name = made_name(lfirst(lc));

		if (name && name->schemaname == NULL)
			name->schemaname = schema;
		guard_tree(guard, lfirst(lc), guard->tree_offset);
	}
}

static void
run_copy(Guard *guard, CopyStmt *stmt)
{
	guard_data_copy(guard, stmt);
	guard_expression(guard, stmt->query);
	guard_expression(guard, stmt->whereClause);
}

static void
run_create_as(Guard *guard, CreateTableAsStmt *stmt)
{
	if (guard_data_create_as(guard, stmt))
		run_statement(guard, stmt->query);
}

/* what the source defines, for statements behind this one that call it */
static void
note_definition(Guard *guard, Node *node)
{
	switch (nodeTag(node))
	{
		case T_CreateFunctionStmt:
			guard_routine_defined(guard, (CreateFunctionStmt *) node);
			break;
		case T_DefineStmt:
			if (((DefineStmt *) node)->kind == OBJECT_AGGREGATE)
				guard_aggregate_defined(guard, (DefineStmt *) node);
			else if (((DefineStmt *) node)->kind == OBJECT_TYPE)
				guard_routine_made(guard, ((DefineStmt *) node)->defnames);
			break;
		case T_CreateDomainStmt:
			guard_routine_made(guard, ((CreateDomainStmt *) node)->domainname);
			break;
		case T_CreateEnumStmt:
			guard_routine_made(guard, ((CreateEnumStmt *) node)->typeName);
			break;
		case T_CreateRangeStmt:
			guard_routine_made(guard, ((CreateRangeStmt *) node)->typeName);
			break;
		case T_CompositeTypeStmt:
			guard_routine_made(guard,
							   list_make1(makeString(((CompositeTypeStmt *) node)->typevar->relname)));
			break;
		case T_RuleStmt:
			guard_rule_defined(guard, (RuleStmt *) node);
			break;
		case T_ViewStmt:
			guard_view_defined(guard, (ViewStmt *) node);
			break;
		case T_DropStmt:
			guard_routines_dropped(guard, (DropStmt *) node);
			break;
		case T_RenameStmt:
			guard_routine_renamed(guard, (RenameStmt *) node);
			break;
		default:
			break;
	}
}

/* What a statement runs by itself. */
static void
run_node(Guard *guard, Node *node)
{
	switch (nodeTag(node))
	{
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			guard_expression(guard, node);
			break;
		case T_ReturnStmt:
			guard_expression(guard, ((ReturnStmt *) node)->returnval);
			break;
		case T_PLAssignStmt:
			guard_expression(guard, (Node *) ((PLAssignStmt *) node)->val);
			break;
		case T_DeclareCursorStmt:
			guard_expression(guard, ((DeclareCursorStmt *) node)->query);
			break;
		case T_CopyStmt:
			run_copy(guard, (CopyStmt *) node);
			break;
		case T_TruncateStmt:
			guard_data_truncate(guard, (TruncateStmt *) node);
			break;
		case T_CreateTableAsStmt:
			run_create_as(guard, (CreateTableAsStmt *) node);
			break;
		case T_RefreshMatViewStmt:
			guard_data_refresh(guard, (RefreshMatViewStmt *) node);
			if (!((RefreshMatViewStmt *) node)->skipData)
				guard_rewrite_refresh(guard, ((RefreshMatViewStmt *) node)->relation);
			break;
		case T_ExplainStmt:
			if (is_analyze((ExplainStmt *) node))
				run_statement(guard, ((ExplainStmt *) node)->query);
			break;
		case T_PrepareStmt:
			prepare(guard, (PrepareStmt *) node);
			break;
		case T_ExecuteStmt:
			execute(guard, (ExecuteStmt *) node);
			break;
		case T_DeallocateStmt:
			deallocate(guard, ((DeallocateStmt *) node)->name);
			break;
		case T_DiscardStmt:
			if (((DiscardStmt *) node)->target == DISCARD_ALL)
				deallocate(guard, NULL);
			break;
		case T_CallStmt:
			guard_expression(guard, (Node *) ((CallStmt *) node)->funccall);
			break;
		case T_DoStmt:
			guard_do(guard, (DoStmt *) node);
			break;
		case T_CreateSchemaStmt:
			run_create_schema(guard, (CreateSchemaStmt *) node);
			break;
		case T_AlterTableStmt:
			run_alter_table(guard, (AlterTableStmt *) node);
			break;
		case T_AlterDomainStmt:
			guard_domain_altered(guard, (AlterDomainStmt *) node);
			break;
		case T_IndexStmt:
			run_index(guard, (IndexStmt *) node);
			break;
		default:
			note_definition(guard, node);
			break;
	}
}

/* Does the server run it in a routine that is not VOLATILE? */
static bool
may_read(Node *node)
{
	switch (nodeTag(node))
	{
		case T_SelectStmt:
		case T_ReturnStmt:
		case T_PLAssignStmt:
		case T_DeclareCursorStmt:
		case T_ExplainStmt:
			return true;
		default:
			return false;
	}
}

/*
 * Data first, then locks: guard_locks() also notes what the statement makes
 * and drops, which its own expressions do not see yet.
 */
static void
run_statement(Guard *guard, Node *node)
{
	CHECK_FOR_INTERRUPTS();
	if (node == NULL || (guard_reads_only(guard) && !may_read(node)))
		return;
	run_node(guard, node);
	guard_style(guard, node);
	guard_locks(guard, node);
}
