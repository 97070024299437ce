/*-------------------------------------------------------------------------
 *
 * compose.c
 *	  Statements of a backfill, composed from an analyzed definition.
 *
 * User expressions come deparsed (definition.c) and only in statements that
 * run under the registrant's search_path; all else is fully qualified.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "backfill/batch.h"
#include "base/spi.h"
#include "base/sqltext.h"

char *
value_as_text(const char *alias, const char *column)
{
	char	   *value = psprintf("%s.%s", alias, quote_identifier(column));

	return psprintf("CASE WHEN pg_catalog.num_nulls(%s) OPERATOR(pg_catalog.=) 0"
					" THEN pg_catalog.format('%%s', %s) END", value, value);
}

char *
values_as_jsonb(const char *alias, char *const *columns, int n)
{
	StringInfoData names;
	StringInfoData values;

	if (n == 0)
		return "NULL::pg_catalog.jsonb";
	initStringInfo(&names);
	initStringInfo(&values);
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(&names, "%s%s", i ? ", " : "", quote_literal_cstr(columns[i]));
		appendStringInfo(&values, "%s%s", i ? ", " : "", value_as_text(alias, columns[i]));
	}
	return psprintf("pg_catalog.jsonb_object(ARRAY[%s]::pg_catalog.text[], ARRAY[%s]::pg_catalog.text[])",
					names.data, values.data);
}

int
primary_key_columns(Oid relid, char ***columns)
{
	SqlArgs		args = {0};
	int			n;

	arg_oid(&args, relid);
	n = (int) spi_catalog("SELECT a.attname::text FROM pg_catalog.pg_index i,"
						  " pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, pos)"
						  " JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = k.attnum"
						  " WHERE i.indrelid = $1 AND i.indisprimary AND k.pos <= i.indnkeyatts"
						  " ORDER BY k.pos", &args);
	*columns = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*columns)[i] = spi_text(i, 0);
	return n;
}

/* number of an assigned column in the definition, from 1; 0 if it is not set */
static int
assigned(const Definition *definition, const char *column)
{
	for (int i = 0; i < definition->ncolumns; i++)
		if (strcmp(definition->columns[i], column) == 0)
			return i + 1;
	return 0;
}

/*
 * The columns of the row with the new values in place; from: with generated
 * columns computed from the row of that alias.
 */
static void
append_new_row(StringInfo buf, TupleDesc desc, const Definition *definition, const char *from)
{
	const char *comma = "";

	for (int i = 0; i < desc->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(desc, i)->attname);
		int			n;

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		n = assigned(definition, name);
		appendStringInfoString(buf, comma);
		comma = ", ";
		if (from && definition->generated[i])
			appendStringInfoString(buf, definition->generated[i]);
		else if (from)
			appendStringInfo(buf, "%s.%s", from, quote_identifier(name));
		else if (n > 0)
			appendStringInfo(buf, ALIAS_SET ".evmig_%d", n);
		else
			appendStringInfo(buf, ALIAS_OLD ".%s", quote_identifier(name));
		appendStringInfo(buf, " AS %s", quote_identifier(name));
	}
}

char *
compose_from(Target *target, const Definition *definition)
{
	Relation	rel = relation_open(target->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData buf;

	/* OFFSET 0: each value is computed once, however often it is used */
	initStringInfo(&buf);
	appendStringInfo(&buf, "ONLY %s AS " ALIAS_OLD, target->quoted);
	for (int i = 0; i < definition->nsources; i++)
	{
		appendStringInfoString(&buf, " LEFT JOIN LATERAL (SELECT s.*, pg_catalog.count(*) OVER ()::pg_catalog.int4 AS n FROM ");
		appendStringInfo(&buf, "%s AS s(", definition->sources[i]);
		for (int c = 1; c <= definition->source_columns[i]; c++)
			appendStringInfo(&buf, "%sc%d", c > 1 ? ", " : "", c);
		appendStringInfo(&buf, ")) AS " ALIAS_SOURCE "_%d ON true", i + 1);
	}
	appendStringInfoString(&buf, " CROSS JOIN LATERAL (SELECT ");
	for (int i = 0; i < definition->ncolumns; i++)
		appendStringInfo(&buf, "%s%s AS evmig_%d", i ? ", " : "", definition->values[i], i + 1);
	appendStringInfoString(&buf, " OFFSET 0) AS " ALIAS_SET " CROSS JOIN LATERAL (SELECT ");
	append_new_row(&buf, desc, definition, NULL);
	if (definition->generated)
	{
		appendStringInfoString(&buf, ") AS " ALIAS_PLAIN " CROSS JOIN LATERAL (SELECT ");
		append_new_row(&buf, desc, definition, ALIAS_PLAIN);
	}
	appendStringInfoString(&buf, ") AS " ALIAS_NEW);
	relation_close(rel, NoLock);
	return buf.data;
}

char *
compose_unchanged(const Definition *definition)
{
	StringInfoData old;
	StringInfoData new;

	/* bytes, not equality: to lower the case of a citext is a change */
	initStringInfo(&old);
	initStringInfo(&new);
	for (int i = 0; i < definition->ncolumns; i++)
	{
		appendStringInfo(&old, "%s" ALIAS_OLD ".%s", i ? ", " : "",
						 quote_identifier(definition->columns[i]));
		appendStringInfo(&new, "%s" ALIAS_NEW ".%s", i ? ", " : "",
						 quote_identifier(definition->columns[i]));
	}
	return psprintf("(pg_catalog.record_image_eq(ROW(%s), ROW(%s))"
					" OR CASE WHEN %s THEN true ELSE false END)",
					old.data, new.data, definition->where_new);
}

/* " AND tenant = ANY (...)", or nothing */
static char *
compose_tenants(const BatchSpec *spec, Target *target)
{
	AttrNumber	attno;
	Oid			type;
	Oid			array;
	TypeCacheEntry *entry;

	if (spec->tenant_column == NULL || spec->tenants == NULL)
		return "";
	attno = get_attnum(target->relid, spec->tenant_column);
	type = attno > 0 ? get_atttype(target->relid, attno) : InvalidOid;
	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist",
						spec->tenant_column, target->name)));
	array = get_array_type(getBaseType(type));
	entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);
	if (!OidIsValid(array) || !OidIsValid(entry->eq_opr))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("tenant column \"%s\" is of type %s, which has no equality",
						spec->tenant_column, format_type_be(type))));
	return psprintf(" AND " ALIAS_OLD ".%s %s ANY (%s::pg_catalog.text[]::%s)",
					quote_identifier(spec->tenant_column), quote_operator(entry->eq_opr),
					quote_literal_cstr(spec->tenants), quote_type(array, -1));
}

char *
compose_predicate(const BatchSpec *spec, Target *target)
{
	return psprintf("CASE WHEN %s THEN true ELSE false END%s",
					spec->definition->where_old, compose_tenants(spec, target));
}
