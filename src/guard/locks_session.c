/*-------------------------------------------------------------------------
 *
 * locks_session.c
 *	  What the source does to its session and its types, as far as lock rules
 *	  want to know: lock_timeout, enum values, constraints added and validated.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "guard/locks.h"
#include "guard/locks_session.h"
#include "guard/rules.h"

/* ---- lock_timeout ---- */

static void
set_timeout(Guard *guard, int ms, bool local)
{
	LockSession *session = lock_session(guard);

	if (local && !lock_in_transaction(guard))
		return;					/* the server warns, and sets nothing */
	guard->tx.lock_timeout = ms;
	if (!local)
		session->timeout = ms;
	session->timeout_reported = session->timeout_reported_large = false;
}

/* a value as SET takes it */
static int
timeout_value(const char *text)
{
	int			ms;

	return parse_int(text, &ms, GUC_UNIT_MS, NULL) ? ms : TIMEOUT_UNSET;
}

static char *
constant_text(Node *node)
{
	if (node && IsA(node, TypeCast))
		node = ((TypeCast *) node)->arg;
	if (node == NULL || !IsA(node, A_Const) || ((A_Const *) node)->isnull)
		return NULL;
	switch (nodeTag(&((A_Const *) node)->val))
	{
		case T_Integer:
			return psprintf("%d", intVal(&((A_Const *) node)->val));
		case T_Float:
			return castNode(Float, &((A_Const *) node)->val)->fval;
		case T_String:
			return strVal(&((A_Const *) node)->val);
		case T_Boolean:
			return boolVal(&((A_Const *) node)->val) ? "true" : "false";
		default:
			return NULL;
	}
}

void
lock_set(Guard *guard, VariableSetStmt *stmt)
{
	if (guard->live)
		return;
	if (stmt->kind == VAR_RESET_ALL)
		set_timeout(guard, TIMEOUT_UNSET, false);
	if (stmt->name == NULL || strcmp(stmt->name, "lock_timeout") != 0)
		return;
	if (stmt->kind == VAR_SET_VALUE)
	{
		char	   *text = constant_text(linitial(stmt->args));

		set_timeout(guard, text ? timeout_value(text) : TIMEOUT_UNSET, stmt->is_local);
	}
	else if (stmt->kind == VAR_SET_DEFAULT || stmt->kind == VAR_RESET)
		set_timeout(guard, TIMEOUT_UNSET, stmt->is_local);
}

static bool
is_set_config(Node *node)
{
	return IsA(node, FuncCall) &&
		strcmp(strVal(llast(((FuncCall *) node)->funcname)), "set_config") == 0 &&
		list_length(((FuncCall *) node)->args) == 3;
}

/* SELECT that does nothing but set a configuration parameter */
bool
lock_is_set_config(Node *tree)
{
	SelectStmt *select = (SelectStmt *) tree;

	return IsA(tree, SelectStmt) && select->fromClause == NIL &&
		list_length(select->targetList) == 1 &&
		is_set_config(linitial_node(ResTarget, select->targetList)->val);
}

static void
set_config(Guard *guard, FuncCall *call)
{
	char	   *name = constant_text(linitial(call->args));
	char	   *value = constant_text(lsecond(call->args));
	char	   *local = constant_text(lthird(call->args));
	bool		is_local = local && strchr("tTyY1", local[0]) != NULL;

	if (name && pg_strcasecmp(name, "lock_timeout") == 0)
		set_timeout(guard, value ? timeout_value(value) : TIMEOUT_UNSET, is_local);
	else if (name && value && pg_strcasecmp(name, "search_path") == 0)
		guard_names_search_path(guard, value, is_local);
}

void
lock_select(Guard *guard, Node *tree)
{
	ListCell   *lc;

	if (guard->live)
		return;
	foreach(lc, ((SelectStmt *) tree)->targetList)
	{
		Node	   *value = lfirst_node(ResTarget, lc)->val;

		if (is_set_config(value))
			set_config(guard, (FuncCall *) value);
	}
}

/* ---- enum values ---- */

void
lock_alter_enum(Guard *guard, AlterEnumStmt *stmt)
{
	LockSession *session = lock_session(guard);
	char	   *type = NameListToString(stmt->typeName);
	MemoryContext old;
	ListCell   *lc;

	if (guard->live || stmt->oldVal || !lock_in_transaction(guard))
		return;
	foreach(lc, session->made_types)
	{
		if (strcmp(lfirst(lc), type) == 0)
			return;				/* usable at once */
	}
	if (TARGET_VERSION(guard) < 12)
	{
		(void) guard_report(guard, "enum-add-value-in-tx", -1, NULL, NULL,
							"ALTER TYPE %s ADD VALUE cannot run inside a transaction before PostgreSQL 12",
							type);
		return;
	}
	(void) guard_report_as(guard, GUARD_INFO, "enum-add-value-in-tx", -1, NULL, NULL,
						   "value %s of %s cannot be used before this transaction commits",
						   quote_literal_cstr(stmt->newVal), type);
	old = MemoryContextSwitchTo(guard->context);
	guard->tx.enum_values = lappend(guard->tx.enum_values, pstrdup(stmt->newVal));
	MemoryContextSwitchTo(old);
}

