/*-------------------------------------------------------------------------
 *
 * locks_drop.c
 *	  Tables as a whole: dropped, renamed, emptied, rewritten, refreshed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "guard/locks.h"
#include "guard/rules.h"

#define DEPENDENTS_SHOWN 500	/* bytes */

/* ---- DROP ---- */

/*
 * "view v, constraint c on table t": what depends on a relation; NULL where
 * nothing does but its own parts, such as a CHECK that uses its columns.
 */
static char *
dependents(Oid relid)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	ObjectAddresses *parts = new_object_addresses();
	List	   *others = NIL;
	StringInfoData names;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tup;
	ListCell   *lc;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tup = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tup);
		ObjectAddress *object = palloc(sizeof(ObjectAddress));

		ObjectAddressSubSet(*object, depend->classid, depend->objid, depend->objsubid);
		if (depend->deptype == DEPENDENCY_NORMAL)
			others = lappend(others, object);
		else
			add_exact_object_address(object, parts);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	initStringInfo(&names);
	foreach(lc, others)
	{
		char	   *name;

		/* a rule comes once for each column that it uses */
		if (object_address_present(lfirst(lc), parts))
			continue;
		add_exact_object_address(lfirst(lc), parts);
		name = getObjectDescription(lfirst(lc), true);
		if (name && names.len < DEPENDENTS_SHOWN)
			appendStringInfo(&names, "%s%s", names.len ? ", " : "", name);
	}
	return names.len > 0 ? names.data : NULL;
}

/* relation NULL: what depends on it is not looked up */
void
lock_drop_cascade(Guard *guard, int offset, GuardRelation *relation, const char *what)
{
	char	   *names = relation && OidIsValid(relation->relid) ? dependents(relation->relid) : NULL;

	if (names)
		(void) guard_report(guard, "drop-cascade", offset, relation->name, NULL,
							"%s ... CASCADE also drops %s", what, names);
	else if (relation == NULL || !OidIsValid(relation->relid))
		(void) guard_report(guard, "drop-cascade", offset, relation ? relation->name : NULL,
							NULL, "%s ... CASCADE drops, and locks, what it does not name",
							what);
}

/* its foreign keys, and where they go too, those that refer to it */
static List *
foreign_keys(Oid relid, bool referring)
{
	return list_concat_copy(fact_constraints(relid, CONSTRAINT_FOREIGN),
							referring ? fact_referencing(relid) : NIL);
}

