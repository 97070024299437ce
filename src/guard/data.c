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

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

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
	if (relation->relkind == RELKIND_VIEW)
		return psprintf("view %s", relation->name);
	if (strstr(relation->name, RUN_TIME_VALUE))
		return psprintf("%s (a name that only the run knows)", relation->name);
	return psprintf("%s (%s)", relation->name, guard_relation_size(relation));
}

static bool
is_own(const GuardRelation *relation)
{
	return relation->created_here || relation->temporary;
}

/* ---- rows change ---- */

void
guard_data_update(Guard *guard, UpdateStmt *stmt)
{
	GuardRelation *target = guard_relation(guard, stmt->relation);
	int			offset;

	if (is_own(target))
		return;
	offset = keyword_before(guard, "UPDATE", stmt->relation->location);
	guard_report(guard, "data-update", offset, target->name,
				 target->relkind == RELKIND_VIEW ? NULL :
				 guard_backfill_hint(guard, stmt, offset, target->name),
				 "UPDATE changes rows of %s", named(target));
}

void
guard_data_delete(Guard *guard, DeleteStmt *stmt)
{
	GuardRelation *target = guard_relation(guard, stmt->relation);

	if (!is_own(target))
		guard_report(guard, "data-delete",
					 keyword_before(guard, "DELETE", stmt->relation->location),
					 target->name, NULL, "DELETE removes rows of %s", named(target));
}

void
guard_data_merge(Guard *guard, MergeStmt *stmt)
{
	GuardRelation *target = guard_relation(guard, stmt->relation);
	bool		changes = false;
	ListCell   *lc;

	foreach(lc, stmt->mergeWhenClauses)
		changes |= lfirst_node(MergeWhenClause, lc)->commandType != CMD_NOTHING;
	if (changes && !is_own(target))
		guard_report(guard, "data-merge",
					 keyword_before(guard, "MERGE", stmt->relation->location),
					 target->name, NULL, "MERGE changes rows of %s", named(target));
}

void
guard_data_copy(Guard *guard, CopyStmt *stmt)
{
	GuardRelation *target;

	if (!stmt->is_from || stmt->relation == NULL)
		return;
	target = guard_relation(guard, stmt->relation);
	if (!is_own(target))
		guard_report(guard, "data-copy", -1, target->name, NULL,
					 "COPY adds rows to %s", named(target));
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
		guard_report(guard, "data-update", stmt->onConflictClause->location, target->name,
					 "For rows that may be there already use ON CONFLICT DO NOTHING; register a backfill for those that must change.",
					 "ON CONFLICT DO UPDATE changes rows of %s", named(target));
}

/* A foreign key is added: TRUNCATE CASCADE of a new table may empty an old one. */
void
guard_data_referred(Guard *guard, RangeVar *table, Constraint *constraint)
{
	GuardRelation *referred;
	MemoryContext old;

	if (constraint->contype != CONSTR_FOREIGN || constraint->pktable == NULL)
		return;
	referred = guard_relation(guard, constraint->pktable);
	if (!is_own(referred) || is_own(guard_relation(guard, table)))
		return;
	old = MemoryContextSwitchTo(guard->context);
	guard->referred = lappend(guard->referred, makeString(pstrdup(referred->name)));
	MemoryContextSwitchTo(old);
}

void
guard_data_truncate(Guard *guard, TruncateStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		GuardRelation *target = guard_relation(guard, lfirst_node(RangeVar, lc));

		if (is_own(target) && stmt->behavior == DROP_CASCADE &&
			list_member(guard->referred, makeString(target->name)))
			guard_report(guard, "data-truncate", -1, target->name, NULL,
						 "TRUNCATE ... CASCADE of %s removes all rows of the tables that refer to it",
						 target->name);
		else if (!is_own(target))
			guard_report(guard, "data-truncate", -1, target->name, NULL,
						 "TRUNCATE removes all rows of %s", named(target));
	}
}

/* ---- a relation is filled from others ---- */

/* INTO stands in the first SELECT of a UNION, and takes the rows of all. */
void
guard_data_into(Guard *guard, SelectStmt *select)
{
	SelectStmt *first = select;
	RangeVar   *target;
	GuardRelation *large;

	while (first->op != SETOP_NONE)
		first = first->larg;
	if (first->intoClause == NULL)
		return;
	target = first->intoClause->rel;
	large = guard_large_source(guard, (Node *) select);
	if (large)
		guard_report(guard, "data-select-into", -1,
					 quote_qualified_identifier(target->schemaname, target->relname), NULL,
					 "SELECT INTO copies rows of %s", named(large));
}

bool
guard_data_create_as(Guard *guard, CreateTableAsStmt *stmt)
{
	RangeVar   *target = stmt->into->rel;
	Node	   *query = stmt->query;
	GuardRelation *large;

	if (stmt->into->skipData)
		return false;
	if (stmt->if_not_exists && OidIsValid(guard_relation(guard, target)->relid))
		return false;			/* does nothing */
	if (IsA(query, ExecuteStmt))
		query = guard_prepared_query(guard, ((ExecuteStmt *) query)->name);
	large = guard_large_source(guard, query);
	if (large)
		guard_report(guard, "data-create-table-as", -1,
					 quote_qualified_identifier(target->schemaname, target->relname), NULL,
					 "%s copies rows of %s", stmt->objtype == OBJECT_MATVIEW ?
					 "CREATE MATERIALIZED VIEW" : "CREATE TABLE AS", named(large));
	return true;
}

void
guard_data_refresh(Guard *guard, RefreshMatViewStmt *stmt)
{
	GuardRelation *view = guard_relation(guard, stmt->relation);
	GuardRelation *large = NULL;

	if (stmt->skipData)
		return;
	if (OidIsValid(view->relid))
		large = guard_large_in_view(guard, view->relid);
	if (large)
		guard_report(guard, "data-refresh", -1, view->name, NULL,
					 "REFRESH MATERIALIZED VIEW of %s reads %s", view->name, named(large));
	else if (view->large)
		guard_report(guard, "data-refresh", -1, view->name, NULL,
					 "REFRESH MATERIALIZED VIEW fills %s", named(view));
}

/* ---- sequences ---- */

/* did the source make it? */
static bool
is_own_sequence(Guard *guard, const char *text)
{
	char	   *names = pstrdup(text);
	List	   *list;
	char	   *relname;

	if (!SplitIdentifierString(names, '.', &list) || list == NIL || list_length(list) > 2)
		return false;
	relname = llast(list);
	return is_own(guard_relation(guard, makeRangeVar(list_length(list) > 1 ? linitial(list) : NULL,
													 relname, -1)));
}

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
	if (shown && is_own_sequence(guard, shown))
		return;
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
