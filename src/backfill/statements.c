/*-------------------------------------------------------------------------
 *
 * statements.c
 *	  The statements of a batch of a registered backfill.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "utils/builtins.h"

#include "backfill/batch_internal.h"
#include "base/spi.h"
#include "base/sqltext.h"

/* What the computing statements select. */
static char *
compose_columns(Batch *batch, Target *target)
{
	const BatchSpec *spec = &batch->spec;
	StringInfoData buf;
	char	  **key;
	int			nkey = primary_key_columns(target->relid, &key);
	char	   *tenant = spec->tenant_column ?
		value_as_text(ALIAS_OLD, spec->tenant_column) : "NULL";

	initStringInfo(&buf);
	appendStringInfo(&buf, ALIAS_OLD ".ctid AS tid, " ALIAS_OLD ".xmin AS version, %s AS unchanged,"
					 " %s::pg_catalog.text AS tenant, %s AS old",
					 compose_unchanged(spec->definition), tenant,
					 values_as_jsonb(ALIAS_OLD, spec->definition->columns,
									 spec->undo ? spec->definition->ncolumns : 0));
	for (int i = 0; i < spec->definition->ncolumns; i++)
		appendStringInfo(&buf, ", " ALIAS_SET ".evmig_%d", i + 1);

	batch->identify = psprintf("SELECT %s, %s::pg_catalog.text FROM ONLY %s AS " ALIAS_OLD
							   " WHERE " ALIAS_OLD ".ctid OPERATOR(pg_catalog.=) $1",
							   values_as_jsonb(ALIAS_OLD, key, nkey), tenant, target->quoted);
	return buf.data;
}

static char *
compose_update(Batch *batch, Target *target)
{
	const Definition *definition = batch->spec.definition;
	StringInfoData buf;
	char	  **key;
	int			nkey = primary_key_columns(target->relid, &key);

	initStringInfo(&buf);
	appendStringInfo(&buf, "UPDATE ONLY %s AS " ALIAS_OLD " SET ", target->quoted);
	for (int i = 0; i < definition->ncolumns; i++)
		appendStringInfo(&buf, "%s%s = v.evmig_%d", i ? ", " : "",
						 quote_identifier(definition->columns[i]), i + 1);
	appendStringInfo(&buf, " FROM " ROWS_NAME " AS v WHERE " ALIAS_OLD ".ctid OPERATOR(pg_catalog.=) v.tid"
					 " AND " ALIAS_OLD ".xmin OPERATOR(pg_catalog.=) v.version"
					 " RETURNING " ALIAS_OLD ".ctid, v.tenant, %s, v.old, %s",
					 values_as_jsonb(ALIAS_OLD, key, batch->spec.undo ? nkey : 0),
					 values_as_jsonb(ALIAS_OLD, definition->columns,
									 batch->spec.undo ? definition->ncolumns : 0));
	return buf.data;
}

/*
 * What is left, by tenant.  Rows that failed are left out before anything of
 * the user's is evaluated for them.
 */
static void
compose_count(Batch *batch, const char *select, const char *predicate)
{
	batch->count = psprintf("%s WHERE %s) AS s GROUP BY s.tenant", select, predicate);
	batch->count_but = psprintf("%s WHERE CASE WHEN " ALIAS_OLD ".ctid OPERATOR(pg_catalog.=) ANY ($1)"
								" THEN false ELSE %s END) AS s GROUP BY s.tenant", select, predicate);
}

/* Statements of a SET list. */
static void
compose_set(Batch *batch, Target *target, const char *predicate)
{
	char	   *columns = compose_columns(batch, target);
	char	   *from = compose_from(target, batch->spec.definition);

	batch->range = psprintf("SELECT %s FROM %s WHERE " ALIAS_OLD ".ctid OPERATOR(pg_catalog.>=) $1 AND "
							ALIAS_OLD ".ctid OPERATOR(pg_catalog.<) $2 AND %s LIMIT $3",
							columns, from, predicate);
	batch->by_tid = psprintf("SELECT %s FROM %s WHERE " ALIAS_OLD ".ctid OPERATOR(pg_catalog.=) ANY ($1) AND %s",
							 columns, from, predicate);
	batch->update = compose_update(batch, target);
	batch->still = psprintf("SELECT 1 FROM ONLY %s AS " ALIAS_OLD " WHERE " ALIAS_OLD
							".ctid OPERATOR(pg_catalog.=) ANY ($1) AND %s LIMIT 1",
							target->quoted, predicate);
	compose_count(batch, psprintf("SELECT s.tenant, pg_catalog.count(*) FILTER (WHERE s.unchanged),"
								  " pg_catalog.count(*) FILTER (WHERE NOT s.unchanged),"
								  " pg_catalog.min(s.tid) FILTER (WHERE NOT s.unchanged),"
								  " pg_catalog.max(s.tid) FILTER (WHERE NOT s.unchanged)"
								  " FROM (SELECT %s FROM %s", columns, from), predicate);
}

