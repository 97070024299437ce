/*-------------------------------------------------------------------------
 *
 * locks_constraint.c
 *	  Constraints: added, validated, dropped; of tables and of domains.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_publication.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/sqltext.h"
#include "guard/locks.h"
#include "guard/rules.h"

/* ---- texts ---- */

/* "(a, "B")" of a list of String */
static char *
column_list(List *columns, const char *column)
{
	StringInfoData text;
	ListCell   *lc;

	if (columns == NIL)
		return column ? psprintf("(%s)", quote_identifier(column)) : pstrdup("(...)");
	initStringInfo(&text);
	foreach(lc, columns)
		appendStringInfo(&text, "%s%s", text.len ? ", " : "(",
						 quote_identifier(strVal(lfirst(lc))));
	appendStringInfoChar(&text, ')');
	return text.data;
}

static char *
bare_name(GuardRelation *relation, RangeVar *name)
{
	return OidIsValid(relation->relid) ? get_rel_name(relation->relid) : name->relname;
}

/* quoted; the server's choice where the source gives no name */
static const char *
constraint_name(AlterAction *action, Constraint *constraint, const char *column,
				const char *label)
{
	const char *first = constraint->keys ? strVal(linitial(constraint->keys)) :
		constraint->fk_attrs ? strVal(linitial(constraint->fk_attrs)) : column;

	if (constraint->conname)
		return pstrdup(quote_identifier(constraint->conname));
	return pstrdup(quote_identifier(object_name(bare_name(action->relation,
														  action->stmt->relation),
												strcmp(label, "pkey") == 0 ? NULL : first,
												label)));
}

static const char *
deferral(Constraint *constraint)
{
	return constraint->initdeferred ? " DEFERRABLE INITIALLY DEFERRED" :
		constraint->deferrable ? " DEFERRABLE" : "";
}

/* of UNIQUE and PRIMARY KEY, as CREATE INDEX takes them */
static char *
index_options(Constraint *constraint)
{
	return psprintf("%s%s%s",
					constraint->including ? " INCLUDE " : "",
					constraint->including ? column_list(constraint->including, NULL) : "",
					constraint->nulls_not_distinct ? " NULLS NOT DISTINCT" : "");
}

static const char *
action_words(char action)
{
	switch (action)
	{
		case FKCONSTR_ACTION_RESTRICT:
			return "RESTRICT";
		case FKCONSTR_ACTION_CASCADE:
			return "CASCADE";
		case FKCONSTR_ACTION_SETNULL:
			return "SET NULL";
		case FKCONSTR_ACTION_SETDEFAULT:
			return "SET DEFAULT";
		default:
			return NULL;
	}
}

/* what stands behind the name of the referenced table */
static char *
reference_options(Constraint *constraint)
{
	StringInfoData text;

	initStringInfo(&text);
	if (constraint->pk_attrs)
		appendStringInfo(&text, " %s", column_list(constraint->pk_attrs, NULL));
	if (constraint->fk_matchtype == FKCONSTR_MATCH_FULL)
		appendStringInfoString(&text, " MATCH FULL");
	if (action_words(constraint->fk_upd_action))
		appendStringInfo(&text, " ON UPDATE %s", action_words(constraint->fk_upd_action));
	if (action_words(constraint->fk_del_action))
		appendStringInfo(&text, " ON DELETE %s", action_words(constraint->fk_del_action));
	if (constraint->fk_del_set_cols)
		appendStringInfo(&text, " %s", column_list(constraint->fk_del_set_cols, NULL));
	appendStringInfoString(&text, deferral(constraint));
	return text.data;
}

/* ---- FOREIGN KEY ---- */

static void
check_index(Guard *guard, AlterAction *action, List *columns)
{
	GuardRelation *relation = action->relation;
	AttrNumber	attnos[INDEX_MAX_KEYS];
	int			n = 0;
	ListCell   *lc;

	if (!OidIsValid(relation->relid) || list_length(columns) > INDEX_MAX_KEYS)
		return;
	foreach(lc, columns)
	{
		attnos[n] = fact_column(relation->relid, strVal(lfirst(lc)), NULL, NULL, NULL, NULL);
		if (attnos[n++] == InvalidAttrNumber)
			break;				/* a new column has no index either */
	}
	if (n > 0 && attnos[n - 1] != InvalidAttrNumber &&
		fact_has_leading_index(relation->relid, attnos, n))
		return;
	if (lock_source_indexed(guard, relation, columns))
		return;
	(void) lock_report(guard, "fk-without-index", relation, NoLock, action->offset,
					   psprintf("CREATE INDEX CONCURRENTLY ON %s %s;",
								relation->name, column_list(columns, NULL)),
					   "no index of %s leads with %s: each delete of a referenced row reads all of it",
					   lock_described(relation), column_list(columns, NULL));
}

