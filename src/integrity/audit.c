/*-------------------------------------------------------------------------
 *
 * audit.c
 *	  What is wrong with a key column: NULLs, duplicates, and duplicates that
 *	  are not to be believed.
 *
 * All of it reads only, under ACCESS SHARE, one statement and so one snapshot
 * for each set of figures.  Rows are grouped by the server's own grouping,
 * which is exact (the key type's btree equality, under the column's
 * collation, as a unique index will see it) and spills to disk.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "integrity/audit.h"

#define MAX_GROUPS 50			/* default of evmig_duplicates */
#define NIL_UUID "00000000-0000-0000-0000-000000000000"

PG_FUNCTION_INFO_V1(evmig_audit);
PG_FUNCTION_INFO_V1(evmig_duplicates);

void		(*audit_done_hook) (Target *target, const AuditFigures *figures) = NULL;

static void measure(Target *target, AuditFigures *figures, bool placeholders);

/* ---- SQL functions ---- */

/*
 * evmig_audit(target regclass, key_column name) returns record
 *
 * One row: all rows, rows with a NULL key, groups of one key with more than
 * one row, rows beyond the first of each group.  Takes ACCESS SHARE.  Raises
 * what target_resolve() and audit_require_all_rows() raise.
 */
Datum
evmig_audit(PG_FUNCTION_ARGS)
{
	Target	   *target = target_resolve(ARG_RELID(0), ARG_NAME(1), NULL, TARGET_READ);
	AuditFigures figures;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	spi_begin();
	audit_table(target, &figures);
	if (audit_done_hook)
		audit_done_hook(target, &figures);
	spi_end();

	values[0] = Int64GetDatum(figures.total_events);
	values[1] = Int64GetDatum(figures.null_request_ids);
	values[2] = Int64GetDatum(figures.duplicate_count);
	values[3] = Int64GetDatum(figures.duplicate_rows);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * The largest groups, their keepers, and how many rows of each group differ
 * from the keeper.  The table is read three times, and only the keepers' rows
 * are held: a group of millions costs no memory.
 */
static char *
duplicates_sql(Target *target)
{
	char	   *payload = audit_payload(target, "t.");
	char	   *keeper_payload = audit_payload(target, "p.");
	const char *key = target->key.quoted;
	char	   *eq = quote_operator(target->key.eq_op);

	return psprintf("WITH g AS MATERIALIZED ("
					" SELECT t.%1$s AS key, pg_catalog.count(*) AS cnt FROM ONLY %2$s t"
					" WHERE t.%1$s IS NOT NULL GROUP BY t.%1$s"
					" HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1"
					" ORDER BY pg_catalog.count(*) DESC, t.%1$s LIMIT $1),"
					" k AS MATERIALIZED ("
					" SELECT DISTINCT ON (g.key) g.key, g.cnt, t.ctid AS tid"
					" FROM g JOIN ONLY %2$s t ON t.%1$s %3$s g.key"
					" ORDER BY g.key, t.%4$s ASC NULLS LAST, t.ctid),"
					" p AS MATERIALIZED ("
					" SELECT k.key, k.cnt, p.%1$s::pg_catalog.text AS key_text,"
					" p.%4$s::pg_catalog.text AS ord, %5$s AS payload"
					" FROM k JOIN ONLY %2$s p ON p.ctid OPERATOR(pg_catalog.=) k.tid)"
					" SELECT d.key_text, d.cnt, d.ord, d.cnt OPERATOR(pg_catalog.-) 1,"
					" pg_catalog.count(*) FILTER (WHERE d.differs)"
					/* OFFSET 0: compare first, so that no payload is sorted */
					" FROM (SELECT p.key, p.cnt, p.key_text, p.ord, %6$s AS differs"
					" FROM p JOIN ONLY %2$s t ON t.%1$s %3$s p.key OFFSET 0) d"
					" GROUP BY d.key, d.cnt, d.key_text, d.ord"
					" ORDER BY d.cnt DESC, d.key",
					key, target->quoted, eq, target->order.quoted,
					payload ? keeper_payload : "NULL::pg_catalog.text",
					payload ? psprintf("%s OPERATOR(pg_catalog.*<>) p.payload", payload) : "false");
}

/* All columns are looked at, and ctid, which needs SELECT on the table. */
static void
require_select(Target *target)
{
	AclResult	acl = pg_class_aclcheck(target->relid, GetUserId(), ACL_SELECT);

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_TABLE, target->name);
}