/* the tables at the other end of its foreign keys; those that refer to it need CASCADE */
static List *
foreign_key_partners(Guard *guard, Oid relid, bool cascade)
{
	List	   *partners = NIL;
	ListCell   *lc;

	foreach(lc, foreign_keys(relid, cascade))
	{
		HeapTuple	tup = SearchSysCache1(CONSTROID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_constraint form;

		if (!HeapTupleIsValid(tup))
			continue;
		form = (Form_pg_constraint) GETSTRUCT(tup);
		if (form->confrelid != relid)
			partners = list_append_unique_oid(partners, form->confrelid);
		else if (form->conrelid != relid)
			partners = list_append_unique_oid(partners, form->conrelid);
		ReleaseSysCache(tup);
	}
	return partners;
}

/* one lock at a time */
static char *
drop_table_hint(Guard *guard, DropStmt *stmt, GuardRelation *relation)
{
	StringInfoData hint;
	ListCell   *lc;

	if (stmt->removeType != OBJECT_TABLE)
		return NULL;
	initStringInfo(&hint);
	appendStringInfoString(&hint, "-- once nothing uses it; each statement in a transaction of its own, and again when it times out\nSET lock_timeout = '2s';\n");
	foreach(lc, foreign_keys(relation->relid, true))
	{
		HeapTuple	tup = SearchSysCache1(CONSTROID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_constraint form;

		if (!HeapTupleIsValid(tup))
			continue;
		form = (Form_pg_constraint) GETSTRUCT(tup);
		if (form->conrelid != form->confrelid)
			appendStringInfo(&hint, "ALTER TABLE %s DROP CONSTRAINT %s;\n",
							 guard_relation_by_oid(guard, form->conrelid)->name,
							 quote_identifier(NameStr(form->conname)));
		ReleaseSysCache(tup);
	}
	appendStringInfo(&hint, "DROP TABLE %s;", relation->name);
	return hint.data;
}

static void
drop_table(Guard *guard, DropStmt *stmt, RangeVar *name)
{
	GuardRelation *relation = guard_relation(guard, name);
	List	   *partners;
	StringInfoData also;
	ListCell   *lc;

	if (lock_is_ours(relation) ||
		(stmt->missing_ok && relation->relkind == 0 && guard->live))
		return;
	partners = foreign_key_partners(guard, relation->relid,
									stmt->behavior == DROP_CASCADE);
	initStringInfo(&also);
	foreach(lc, partners)
	{
		GuardRelation *partner = guard_relation_by_oid(guard, lfirst_oid(lc));

		appendStringInfo(&also, "%s%s", also.len ? ", " : "", lock_described(partner));
		lock_taken(guard, partner, AccessExclusiveLock);
	}
	(void) lock_report_any_size(guard, "drop-table", relation, AccessExclusiveLock, -1,
								drop_table_hint(guard, stmt, relation),
								also.len ?
								"%s goes with its data; the lock is also taken on %s, by foreign keys" :
								"%s goes with its data%s",
								lock_described(relation), also.data);
	lock_taken(guard, relation, AccessExclusiveLock);
}

static bool
is_relation(ObjectType type)
{
	return type == OBJECT_TABLE || type == OBJECT_VIEW || type == OBJECT_MATVIEW ||
		type == OBJECT_FOREIGN_TABLE || type == OBJECT_SEQUENCE;
}

/* does it drop nothing but what this source made? */
static bool
drops_own(Guard *guard, DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		if (stmt->removeType == OBJECT_SCHEMA)
		{
			if (!lock_noted(guard, NOTE_SCHEMA, NULL, strVal(lfirst(lc))))
				return false;
		}
		else if (stmt->removeType != OBJECT_TABLE || list_length(lfirst(lc)) > 3 ||
				 !lock_is_ours(guard_relation(guard, makeRangeVarFromNameList(lfirst(lc)))))
			return false;
	}
	return true;
}

void
lock_drop(Guard *guard, DropStmt *stmt)
{
	ListCell   *lc;

	if (stmt->removeType == OBJECT_INDEX)
		lock_drop_indexes(guard, stmt);
	foreach(lc, stmt->objects)
	{
		switch (stmt->removeType)
		{
			case OBJECT_TABLE:
			case OBJECT_MATVIEW:
				if (list_length(lfirst(lc)) <= 3)
					drop_table(guard, stmt, makeRangeVarFromNameList(lfirst(lc)));
				break;
			case OBJECT_SCHEMA:
				if (!lock_noted(guard, NOTE_SCHEMA, NULL, strVal(lfirst(lc))))
					(void) guard_report(guard, "drop-schema", -1, NULL, NULL,
										"schema %s goes with all that is in it",
										quote_identifier(strVal(lfirst(lc))));
				break;
			default:
				break;
		}
	}
	if (stmt->behavior != DROP_CASCADE || drops_own(guard, stmt))
		return;
	foreach(lc, stmt->objects)
	{
		if (is_relation(stmt->removeType) && list_length(lfirst(lc)) <= 3)
			lock_drop_cascade(guard, -1,
							  guard_relation(guard, makeRangeVarFromNameList(lfirst(lc))),
							  "DROP");
		else
			lock_drop_cascade(guard, -1, NULL, "DROP");
	}
}

/* ---- RENAME, SET SCHEMA ---- */

static void
rename_relation(Guard *guard, RangeVar *name, const char *newname, const char *new,
				bool missing_ok)
{
	GuardRelation *relation = guard_relation(guard, name);

	if (missing_ok && relation->relkind == 0 && guard->live)
		return;
	(void) lock_report_any_size(guard, "rename-table", relation, AccessExclusiveLock, -1,
								psprintf("-- in the same transaction\nCREATE VIEW %s AS SELECT * FROM %s;",
										 relation->name, new),
								"every client that uses the name %s fails once it is %s",
								relation->name, newname);
	lock_taken(guard, relation, AccessExclusiveLock);
}

/* the new name, in the schema of the old one */
static char *
in_same_schema(RangeVar *name, GuardRelation *relation, const char *newname)
{
	char	   *schema = name->schemaname;

	if (OidIsValid(relation->relid))
		schema = get_namespace_name(get_rel_namespace(relation->relid));
	return quote_qualified_identifier(schema, newname);
}

void
lock_rename(Guard *guard, RenameStmt *stmt)
{
	GuardRelation *relation;

	if (stmt->relation == NULL)
		return;
	relation = guard_relation(guard, stmt->relation);
	switch (stmt->renameType)
	{
		case OBJECT_TABLE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_FOREIGN_TABLE:
			rename_relation(guard, stmt->relation, quote_identifier(stmt->newname),
							in_same_schema(stmt->relation, relation, stmt->newname),
							stmt->missing_ok);
			break;
		case OBJECT_COLUMN:
			(void) lock_report_any_size(guard, "rename-column", relation, AccessExclusiveLock,
										-1, NULL,
										"every client that uses column %s of %s fails once it is %s",
										quote_identifier(stmt->subname), relation->name,
										pstrdup(quote_identifier(stmt->newname)));
			lock_taken(guard, relation, AccessExclusiveLock);
			break;
		default:
			break;
	}
}

void
lock_set_schema(Guard *guard, AlterObjectSchemaStmt *stmt)
{
	if (stmt->relation == NULL ||
		(stmt->objectType != OBJECT_TABLE && stmt->objectType != OBJECT_VIEW &&
		 stmt->objectType != OBJECT_MATVIEW))
		return;
	rename_relation(guard, stmt->relation,
					psprintf("in schema %s", quote_identifier(stmt->newschema)),
					quote_qualified_identifier(stmt->newschema, stmt->relation->relname),
					stmt->missing_ok);
}

/* ---- TRUNCATE, UPDATE and DELETE of all rows ---- */

void
lock_truncate(Guard *guard, TruncateStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		GuardRelation *relation = guard_relation(guard, lfirst_node(RangeVar, lc));
		List	   *referencing = NIL;

		if (stmt->behavior == DROP_CASCADE)
			referencing = fact_referencing(relation->relid);
		(void) lock_report_any_size(guard, "truncate", relation, AccessExclusiveLock, -1, NULL,
									"all rows of %s go, under ACCESS EXCLUSIVE",
									lock_described(relation));
		if (stmt->behavior == DROP_CASCADE)
			(void) lock_report_any_size(guard, "truncate-cascade", relation,
										AccessExclusiveLock, -1, NULL,
										referencing ? "the tables that refer to %s are emptied too (foreign keys: %d)" :
										"tables that refer to %s are emptied too, and those that refer to them",
										relation->name, list_length(referencing));
		lock_taken(guard, relation, AccessExclusiveLock);
	}
}