static void
add_foreign_key(Guard *guard, AlterAction *action, Constraint *constraint,
				const char *column)
{
	GuardRelation *relation = action->relation;
	GuardRelation *referenced = guard_relation(guard, constraint->pktable);
	List	   *columns = constraint->fk_attrs ? constraint->fk_attrs :
		column ? list_make1(makeString(pstrdup(column))) : NIL;
	const char *name = constraint_name(action, constraint, column, "fkey");

	lock_taken(guard, referenced, ShareRowExclusiveLock);
	if (!constraint->skip_validation)
		(void) lock_report(guard, "add-fk-valid", relation, action->mode,
							  action->offset,
							  psprintf("ALTER TABLE %s ADD CONSTRAINT %s FOREIGN KEY %s REFERENCES %s%s NOT VALID;\n-- and, in a transaction of its own\nALTER TABLE %s VALIDATE CONSTRAINT %s;",
									   relation->name, name, column_list(columns, column),
									   referenced->name, reference_options(constraint),
									   relation->name, name),
							  "adding foreign key %s reads all of %s, and stops writes to it%s until it is done",
							  name, lock_described(relation),
							  lock_is_ours(referenced) || referenced->relid == relation->relid ? "" :
							  psprintf(" and to %s", lock_described(referenced)));
	if (columns != NIL)
		check_index(guard, action, columns);
}

/* ---- UNIQUE, PRIMARY KEY, EXCLUDE, CHECK ---- */

static void
add_unique(Guard *guard, AlterAction *action, Constraint *constraint, const char *column)
{
	GuardRelation *relation = action->relation;
	const char *name = constraint_name(action, constraint, column, "key");

	if (constraint->indexname)
		return;
	(void) lock_report(guard, "add-unique-constraint", relation, action->mode,
					   action->offset,
					   psprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s %s%s;\nALTER TABLE %s ADD CONSTRAINT %s UNIQUE USING INDEX %s%s;",
								name, relation->name, column_list(constraint->keys, column),
								index_options(constraint), relation->name, name, name,
								deferral(constraint)),
					   "adding unique constraint %s builds an index of %s under ACCESS EXCLUSIVE",
					   name, lock_described(relation));
}

/* columns of an index of the relation, as a list of names; the source may have made it */
static List *
index_columns(Guard *guard, GuardRelation *relation, const char *indexname)
{
	List	   *indexes = fact_indexes(relation->relid);
	List	   *columns = NIL;
	char	   *column;
	ListCell   *lc;

	for (int i = 1; OidIsValid(relation->relid) &&
		 (column = get_attname(relation->relid, i, true)) != NULL; i++)
	{
		if (lock_noted(guard, NOTE_INDEX_KEY, relation,
					   psprintf("%s %s", quote_identifier(indexname), column)))
			columns = lappend(columns, column);
	}
	if (columns != NIL)
		return columns;

	foreach(lc, indexes)
	{
		HeapTuple	tup;
		Form_pg_index form;
		char	   *name = get_rel_name(lfirst_oid(lc));

		if (name == NULL || strcmp(name, indexname) != 0)
			continue;
		tup = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		if (!HeapTupleIsValid(tup))
			continue;
		form = (Form_pg_index) GETSTRUCT(tup);
		for (int i = 0; i < form->indnkeyatts; i++)
		{
			if (form->indkey.values[i] > 0)
				columns = lappend(columns,
								  get_attname(relation->relid, form->indkey.values[i], true));
		}
		ReleaseSysCache(tup);
	}
	return columns;
}

static void
primary_key_using_index(Guard *guard, AlterAction *action, Constraint *constraint)
{
	GuardRelation *relation = action->relation;
	List	   *columns = index_columns(guard, relation, constraint->indexname);
	ListCell   *lc;

	foreach(lc, columns)
	{
		bool		notnull = false;
		AttrNumber	attno;

		if (lfirst(lc) == NULL)
			continue;
		attno = fact_column(relation->relid, lfirst(lc), &notnull, NULL, NULL, NULL);
		if (notnull || lock_noted(guard, NOTE_NOT_NULL, relation, lfirst(lc)) ||
			lock_column_proven(guard, relation, lfirst(lc), attno))
			continue;
		(void) lock_report(guard, "pk-using-index-nullable", relation, action->mode,
						   action->offset, lock_not_null_sql(guard, relation, lfirst(lc)),
						   "column %s may be NULL, so the primary key reads all of %s under ACCESS EXCLUSIVE to make it NOT NULL",
						   quote_identifier(lfirst(lc)), lock_described(relation));
	}
}