/*
 * evmig_duplicates(target regclass, key_column name, order_column name,
 * max_groups int) returns setof record
 *
 * Takes ACCESS SHARE.  Raises what target_resolve() and
 * audit_require_all_rows() raise, invalid_parameter_value for max_groups < 1.
 */
Datum
evmig_duplicates(PG_FUNCTION_ARGS)
{
	Target	   *target = target_resolve(ARG_RELID(0), ARG_NAME(1), ARG_NAME(2),
										TARGET_READ | TARGET_ORDER);
	int32		max_groups = PG_ARGISNULL(3) ? MAX_GROUPS : PG_GETARG_INT32(3);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SqlArgs		args = {0};

	if (max_groups < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_groups must be greater than zero")));
	require_select(target);
	audit_require_all_rows(target);
	InitMaterializedSRF(fcinfo, 0);

	arg_int4(&args, max_groups);
	spi_begin();
	spi_run(duplicates_sql(target), &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		Datum		values[5] = {0};
		bool		nulls[5] = {false};

		values[0] = CStringGetTextDatum(spi_text(i, 0));
		values[1] = Int64GetDatum(spi_int8(i, 1));
		nulls[2] = spi_isnull(i, 2);
		if (!nulls[2])
			values[2] = CStringGetTextDatum(spi_text(i, 2));
		values[3] = Int64GetDatum(spi_int8(i, 3));
		values[4] = Int64GetDatum(spi_int8(i, 4));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	spi_end();
	return (Datum) 0;
}

/* ---- figures ---- */

void
audit_require_all_rows(Target *target)
{
	if (check_enable_rls(target->relid, InvalidOid, false) != RLS_ENABLED)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("row level security hides rows of table \"%s\" from role \"%s\"",
					target->name, GetUserNameFromId(GetUserId(), false)),
			 errdetail("What it can count would be too little."),
			 errhint("Call it as the table's owner (unless the table has FORCE ROW LEVEL SECURITY) or as a role with BYPASSRLS.")));
}

void
audit_table(Target *target, AuditFigures *figures)
{
	measure(target, figures, false);
}

/*
 * Is group key k a placeholder?  '', blanks and the nil UUID; SQL text, NULL
 * for types that have none.
 */
static const char *
placeholder_predicate(Target *target)
{
	Oid			base = getBaseType(target->key.type);
	char		category;
	bool		preferred;

	if (base == UUIDOID)
		return "k OPERATOR(pg_catalog.=) '" NIL_UUID "'::pg_catalog.uuid";
	if (base == BYTEAOID)
		return "k OPERATOR(pg_catalog.=) ANY (ARRAY['\\x', '\\x00000000000000000000000000000000']::pg_catalog.bytea[])";
	get_type_category_preferred(base, &category, &preferred);
	if (category == TYPCATEGORY_STRING)
		return "pg_catalog.btrim(k::pg_catalog.text, E' \\t\\n\\r\\f\\v') COLLATE pg_catalog.\"C\""
			" OPERATOR(pg_catalog.=) ANY (ARRAY['', '" NIL_UUID "'])";
	return NULL;
}

