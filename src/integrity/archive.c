/*-------------------------------------------------------------------------
 *
 * archive.c
 *	  The archive of removed duplicates.
 *
 * <table>_dupes_archived is an ordinary table with the target's columns as
 * plain values; each job's rows lie in a child that inherits from it.  What
 * was made, for which target and job, is kept in evmig.archive: a table of
 * that name which is not in there is somebody else's, and stays untouched.
 *
 * Creation is serialised by the target's creation lock (JOB_LOCK_TARGET).
 * All of it is done as the table's owner, with a pinned search_path.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/comment.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "integrity/archive.h"

#define ARCHIVE_LABEL "dupes_archived"

/* ---- names and columns ---- */

static char *
parent_name(Target *target)
{
	return object_name(target->name, NULL, ARCHIVE_LABEL);
}

static char *
child_name(Target *target, int64 job_id)
{
	if (job_id == ARCHIVE_INGEST)
		return object_name(target->name, NULL, ARCHIVE_LABEL "_ingest");
	return object_name(target->name, NULL,
					   psprintf(ARCHIVE_LABEL "_" INT64_FORMAT, job_id));
}

/* The live columns; insertable: without the generated ones. */
static char *
column_list(Oid relid, const char *prefix, bool insertable)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || (insertable && att->attgenerated))
			continue;
		appendStringInfo(&buf, "%s%s%s", buf.len ? ", " : "", prefix,
						 quote_identifier(NameStr(att->attname)));
	}
	relation_close(rel, NoLock);
	return buf.data;
}

char *
archive_columns(Target *target, const char *prefix)
{
	return column_list(target->relid, prefix, false);
}

/*
 * Columns to put back: those of the target that can be given a value and that
 * the archive has.
 */
char *
archive_restore_columns(Target *target, Oid archive, const char *prefix)
{
	Relation	rel = relation_open(target->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->attgenerated ||
			get_attnum(archive, NameStr(att->attname)) == InvalidAttrNumber)
			continue;
		appendStringInfo(&buf, "%s%s%s", buf.len ? ", " : "", prefix,
						 quote_identifier(NameStr(att->attname)));
	}
	relation_close(rel, NoLock);
	return buf.data;
}

/* "name type COLLATE collation" */
static char *
column_definition(Form_pg_attribute att)
{
	char	   *definition = psprintf("%s %s", quote_identifier(NameStr(att->attname)),
									  quote_type(att->atttypid, att->atttypmod));

	if (OidIsValid(att->attcollation) &&
		att->attcollation != get_typcollation(att->atttypid))
		definition = psprintf("%s COLLATE %s", definition, quote_collation(att->attcollation));
	return definition;
}

/* ---- what is there already ---- */

static void
name_is_taken(const char *name, const char *schema)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_TABLE),
			 errmsg("relation \"%s\" already exists in schema \"%s\" and is not an archive of this table",
					name, schema),
			 errdetail("The archive of removed duplicates would have this name."),
			 errhint("Rename the relation.")));
}

/* Is this relation the target's archive, or with parent = false a child of it? */
static bool
is_registered(Target *target, Oid relid, int64 job_id, bool parent)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_oid(&args, relid);
	if (parent)
		return spi_catalog("SELECT 1 FROM evmig.archive WHERE target = $1 AND parent = $2", &args) > 0;
	arg_int8(&args, job_id);
	return spi_catalog("SELECT 1 FROM evmig.archive WHERE target = $1 AND relation = $2"
					   " AND job_id = $3 AND purged_at IS NULL", &args) > 0;
}

/*
 * The relation of this name in the target's schema, InvalidOid for none;
 * raises duplicate_table for one that is not ours.
 */
static Oid
find_ours(Target *target, const char *name, int64 job_id, bool parent)
{
	Oid			relid = get_relname_relid(name, get_namespace_oid(target->schema, false));

	if (OidIsValid(relid) &&
		(get_rel_relkind(relid) != RELKIND_RELATION ||
		 !is_registered(target, relid, job_id, parent)))
		name_is_taken(name, target->schema);
	return relid;
}

void
archive_check(Target *target)
{
	(void) find_ours(target, parent_name(target), ARCHIVE_INGEST, true);
	if (compat_namespace_aclcheck(get_namespace_oid(target->schema, false),
								  target->owner, ACL_CREATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schema %s", target->schema),
				 errdetail("The archive of removed duplicates is created there, and belongs to the table's owner \"%s\".",
						   GetUserNameFromId(target->owner, false)),
				 errhint("GRANT CREATE ON SCHEMA %s TO %s.", quote_identifier(target->schema),
						 quote_identifier(GetUserNameFromId(target->owner, false)))));
}

/* ---- making ---- */

/* Run each statement of the last result's first column. */
static void
run_results(void)
{
	int			n = (int) spi_nrows();
	char	  **sql = palloc(sizeof(char *) * Max(n, 1));
	SqlArgs		none = {0};

	for (int i = 0; i < n; i++)
		sql[i] = spi_text(i, 0);
	for (int i = 0; i < n; i++)
		spi_run(sql[i], &none);
}

