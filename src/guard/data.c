/*-------------------------------------------------------------------------
 *
 * data.c
 *	  The data rules: one function for each form of statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/data.h"

#include <ctype.h>

#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"

#include "guard/catalog.h"
#include "guard/settings.h"

/* ---- where ---- */

/*
 * Offset, in the current frame, of the keyword that stands before a location;
 * -1, the statement's start, where there is none.
 */
static int
keyword_before(Guard *guard, const char *keyword, int location)
{
	const char *text = guard->frame->text;
	int			len = strlen(keyword);

	if (location > guard->frame->len)
		return -1;
	for (int at = location - len - 1; at >= 0; at--)
		if (pg_strncasecmp(text + at, keyword, len) == 0 &&
			!isalnum((unsigned char) text[at + len]) &&
			(at == 0 || !(isalnum((unsigned char) text[at - 1]) || text[at - 1] == '_')))
			return at;
	return -1;
}

/* "public.t (1,200,000 rows, 3 GB)" */
static char *
named(const GuardRelation *relation)
{
	return psprintf("%s (%s)", relation->name, guard_relation_size(relation));
}

static bool
is_own(const GuardRelation *relation)
{
	return relation->created_here || relation->temporary;
}

/* ---- rows change ---- */

void
guard_data_change(Guard *guard, const char *rule, const char *statement, const char *what,
				  RangeVar *relation)
{
	GuardRelation *target = guard_relation(guard, relation);

	if (is_own(target))
		return;
	guard_report(guard, rule, keyword_before(guard, statement, relation->location),
				 target->name, NULL, "%s %s %s", statement, what, named(target));
}

/* is there a query in a list of VALUES? */
static bool
has_sublink(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		return true;
	if (guard_too_deep(context))
		return true;
	return raw_expression_tree_walker(node, has_sublink, context);
}

void
guard_data_insert(Guard *guard, InsertStmt *stmt)
{
	SelectStmt *select = (SelectStmt *) stmt->selectStmt;
	GuardRelation *target = guard_relation(guard, stmt->relation);
	int			offset;
	bool		conflict;

	if (is_own(target))
		return;
	offset = keyword_before(guard, "INSERT", stmt->relation->location);
	conflict = stmt->onConflictClause && stmt->onConflictClause->action == ONCONFLICT_UPDATE;

	if (select && (select->valuesLists == NIL ||
				   has_sublink((Node *) select->valuesLists, guard)))
		guard_report(guard, "data-insert-select", offset, target->name, NULL,
					 "INSERT adds the rows of a query to %s", named(target));
	else if (guard_insert_values != INSERT_VALUES_OFF)
	{
		int			rows = select ? list_length(select->valuesLists) : 1;

		guard_report_as(guard, guard_insert_values == INSERT_VALUES_ERROR ?
						GUARD_ERROR : GUARD_WARNING, "data-insert-values", offset,
						target->name, NULL, "INSERT adds %d row%s to %s",
						rows, rows == 1 ? "" : "s", named(target));
	}
	if (conflict)
		guard_report(guard, "data-update", stmt->onConflictClause->location, target->name, NULL,
					 "ON CONFLICT DO UPDATE changes rows of %s", named(target));
}

void
guard_data_truncate(Guard *guard, TruncateStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		GuardRelation *target = guard_relation(guard, lfirst_node(RangeVar, lc));

		if (!is_own(target))
			guard_report(guard, "data-truncate", -1, target->name, NULL,
						 "TRUNCATE removes all rows of %s", named(target));
	}
}

/* ---- a relation is filled from others ---- */

typedef struct Readers
{
	Guard	   *guard;
	List	   *ctes;			/* names */
	GuardRelation *large;		/* the first large relation that is read */
} Readers;

/* Names of common table expressions hide tables, if only in a part of the query. */
static bool
collect_ctes(Node *node, void *context)
{
	Readers    *readers = context;

	if (node == NULL || guard_too_deep(readers->guard))
		return false;
	if (IsA(node, CommonTableExpr))
		readers->ctes = lappend(readers->ctes,
								makeString(((CommonTableExpr *) node)->ctename));
	return raw_expression_tree_walker(node, collect_ctes, context);
}