/* The one read.  Placeholders only if asked: it costs a look at each key. */
static void
measure(Target *target, AuditFigures *figures, bool placeholders)
{
	const char *placeholder = placeholders ? placeholder_predicate(target) : NULL;
	char	   *sql;

	audit_require_all_rows(target);

	/* the largest group and its key travel through max() as one text */
	sql = psprintf("SELECT coalesce(pg_catalog.sum(c), 0)::pg_catalog.int8,"
				   " coalesce(pg_catalog.sum(c) FILTER (WHERE k IS NULL), 0)::pg_catalog.int8,"
				   " pg_catalog.count(*) FILTER (WHERE dup),"
				   " coalesce(pg_catalog.sum(c OPERATOR(pg_catalog.-) 1) FILTER (WHERE dup), 0)::pg_catalog.int8,"
				   " coalesce(pg_catalog.max(c) FILTER (WHERE k IS NOT NULL), 0),"
				   " pg_catalog.substr(pg_catalog.max((pg_catalog.lpad(c::pg_catalog.text, 20, '0')"
				   " OPERATOR(pg_catalog.||) k::pg_catalog.text) COLLATE pg_catalog.\"C\")"
				   " FILTER (WHERE dup), 21),"
				   " coalesce(pg_catalog.sum(c) FILTER (WHERE %3$s), 0)::pg_catalog.int8,"
				   " (pg_catalog.array_agg(pg_catalog.quote_literal(k::pg_catalog.text) ORDER BY k) FILTER (WHERE %3$s))[1:20]"
				   " OPERATOR(pg_catalog.||) '{}'::pg_catalog.text[]"
				   " FROM (SELECT k, c, k IS NOT NULL AND c OPERATOR(pg_catalog.>) 1 AS dup"
				   " FROM (SELECT %1$s AS k, pg_catalog.count(*) AS c FROM ONLY %2$s GROUP BY %1$s) g) g",
				   target->key.quoted, target->quoted,
				   placeholder ? placeholder : "false");
	sql = psprintf("SELECT f.*, pg_catalog.array_to_string(f.p, ', ')"
				   " FROM (%s) f (total, nulls, groups, losers, largest, largest_key, placeholder_rows, p)",
				   sql);
	spi_run(sql, NULL);

	figures->total_events = spi_int8(0, 0);
	figures->null_request_ids = spi_int8(0, 1);
	figures->duplicate_count = spi_int8(0, 2);
	figures->duplicate_rows = spi_int8(0, 3);
	figures->largest_group = spi_int8(0, 4);
	figures->largest_key = spi_text(0, 5);
	figures->placeholder_rows = spi_int8(0, 6);
	figures->placeholders = psprintf("ARRAY[%s]", spi_text(0, 8));
}