/* no WHERE, or one that is true for every row */
static bool
selects_all(Node *where)
{
	A_Expr	   *expr = (A_Expr *) where;

	if (where == NULL)
		return true;
	if (IsA(where, TypeCast))
		where = ((TypeCast *) where)->arg;
	if (IsA(where, A_Const))
		return !((A_Const *) where)->isnull && IsA(&((A_Const *) where)->val, Boolean) &&
			boolVal(&((A_Const *) where)->val);
	return IsA(where, A_Expr) && expr->kind == AEXPR_OP && expr->lexpr && expr->rexpr &&
		strcmp(strVal(llast(expr->name)), "=") == 0 &&
		IsA(expr->lexpr, A_Const) && equal(expr->lexpr, expr->rexpr);
}

static void
change_all(Guard *guard, const char *rule, RangeVar *name, Node *where, const char *verb,
		   bool in_cte)
{
	if (selects_all(where))
	{
		GuardRelation *relation = guard_relation(guard, name);

		(void) lock_report(guard, rule, relation, RowExclusiveLock,
						   in_cte ? lock_at(guard, name->location) : -1, NULL,
						   "%s every row of %s in one transaction, and locks them until it ends",
						   verb, lock_described(relation));
	}
}

static WithClause *
with_clause(Node *tree)
{
	switch (nodeTag(tree))
	{
		case T_SelectStmt:
			return ((SelectStmt *) tree)->withClause;
		case T_InsertStmt:
			return ((InsertStmt *) tree)->withClause;
		case T_UpdateStmt:
			return ((UpdateStmt *) tree)->withClause;
		case T_DeleteStmt:
			return ((DeleteStmt *) tree)->withClause;
		default:
			return NULL;
	}
}

static void
check_data(Guard *guard, Node *tree, bool in_cte)
{
	WithClause *with = with_clause(tree);
	ListCell   *lc;

	if (IsA(tree, UpdateStmt) && ((UpdateStmt *) tree)->fromClause == NIL)
		change_all(guard, "update-without-where", ((UpdateStmt *) tree)->relation,
				   ((UpdateStmt *) tree)->whereClause, "UPDATE writes", in_cte);
	else if (IsA(tree, DeleteStmt) && ((DeleteStmt *) tree)->usingClause == NIL)
		change_all(guard, "delete-without-where", ((DeleteStmt *) tree)->relation,
				   ((DeleteStmt *) tree)->whereClause, "DELETE removes", in_cte);
	if (with == NULL || guard_too_deep(guard))
		return;
	foreach(lc, with->ctes)
		check_data(guard, lfirst_node(CommonTableExpr, lc)->ctequery, true);
}

void
lock_data(Guard *guard, Node *tree)
{
	check_data(guard, tree, false);
}

/* ---- rewrites ---- */