typedef struct EnumUse
{
	Guard	   *guard;
	List	   *values;
	A_Const    *found;
} EnumUse;

static bool
find_enum_use(Node *node, void *context)
{
	EnumUse    *use = context;
	ListCell   *lc;

	/* a long chain of operators leans to the left */
	while (node && IsA(node, A_Expr))
	{
		if (find_enum_use(((A_Expr *) node)->rexpr, context))
			return true;
		node = ((A_Expr *) node)->lexpr;
	}
	if (node == NULL || guard_too_deep(use->guard))
		return false;
	if (IsA(node, A_Const) && !((A_Const *) node)->isnull &&
		IsA(&((A_Const *) node)->val, String))
	{
		foreach(lc, use->values)
		{
			if (strcmp(lfirst(lc), strVal(&((A_Const *) node)->val)) == 0)
			{
				use->found = (A_Const *) node;
				return true;
			}
		}
		return false;
	}
	return raw_expression_tree_walker(node, find_enum_use, context);
}

/* The raw walker knows queries, and of utility statements only their parts. */
static bool
is_query(Node *tree)
{
	return IsA(tree, SelectStmt) || IsA(tree, InsertStmt) || IsA(tree, UpdateStmt) ||
		IsA(tree, DeleteStmt);
}

static void
note_made_type(Guard *guard, List *name)
{
	LockSession *session = lock_session(guard);
	MemoryContext old = MemoryContextSwitchTo(guard->context);

	session->made_types = lappend(session->made_types, pstrdup(NameListToString(name)));
	MemoryContextSwitchTo(old);
}

/* a default or an expression index in DDL counts as much as a query */
static bool
statement_uses(Node *tree, EnumUse *use)
{
	ListCell   *lc;

	if (is_query(tree))
		return find_enum_use(tree, use);
	if (!IsA(tree, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) tree)->cmds)
	{
		Node	   *def = lfirst_node(AlterTableCmd, lc)->def;
		ListCell   *lc2;

		if (def == NULL || !IsA(def, ColumnDef))
			continue;
		foreach(lc2, ((ColumnDef *) def)->constraints)
		{
			if (find_enum_use(lfirst_node(Constraint, lc2)->raw_expr, use))
				return true;
		}
	}
	return false;
}

void
lock_check_enum_use(Guard *guard, Node *tree)
{
	EnumUse		use = {guard, guard->tx.enum_values, NULL};

	if (IsA(tree, CreateEnumStmt))
		note_made_type(guard, ((CreateEnumStmt *) tree)->typeName);
	else if (IsA(tree, CreateDomainStmt))
		lock_note(guard, NOTE_TYPE, NULL, NameListToString(((CreateDomainStmt *) tree)->domainname));
	else if (IsA(tree, CreateSchemaStmt) && ((CreateSchemaStmt *) tree)->schemaname)
		lock_note(guard, NOTE_SCHEMA, NULL, ((CreateSchemaStmt *) tree)->schemaname);
	if (use.values == NIL || !statement_uses(tree, &use))
		return;
	(void) guard_report(guard, "enum-add-value-in-tx", lock_at(guard, use.found->location),
						NULL, "COMMIT; behind ALTER TYPE ... ADD VALUE, before the value is used.",
						"enum value %s was added in this transaction and cannot be used before it commits: the statement fails",
						quote_literal_cstr(strVal(&use.found->val)));
}

/* ---- notes ---- */

static uint64
text_hash(const char *text)
{
	return hash_bytes_extended((const unsigned char *) text, strlen(text), 1);
}

static NotedFact
fact_of(LockNote kind, const GuardRelation *relation, const char *detail)
{
	NotedFact	fact = {0};

	fact.kind = kind;
	fact.relation = relation ? text_hash(relation->name) : 0;
	fact.detail = text_hash(detail);
	return fact;
}

