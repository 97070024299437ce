/*-------------------------------------------------------------------------
 *
 * index.c
 *	  Indexes on the key: which there are, and the start of the jobs that
 *	  build and drop them.  The jobs themselves are in build.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/pg_index.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "integrity/dedupe.h"
#include "integrity/index.h"
#include "job/job.h"

PG_FUNCTION_INFO_V1(evmig_unique_index);

/* ---- which indexes there are ---- */

/* First element of an oidvector column of pg_index. */
static Oid
first_oid(HeapTuple tup, AttrNumber attno)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(INDEXRELID, tup, attno, &isnull);

	return isnull ? InvalidOid : ((oidvector *) DatumGetPointer(value))->values[0];
}

/*
 * Is this an index on the target's key alone, over all rows, in the order and
 * equality of the key's type?  INCLUDE columns do no harm to what it enforces.
 * Sets *valid, and *unique: it enforces uniqueness at once.
 */
static bool
is_on_key(Target *target, Oid index, bool *valid, bool *unique)
{
	HeapTuple	tup = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index form;
	bool		fits;

	if (!HeapTupleIsValid(tup))
		return false;
	form = (Form_pg_index) GETSTRUCT(tup);
	fits = form->indrelid == target->relid && form->indnkeyatts == 1 &&
		form->indkey.values[0] == target->key.attno &&
		heap_attisnull(tup, Anum_pg_index_indpred, NULL) &&
		heap_attisnull(tup, Anum_pg_index_indexprs, NULL) &&
		first_oid(tup, Anum_pg_index_indclass) == target->key.opclass &&
		first_oid(tup, Anum_pg_index_indcollation) == target->key.collation;
	*valid = form->indisvalid && form->indisready && form->indislive;
	*unique = form->indisunique && form->indimmediate;
	ReleaseSysCache(tup);
	return fits;
}

Oid
key_index_find(Target *target, bool unique)
{
	Relation	rel = relation_open(target->relid, AccessShareLock);
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	Oid			found = InvalidOid;

	relation_close(rel, NoLock);
	foreach(lc, indexes)
	{
		bool		is_valid;
		bool		is_unique;

		if (is_on_key(target, lfirst_oid(lc), &is_valid, &is_unique) &&
			is_valid && (is_unique || !unique))
		{
			found = lfirst_oid(lc);
			break;
		}
	}
	list_free(indexes);
	return found;
}

static Oid
relation_of_name(Target *target, const char *name)
{
	return get_relname_relid(name, get_rel_namespace(target->relid));
}

IndexState
index_look(Target *target, const char *name, bool unique, Oid *index)
{
	bool		is_valid;
	bool		is_unique;

	*index = key_index_find(target, unique);
	if (OidIsValid(*index))
		return INDEX_VALID;
	*index = relation_of_name(target, name);
	if (!OidIsValid(*index))
		return INDEX_ABSENT;
	if (is_on_key(target, *index, &is_valid, &is_unique) &&
		!is_valid && is_unique == unique)
		return INDEX_INVALID;
	return INDEX_OTHER;
}

void
index_name_is_taken(Target *target, const char *name, bool unique)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_TABLE),
			 errmsg("relation \"%s\" already exists in schema \"%s\"", name, target->schema),
			 errdetail("It is not %s on column \"%s\" of table \"%s\" alone.",
					   unique ? "a unique index" : "a plain index",
					   target->key.name, target->name),
			 unique ? errhint("Rename or drop it, or give another name as index_name.") :
			 errhint("Rename or drop it.")));
}

/* ---- names: <prefix>_<table>_<key>, shortened as the server does ---- */

static char *
unique_index_name(Target *target)
{
	return object_name(psprintf("ux_%s", target->name), target->key.name, NULL);
}

static char *
helper_index_name(Target *target)
{
	return object_name(psprintf("evmig_helper_%s", target->name), target->key.name, NULL);
}

Oid
helper_index_find(Target *target)
{
	Oid			index = relation_of_name(target, helper_index_name(target));
	bool		is_valid;
	bool		is_unique;

	if (OidIsValid(index) && is_on_key(target, index, &is_valid, &is_unique) && !is_unique)
		return index;
	return InvalidOid;
}

/* ---- starting the jobs ---- */

/* Raise what CREATE INDEX would, before there is a job. */
static void
require_buildable(Target *target, const char *name, bool unique)
{
	Oid			role = job_role(target->relid);
	Oid			index;

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("index_name must not be empty")));
	if (compat_namespace_aclcheck(get_rel_namespace(target->relid), role,
								  ACL_CREATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schema %s", target->schema),
				 errdetail("The index is created there by role \"%s\".",
						   GetUserNameFromId(role, false)),
				 errhint("GRANT CREATE ON SCHEMA %s TO %s.", quote_identifier(target->schema),
						 quote_identifier(GetUserNameFromId(role, false)))));
	if (index_look(target, name, unique, &index) == INDEX_OTHER)
		index_name_is_taken(target, name, unique);
}

/* rules: text of a jsonb object whose fields the job's spec gets too, or NULL */
static int64
start_build(Target *target, const char *kind, const char *name, const char *rules)
{
	JobRequest	request = {kind};
	SqlArgs		args = {0};

	arg_jsonb(&args, rules ? rules : "{}");
	arg_text(&args, name);
	spi_begin();
	spi_run("SELECT ($1 OPERATOR(pg_catalog.||)"
			" pg_catalog.jsonb_build_object('index_name', $2))::pg_catalog.text", &args);
	request.spec = spi_text(0, 0);
	spi_end();
	return job_create(target, &request);
}

