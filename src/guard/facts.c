/*-------------------------------------------------------------------------
 *
 * facts.c
 *	  What the catalogs say about a table's columns, constraints and indexes.
 *
 * Reads catalogs by their indexes and opens no table of the user, so it can
 * wait for nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "guard/locks.h"

/* From 18 on there are NOT NULL constraints that are not valid. */
static bool
has_unproven_not_null(Oid relid, AttrNumber attno)
{
	List	   *constraints = fact_constraints(relid, 'n');
	ListCell   *lc;

	foreach(lc, constraints)
	{
		if (!fact_constraint_valid(lfirst_oid(lc)) &&
			fact_constraint_uses(lfirst_oid(lc), attno))
			return true;
	}
	return false;
}

AttrNumber
fact_column(Oid relid, const char *column, bool *notnull, Oid *type, int32 *typmod,
			Oid *collation)
{
	HeapTuple	tup = OidIsValid(relid) ? SearchSysCacheAttName(relid, column) : NULL;
	Form_pg_attribute att;
	AttrNumber	attno;

	if (!HeapTupleIsValid(tup))
		return InvalidAttrNumber;
	att = (Form_pg_attribute) GETSTRUCT(tup);
	attno = att->attnum;
	if (notnull)
		*notnull = att->attnotnull && !has_unproven_not_null(relid, attno);
	if (type)
	{
		*type = att->atttypid;
		*typmod = att->atttypmod;
		*collation = att->attcollation;
	}
	ReleaseSysCache(tup);
	return attno;
}

/* ---- constraints ---- */

static List *
constraints_by(AttrNumber column, Oid index, Oid relid, char kind)
{
	Relation	catalog = table_open(ConstraintRelationId, AccessShareLock);
	List	   *result = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tup;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, index, OidIsValid(index), NULL, 1, &key);
	while (HeapTupleIsValid(tup = systable_getnext(scan)))
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tup);

		if (kind == 0 || form->contype == kind)
			result = lappend_oid(result, form->oid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return result;
}

List *
fact_constraints(Oid relid, char kind)
{
	if (!OidIsValid(relid))
		return NIL;
	return constraints_by(Anum_pg_constraint_conrelid, ConstraintRelidTypidNameIndexId,
						  relid, kind);
}

/* No index leads with confrelid: reads all of pg_constraint. */
List *
fact_referencing(Oid relid)
{
	if (!OidIsValid(relid))
		return NIL;
	return constraints_by(Anum_pg_constraint_confrelid, InvalidOid, relid,
						  CONSTRAINT_FOREIGN);
}

Oid
fact_constraint(Oid relid, const char *name)
{
	ListCell   *lc;
	List	   *all = fact_constraints(relid, 0);

	foreach(lc, all)
	{
		char	   *there = fact_constraint_name(lfirst_oid(lc));

		if (there && strcmp(there, name) == 0)
			return lfirst_oid(lc);
	}
	return InvalidOid;
}

char *
fact_constraint_name(Oid constraint)
{
	return get_constraint_name(constraint);
}

bool
fact_constraint_uses(Oid constraint, AttrNumber attno)
{
	HeapTuple	tup = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	bool		isnull;
	bool		uses = false;
	Datum		keys;

	if (!HeapTupleIsValid(tup))
		return false;
	keys = SysCacheGetAttr(CONSTROID, tup, Anum_pg_constraint_conkey, &isnull);
	if (!isnull)
	{
		ArrayType  *array = DatumGetArrayTypeP(keys);
		int16	   *attnos = (int16 *) ARR_DATA_PTR(array);

		for (int i = 0; i < ARR_DIMS(array)[0] && !uses; i++)
			uses = attnos[i] == attno;
	}
	ReleaseSysCache(tup);
	return uses;
}

Node *
fact_check_expression(Oid constraint)
{
	HeapTuple	tup = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Node	   *expr = NULL;
	bool		isnull;
	Datum		value;

	if (!HeapTupleIsValid(tup))
		return NULL;
	value = SysCacheGetAttr(CONSTROID, tup, Anum_pg_constraint_conbin, &isnull);
	if (!isnull)
		expr = stringToNode(TextDatumGetCString(value));
	ReleaseSysCache(tup);
	return expr;
}