/* Take away what default privileges gave. */
static void
revoke_all(Oid relid)
{
	SqlArgs		args = {0};

	arg_oid(&args, relid);
	arg_text(&args, quote_relation(relid));
	spi_catalog("SELECT DISTINCT pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', $2,"
				" CASE a.grantee WHEN 0 THEN 'PUBLIC'"
				" ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)"
				" FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a"
				" WHERE c.oid = $1 AND a.grantee <> c.relowner", &args);
	run_results();
}

/*
 * The target's grants on table and columns.  Its policies are not copied:
 * where it has any, only the owner may read the archive.
 */
static void
copy_privileges(Target *target, Oid relid)
{
	SqlArgs		args = {0};
	SqlArgs		none = {0};
	Relation	rel = relation_open(target->relid, AccessShareLock);
	bool		secured = rel->rd_rel->relrowsecurity;

	relation_close(rel, NoLock);
	revoke_all(relid);
	arg_oid(&args, target->relid);
	arg_text(&args, quote_relation(relid));
	spi_catalog("SELECT pg_catalog.format('GRANT %s%s ON TABLE %s TO %s%s', a.privilege_type,"
				" coalesce(' (' || pg_catalog.quote_ident(a.attname) || ')', ''), $2,"
				" CASE a.grantee WHEN 0 THEN 'PUBLIC'"
				" ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,"
				" CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
				" FROM (SELECT NULL::name AS attname, c.relowner, x.* FROM pg_catalog.pg_class c,"
				"  pg_catalog.aclexplode(c.relacl) x WHERE c.oid = $1"
				" UNION ALL SELECT t.attname, c.relowner, x.* FROM pg_catalog.pg_class c"
				"  JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid,"
				"  pg_catalog.aclexplode(t.attacl) x WHERE c.oid = $1 AND NOT t.attisdropped) a"
				" WHERE a.grantee <> a.relowner ORDER BY 1", &args);
	run_results();
	if (secured)
		spi_run(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", quote_relation(relid)),
				&none);
}

static Oid
create_parent(Target *target, const char *name)
{
	Relation	rel = relation_open(target->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData sql;
	SqlArgs		none = {0};
	const char *separator = "";
	Oid			parent;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (",
					 quote_qualified_identifier(target->schema, name));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		appendStringInfo(&sql, "%s%s", separator, column_definition(att));
		separator = ", ";
	}
	appendStringInfoChar(&sql, ')');
	relation_close(rel, NoLock);

	spi_run(sql.data, &none);
	parent = get_relname_relid(name, get_namespace_oid(target->schema, false));
	copy_privileges(target, parent);
	return parent;
}

/* Lock archive and children as ALTER TABLE will, without stalling their readers. */
static void
lock_family(Oid parent)
{
	SqlArgs		args = {0};
	Oid		   *children;
	int			n;

	lock_relation_polled(parent, AccessExclusiveLock);
	arg_oid(&args, parent);
	n = (int) spi_catalog("SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = $1"
						  " ORDER BY 1", &args);
	children = palloc(sizeof(Oid) * Max(n, 1));
	for (int i = 0; i < n; i++)
		children[i] = spi_oid(i, 0);
	for (int i = 0; i < n; i++)
		lock_relation_polled(children[i], AccessExclusiveLock);
}

/*
 * " DEFAULT value": what the target's own old rows show for a column that was
 * added with a default; "" for none.
 */
static char *
missing_value(Form_pg_attribute att)
{
	SqlArgs		args = {0};

	if (!att->atthasmissing)
		return "";
	arg_oid(&args, att->attrelid);
	arg_int4(&args, att->attnum);
	spi_catalog("SELECT attmissingval::text FROM pg_catalog.pg_attribute"
				" WHERE attrelid = $1 AND attnum = $2", &args);
	return psprintf(" DEFAULT (%s::%s)[1]", quote_literal_cstr(spi_text(0, 0)),
					quote_type(get_array_type(att->atttypid), -1));
}

/* Add the columns that the target got since; a changed type is an error. */
static void
update_parent(Target *target, Oid parent)
{
	Relation	rel = relation_open(target->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData sql;
	StringInfoData drop;
	SqlArgs		none = {0};

	initStringInfo(&sql);
	initStringInfo(&drop);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		AttrNumber	attno;
		Oid			type;
		int32		typmod;
		Oid			collation;

		if (att->attisdropped)
			continue;
		attno = get_attnum(parent, NameStr(att->attname));
		if (attno == InvalidAttrNumber)
		{
			appendStringInfo(&sql, "%s ADD COLUMN %s%s", sql.len ? "," : "",
							 column_definition(att), missing_value(att));
			appendStringInfo(&drop, "%s ALTER COLUMN %s DROP DEFAULT", drop.len ? "," : "",
							 quote_identifier(NameStr(att->attname)));
			continue;
		}
		get_atttypetypmodcoll(parent, attno, &type, &typmod, &collation);
		if (type != att->atttypid || typmod != att->atttypmod)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of archive \"%s\" is of type %s, in the table it is of type %s",
							NameStr(att->attname), get_rel_name(parent),
							format_type_with_typemod(type, typmod),
							format_type_with_typemod(att->atttypid, att->atttypmod)),
					 errhint("ALTER TABLE %s ALTER COLUMN %s TYPE %s.", quote_relation(parent),
							 quote_identifier(NameStr(att->attname)),
							 quote_type(att->atttypid, att->atttypmod))));
	}
	relation_close(rel, NoLock);
	if (sql.len == 0)
		return;
	lock_family(parent);
	spi_run(psprintf("ALTER TABLE %s%s", quote_relation(parent), sql.data), &none);
	spi_run(psprintf("ALTER TABLE %s%s", quote_relation(parent), drop.data), &none);
}

