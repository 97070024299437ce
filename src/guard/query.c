/*-------------------------------------------------------------------------
 *
 * query.c
 *	  What stored queries change and call: views, rules, and bodies in BEGIN
 *	  ATOMIC, which the database keeps as analysed trees.
 *
 * Nothing is deparsed, since that would lock each table in the tree and wait
 * for who holds it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_rewrite.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteDefine.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "guard/catalog.h"
#include "guard/settings.h"

static void walk_view(Guard *guard, Oid view);

/* a frame for what stands in the catalog: all of it at one place of the source */
void
guard_push_stored(Guard *guard, GuardFrame *frame, int location, const char *via)
{
	memset(frame, 0, sizeof(GuardFrame));
	frame->text = "";
	frame->base = -1;
	frame->anchor = guard_source_offset(guard, location);
	frame->via = via;
	guard_push(guard, frame);
}

/* ---- queries ---- */

/* INSERT of VALUES, rather than of what a query finds? */
static bool
inserts_values(const Query *query)
{
	ListCell   *cell;

	foreach(cell, query->rtable)
	{
		if (lfirst_node(RangeTblEntry, cell)->rtekind == RTE_SUBQUERY)
			return false;
	}
	return true;
}

static void
report_change(Guard *guard, const Query *query)
{
	GuardRelation *target =
		guard_relation_by_oid(guard, rt_fetch(query->resultRelation, query->rtable)->relid);

	if (target->temporary || target->created_here || guard_reads_only(guard))
		return;
	switch (query->commandType)
	{
		case CMD_UPDATE:
			guard_report(guard, "data-update", -1, target->name, NULL,
						 "UPDATE changes rows of %s", target->name);
			break;
		case CMD_DELETE:
			guard_report(guard, "data-delete", -1, target->name, NULL,
						 "DELETE removes rows of %s", target->name);
			break;
		case CMD_MERGE:
			guard_report(guard, "data-merge", -1, target->name, NULL,
						 "MERGE changes rows of %s", target->name);
			break;
		case CMD_INSERT:
			if (!inserts_values(query))
				guard_report(guard, "data-insert-select", -1, target->name, NULL,
							 "INSERT adds the rows of a query to %s", target->name);
			else if (guard_insert_values != INSERT_VALUES_OFF)
				guard_report_as(guard, guard_insert_values == INSERT_VALUES_ERROR ?
								GUARD_ERROR : GUARD_WARNING, "data-insert-values", -1,
								target->name, NULL, "INSERT adds rows to %s", target->name);
			if (query->onConflict && query->onConflict->action == ONCONFLICT_UPDATE)
				guard_report(guard, "data-update", -1, target->name, NULL,
							 "ON CONFLICT DO UPDATE changes rows of %s", target->name);
			break;
		default:
			break;
	}
}

/* functions, operators', aggregates' */
static bool
call_function(Oid function, void *context)
{
	guard_call_stored(context, function, -1);
	return false;
}

static bool
walk(Node *node, void *context)
{
	Guard	   *guard = context;

	if (node == NULL)
		return false;
	CHECK_FOR_INTERRUPTS();
	if (guard_too_deep(guard))
		return false;
	if (IsA(node, Query))
	{
		if (((Query *) node)->resultRelation > 0)
			report_change(guard, (Query *) node);
		return query_tree_walker((Query *) node, walk, context, QTW_EXAMINE_RTES_BEFORE);
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *entry = (RangeTblEntry *) node;

		if (entry->rtekind == RTE_RELATION && entry->relkind == RELKIND_VIEW)
			walk_view(guard, entry->relid);
		return false;
	}
	(void) check_functions_in_node(node, call_function, guard);
	return expression_tree_walker(node, walk, context);
}

void
guard_query(Guard *guard, Node *query)
{
	(void) walk(query, guard);
}

/* ---- views and rules ---- */

/* the actions of a relation's rules for an event, which are queries */
static void
walk_rules(Guard *guard, Oid relid, CmdType event)
{
	Relation	catalog = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *actions = NIL;
	List	   *names = NIL;
	ListCell   *action;
	ListCell   *name;

	ScanKeyInit(&key, Anum_pg_rewrite_ev_class, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, RewriteRelRulenameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_rewrite rule = (Form_pg_rewrite) GETSTRUCT(tuple);
		bool		isnull;
		Datum		value;

		if (rule->ev_type - '0' != (int) event || rule->ev_enabled == RULE_DISABLED)
			continue;
		value = heap_getattr(tuple, Anum_pg_rewrite_ev_action, RelationGetDescr(catalog), &isnull);
		if (isnull)
			continue;
		actions = lappend(actions, stringToNode(TextDatumGetCString(value)));
		names = lappend(names, pstrdup(NameStr(rule->rulename)));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	forboth(action, actions, name, names)
	{
		GuardFrame	frame;

		if (event == CMD_SELECT)
		{
			guard_query(guard, lfirst(action));
			continue;
		}
		guard_push_stored(guard, &frame, -1,
						  psprintf("rule %s of %s", quote_identifier(lfirst(name)),
								   quote_identifier(get_rel_name(relid))));
		guard_query(guard, lfirst(action));
		guard_pop(guard);
	}
}

static void
walk_view(Guard *guard, Oid view)
{
	GuardFrame	frame;
	char	   *name = get_rel_name(view);
	const char *what = get_rel_relkind(view) == RELKIND_MATVIEW ? "materialized view" : "view";

	if (name == NULL || guard_followed(guard, RelationRelationId, view))
		return;
	guard_push_stored(guard, &frame, -1, psprintf("%s %s", what, quote_identifier(name)));
	walk_rules(guard, view, CMD_SELECT);
	guard_pop(guard);
}

void
guard_stored_rules(Guard *guard, Oid relid, CmdType event)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		rules;

	if (!HeapTupleIsValid(tuple))
		return;
	rules = ((Form_pg_class) GETSTRUCT(tuple))->relhasrules;
	ReleaseSysCache(tuple);
	if (!rules)
		return;
	if (event == CMD_SELECT)
		walk_view(guard, relid);
	else if (!guard_followed(guard, RewriteRelationId + (Oid) event, relid))
		walk_rules(guard, relid, event);
}
