/*-------------------------------------------------------------------------
 *
 * relation.c
 *	  Resolve and describe a target table, its key and order column.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/sqltext.h"
#include "evmig.h"

/* Look up the table that evmig.target names. */
static Oid
default_target(void)
{
	RangeVar   *rv;
	Oid			relid;

	if (evmig_target == NULL || evmig_target[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no target table"),
				 errhint("Give the table as an argument, or set evmig.target.")));
	rv = makeRangeVarFromNameList(compat_stringToQualifiedNameList(evmig_target));
	relid = RangeVarGetRelid(rv, NoLock, true);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" does not exist", evmig_target),
				 errdetail("No table was given, and this is what evmig.target names."),
				 errhint("Give the table as an argument, or set evmig.target.")));
	return relid;
}

static void
no_such_oid(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("relation with OID %u does not exist", relid)));
}

Oid
target_relid(Oid relid)
{
	if (!OidIsValid(relid))
		return default_target();
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		no_such_oid(relid);
	return relid;
}

/* Only a plain, permanent, unpartitioned table of a user will do, unless it is for its indexes. */
static void
check_relkind(Relation rel, int flags)
{
	const char *name = RelationGetRelationName(rel);

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
			break;
		case RELKIND_PARTITIONED_TABLE:
			if (flags & TARGET_INDEXED)
				break;
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"%s\" is a partitioned table", name),
					 errdetail("Partitioned tables are not supported yet."),
					 errhint("Name its leaf partitions one by one where the key is unique within each.")));
			break;
		case RELKIND_MATVIEW:
			if (flags & TARGET_INDEXED)
				break;
			/* FALLTHROUGH */
		default:
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" is not a table", name),
					 errdetail_relkind_not_supported(rel->rd_rel->relkind)));
	}
	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		RelationGetRelid(rel) < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a system table", name)));
	if (RelationGetNamespace(rel) == get_namespace_oid(EVMIG_SCHEMA, true) &&
		rel->rd_rel->relowner == extension_owner())
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" belongs to the extension itself", name)));
	if (RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is a temporary table of another session", name)));
	if (!(flags & TARGET_INDEXED) && rel->rd_rel->relhassubclass &&
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" has inheritance children", name),
				 errdetail("A unique index does not reach into children, so the key could not be made unique.")));
}

/* The table's columns of a date or time type, for a hint. */
static char *
timestamp_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Oid			base = getBaseType(att->atttypid);

		if (att->attisdropped)
			continue;
		if (base == TIMESTAMPTZOID || base == TIMESTAMPOID || base == DATEOID)
			appendStringInfo(&buf, "%s%s", buf.len ? ", " : "",
							 quote_identifier(NameStr(att->attname)));
	}
	return buf.len ? buf.data : NULL;
}

static void
unknown_column(Relation rel, const char *column, bool is_order)
{
	char	   *candidates = is_order ? timestamp_columns(rel) : NULL;

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of table \"%s\" does not exist",
					column, RelationGetRelationName(rel)),
			 candidates ? errhint("Timestamp columns of the table: %s.", candidates) :
			 is_order ? errhint("Give the column that orders the rows, or set evmig.order_column.") :
			 errhint("Give the key column, or set evmig.key_column.")));
}

