/*-------------------------------------------------------------------------
 *
 * enforce_data.c
 *	  Data changes of a session's own statements.
 *
 * What the executor is about to run says it all: the plan names the tables
 * that it changes, however the statement came about.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/catalog.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "base/privilege.h"
#include "base/sqltext.h"
#include "guard/catalog.h"
#include "guard/enforce_internal.h"
#include "guard/rules.h"
#include "guard/settings.h"

/* ---- whose rows ---- */

/*
 * Nobody else has data in it: temporary, made by this transaction, a catalog,
 * or without rows of its own (a view's triggers are judged instead).
 */
static bool
relation_exempt(Oid relid)
{
	Relation	rel;
	bool		exempt;
	bool		partitioned = false;

	if (IsCatalogRelationOid(relid))
		return true;
	rel = RelationIdGetRelation(relid);
	if (!RelationIsValid(rel))
		return false;
	switch (rel->rd_rel->relkind)
	{
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:	/* by REFRESH alone, which is judged itself */
			exempt = true;
			break;
		case RELKIND_PARTITIONED_TABLE:
			partitioned = true;
			/* FALLTHROUGH */
		case RELKIND_RELATION:
			exempt = rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP ||
				rel->rd_createSubid != InvalidSubTransactionId;
			break;
		default:
			exempt = false;
	}
	RelationClose(rel);

	/* a table that was attached has its rows */
	if (exempt && partitioned)
	{
		List	   *children = find_all_inheritors(relid, NoLock, NULL);
		ListCell   *lc;

		foreach(lc, children)
			if (lfirst_oid(lc) != relid && !relation_exempt(lfirst_oid(lc)))
				exempt = false;
		list_free(children);
	}
	return exempt;
}

static bool
change_exempt(ModifyTable *change, PlannedStmt *plan)
{
	ListCell   *lc;

	if (!relation_exempt(rt_fetch(change->nominalRelation, plan->rtable)->relid))
		return false;
	foreach(lc, change->resultRelations)
		if (lfirst_int(lc) != change->nominalRelation &&
			!relation_exempt(rt_fetch(lfirst_int(lc), plan->rtable)->relid))
			return false;
	return true;
}

/* The nth change of a plan: that of the statement itself, or of its CTEs; NULL behind the last. */
static ModifyTable *
plan_change(PlannedStmt *plan, int *n)
{
	while (*n <= list_length(plan->subplans))
	{
		Plan	   *top = *n == 0 ? plan->planTree : list_nth(plan->subplans, *n - 1);

		(*n)++;
		if (top != NULL && IsA(top, ModifyTable))
			return (ModifyTable *) top;
	}
	return NULL;
}

RowsOf
enforce_plan_rows(QueryDesc *query)
{
	RowsOf		rows = ROWS_NONE;
	ModifyTable *change;
	int			n = 0;

	while (rows != ROWS_APPLICATION &&
		   (change = plan_change(query->plannedstmt, &n)) != NULL)
		rows = change_exempt(change, query->plannedstmt) ? ROWS_EXEMPT : ROWS_APPLICATION;
	return rows;
}

/* ---- what to do instead ---- */

/* How to have rows of a table changed by a backfill, with the table's name filled in. */
static char *
backfill_hint(Oid relid, const char *name)
{
	bool		installed = OidIsValid(get_extension_oid("evmig", true));
	char	   *schema = installed ? extension_schema_prefix() : "";
	char	   *backfill = psprintf("%s_backfill", get_rel_name(relid));

	return psprintf("Register it as a backfill, which changes the rows in small committed batches:%s"
					" SELECT %sevmig_backfill_register(%s, %s, set_list => 'column = value', where_clause => 'column IS NULL');"
					" SELECT %sevmig_backfill_start(%s);",
					installed ? "" : " CREATE EXTENSION evmig;",
					schema, quote_literal_cstr(backfill), quote_literal_cstr(name),
					schema, quote_literal_cstr(backfill));
}

/* An event of a data rule, with what the rule says and the table's name filled in. */
static EnforceEvent
data_event(const char *id, Oid relid, const EnforceText *text)
{
	const GuardRule *rule = guard_rule(id);
	EnforceEvent event = {0};

	Assert(rule != NULL);
	event.rule = rule->id;
	event.severity = rule->severity;
	event.relation = quote_relation(relid);
	event.why = rule->danger;
	/* a line of the log has no hint, and may be written for each transaction */
	if (enforce_level() > ENFORCE_LOG)
		event.hint = strcmp(id, "data-update") == 0 || strcmp(id, "data-merge") == 0 ?
			backfill_hint(relid, event.relation) : rule->safe;
	event.text = text;
	return event;
}

