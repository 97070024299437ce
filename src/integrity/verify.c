/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  Is the key column as it should be, and is everything that was removed
 *	  still there?
 *
 * What the archive holds and what the jobs say that they put there come from
 * one snapshot, the calling statement's, so a job at work does no harm.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "integrity/audit.h"
#include "integrity/index.h"

PG_FUNCTION_INFO_V1(evmig_verify);

/* what evmig.archive says about the target's key */
typedef struct ArchiveBook
{
	Oid			parent;			/* InvalidOid: never made, or gone */
	char	   *children;		/* text of an oid[]: those of jobs */
	int64		removed;		/* rows that the jobs moved there */
	int64		left;			/* of them, restored or purged since */
} ArchiveBook;

/* ---- rows of the result ---- */

static void
put_row(ReturnSetInfo *rsinfo, const char *check, const char *expected,
		const char *actual, bool ok)
{
	Datum		values[4];
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(check);
	values[1] = CStringGetTextDatum(expected);
	values[2] = CStringGetTextDatum(actual);
	values[3] = BoolGetDatum(ok);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_count(ReturnSetInfo *rsinfo, const char *check, int64 expected, int64 actual)
{
	put_row(rsinfo, check, psprintf(INT64_FORMAT, expected),
			psprintf(INT64_FORMAT, actual), expected == actual);
}

/* ---- the index ---- */

/* The unique index with the key that comes nearest, and what it lacks. */
static char *
nearest_index(Target *target)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_int4(&args, target->key.attno);
	if (spi_catalog("SELECT pg_catalog.format('%I (%s)', c.relname, CASE WHEN i.indisvalid"
					" THEN 'not on the key alone, over all rows, at once' ELSE 'invalid' END)"
					" FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
					" WHERE i.indrelid = $1 AND i.indisunique AND i.indkey[0] = $2"
					" ORDER BY i.indisvalid, i.indnkeyatts, i.indpred IS NOT NULL, c.relname LIMIT 1", &args) == 0)
		return "none";
	return spi_text(0, 0);
}

static void
verify_index(Target *target, ReturnSetInfo *rsinfo)
{
	Oid			index = key_index_find(target, true);

	put_row(rsinfo, "unique_index", psprintf("a valid unique index on %s", target->key.quoted),
			OidIsValid(index) ? quote_identifier(get_rel_name(index)) : nearest_index(target),
			OidIsValid(index));
}

/* ---- the archive ---- */

/*
 * What was moved there.  A dedupe's own counters are asked where they still
 * exist (jobs are not part of a dump); else what was booked with each move.
 */
static void
read_book(Target *target, ArchiveBook *book)
{
	RunAs		runas;
	SqlArgs		args = {0};
	SpiCursor  *cursor;

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	runas_begin(&runas, extension_owner(), RUNAS_LOCAL);
	cursor = spi_cursor_open("SELECT max(a.parent::oid) FILTER (WHERE c.oid IS NOT NULL),"
							 " coalesce(array_agg(a.relation::oid) FILTER (WHERE a.job_id <> 0 AND a.relation IS NOT NULL), '{}'),"
							 " coalesce(sum(coalesce(j.removed, a.archived_rows)) FILTER (WHERE a.job_id <> 0), 0)::int8,"
							 " coalesce(sum(a.restored_rows + a.purged_rows) FILTER (WHERE a.job_id <> 0), 0)::int8"
							 " FROM evmig.archive a LEFT JOIN pg_catalog.pg_class c ON c.oid = a.parent"
							 " LEFT JOIN LATERAL (SELECT sum(k.changed)"
							 "  - (SELECT count(*) FROM evmig.rekey r WHERE r.job_id = a.job_id) AS removed"
							 "  FROM evmig.job_chunk k JOIN evmig.job o USING (job_id)"
							 "  WHERE k.job_id = a.job_id AND o.kind = 'dedupe' AND o.target = $1) j ON true"
							 " WHERE a.target = $1 AND a.key_column = $2::name", &args);
	(void) spi_cursor_fetch(cursor, 1);
	book->parent = spi_oid(0, 0);
	book->children = spi_text(0, 1);
	book->removed = spi_int8(0, 2);
	book->left = spi_int8(0, 3);
	spi_cursor_close(cursor);
	runas_end(&runas);
}

/*
 * Rows of the jobs' children, and keys in all children (the ingest guard's
 * too) that are on no row of the table; read through the parent, whose
 * privileges are the target's.
 */
static void
count_archive(Target *target, ArchiveBook *book, int64 *rows, int64 *without_keeper)
{
	Target		archive = {.relid = book->parent,.name = get_rel_name(book->parent)};
	SqlArgs		args = {0};
	SpiCursor  *cursor;
	AclResult	acl = pg_class_aclcheck(book->parent, GetUserId(), ACL_SELECT);

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_TABLE, archive.name);
	audit_require_all_rows(&archive);
	arg_text(&args, book->children);
	cursor = spi_cursor_open(psprintf("SELECT (SELECT pg_catalog.count(*) FROM %2$s a"
									  " WHERE a.tableoid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])),"
									  " (SELECT pg_catalog.count(*) FROM %2$s a WHERE a.%1$s IS NOT NULL"
									  " AND NOT EXISTS (SELECT FROM ONLY %3$s t WHERE t.%1$s %4$s a.%1$s))",
									  target->key.quoted, quote_relation(book->parent),
									  target->quoted, quote_operator(target->key.eq_op)), &args);
	(void) spi_cursor_fetch(cursor, 1);
	*rows = spi_int8(0, 0);
	*without_keeper = spi_int8(0, 1);
	spi_cursor_close(cursor);
}

static void
verify_archive(Target *target, ReturnSetInfo *rsinfo)
{
	ArchiveBook book;
	int64		rows = 0;
	int64		without_keeper = 0;

	read_book(target, &book);
	if (OidIsValid(book.parent))
		count_archive(target, &book, &rows, &without_keeper);
	put_count(rsinfo, "archived_rows", book.removed, rows + book.left);
	put_count(rsinfo, "archived_keys_without_keeper", 0, without_keeper);
}

/*
 * evmig_verify(target regclass, key_column name) returns setof record
 *
 * Takes ACCESS SHARE on table and archive.  Raises what evmig_audit raises,
 * insufficient_privilege where the archive may not be read.
 */
Datum
evmig_verify(PG_FUNCTION_ARGS)
{
	Target	   *target = target_resolve(ARG_RELID(0), ARG_NAME(1), NULL, TARGET_READ);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	AuditFigures figures;

	InitMaterializedSRF(fcinfo, 0);
	spi_begin();
	audit_table(target, &figures);
	put_count(rsinfo, "null_keys", 0, figures.null_request_ids);
	put_count(rsinfo, "duplicate_keys", 0, figures.duplicate_count);
	verify_index(target, rsinfo);
	verify_archive(target, rsinfo);
	spi_end();
	return (Datum) 0;
}