static void
add_primary_key(Guard *guard, AlterAction *action, Constraint *constraint,
				const char *column)
{
	GuardRelation *relation = action->relation;
	const char *name = constraint_name(action, constraint, column, "pkey");

	if (constraint->indexname)
	{
		primary_key_using_index(guard, action, constraint);
		return;
	}
	(void) lock_report(guard, "add-primary-key", relation, action->mode, action->offset,
					   psprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s %s%s;\n-- make its columns NOT NULL by a validated CHECK, then\nALTER TABLE %s ADD CONSTRAINT %s PRIMARY KEY USING INDEX %s%s;",
								name, relation->name, column_list(constraint->keys, column),
								index_options(constraint), relation->name, name, name,
								deferral(constraint)),
					   "adding primary key %s builds an index of %s under ACCESS EXCLUSIVE",
					   name, lock_described(relation));
}

static void
add_check(Guard *guard, AlterAction *action, Constraint *constraint, const char *column)
{
	GuardRelation *relation = action->relation;
	const char *name = constraint_name(action, constraint, column, "check");

	if (constraint->skip_validation)
		return;
	(void) lock_report(guard, "add-check-valid", relation, action->mode, action->offset,
					   psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s%s NOT VALID;\n-- and, in a transaction of its own\nALTER TABLE %s VALIDATE CONSTRAINT %s;",
								relation->name, name,
								lock_check_text(guard, constraint->location),
								constraint->is_no_inherit ? " NO INHERIT" : "",
								relation->name, name),
					   "adding check constraint %s reads all of %s under ACCESS EXCLUSIVE",
					   name, lock_described(relation));
}

void
lock_add_constraint(Guard *guard, AlterAction *action, Constraint *constraint,
					const char *column)
{
	AlterAction here = *action;

	if (constraint->location >= 0)
		here.offset = lock_at(guard, constraint->location);
	switch (constraint->contype)
	{
		case CONSTR_FOREIGN:
			add_foreign_key(guard, &here, constraint, column);
			break;
		case CONSTR_CHECK:
			add_check(guard, &here, constraint, column);
			break;
		case CONSTR_UNIQUE:
			add_unique(guard, &here, constraint, column);
			break;
		case CONSTR_PRIMARY:
			add_primary_key(guard, &here, constraint, column);
			break;
		case CONSTR_EXCLUSION:
			(void) lock_report(guard, "add-exclusion", here.relation, here.mode, here.offset,
							   NULL,
							   "adding an exclusion constraint builds an index of %s under ACCESS EXCLUSIVE",
							   lock_described(here.relation));
			break;
		case CONSTR_NOTNULL:
			/* ADD CONSTRAINT ... NOT NULL, of 18 */
			if (column == NULL && constraint->keys && !constraint->skip_validation)
				lock_set_not_null(guard, &here, strVal(linitial(constraint->keys)));
			break;
		default:
			return;
	}
	if (constraint->contype != CONSTR_NOTNULL || column == NULL)
		lock_constraint_added(guard, action->relation, constraint);
}

/* ---- VALIDATE, DROP ---- */

void
lock_validate_constraint(Guard *guard, AlterAction *action)
{
	GuardRelation *relation = action->relation;
	const char *name = action->cmd->name;
	LOCKMODE	held = lock_held(guard, relation);

	/* the statement itself may take more than VALIDATE would */
	held = Max(held, action->mode);
	if (lock_constraint_in_tx(guard, relation, name) || held >= ShareLock)
		(void) lock_report(guard, "validate-in-same-tx", relation,
						   Max(held, ShareRowExclusiveLock), action->offset,
						   psprintf("COMMIT;\nALTER TABLE %s VALIDATE CONSTRAINT %s;",
									relation->name, quote_identifier(name)),
						   "VALIDATE CONSTRAINT %s reads all of %s while this transaction still holds a strong lock on it",
						   quote_identifier(name), lock_described(relation));
	lock_constraint_validated(guard, relation, name);
}

static bool
in_publication(Oid relid)
{
	return OidIsValid(relid) && GetRelationPublications(relid) != NIL;
}

