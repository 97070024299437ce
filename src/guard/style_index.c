/*-------------------------------------------------------------------------
 *
 * style_index.c
 *	  Rules about indexes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_index.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "guard/style.h"

#define WIDE_COLUMNS 3

/* The new index's columns by number; false where one is an expression, or not there. */
static bool
plain_columns(IndexStmt *stmt, Oid table, AttrNumber *columns, int *n)
{
	ListCell   *lc;

	*n = 0;
	foreach(lc, stmt->indexParams)
	{
		IndexElem  *element = lfirst_node(IndexElem, lc);

		if (element->name == NULL || element->collation != NIL || element->opclass != NIL || *n == INDEX_MAX_KEYS)
			return false;
		columns[*n] = get_attnum(table, element->name);
		if (columns[(*n)++] == InvalidAttrNumber)
			return false;
	}
	return true;
}

/* Does an index of the catalog cover just these columns, for all rows? */
static bool
same_columns(Form_pg_index index, HeapTuple tup, const AttrNumber *columns, int n)
{
	if (!index->indisvalid || index->indnkeyatts != n || index->indnatts != n ||
		!heap_attisnull(tup, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < n; i++)
		if (index->indkey.values[i] != columns[i])
			return false;
	return true;
}

static void
check_existing(Guard *guard, IndexStmt *stmt, GuardRelation *relation)
{
	AttrNumber	columns[INDEX_MAX_KEYS];
	int			n;
	Relation	catalog;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tup;

	if (!OidIsValid(relation->relid) || relation->created_here || stmt->whereClause ||
		stmt->indexIncludingParams || strcmp(stmt->accessMethod, "btree") != 0 ||
		!plain_columns(stmt, relation->relid, columns, &n))
		return;
	catalog = table_open(IndexRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation->relid));
	scan = systable_beginscan(catalog, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tup = systable_getnext(scan)))
	{
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tup);
		char	   *name = get_rel_name(index->indexrelid);

		if (name == NULL || !same_columns(index, tup, columns, n) ||
			(stmt->idxname && strcmp(stmt->idxname, name) == 0))
			continue;
		if (stmt->unique && !index->indisunique)
			guard_report(guard, "index-made-unique", -1, relation->name, NULL,
						 "table %s has index %s on these columns, which allows duplicates",
						 relation->name, quote_identifier(name));
		else
			guard_report(guard, "duplicate-index", -1, relation->name, NULL,
						 "table %s has index %s on these columns already", relation->name,
						 quote_identifier(name));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

void
style_create_index(Guard *guard, IndexStmt *stmt)
{
	GuardRelation *relation = guard_relation(guard, stmt->relation);

	if (guard_style_on && !stmt->unique && list_length(stmt->indexParams) > WIDE_COLUMNS)
		guard_report(guard, "wide-index", -1, relation->name, NULL,
					 "an index of %d columns on table %s", list_length(stmt->indexParams), relation->name);
	if (guard_style_on && stmt->concurrent && !stmt->if_not_exists)
		guard_report(guard, "robust-statements", -1, relation->name, NULL,
					 "CREATE INDEX CONCURRENTLY without IF NOT EXISTS cannot be run again");
	if (stmt->concurrent && guard->target_version / 10000 == 14)
		guard_report(guard, "concurrent-index-corruption", -1, relation->name, NULL,
					 "a concurrent build on 14.0 to 14.3 may leave rows out of the index");
	check_existing(guard, stmt, relation);
}
