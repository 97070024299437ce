/*-------------------------------------------------------------------------
 *
 * data_source.c
 *	  What a query reads: is there a large relation among it?
 *
 * Views are followed by their dependencies in the catalog, so nothing is
 * opened or locked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/data.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_rewrite.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"

#include "guard/catalog.h"

typedef struct Readers
{
	Guard	   *guard;
	List	   *ctes;			/* names */
	List	   *views;			/* seen, so that none is followed twice */
	GuardRelation *large;		/* the first large relation that is read */
} Readers;

static bool look_into_view(Readers *readers, Oid view);

/* Note a relation that is read; true where that ends the search. */
static bool
note_relation(Readers *readers, GuardRelation *relation)
{
	if (relation->relkind == RELKIND_VIEW)
		return look_into_view(readers, relation->relid);
	if (!relation->large || relation->created_here || relation->temporary)
		return false;
	readers->large = relation;
	return true;
}

/* ---- views of the catalog ---- */

/* rules of a view: it has one */
static List *
rules_of(Oid view)
{
	Relation	catalog = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rules = NIL;

	ScanKeyInit(&key, Anum_pg_rewrite_ev_class, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(view));
	scan = systable_beginscan(catalog, RewriteRelRulenameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rules = lappend_oid(rules, ((Form_pg_rewrite) GETSTRUCT(tuple))->oid);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return rules;
}

/* relations that a rule names */
static List *
relations_of(Oid rule)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *relations = NIL;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RewriteRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(rule));
	scan = systable_beginscan(catalog, DependDependerIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		if (depend->refclassid == RelationRelationId)
			relations = list_append_unique_oid(relations, depend->refobjid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relations;
}

static bool
look_into_view(Readers *readers, Oid view)
{
	ListCell   *lc;
	ListCell   *lc2;

	if (list_member_oid(readers->views, view) || guard_too_deep(readers->guard))
		return false;
	readers->views = lappend_oid(readers->views, view);
	foreach(lc, rules_of(view))
	{
		foreach(lc2, relations_of(lfirst_oid(lc)))
		{
			if (lfirst_oid(lc2) != view &&
				note_relation(readers, guard_relation_by_oid(readers->guard, lfirst_oid(lc2))))
				return true;
		}
	}
	return false;
}

GuardRelation *
guard_large_in_view(Guard *guard, Oid view)
{
	Readers		readers = {guard};

	(void) look_into_view(&readers, view);
	return readers.large;
}

/* ---- queries of the source ---- */

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

	if (node == NULL || IsA(node, IntoClause) || guard_too_deep(readers->guard))
		return false;
	if (IsA(node, RangeVar))
	{
		RangeVar   *name = (RangeVar *) node;

		if (name->schemaname == NULL && list_member(readers->ctes, makeString(name->relname)))
			return false;
		return note_relation(readers, guard_relation(readers->guard, name));
	}
	return raw_expression_tree_walker(node, find_large, context);
}

GuardRelation *
guard_large_source(Guard *guard, Node *query)
{
	Readers		readers = {guard};

	(void) collect_ctes(query, &readers);
	(void) find_large(query, &readers);
	return readers.large;
}