/* ---- plans ---- */

/* a sub-select that is run first; a CTE is none */
static bool
has_subselect(Plan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->initPlan)
		if (lfirst_node(SubPlan, lc)->subLinkType != CTE_SUBLINK)
			return true;
	return false;
}

/*
 * VALUES, not a query: seed rows of a look-up table come this way.  The parser
 * gives the query of INSERT ... SELECT this name, also where the planner makes
 * one row of it.
 */
static bool
inserts_values(ModifyTable *change, PlannedStmt *plan)
{
	Plan	   *rows = outerPlan(change);
	ListCell   *lc;

	if (rows == NULL || outerPlan(rows) != NULL || !(IsA(rows, ValuesScan) || IsA(rows, Result)) ||
		has_subselect(rows) || has_subselect(&change->plan))
		return false;
	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_SUBQUERY && strcmp(rte->eref->aliasname, "*SELECT*") == 0)
			return false;
	}
	return true;
}

/* the rule that an INSERT is against, and how it is called */
static const char *
insert_rule(ModifyTable *change, PlannedStmt *plan, const char **verb)
{
	*verb = "INSERT into";
	if (change->onConflictAction == ONCONFLICT_UPDATE)
	{
		*verb = "INSERT ... ON CONFLICT DO UPDATE of";
		return "data-update";
	}
	return inserts_values(change, plan) ? "data-insert-values" : "data-insert-select";
}

static void
judge_change(ModifyTable *change, PlannedStmt *plan, const EnforceText *text)
{
	Oid			relid = rt_fetch(change->nominalRelation, plan->rtable)->relid;
	EnforceEvent event;
	int64		repeated = 0;
	const char *rule;
	const char *verb;

	switch (change->operation)
	{
		case CMD_UPDATE:
			rule = "data-update";
			verb = "UPDATE of";
			break;
		case CMD_DELETE:
			rule = "data-delete";
			verb = "DELETE from";
			break;
		case CMD_MERGE:
			rule = "data-merge";
			verb = "MERGE into";
			break;
		case CMD_INSERT:
			rule = insert_rule(change, plan, &verb);
			break;
		default:
			return;
	}
	if (strcmp(rule, "data-insert-values") == 0 && guard_insert_values == INSERT_VALUES_OFF)
		return;
	if (enforce_level() == ENFORCE_LOG && enforce_event_repeated(rule, relid, text, &repeated))
		return;
	event = data_event(rule, relid, text);
	event.repeated = repeated;
	if (strcmp(rule, "data-insert-values") == 0)
		event.severity = guard_insert_values == INSERT_VALUES_ERROR ? GUARD_ERROR : GUARD_WARNING;
	event.what = psprintf("%s table %s", verb, event.relation);
	enforce_event(&event);
}

void
enforce_plan(QueryDesc *query)
{
	PlannedStmt *plan = query->plannedstmt;
	EnforceText text = {query->sourceText, plan->stmt_location, plan->stmt_len};
	ModifyTable *change;
	int			n = 0;

	while ((change = plan_change(plan, &n)) != NULL)
		if (!change_exempt(change, plan))
			judge_change(change, plan, &text);
}

/* ---- utility statements ---- */

/* the relation that a name means now; InvalidOid where the statement will say so itself */
static Oid
named_relation(RangeVar *name)
{
	return RangeVarGetRelid(name, NoLock, true);
}

/*
 * All that TRUNCATE empties: with what it names the tables that inherit from
 * it, and by CASCADE those that refer to it.  A new table may have old ones.
 */
static List *
truncated_relations(TruncateStmt *stmt)
{
	List	   *relids = NIL;
	List	   *referring;
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		RangeVar   *name = lfirst_node(RangeVar, lc);
		Oid			relid = named_relation(name);

		if (!OidIsValid(relid))
			continue;
		relids = list_append_unique_oid(relids, relid);
		if (name->inh)
			relids = list_concat_unique_oid(relids, find_all_inheritors(relid, NoLock, NULL));
	}
	while (stmt->behavior == DROP_CASCADE &&
		   (referring = heap_truncate_find_FKs(relids)) != NIL)
		relids = list_concat(relids, referring);
	return relids;
}

/* the relations that TRUNCATE or COPY changes; NIL for other statements */
static List *
changed_relations(Node *stmt)
{
	Oid			relid;

	if (IsA(stmt, TruncateStmt))
		return truncated_relations((TruncateStmt *) stmt);
	if (!IsA(stmt, CopyStmt) || !((CopyStmt *) stmt)->is_from)
		return NIL;
	relid = named_relation(((CopyStmt *) stmt)->relation);
	return OidIsValid(relid) ? list_make1_oid(relid) : NIL;
}