void
lock_drop_constraint(Guard *guard, AlterAction *action)
{
	GuardRelation *relation = action->relation;
	const char *name = action->cmd->name;
	Oid			constraint = OidIsValid(relation->relid) ?
		fact_constraint(relation->relid, name) : InvalidOid;
	HeapTuple	tup = OidIsValid(constraint) ?
		SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint)) : NULL;
	char		type = 0;
	Oid			referenced = InvalidOid;

	if (HeapTupleIsValid(tup))
	{
		type = ((Form_pg_constraint) GETSTRUCT(tup))->contype;
		referenced = ((Form_pg_constraint) GETSTRUCT(tup))->confrelid;
		ReleaseSysCache(tup);
	}
	else if (action->cmd->missing_ok && OidIsValid(relation->relid) &&
			 !lock_source_has_constraint(guard, relation, name))
		return;
	/* the last step of the safe way to NOT NULL */
	if (lock_source_has_constraint(guard, relation, name))
	{
		lock_constraint_dropped(guard, relation, name);
		return;
	}
	lock_constraint_dropped(guard, relation, name);

	if (type == CONSTRAINT_PRIMARY)
		(void) lock_report_any_size(guard, "drop-primary-key", relation, action->mode,
									action->offset, NULL,
									"primary key %s of %s goes%s",
									quote_identifier(name), relation->name,
									in_publication(relation->relid) ?
									": the table is published, and its updates and deletes fail without a replica identity" :
									", and with it ON CONFLICT, replica identity and foreign keys that need it");
	else if (OidIsValid(referenced) && referenced != relation->relid)
	{
		GuardRelation *other = guard_relation_by_oid(guard, referenced);

		lock_taken(guard, other, AccessExclusiveLock);
		(void) lock_report(guard, "drop-constraint", relation, action->mode, action->offset,
						   psprintf("SET lock_timeout = '2s';\n-- and again when it times out\nALTER TABLE %s DROP CONSTRAINT %s;",
									relation->name, quote_identifier(name)),
						   "dropping foreign key %s takes ACCESS EXCLUSIVE on %s and on %s",
						   quote_identifier(name), lock_described(relation),
						   lock_described(other));
	}
	else
		(void) lock_report(guard, "drop-constraint", relation, action->mode, action->offset,
						   psprintf("SET lock_timeout = '2s';\n-- and again when it times out\nALTER TABLE %s DROP CONSTRAINT %s;",
									relation->name, quote_identifier(name)),
						   "constraint %s of %s no longer holds for new rows",
						   quote_identifier(name), relation->name);
	if (action->cmd->behavior == DROP_CASCADE)
		lock_drop_cascade(guard, action->offset, NULL, "DROP CONSTRAINT");
}

/* ---- domains ---- */

/* tables with a column of the type */
static List *
tables_of_type(Oid type)
{
	Relation	catalog = table_open(AttributeRelationId, AccessShareLock);
	List	   *tables = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tup;

	ScanKeyInit(&key, Anum_pg_attribute_atttypid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(type));
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(tup = systable_getnext(scan)))
	{
		Form_pg_attribute att = (Form_pg_attribute) GETSTRUCT(tup);
		char		relkind = get_rel_relkind(att->attrelid);

		if (!att->attisdropped && (relkind == RELKIND_RELATION || relkind == RELKIND_MATVIEW))
			tables = list_append_unique_oid(tables, att->attrelid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return tables;
}

void
lock_alter_domain(Guard *guard, AlterDomainStmt *stmt)
{
	Constraint *constraint = stmt->subtype == 'C' ? castNode(Constraint, stmt->def) : NULL;
	TypeName   *name = makeTypeNameFromNameList(stmt->typeName);
	Oid			type = InvalidOid;
	int32		typmod;
	List	   *tables = NIL;
	ListCell   *lc;

	if (stmt->subtype != 'C' && stmt->subtype != 'V' && stmt->subtype != 'O')
		return;
	if (constraint && (constraint->skip_validation || lock_noted(guard, NOTE_TYPE, NULL, NameListToString(stmt->typeName))))
		return;
	if (lock_type(name, &type, &typmod))
		tables = tables_of_type(type);
	else if (!lock_noted(guard, NOTE_TYPE, NULL, NameListToString(stmt->typeName)))
		(void) guard_report(guard, "alter-domain-constraint", -1, NULL, NULL,
							"this reads every table that uses domain %s, which is not known here, under SHARE",
							NameListToQuotedString(stmt->typeName));
	foreach(lc, tables)
	{
		GuardRelation *relation = guard_relation_by_oid(guard, lfirst_oid(lc));

		(void) lock_report(guard, "alter-domain-constraint", relation, ShareLock, -1,
						   constraint ? psprintf("-- holds for new values, and reads no table\nALTER DOMAIN %s ADD %s%s%s NOT VALID;",
												 NameListToQuotedString(stmt->typeName),
												 constraint->conname ? "CONSTRAINT " : "",
												 constraint->conname ? psprintf("%s ", quote_identifier(constraint->conname)) : "",
												 lock_check_text(guard, constraint->location)) : NULL,
						   "domain %s is used by %s, which is read under SHARE: no writes until it is done",
						   NameListToQuotedString(stmt->typeName), lock_described(relation));
		lock_taken(guard, relation, ShareLock);
	}
}