void
lock_note(Guard *guard, LockNote kind, const GuardRelation *relation, const char *detail)
{
	LockSession *session = lock_session(guard);
	NotedFact	fact = fact_of(kind, relation, detail);

	if (guard->live)
		return;
	if (session->notes == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = ctl.entrysize = sizeof(NotedFact);
		ctl.hcxt = guard->context;
		session->notes = hash_create("evmig guard notes", 64, &ctl,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(session->notes, &fact, HASH_ENTER, NULL);
}

bool
lock_noted(Guard *guard, LockNote kind, const GuardRelation *relation, const char *detail)
{
	HTAB	   *notes = lock_session(guard)->notes;
	NotedFact	fact = fact_of(kind, relation, detail);

	return notes && hash_search(notes, &fact, HASH_FIND, NULL) != NULL;
}

/* ---- constraints ---- */

/* CHECK (c IS NOT NULL [AND ...]): the columns that it proves not null */
static List *
proven_columns(Node *expr, List *columns)
{
	ListCell   *lc;

	if (expr == NULL)
		return columns;
	if (IsA(expr, BoolExpr) && ((BoolExpr *) expr)->boolop == AND_EXPR)
	{
		foreach(lc, ((BoolExpr *) expr)->args)
			columns = proven_columns(lfirst(lc), columns);
	}
	else if (IsA(expr, NullTest) && ((NullTest *) expr)->nulltesttype == IS_NOT_NULL &&
			 IsA(((NullTest *) expr)->arg, ColumnRef))
	{
		Node	   *name = llast(((ColumnRef *) ((NullTest *) expr)->arg)->fields);

		if (IsA(name, String))
			columns = lappend(columns, pstrdup(strVal(name)));
	}
	return columns;
}

SourceConstraint *
lock_source_constraint(Guard *guard, GuardRelation *relation, const char *name)
{
	ListCell   *lc;

	foreach(lc, lock_session(guard)->constraints)
	{
		SourceConstraint *constraint = lfirst(lc);

		if (strcmp(constraint->relation, relation->name) == 0 && constraint->name &&
			strcmp(constraint->name, name) == 0)
			return constraint;
	}
	return NULL;
}

static SourceConstraint *
new_constraint(Guard *guard, GuardRelation *relation, const char *name)
{
	LockSession *session = lock_session(guard);
	SourceConstraint *constraint = palloc0(sizeof(SourceConstraint));

	constraint->relation = pstrdup(relation->name);
	constraint->name = name ? pstrdup(name) : NULL;
	constraint->transaction = session->number;
	session->constraints = lappend(session->constraints, constraint);
	return constraint;
}

static char *
constraint_key(GuardRelation *relation, const char *name)
{
	return psprintf("%s %s", relation->name, quote_identifier(name));
}

void
lock_constraint_added(Guard *guard, GuardRelation *relation, Constraint *added)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	SourceConstraint *constraint = new_constraint(guard, relation, added->conname);

	constraint->added = true;
	if (added->contype == CONSTR_CHECK && !guard->live)
		constraint->expr = copyObject(added->raw_expr);
	constraint->valid = !added->skip_validation;
	if (added->contype == CONSTR_CHECK)
		constraint->not_null = proven_columns(added->raw_expr, NIL);
	if (added->conname)
		guard->tx.not_valid = lappend(guard->tx.not_valid,
									  constraint_key(relation, added->conname));
	MemoryContextSwitchTo(old);
}

void
lock_constraint_validated(Guard *guard, GuardRelation *relation, const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	SourceConstraint *constraint = lock_source_constraint(guard, relation, name);

	if (constraint == NULL)
		constraint = new_constraint(guard, relation, name);
	constraint->valid = true;
	MemoryContextSwitchTo(old);
}

/* It proves nothing any more, whoever made it. */
void
lock_constraint_dropped(Guard *guard, GuardRelation *relation, const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	SourceConstraint *constraint = lock_source_constraint(guard, relation, name);

	if (constraint == NULL)
		constraint = new_constraint(guard, relation, name);
	constraint->added = constraint->valid = false;
	MemoryContextSwitchTo(old);
}

bool
lock_constraint_in_tx(Guard *guard, GuardRelation *relation, const char *name)
{
	char	   *key = constraint_key(relation, name);
	ListCell   *lc;

	foreach(lc, guard->tx.not_valid)
	{
		if (strcmp(lfirst(lc), key) == 0)
			return true;
	}
	return false;
}

bool
lock_source_has_constraint(Guard *guard, GuardRelation *relation, const char *name)
{
	SourceConstraint *constraint = lock_source_constraint(guard, relation, name);

	return constraint && constraint->added;
}

bool
lock_source_proves_not_null(Guard *guard, GuardRelation *relation, const char *column)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, lock_session(guard)->constraints)
	{
		SourceConstraint *constraint = lfirst(lc);

		if (!constraint->valid || strcmp(constraint->relation, relation->name) != 0)
			continue;
		foreach(lc2, constraint->not_null)
		{
			if (strcmp(lfirst(lc2), column) == 0)
				return true;
		}
	}
	return false;
}

/* Those that the transaction added are gone. */
void
lock_constraints_rollback(Guard *guard)
{
	LockSession *session = lock_session(guard);
	ListCell   *lc;

	foreach(lc, session->constraints)
	{
		SourceConstraint *constraint = lfirst(lc);

		if (constraint->transaction == session->number)
			session->constraints = foreach_delete_current(session->constraints, lc);
	}
}