RowsOf
enforce_utility_rows(PlannedStmt *pstmt)
{
	RowsOf		rows = ROWS_NONE;
	ListCell   *lc;

	foreach(lc, changed_relations(pstmt->utilityStmt))
		rows = relation_exempt(lfirst_oid(lc)) ? Max(rows, ROWS_EXEMPT) : ROWS_APPLICATION;
	return rows;
}

/* relations that a query reads, those of views too */
static bool
collect_relations(Node *node, void *context)
{
	List	  **relids = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, collect_relations, context,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		Relation	rel;

		if (rte->rtekind != RTE_RELATION || list_member_oid(*relids, rte->relid))
			return false;
		*relids = lappend_oid(*relids, rte->relid);
		if (rte->relkind != RELKIND_VIEW)
			return false;
		check_stack_depth();
		rel = RelationIdGetRelation(rte->relid);
		if (!RelationIsValid(rel))
			return false;
		(void) collect_relations((Node *) get_view_query(rel), context);
		RelationClose(rel);
		return false;
	}
	return expression_tree_walker(node, collect_relations, context);
}

/*
 * Warn where one statement reads a large table into another, self, which may
 * not exist yet, under one snapshot.
 */
static void
judge_copying(Guard *guard, Query *query, Oid self, const char *rule, const char *what,
			  const EnforceText *text)
{
	List	   *relids = NIL;
	ListCell   *lc;

	(void) collect_relations((Node *) query, &relids);
	foreach(lc, relids)
	{
		GuardRelation *source = guard_relation_by_oid(guard, lfirst_oid(lc));
		EnforceEvent event;

		if (!source->large || source->temporary || source->relkind == RELKIND_VIEW ||
			source->relid == self ||
			IsCatalogRelationOid(source->relid))
			continue;
		event = data_event(rule, source->relid, text);
		event.what = psprintf("%s from large table %s (%s)", what, source->name,
							  guard_relation_size(source));
		enforce_event(&event);
	}
}

/* The query that a materialized view stands for. */
static void
judge_refresh(Guard *guard, RefreshMatViewStmt *stmt, const EnforceText *text)
{
	Oid			relid = named_relation(stmt->relation);
	Relation	rel;

	if (stmt->skipData || !OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_MATVIEW)
		return;
	rel = RelationIdGetRelation(relid);
	if (!RelationIsValid(rel))
		return;
	if (rel->rd_rules != NULL && rel->rd_rules->numLocks == 1)
		judge_copying(guard, linitial_node(Query, rel->rd_rules->rules[0]->actions),
					  relid, "data-refresh",
					  psprintf("REFRESH MATERIALIZED VIEW %s", quote_relation(relid)), text);
	RelationClose(rel);
}

void
enforce_utility_data(PlannedStmt *pstmt, const EnforceText *text)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		truncate = IsA(stmt, TruncateStmt);
	List	   *relids = changed_relations(stmt);
	ListCell   *lc;

	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);
		EnforceEvent event;

		/* with a partitioned table, its partitions go without saying */
		if (relation_exempt(relid) ||
			(get_rel_relispartition(relid) &&
			 list_member_oid(relids, get_partition_parent(relid, true))))
			continue;
		event = data_event(truncate ? "data-truncate" : "data-copy", relid, text);
		event.what = psprintf("%s table %s", truncate ? "TRUNCATE of" : "COPY into", event.relation);
		enforce_event(&event);
	}
}

void
enforce_utility_copies(Guard *guard, PlannedStmt *pstmt, const EnforceText *text)
{
	Node	   *stmt = pstmt->utilityStmt;
	CreateTableAsStmt *create;

	if (IsA(stmt, ExplainStmt))
		stmt = castNode(Query, ((ExplainStmt *) stmt)->query)->utilityStmt;
	if (stmt != NULL && IsA(stmt, RefreshMatViewStmt))
		judge_refresh(guard, (RefreshMatViewStmt *) stmt, text);
	if (stmt == NULL || !IsA(stmt, CreateTableAsStmt))
		return;
	create = (CreateTableAsStmt *) stmt;
	if (create->into->skipData || !IsA(create->query, Query) ||
		create->into->rel->relpersistence == RELPERSISTENCE_TEMP)
		return;
	judge_copying(guard, (Query *) create->query, InvalidOid,
				  create->is_select_into ? "data-select-into" : "data-create-table-as",
				  create->is_select_into ? "SELECT INTO" :
				  create->objtype == OBJECT_MATVIEW ? "CREATE MATERIALIZED VIEW" : "CREATE TABLE AS",
				  text);
}