static bool
find_large(Node *node, void *context)
{
	Readers    *readers = context;

	if (node == NULL || guard_too_deep(readers->guard))
		return false;
	if (IsA(node, IntoClause))
		return false;
	if (IsA(node, RangeVar))
	{
		RangeVar   *name = (RangeVar *) node;
		GuardRelation *relation;

		if (name->schemaname == NULL && list_member(readers->ctes, makeString(name->relname)))
			return false;
		relation = guard_relation(readers->guard, name);
		if (!relation->large || is_own(relation))
			return false;
		readers->large = relation;
		return true;
	}
	return raw_expression_tree_walker(node, find_large, context);
}

/* the first large relation that a query reads; NULL: none */
static GuardRelation *
large_source(Guard *guard, Node *query)
{
	Readers		readers = {guard};

	(void) collect_ctes(query, &readers);
	(void) find_large(query, &readers);
	return readers.large;
}

void
guard_data_into(Guard *guard, SelectStmt *select)
{
	RangeVar   *target = select->intoClause->rel;
	GuardRelation *large = large_source(guard, (Node *) select);

	if (large)
		guard_report(guard, "data-select-into", -1,
					 quote_qualified_identifier(target->schemaname, target->relname), NULL,
					 "SELECT INTO copies rows of %s", named(large));
}

bool
guard_data_create_as(Guard *guard, CreateTableAsStmt *stmt)
{
	RangeVar   *target = stmt->into->rel;
	GuardRelation *large;

	if (stmt->into->skipData)
		return false;
	if (stmt->if_not_exists && OidIsValid(guard_relation(guard, target)->relid))
		return false;			/* does nothing */
	large = IsA(stmt->query, ExecuteStmt) ? NULL : large_source(guard, stmt->query);
	if (large)
		guard_report(guard, "data-create-table-as", -1,
					 quote_qualified_identifier(target->schemaname, target->relname), NULL,
					 stmt->objtype == OBJECT_MATVIEW ?
					 "CREATE MATERIALIZED VIEW copies rows of %s" :
					 "CREATE TABLE AS copies rows of %s", named(large));
	return true;
}

void
guard_data_refresh(Guard *guard, RefreshMatViewStmt *stmt)
{
	GuardRelation *view = guard_relation(guard, stmt->relation);

	if (!stmt->skipData && view->large)
		guard_report(guard, "data-refresh", -1, view->name, NULL,
					 "REFRESH MATERIALIZED VIEW fills %s again", named(view));
}

/* ---- sequences ---- */

void
guard_data_call(Guard *guard, FuncCall *call)
{
	const char *name = strVal(llast(call->funcname));
	Node	   *sequence;
	char	   *shown = NULL;

	if (strcmp(name, "setval") != 0 || call->args == NIL ||
		(list_length(call->funcname) > 1 &&
		 strcmp(strVal(linitial(call->funcname)), "pg_catalog") != 0))
		return;
	sequence = linitial(call->args);
	while (IsA(sequence, TypeCast))
		sequence = ((TypeCast *) sequence)->arg;
	if (IsA(sequence, A_Const) && !((A_Const *) sequence)->isnull &&
		IsA(&((A_Const *) sequence)->val, String))
		shown = strVal(&((A_Const *) sequence)->val);
	guard_report(guard, "data-setval", call->location, shown, NULL,
				 "setval() moves a sequence%s%s", shown ? " " : "", shown ? shown : "");
}

bool
guard_is_false(Node *value)
{
	if (IsA(value, Integer))
		return intVal(value) == 0;
	if (IsA(value, Boolean))
		return !boolVal(value);
	if (IsA(value, String))
		return pg_strcasecmp(strVal(value), "false") == 0 || pg_strcasecmp(strVal(value), "off") == 0;
	return false;
}