/* Statements of a routine. */
static void
compose_routine(Batch *batch, Target *target, const char *predicate)
{
	char	   *tenant = batch->spec.tenant_column ?
		value_as_text(ALIAS_OLD, batch->spec.tenant_column) : "NULL";
	char	  **key;
	int			nkey = primary_key_columns(target->relid, &key);

	batch->call = psprintf("SELECT %s($1::pg_catalog.regclass, $2)", batch->spec.routine);
	batch->by_tid = psprintf("SELECT " ALIAS_OLD ".ctid, NULL, NULL, %s::pg_catalog.text"
							 " FROM ONLY %s AS " ALIAS_OLD " WHERE " ALIAS_OLD
							 ".ctid OPERATOR(pg_catalog.=) ANY ($1) AND %s",
							 tenant, target->quoted, predicate);
	batch->identify = psprintf("SELECT %s, %s::pg_catalog.text FROM ONLY %s AS " ALIAS_OLD
							   " WHERE " ALIAS_OLD ".ctid OPERATOR(pg_catalog.=) $1",
							   values_as_jsonb(ALIAS_OLD, key, nkey), tenant, target->quoted);
	compose_count(batch, psprintf("SELECT s.tenant, 0, pg_catalog.count(*), pg_catalog.min(s.tid), pg_catalog.max(s.tid)"
								  " FROM (SELECT " ALIAS_OLD ".ctid AS tid, %s::pg_catalog.text AS tenant"
								  " FROM ONLY %s AS " ALIAS_OLD, tenant, target->quoted), predicate);
}

/* Is a column that is set in a unique index? */
static bool
sets_unique_column(Target *target, const Definition *definition)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_texts(&args, definition->columns, definition->ncolumns);
	return spi_catalog("SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a"
					   " ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])"
					   " WHERE i.indrelid = $1 AND i.indisunique AND a.attname::text = ANY ($2) LIMIT 1",
					   &args) > 0;
}

void
statements_compose(Batch *batch, Target *target)
{
	char	   *predicate = compose_predicate(&batch->spec, target);
	bool		unique = sets_unique_column(target, batch->spec.definition);

	if (batch->spec.routine)
		compose_routine(batch, target, predicate);
	else
		compose_set(batch, target, predicate);
	batch->find = psprintf("SELECT " ALIAS_OLD ".ctid FROM ONLY %s AS " ALIAS_OLD
						   " WHERE " ALIAS_OLD ".ctid OPERATOR(pg_catalog.>=) $1 AND "
						   ALIAS_OLD ".ctid OPERATOR(pg_catalog.<) $2 AND %s LIMIT $3",
						   target->quoted, predicate);
	batch->every = psprintf("SELECT t.ctid FROM ONLY %s AS t"
							" WHERE t.ctid OPERATOR(pg_catalog.>=) $1 AND t.ctid OPERATOR(pg_catalog.<) $2"
							" LIMIT $3", target->quoted);
	batch->lock = psprintf("SELECT t.ctid FROM ONLY %s AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY ($1) %s SKIP LOCKED",
						   target->quoted, unique ? "FOR UPDATE" : "FOR NO KEY UPDATE");
	batch->lock_mode = unique ? LockTupleExclusive : LockTupleNoKeyExclusive;
	batch->left = psprintf("SELECT " ALIAS_OLD ".ctid FROM ONLY %s AS " ALIAS_OLD " WHERE %s",
						   target->quoted, predicate);
}