int64
unique_index_start(Target *target, const char *name, const char *mode,
				   const char *on_referenced, const char *generator, const char *waived)
{
	char	   *rules = NULL;

	if (name == NULL)
		name = unique_index_name(target);
	require_buildable(target, name, true);
	if (target->order.attno > 0)
		rules = dedupe_spec(target, mode, on_referenced, generator, waived);
	return start_build(target, "unique_index", name, rules);
}

int64
helper_index_start(Target *target)
{
	char	   *name = helper_index_name(target);

	require_buildable(target, name, false);
	return start_build(target, "helper_index", name, NULL);
}

/* As DROP INDEX would say it: a foreign key, for one, needs a unique index. */
static void
require_no_dependents(Oid index, const char *name)
{
	SqlArgs		args = {0};

	arg_oid(&args, index);
	spi_begin();
	if (spi_catalog("SELECT pg_catalog.pg_describe_object(classid, objid, objsubid) FROM pg_catalog.pg_depend"
					" WHERE refclassid = 'pg_catalog.pg_class'::regclass AND refobjid = $1 AND deptype = 'n'"
					" ORDER BY objid LIMIT 1", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop index \"%s\" because other objects depend on it", name),
				 errdetail("The %s does.", spi_text(0, 0))));
	spi_end();
}

void
index_require_droppable(Target *target, Oid index)
{
	char	   *name = get_rel_name(index);
	HeapTuple	tup;
	bool		replident;

	if (name == NULL || IndexGetRelation(index, true) != target->relid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("relation with OID %u is not an index of table \"%s\"",
						index, target->name)));
	tup = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	replident = ((Form_pg_index) GETSTRUCT(tup))->indisreplident;
	ReleaseSysCache(tup);
	if (OidIsValid(get_index_constraint(index)))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("index \"%s\" belongs to constraint \"%s\"", name,
						get_constraint_name(get_index_constraint(index))),
				 errhint("Drop the constraint instead.")));
	if (replident)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("index \"%s\" is the replica identity of table \"%s\"", name, target->name),
				 errhint("ALTER TABLE %s REPLICA IDENTITY DEFAULT, or name another index.",
						 target->quoted)));
	require_no_dependents(index, name);
}

int64
drop_index_start(Target *target, Oid index)
{
	JobRequest	request = {"drop_index"};
	SqlArgs		args = {0};

	index_require_droppable(target, index);
	arg_oid(&args, index);
	arg_text(&args, get_rel_name(index));
	spi_begin();
	spi_run("SELECT pg_catalog.jsonb_build_object('index', $1::pg_catalog.int8,"
			" 'index_name', $2)::pg_catalog.text", &args);
	request.spec = spi_text(0, 0);
	spi_end();
	return job_create(target, &request);
}

/* ---- the SQL function ---- */

/*
 * How to dedupe what comes in twice: as the last evmig_dedupe() on this key
 * did, else by its defaults.  NULL where there is no order column.  Nothing of
 * it is checked here: only a build that meets duplicates needs it.
 */
static char *
standing_rules(Target *target)
{
	SqlArgs		args = {0};
	char	   *rules = NULL;

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	arg_oid(&args, job_role(target->relid));
	arg_text(&args, evmig_order_column);
	spi_begin();
	if (spi_catalog("SELECT r.rules::text FROM"
					" (SELECT pg_catalog.jsonb_build_object('order_column', spec -> 'order_column',"
					"   'mode', spec -> 'mode', 'on_referenced', spec -> 'on_referenced',"
					"   'generator', spec -> 'generator', 'waived', spec -> 'waived') AS rules, job_id"
					"  FROM evmig.job WHERE kind = 'dedupe' AND state = 'succeeded' AND target = $1"
					"  AND key_column = $2::name AND run_as = $3"
					"  UNION ALL SELECT pg_catalog.jsonb_build_object('order_column', $4,"
					"   'mode', 'archive', 'on_referenced', 'error'), 0) r"
					" WHERE EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1"
					"  AND a.attname = (r.rules ->> 'order_column')::name AND a.attnum > 0)"
					" ORDER BY r.job_id DESC LIMIT 1", &args) > 0)
		rules = spi_text(0, 0);
	spi_end();
	return rules;
}

/*
 * evmig_unique_index(target regclass, key_column name, index_name name)
 * returns bigint
 *
 * Start a job that builds a unique index on the key concurrently; returns its
 * id.  Takes ACCESS SHARE here; the job takes SHARE UPDATE EXCLUSIVE.  What
 * comes in twice meanwhile is deduped by the standing rules; without an order
 * column there is no dedupe, and duplicates fail the job.
 */
Datum
evmig_unique_index(PG_FUNCTION_ARGS)
{
	Target	   *target = target_resolve(ARG_RELID(0), ARG_NAME(1), NULL, TARGET_CHANGE);
	char	   *name = PG_ARGISNULL(2) ? unique_index_name(target) : ARG_NAME(2);
	int64		id;

	require_buildable(target, name, true);
	id = start_build(target, "unique_index", name, standing_rules(target));
	if (!OidIsValid(key_index_find(target, true)))
		ereport(NOTICE,
				(errmsg("writers that repeat a key will get unique_violation before the job has ended"),
				 errdetail("The index enforces uniqueness from the middle of its build on."),
				 errhint("Until it is valid only INSERT ... ON CONFLICT DO NOTHING without a conflict target passes over it.")));
	PG_RETURN_INT64(id);
}