/* Fill in a column; raises if it cannot serve as key or order column. */
static void
resolve_column(Relation rel, const char *column, bool is_order, int flags,
			   TargetColumn *col)
{
	AttrNumber	attno = get_attnum(RelationGetRelid(rel), column);
	Form_pg_attribute att;
	TypeCacheEntry *type;

	if (attno == InvalidAttrNumber)
		unknown_column(rel, column, is_order);
	if (attno < 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("column \"%s\" is a system column", column)));
	att = TupleDescAttr(RelationGetDescr(rel), attno - 1);

	col->attno = attno;
	col->name = pstrdup(column);
	col->quoted = pstrdup(quote_identifier(column));
	col->type = att->atttypid;
	col->typmod = att->atttypmod;
	col->collation = att->attcollation;
	col->notnull = compat_notnull(RelationGetDescr(rel), attno - 1);

	type = lookup_type_cache(att->atttypid, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR);
	col->eq_op = type->eq_opr;
	col->lt_op = type->lt_opr;
	col->opclass = GetDefaultOpClass(att->atttypid, BTREE_AM_OID);
	if (!OidIsValid(col->eq_op) || !OidIsValid(col->lt_op) || !OidIsValid(col->opclass))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 is_order ?
				 errmsg("order column \"%s\" is of type %s, which has no ordering",
						column, format_type_be(att->atttypid)) :
				 errmsg("key column \"%s\" is of type %s, which has no default btree operator class",
						column, format_type_be(att->atttypid)),
				 is_order ?
				 errhint("Name a column that can be sorted.") :
				 errhint("Only a type that a unique index can be built on can be a key.")));

	if (!is_order && (flags & TARGET_CHANGE) && att->attgenerated)
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("key column \"%s\" is a generated column", column),
				 errhint("Repair the columns that it is computed from.")));
	if (!is_order && (flags & TARGET_CHANGE) && att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("key column \"%s\" is an identity column defined as GENERATED ALWAYS", column)));
}

/* Privileges and server state, as the server would check them. */
static void
check_access(Relation rel, int flags, Target *target)
{
	Oid			relid = RelationGetRelid(rel);

	if (flags & TARGET_CHANGE)
	{
		require_writable();
		require_owner(relid);
		if (target->temporary)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"%s\" is a temporary table", target->name),
					 errdetail("A background worker cannot see another session's temporary tables.")));
	}
	else
	{
		AclResult	acl = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);

		/* SELECT on both columns is as good, as for a plain query */
		if (acl != ACLCHECK_OK && target->key.attno > 0)
			acl = pg_attribute_aclcheck(relid, target->key.attno, GetUserId(), ACL_SELECT);
		if (acl != ACLCHECK_OK)
			aclcheck_error(acl, OBJECT_TABLE, target->name);
	}
}

Target *
target_resolve(Oid relid, const char *key, const char *order, int flags)
{
	Target	   *target = palloc0(sizeof(Target));
	Relation	rel;

	if (!OidIsValid(relid))
		relid = default_target();
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		no_such_oid(relid);

	check_relkind(rel, flags);
	target->relid = relid;
	target->owner = rel->rd_rel->relowner;
	target->filenumber = compat_relfilenumber(rel);
	target->schema = get_namespace_name(RelationGetNamespace(rel));
	target->name = pstrdup(RelationGetRelationName(rel));
	target->quoted = quote_relation(relid);
	target->temporary = rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP;

	if (!(flags & TARGET_NO_KEY))
		resolve_column(rel, key ? key : evmig_key_column, false, flags, &target->key);
	if (flags & TARGET_ORDER)
		resolve_column(rel, order ? order : evmig_order_column, true, flags, &target->order);
	check_access(rel, flags, target);

	relation_close(rel, NoLock);
	return target;
}

bool
target_takes_uuid(Target *target)
{
	Oid			base = getBaseType(target->key.type);

	/* any string type, citext too, is assigned to by way of its input function */
	return base == UUIDOID || TypeCategory(base) == TYPCATEGORY_STRING;
}

char *
target_generator(Target *target, const char *generator)
{
	if (generator == NULL)
	{
		if (!target_takes_uuid(target))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("key column \"%s\" of type %s needs a generator of its own",
							target->key.name, format_type_be(target->key.type)),
					 errdetail("The default, gen_random_uuid(), cannot be assigned to it."),
					 errhint("Name an expression, for example generator => 'nextval(''my_sequence'')'.")));
		generator = "pg_catalog.gen_random_uuid()";
	}
	return canonical_generator(generator, "generator", target->key.type,
							   target->key.typmod, target->key.collation);
}