char *
audit_payload(Target *target, const char *prefix)
{
	SqlArgs		args = {0};
	StringInfoData buf;

	arg_oid(&args, target->relid);
	arg_int4(&args, target->key.attno);
	arg_int4(&args, target->order.attno);
	spi_catalog("SELECT a.attname FROM pg_catalog.pg_attribute a"
				" WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped"
				" AND a.attnum <> $2 AND a.attnum <> $3 AND a.attgenerated = ''"
				" AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = $1"
				" AND i.indisprimary AND a.attnum = ANY (i.indkey::int2[]))"
				" ORDER BY a.attnum", &args);
	if (spi_nrows() == 0)
		return NULL;
	initStringInfo(&buf);
	for (uint64 i = 0; i < spi_nrows(); i++)
		appendStringInfo(&buf, "%s%s%s", i == 0 ? "ROW(" : ", ", prefix,
						 quote_identifier(spi_text(i, 0)));
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* ---- plausibility ---- */

static void
check_placeholders(Target *target, AuditFigures *figures, AuditCheck *check)
{
	check->name = CHECK_PLACEHOLDER;
	check->ok = figures->placeholder_rows == 0;
	check->hint = NULL;
	if (check->ok)
	{
		check->detail = pstrdup("no key is empty, blank or the nil UUID");
		return;
	}
	check->detail = psprintf(INT64_FORMAT " rows have a placeholder for a key: %s",
							 figures->placeholder_rows, figures->placeholders);
	check->hint = psprintf("Give them keys of their own: SELECT %sevmig_backfill_request_id(%s, %s, treat_as_null => %s);",
						   extension_schema_prefix(), quote_literal_cstr(target->quoted),
						   quote_literal_cstr(target->key.name), figures->placeholders);
}

static void
check_group_size(Target *target, AuditFigures *figures, AuditCheck *check)
{
	check->name = CHECK_GROUP_SIZE;
	check->ok = figures->largest_group <= evmig_max_group_rows;
	check->hint = NULL;
	if (figures->largest_group <= 1)
	{
		check->detail = pstrdup("no key is on more than one row");
		return;
	}
	check->detail = psprintf("the largest group has " INT64_FORMAT " rows with key %s (evmig.max_group_rows is %d)",
							 figures->largest_group, quote_literal_cstr(figures->largest_key),
							 evmig_max_group_rows);
	if (!check->ok)
		check->hint = psprintf("Look whether these are one event: SELECT * FROM %s WHERE %s = %s LIMIT 20; "
							   "if they are, raise evmig.max_group_rows; if the key only stands for none, "
							   "replace it: SELECT %sevmig_backfill_request_id(%s, %s, treat_as_null => ARRAY[%s]);",
							   target->quoted, target->key.quoted,
							   quote_literal_cstr(figures->largest_key),
							   extension_schema_prefix(), quote_literal_cstr(target->quoted),
							   quote_literal_cstr(target->key.name),
							   quote_literal_cstr(figures->largest_key));
}

static void
check_loser_share(Target *target, AuditFigures *figures, AuditCheck *check)
{
	double		pct = figures->total_events == 0 ? 0 :
		100.0 * figures->duplicate_rows / figures->total_events;

	check->name = CHECK_LOSER_SHARE;
	check->ok = pct <= evmig_max_loser_pct;
	check->detail = psprintf(INT64_FORMAT " of " INT64_FORMAT " rows (%.1f %%) are beyond the first of their key (evmig.max_loser_pct is %g)",
							 figures->duplicate_rows, figures->total_events, pct,
							 evmig_max_loser_pct);
	check->hint = check->ok ? NULL :
		psprintf("Look at what repeats: SELECT * FROM %sevmig_duplicates(%s, %s); if all of it may go, raise evmig.max_loser_pct.",
				 extension_schema_prefix(), quote_literal_cstr(target->quoted),
				 quote_literal_cstr(target->key.name));
}

void
audit_plausibility(Target *target, AuditFigures *figures, AuditCheck checks[AUDIT_CHECKS])
{
	measure(target, figures, true);
	check_placeholders(target, figures, &checks[0]);
	check_group_size(target, figures, &checks[1]);
	check_loser_share(target, figures, &checks[2]);
}

static bool
is_waived(const char *waived, const char *check)
{
	SqlArgs		args = {0};

	if (waived == NULL)
		return false;
	arg_jsonb(&args, waived);
	arg_text(&args, check);
	spi_catalog("SELECT pg_catalog.jsonb_exists($1, $2)", &args);
	return spi_bool(0, 0);
}

void
audit_require_plausible(Target *target, const char *waived)
{
	AuditFigures figures;
	AuditCheck	checks[AUDIT_CHECKS];

	audit_plausibility(target, &figures, checks);
	for (int i = 0; i < AUDIT_CHECKS; i++)
		if (!checks[i].ok && !is_waived(waived, checks[i].name))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("duplicates in table \"%s\" are not to be believed: check \"%s\" fails",
							target->name, checks[i].name),
					 errdetail_internal("%c%s.", pg_toupper((unsigned char) checks[i].detail[0]),
										checks[i].detail + 1),
					 errhint("%s", checks[i].hint)));
}
