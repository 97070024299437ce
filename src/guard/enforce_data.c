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
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "base/privilege.h"
#include "base/sqltext.h"
#include "guard/catalog.h"
#include "guard/enforce_internal.h"

#define NO_DATA "A schema migration changes no data: in one statement, rows stay locked until it commits, " \
	"and replicas, vacuum and the application pay for it at once."

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

static char *
change_hint(CmdType operation, Oid relid, const char *name)
{
	switch (operation)
	{
		case CMD_UPDATE:
		case CMD_MERGE:
			return backfill_hint(relid, name);
		case CMD_INSERT:
			return psprintf("Load rows by a job outside of the migration; where rows of %s are to get new values: %s",
							name, backfill_hint(relid, name));
		default:
			return psprintf("Delete rows of %s outside of the migration, in batches, by a role that the guard does not judge.", name);
	}
}

/* ---- plans ---- */

/* evmig.guard_insert_values */
static GuardSeverity
insert_values_severity(void)
{
	const char *setting = GetConfigOption("evmig.guard_insert_values", true, false);

	if (setting == NULL || strcmp(setting, "warning") == 0)
		return GUARD_WARNING;
	return strcmp(setting, "error") == 0 ? GUARD_ERROR : GUARD_INFO;
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

	if (rows == NULL || outerPlan(rows) != NULL || !(IsA(rows, ValuesScan) || IsA(rows, Result)))
		return false;
	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_SUBQUERY && strcmp(rte->eref->aliasname, "*SELECT*") == 0)
			return false;
	}
	return true;
}

static void
judge_change(ModifyTable *change, PlannedStmt *plan, const EnforceText *text)
{
	Oid			relid = rt_fetch(change->nominalRelation, plan->rtable)->relid;
	EnforceEvent event = {0};
	const char *verb;

	event.severity = GUARD_ERROR;
	switch (change->operation)
	{
		case CMD_UPDATE:
			event.rule = "data-update";
			verb = "UPDATE of";
			break;
		case CMD_DELETE:
			event.rule = "data-delete";
			verb = "DELETE from";
			break;
		case CMD_MERGE:
			event.rule = "data-merge";
			verb = "MERGE into";
			break;
		case CMD_INSERT:
			verb = "INSERT into";
			if (!inserts_values(change, plan))
				event.rule = "data-insert-select";
			else
			{
				event.rule = "data-insert-values";
				event.severity = insert_values_severity();
			}
			break;
		default:
			return;
	}
	event.relation = quote_relation(relid);
	event.what = psprintf("%s table %s", verb, event.relation);
	event.why = NO_DATA;
	event.hint = change_hint(change->operation, relid, event.relation);
	event.text = text;
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

RowsOf
enforce_utility_rows(PlannedStmt *pstmt)
{
	Node	   *stmt = pstmt->utilityStmt;
	List	   *names = NIL;
	RowsOf		rows = ROWS_NONE;
	ListCell   *lc;

	if (IsA(stmt, TruncateStmt))
		names = ((TruncateStmt *) stmt)->relations;
	else if (IsA(stmt, CopyStmt) && ((CopyStmt *) stmt)->is_from)
		names = list_make1(((CopyStmt *) stmt)->relation);
	foreach(lc, names)
	{
		Oid			relid = named_relation(lfirst_node(RangeVar, lc));

		if (!OidIsValid(relid))
			continue;
		rows = relation_exempt(relid) ? Max(rows, ROWS_EXEMPT) : ROWS_APPLICATION;
	}
	return rows;
}

static void
judge_names(List *names, const char *rule, const char *what, const EnforceText *text)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		Oid			relid = named_relation(lfirst_node(RangeVar, lc));
		EnforceEvent event = {0};

		if (!OidIsValid(relid) || relation_exempt(relid))
			continue;
		event.rule = rule;
		event.severity = GUARD_ERROR;
		event.relation = quote_relation(relid);
		event.what = psprintf("%s %s", what, event.relation);
		event.why = NO_DATA;
		event.hint = strcmp(rule, "data-copy") == 0 ? change_hint(CMD_INSERT, relid, event.relation) :
			change_hint(CMD_DELETE, relid, event.relation);
		event.text = text;
		enforce_event(&event);
	}
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

/* Warn where one statement reads a large table into another, under one snapshot. */
static void
judge_copying(Guard *guard, Query *query, const char *rule, const char *what,
			  const EnforceText *text)
{
	List	   *relids = NIL;
	ListCell   *lc;

	(void) collect_relations((Node *) query, &relids);
	foreach(lc, relids)
	{
		GuardRelation *source = guard_relation_by_oid(guard, lfirst_oid(lc));
		EnforceEvent event = {0};

		if (!source->large || source->temporary || source->relkind == RELKIND_VIEW ||
			IsCatalogRelationOid(source->relid))
			continue;
		event.rule = rule;
		event.severity = GUARD_WARNING;
		event.relation = source->name;
		event.what = psprintf("%s from large table %s (%s)", what, source->name,
							  guard_relation_size(source));
		event.why = "One statement reads all of it, and its snapshot holds up vacuum and concurrent index builds until it ends.";
		event.hint = "Make the table empty, and fill it by a job outside of the migration.";
		event.text = text;
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
		judge_copying(guard, linitial_node(Query, rel->rd_rules->rules[0]->actions), "data-refresh",
					  psprintf("REFRESH MATERIALIZED VIEW %s", quote_relation(relid)), text);
	RelationClose(rel);
}

void
enforce_utility_data(Guard *guard, PlannedStmt *pstmt, const EnforceText *text)
{
	Node	   *stmt = pstmt->utilityStmt;

	if (IsA(stmt, ExplainStmt))
		stmt = castNode(Query, ((ExplainStmt *) stmt)->query)->utilityStmt;
	if (stmt == NULL)
		return;
	switch (nodeTag(stmt))
	{
		case T_TruncateStmt:
			judge_names(((TruncateStmt *) stmt)->relations, "data-truncate", "TRUNCATE of table", text);
			break;
		case T_CopyStmt:
			if (((CopyStmt *) stmt)->is_from)
				judge_names(list_make1(((CopyStmt *) stmt)->relation), "data-copy", "COPY into table", text);
			break;
		case T_CreateTableAsStmt:
			{
				CreateTableAsStmt *create = (CreateTableAsStmt *) stmt;

				if (create->into->skipData || !IsA(create->query, Query) ||
					create->into->rel->relpersistence == RELPERSISTENCE_TEMP)
					break;
				judge_copying(guard, (Query *) create->query,
							  create->is_select_into ? "data-select-into" : "data-create-table-as",
							  create->is_select_into ? "SELECT INTO" :
							  create->objtype == OBJECT_MATVIEW ? "CREATE MATERIALIZED VIEW" : "CREATE TABLE AS",
							  text);
				break;
			}
		case T_RefreshMatViewStmt:
			judge_refresh(guard, (RefreshMatViewStmt *) stmt, text);
			break;
		default:
			break;
	}
}