/* Would INSERT INTO target SELECT * FROM archive do? */
static bool
literal_insert_works(Target *target, Oid parent)
{
	Relation	rel = relation_open(target->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	bool		works = strcmp(column_list(target->relid, "", true),
							   column_list(parent, "", false)) == 0;

	for (int i = 0; i < desc->natts && works; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			TupleDescAttr(desc, i)->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			works = false;
	relation_close(rel, NoLock);
	return works;
}

/* Say in the archive's comment how its rows get back. */
static void
write_comment(Target *target, Oid parent)
{
	char	   *old = GetComment(parent, RelationRelationId, 0);
	char	   *statement;
	char	   *text;
	SqlArgs		none = {0};

	if (literal_insert_works(target, parent))
		statement = psprintf("INSERT INTO %s SELECT * FROM %s", target->quoted,
							 quote_relation(parent));
	else
	{
		char	   *columns = archive_restore_columns(target, parent, "");

		statement = psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s",
							 target->quoted, columns, columns, quote_relation(parent));
	}
	text = psprintf("Duplicates that evmig removed from %s; they go back with: %s",
					target->quoted, statement);
	if (old == NULL || strcmp(old, text) != 0)
		spi_run(psprintf("COMMENT ON TABLE %s IS %s", quote_relation(parent),
						 quote_literal_cstr(text)), &none);
}

static Oid
create_child(Target *target, Oid parent, const char *name)
{
	char	   *quoted = quote_qualified_identifier(target->schema, name);
	SqlArgs		none = {0};
	Oid			child;

	spi_run(psprintf("CREATE TABLE %s () INHERITS (%s)", quoted, quote_relation(parent)), &none);
	child = get_relname_relid(name, get_namespace_oid(target->schema, false));
	revoke_all(child);

	/* a restore deletes from it; a publication of all tables must not mind */
	spi_run(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", quoted), &none);
	return child;
}

static void
register_child(Target *target, int64 job_id, Oid parent, Oid child)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_text(&args, target->quoted);
	arg_text(&args, target->key.name);
	arg_int8(&args, job_id);
	arg_oid(&args, parent);
	arg_oid(&args, child);
	arg_text(&args, quote_relation(child));
	spi_catalog("INSERT INTO evmig.archive (target, target_name, key_column, job_id, parent, relation, relation_name)"
				" VALUES ($1, $2, $3::name, $4, $5, $6, $7)", &args);
}

/* Rows are added again: its age counts from its next end. */
static void
reopen_child(Oid child)
{
	SqlArgs		args = {0};

	arg_oid(&args, child);
	spi_catalog("UPDATE evmig.archive SET closed_at = NULL"
				" WHERE relation = $1 AND purged_at IS NULL AND closed_at IS NOT NULL", &args);
}

Oid
archive_child(Target *target, int64 job_id)
{
	char	   *name = parent_name(target);
	char	   *childname = child_name(target, job_id);
	RunAs		runas;
	Oid			parent;
	Oid			child;

	require_owner(target->relid);
	job_lock_xact(target->relid, JOB_LOCK_TARGET);
	archive_check(target);

	runas_begin(&runas, target->owner, RUNAS_RESTRICTED);
	parent = find_ours(target, name, job_id, true);
	child = find_ours(target, childname, job_id, false);
	if (!OidIsValid(parent))
		parent = create_parent(target, name);
	else
		update_parent(target, parent);
	write_comment(target, parent);
	if (!OidIsValid(child))
	{
		child = create_child(target, parent, childname);
		register_child(target, job_id, parent, child);
	}
	else
		reopen_child(child);
	runas_end(&runas);
	return child;
}

Oid
archive_child_find(Target *target, int64 job_id)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_int8(&args, job_id);
	if (spi_catalog("SELECT a.relation FROM evmig.archive a JOIN pg_catalog.pg_class c ON c.oid = a.relation"
					" WHERE a.target = $1 AND a.job_id = $2 AND a.purged_at IS NULL"
					" ORDER BY a.archive_id DESC LIMIT 1", &args) == 0)
		return InvalidOid;
	return spi_oid(0, 0);
}