void
lock_cluster(Guard *guard, ClusterStmt *stmt)
{
	GuardRelation *relation;

	if (stmt->relation == NULL)
	{
		(void) guard_report(guard, "cluster-vacuum-full", -1, NULL, NULL,
							"CLUSTER rewrites every table that was clustered before, each under ACCESS EXCLUSIVE");
		return;
	}
	relation = guard_relation(guard, stmt->relation);
	(void) lock_report(guard, "cluster-vacuum-full", relation, AccessExclusiveLock, -1, NULL,
					   "CLUSTER rewrites %s and its indexes under ACCESS EXCLUSIVE",
					   lock_described(relation));
	lock_taken(guard, relation, AccessExclusiveLock);
}

void
lock_vacuum(Guard *guard, VacuumStmt *stmt)
{
	bool		full = false;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, "full") == 0)
			full = defGetBoolean(lfirst_node(DefElem, lc));
	}
	if (!full)
		return;
	if (stmt->rels == NIL)
		(void) guard_report(guard, "cluster-vacuum-full", -1, NULL, NULL,
							"VACUUM FULL rewrites every table of the database, each under ACCESS EXCLUSIVE");
	foreach(lc, stmt->rels)
	{
		GuardRelation *relation;

		if (lfirst_node(VacuumRelation, lc)->relation == NULL)
			continue;
		relation = guard_relation(guard, lfirst_node(VacuumRelation, lc)->relation);
		(void) lock_report(guard, "cluster-vacuum-full", relation, AccessExclusiveLock, -1, NULL,
						   "VACUUM FULL rewrites %s and its indexes under ACCESS EXCLUSIVE",
						   lock_described(relation));
		lock_taken(guard, relation, AccessExclusiveLock);
	}
}

void
lock_refresh(Guard *guard, RefreshMatViewStmt *stmt)
{
	GuardRelation *relation = guard_relation(guard, stmt->relation);

	if (stmt->concurrent)
		return;
	if (!stmt->skipData)
		(void) lock_report(guard, "refresh-matview", relation, AccessExclusiveLock, -1,
						   psprintf("-- needs a unique index on columns of the view\nREFRESH MATERIALIZED VIEW CONCURRENTLY %s;",
									relation->name),
						   "nobody reads %s until its query has run", lock_described(relation));
	lock_taken(guard, relation, AccessExclusiveLock);
}

/* ---- the rest ---- */

void
lock_trigger(Guard *guard, CreateTrigStmt *stmt)
{
	GuardRelation *relation = guard_relation(guard, stmt->relation);

	if (relation->relkind == RELKIND_VIEW)
		return;
	(void) lock_report(guard, "create-trigger", relation, ShareRowExclusiveLock, -1,
					   "-- before this statement, in a quiet hour; and try again when it times out\nSET lock_timeout = '2s';",
					   "CREATE TRIGGER waits for every writer of %s, and new writers wait behind it",
					   lock_described(relation));
	lock_taken(guard, relation, ShareRowExclusiveLock);
}

void
lock_lock_table(Guard *guard, LockStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		/* what does not wait needs no timeout */
		if (!stmt->nowait)
			lock_taken(guard, guard_relation(guard, lfirst_node(RangeVar, lc)), stmt->mode);
	}
}

/* A new table may lock what it refers to, or is a partition or child of. */
void
lock_create_table(Guard *guard, CreateStmt *stmt)
{
	ListCell   *lc;

	if (stmt->if_not_exists && OidIsValid(guard_relation(guard, stmt->relation)->relid))
		return;
	if (stmt->partbound)
		lock_new_partition(guard, stmt);
	foreach(lc, stmt->inhRelations)
		lock_taken(guard, guard_relation(guard, lfirst_node(RangeVar, lc)),
				   stmt->partbound ? AccessExclusiveLock : ShareUpdateExclusiveLock);
	foreach(lc, stmt->constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, lc);

		if (constraint->contype == CONSTR_FOREIGN)
			lock_taken(guard, guard_relation(guard, constraint->pktable), ShareRowExclusiveLock);
	}
	foreach(lc, stmt->tableElts)
	{
		ListCell   *lc2;

		if (IsA(lfirst(lc), Constraint) && lfirst_node(Constraint, lc)->contype == CONSTR_FOREIGN)
			lock_taken(guard, guard_relation(guard, lfirst_node(Constraint, lc)->pktable),
					   ShareRowExclusiveLock);
		if (!IsA(lfirst(lc), ColumnDef))
			continue;
		foreach(lc2, lfirst_node(ColumnDef, lc)->constraints)
		{
			if (lfirst_node(Constraint, lc2)->contype == CONSTR_FOREIGN)
				lock_taken(guard, guard_relation(guard, lfirst_node(Constraint, lc2)->pktable),
						   ShareRowExclusiveLock);
		}
	}
}