bool
fact_constraint_valid(Oid constraint)
{
	HeapTuple	tup = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	bool		valid;

	if (!HeapTupleIsValid(tup))
		return false;
	valid = ((Form_pg_constraint) GETSTRUCT(tup))->convalidated;
	ReleaseSysCache(tup);
	return valid;
}

/* The server locks the table while it writes an expression out. */
char *
fact_constraint_definition(Oid constraint)
{
	HeapTuple	tup = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Oid			relid;
	char	   *definition;

	if (!HeapTupleIsValid(tup))
		return pstrdup("...");
	relid = ((Form_pg_constraint) GETSTRUCT(tup))->conrelid;
	ReleaseSysCache(tup);
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return pstrdup("...");
	definition = TextDatumGetCString(DirectFunctionCall1(pg_get_constraintdef,
														 ObjectIdGetDatum(constraint)));
	UnlockRelationOid(relid, AccessShareLock);
	return definition;
}

/* ---- indexes ---- */

List *
fact_indexes(Oid relid)
{
	Relation	catalog;
	List	   *result = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tup;

	if (!OidIsValid(relid))
		return NIL;
	catalog = table_open(IndexRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tup = systable_getnext(scan)))
		result = lappend_oid(result, ((Form_pg_index) GETSTRUCT(tup))->indexrelid);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return result;
}

Oid
fact_access_method(Oid relid)
{
	HeapTuple	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			result;

	if (!HeapTupleIsValid(tup))
		return InvalidOid;
	result = ((Form_pg_class) GETSTRUCT(tup))->relam;
	ReleaseSysCache(tup);
	return result;
}

static bool
leads_with(HeapTuple tup, const AttrNumber *attnos, int n)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(tup);

	if (!index->indisvalid || index->indnkeyatts < n ||
		!heap_attisnull(tup, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < n; i++)
	{
		int			k;

		for (k = 0; k < n && index->indkey.values[k] != attnos[i]; k++)
			;
		if (k == n)
			return false;
	}
	return true;
}

bool
fact_has_leading_index(Oid relid, const AttrNumber *attnos, int n)
{
	List	   *indexes = fact_indexes(relid);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		HeapTuple	tup = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		bool		found;

		if (!HeapTupleIsValid(tup))
			continue;
		found = leads_with(tup, attnos, n);
		ReleaseSysCache(tup);
		if (found)
			return true;
	}
	return false;
}

/* ---- domains ---- */

static List *
constraints_of_domain(Oid domain)
{
	Relation	catalog = table_open(ConstraintRelationId, AccessShareLock);
	List	   *result = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tup;

	ScanKeyInit(&key, Anum_pg_constraint_contypid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(domain));
	scan = systable_beginscan(catalog, ConstraintTypidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tup = systable_getnext(scan)))
		result = lappend_oid(result, ((Form_pg_constraint) GETSTRUCT(tup))->oid);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return result;
}

/* As DomainHasConstraints(), which would plan, and so evaluate, them. */
bool
fact_domain_constrained(Oid type)
{
	for (;;)
	{
		HeapTuple	tup = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
		Form_pg_type form;
		bool		notnull;
		Oid			base;

		if (!HeapTupleIsValid(tup))
			return false;
		form = (Form_pg_type) GETSTRUCT(tup);
		if (form->typtype != TYPTYPE_DOMAIN)
		{
			ReleaseSysCache(tup);
			return false;
		}
		notnull = form->typnotnull;
		base = form->typbasetype;
		ReleaseSysCache(tup);
		if (notnull || constraints_of_domain(type) != NIL)
			return true;
		type = base;
	}
}

/* ---- expressions ---- */

static bool
is_foreign_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

static bool
has_foreign_function(Node *node, void *context)
{
	if (node == NULL)
		return false;
	/* folding one plans, and so evaluates, the domain's constraints */
	if (IsA(node, CoerceToDomain))
		return true;
	if (check_functions_in_node(node, is_foreign_function, context))
		return true;
	return expression_tree_walker(node, has_foreign_function, context);
}

bool
fact_only_builtin(Node *expr)
{
	return !has_foreign_function(expr, NULL);
}
