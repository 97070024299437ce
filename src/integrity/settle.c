/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Find the rows beyond the first of each key, and archive or re-key some
 *	  of them.
 *
 * A pair (loser, keeper) is what one read of the table saw; both may have
 * been changed, moved or deleted since, and their TIDs given to other rows.
 * So both are locked first, without waiting, and a later statement, whose
 * snapshot is younger than the locks, asks whether they still are two rows
 * of one key of which the keeper sorts first.  That order is strict, so each
 * key keeps a row whatever else happens.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/row_lock.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "integrity/archive.h"
#include "integrity/audit.h"
#include "integrity/settle.h"

#define NOTED_ROWS 1000			/* rows left that are named one by one */
#define PAIRS "ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS p(loser, keeper)"

DedupeMode
parse_dedupe_mode(const char *text)
{
	static const char *const names[] = {"archive", "rekey", "auto"};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(text, names[i]) == 0)
			return (DedupeMode) i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown value for mode: \"%s\"", text),
			 errhint("Use archive, rekey or auto.")));
}

/* ---- composing ---- */

/* l and k are of one key, and k comes first: order column NULLS LAST, then ctid */
static char *
is_duplicate(Target *target)
{
	const char *key = target->key.quoted;
	const char *by = target->order.quoted;
	char	   *eq = quote_operator(target->order.eq_op);
	char	   *lt = quote_operator(target->order.lt_op);

	return psprintf("l.%s %s k.%s AND (k.%s %s l.%s OR (k.%s IS NOT NULL AND l.%s IS NULL)"
					" OR ((k.%s %s l.%s OR (k.%s IS NULL AND l.%s IS NULL))"
					" AND k.ctid OPERATOR(pg_catalog.<) l.ctid))",
					key, quote_operator(target->key.eq_op), key,
					by, lt, by, by, by, by, eq, by, by, by);
}

static char **
primary_key(Target *target, int *nkeys)
{
	SqlArgs		args = {0};
	char	  **keys;

	arg_oid(&args, target->relid);
	*nkeys = (int) spi_catalog("SELECT a.attname::text FROM pg_catalog.pg_index i"
							   " JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid"
							   " AND a.attnum = ANY (i.indkey::int2[])"
							   " WHERE i.indrelid = $1 AND i.indisprimary ORDER BY a.attnum", &args);
	keys = palloc(sizeof(char *) * Max(*nkeys, 1));
	for (int i = 0; i < *nkeys; i++)
		keys[i] = pstrdup(spi_text(i, 0));
	return keys;
}

/* The payload is the same, as evmig_duplicates has it. */
static char *
same_payload(Target *target)
{
	char	   *left = audit_payload(target, "l.");

	/* without the casts it would be a comparison column by column */
	return left == NULL ? "true" :
		psprintf("(%s::pg_catalog.record OPERATOR(pg_catalog.*=) %s::pg_catalog.record)",
				 left, audit_payload(target, "k."));
}

/* jsonb that names a row (l): its primary key, else where it was */
static char *
row_identity(Target *target)
{
	StringInfoData buf;
	int			nkeys;
	char	  **keys = primary_key(target, &nkeys);

	if (nkeys == 0)
		return "pg_catalog.jsonb_build_object('ctid', l.ctid)";
	initStringInfo(&buf);
	appendStringInfoString(&buf, "pg_catalog.jsonb_build_object(");
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, "%s%s, l.%s", i ? ", " : "", quote_literal_cstr(keys[i]),
						 quote_identifier(keys[i]));
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* Delete and archive in one statement; returns what was deleted, and how much was archived. */
static char *
compose_archive(Target *target, Oid child, const char *condition)
{
	Relation	rel = relation_open(target->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData names;
	int			n = 0;

	/* names of our own, that no column of the table can clash with */
	initStringInfo(&names);
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			appendStringInfo(&names, "c%d, ", ++n);
	relation_close(rel, NoLock);

	return psprintf("WITH del(%stid) AS (DELETE FROM ONLY %s l USING " PAIRS ", ONLY %s k"
					" WHERE l.ctid OPERATOR(pg_catalog.=) p.loser"
					" AND k.ctid OPERATOR(pg_catalog.=) p.keeper AND %s RETURNING %s, l.ctid),"
					" ins AS (INSERT INTO %s (%s) SELECT %.*s FROM del RETURNING 1)"
					" SELECT del.tid, (SELECT pg_catalog.count(*) FROM ins) FROM del",
					names.data, target->quoted, target->quoted, condition,
					archive_columns(target, "l."), quote_relation(child),
					archive_columns(target, ""), names.len - 2, names.data);
}

static char *
compose_rekey(Target *target, const char *condition, const char *generator,
			  const char *identity)
{
	/* o is the row as it was: RETURNING shows the new one */
	return psprintf("UPDATE ONLY %s l SET %s = %s FROM " PAIRS ", ONLY %s k, ONLY %s o"
					" WHERE l.ctid OPERATOR(pg_catalog.=) p.loser"
					" AND o.ctid OPERATOR(pg_catalog.=) p.loser"
					" AND k.ctid OPERATOR(pg_catalog.=) p.keeper AND %s"
					" RETURNING o.ctid, o.%s::pg_catalog.text, l.%s::pg_catalog.text, %s::pg_catalog.text",
					target->quoted, target->key.quoted, generator, target->quoted, target->quoted,
					condition, target->key.quoted, target->key.quoted, identity);
}

Settle *
settle_compose(Target *target, DedupeMode mode, Oid child, const char *generator,
			   References *refs, MemoryContext context)
{
	Settle	   *settle;
	const char *table = target->quoted;
	char	   *duplicate = is_duplicate(target);
	char	   *same = mode == DEDUPE_AUTO ? same_payload(target) : NULL;
	char	   *identity = row_identity(target);
	MemoryContext oldcontext;

	oldcontext = MemoryContextSwitchTo(context);
	settle = palloc0(sizeof(Settle));
	settle->relid = target->relid;
	settle->child = child;
	settle->target = pstrdup(table);
	settle->key_column = pstrdup(target->key.name);
	settle->refs = refs;
	settle->find = psprintf("SELECT tid, keeper FROM (SELECT ctid AS tid,"
							" pg_catalog.first_value(ctid) OVER w AS keeper, pg_catalog.row_number() OVER w AS n"
							" FROM ONLY %s WHERE %s IS NOT NULL"
							" WINDOW w AS (PARTITION BY %s ORDER BY %s ASC NULLS LAST, ctid)) s"
							" WHERE n OPERATOR(pg_catalog.>) 1 ORDER BY tid",
							table, target->key.quoted, target->key.quoted, target->order.quoted);
	settle->lock_rows = psprintf("SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)"
								 " FOR UPDATE SKIP LOCKED", table);
	settle->lock_keepers = psprintf("SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)"
									" FOR SHARE SKIP LOCKED", table);
	settle->recheck = psprintf("SELECT p.loser, p.keeper FROM " PAIRS
							   " JOIN ONLY %s l ON l.ctid OPERATOR(pg_catalog.=) p.loser"
							   " JOIN ONLY %s k ON k.ctid OPERATOR(pg_catalog.=) p.keeper WHERE %s",
							   table, table, duplicate);
	settle->still_there = psprintf("SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)", table);
	settle->keys = psprintf("SELECT ctid, %s::pg_catalog.text FROM ONLY %s"
							" WHERE ctid OPERATOR(pg_catalog.=) ANY ($1) AND %s IS NOT NULL ORDER BY ctid",
							target->key.quoted, table, target->key.quoted);
	if (mode != DEDUPE_REKEY)
		settle->archive = compose_archive(target, child,
										  same ? psprintf("%s AND %s", duplicate, same) : duplicate);
	if (mode != DEDUPE_ARCHIVE)
		settle->rekey = compose_rekey(target,
									  same ? psprintf("%s AND NOT (%s)", duplicate, same) : duplicate,
									  generator, identity);
	MemoryContextSwitchTo(oldcontext);
	return settle;
}

/* ---- one batch ---- */

static int
compact(ItemPointerData *tids, int n)
{
	int			kept = 0;

	qsort(tids, n, sizeof(ItemPointerData), tid_compare);
	for (int i = 0; i < n; i++)
		if (kept == 0 || !ItemPointerEquals(&tids[kept - 1], &tids[i]))
			tids[kept++] = tids[i];
	return kept;
}

/* Lock these rows; returns those that nobody else holds, sorted. */
static ItemPointerData *
lock_tids(const char *sql, ItemPointerData *tids, int n, int *nlocked)
{
	SqlArgs		args = {0};
	ItemPointerData *locked;

	arg_tids(&args, tids, n);
	spi_run_cached(sql, &args);
	locked = result_tids(0, nlocked);
	qsort(locked, *nlocked, sizeof(ItemPointerData), tid_compare);
	return locked;
}

/*
 * Lock losers and keepers and look at them again; returns the pairs that
 * still are duplicates.
 */
static int
lock_pairs(Settle *settle, const Loser *losers, int n, Loser *pairs)
{
	SqlArgs		args = {0};
	ItemPointerData *rows;
	ItemPointerData *keepers = loser_keepers(losers, n);
	int			nrows;
	int			nkeepers;
	int			npairs = 0;

	rows = lock_tids(settle->lock_rows, loser_rows(losers, n), n, &nrows);
	keepers = lock_tids(settle->lock_keepers, keepers, compact(keepers, n), &nkeepers);
	for (int i = 0; i < n; i++)
		if (bsearch(&losers[i].row, rows, nrows, sizeof(ItemPointerData), tid_compare) &&
			bsearch(&losers[i].keeper, keepers, nkeepers, sizeof(ItemPointerData), tid_compare))
			pairs[npairs++] = losers[i];
	if (npairs == 0)
		return 0;

	arg_tids(&args, loser_rows(pairs, npairs), npairs);
	arg_tids(&args, loser_keepers(pairs, npairs), npairs);
	npairs = (int) spi_run_cached(settle->recheck, &args);
	for (int i = 0; i < npairs; i++)
	{
		spi_tid(i, 0, &pairs[i].row);
		spi_tid(i, 1, &pairs[i].keeper);
	}
	return npairs;
}

static void
pair_args(SqlArgs *args, const Loser *pairs, int n)
{
	arg_tids(args, loser_rows(pairs, n), n);
	arg_tids(args, loser_keepers(pairs, n), n);
}

/* Move rows to the archive; returns how many pairs are left. */
static int
archive_pairs(Job *job, Settle *settle, Loser *pairs, int n, SettleCounts *counts)
{
	SqlArgs		args = {0};
	SqlArgs		count = {0};
	ItemPointerData *gone;
	int			ngone;
	int64		archived;

	pair_args(&args, pairs, n);
	if (spi_run_cached(settle->archive, &args) == 0)
		return n;
	gone = result_tids(0, &ngone);
	archived = spi_int8(0, 1);
	if (archived != ngone)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("%d duplicates were deleted, but " INT64_FORMAT " archived", ngone, archived),
				 errdetail("Something on the archive keeps rows out of it; the batch was rolled back."),
				 errhint("Drop triggers and rules of the archive table %s.",
						 quote_relation(settle->child))));

	arg_oid(&count, settle->child);
	arg_int8(&count, archived);
	spi_catalog("UPDATE evmig.archive SET archived_rows = archived_rows + $2 WHERE relation = $1",
				&count);
	if (spi_nrows() != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("archive table %s of job " INT64_FORMAT " is not registered any more",
						quote_relation(settle->child), job->id),
				 errhint("Start a new job.")));
	counts->archived += archived;
	return losers_without(pairs, n, gone, ngone);
}

/* one column of the last result as text[] */
static Datum
text_column(int col, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		char	   *value = spi_text(i, col);

		if (value == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a duplicate got no new key"),
					 errdetail("The generator returned NULL, or a trigger of the table took the key away.")));
		elems[i] = CStringGetTextDatum(value);
	}
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Give rows another key and log it; returns how many pairs are left. */
static int
rekey_pairs(Job *job, Settle *settle, Loser *pairs, int n, SettleCounts *counts)
{
	SqlArgs		args = {0};
	SqlArgs		log = {0};
	ItemPointerData *gone;
	int			ngone;

	pair_args(&args, pairs, n);
	if (spi_run_cached(settle->rekey, &args) == 0)
		return n;
	gone = result_tids(0, &ngone);
	arg_int8(&log, job->id);
	arg_oid(&log, settle->relid);
	arg_text(&log, settle->key_column);
	arg_datum(&log, TEXTARRAYOID, text_column(1, ngone), false);
	arg_datum(&log, TEXTARRAYOID, text_column(2, ngone), false);
	arg_datum(&log, TEXTARRAYOID, text_column(3, ngone), false);
	spi_catalog("INSERT INTO evmig.rekey (job_id, target, key_column, old_key, new_key, row_identity)"
				" SELECT $1, $2, $3::name, u.o, u.n, u.i::jsonb"
				" FROM ROWS FROM (pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6)) AS u(o, n, i)",
				&log);
	counts->rekeyed += ngone;
	return losers_without(pairs, n, gone, ngone);
}

void
settle_batch(Job *job, Settle *settle, const Loser *losers, int n, SettleCounts *counts)
{
	Loser	   *pairs = palloc(sizeof(Loser) * n);
	int			npairs = lock_pairs(settle, losers, n, pairs);
	SqlArgs		none = {0};

	counts->locked += n - npairs;
	if (npairs > 0)
	{
		int64		blocked = 0;
		int			free = references_settle(settle->refs, pairs, npairs, &blocked);

		counts->referenced += blocked;
		counts->locked += npairs - free - blocked;
		npairs = free;
	}
	if (npairs > 0 && settle->archive)
		npairs = archive_pairs(job, settle, pairs, npairs, counts);
	if (npairs > 0 && settle->rekey)
		npairs = rekey_pairs(job, settle, pairs, npairs, counts);
	counts->suppressed += npairs;

	/* a deferred constraint must fail here, where it can be told */
	spi_run_cached("SET CONSTRAINTS ALL IMMEDIATE", &none);
	pfree(pairs);
}

char *
settle_note_referenced(Job *job, Settle *settle, const Loser *losers, int n)
{
	SqlArgs		rows = {0};
	SqlArgs		note = {0};
	int			nheld;
	ItemPointerData *held = references_held(settle->refs, losers, Min(n, NOTED_ROWS), &nheld);

	if (nheld == 0)
		return NULL;
	arg_tids(&rows, held, nheld);
	nheld = (int) spi_run_cached(settle->keys, &rows);
	held = result_tids(0, &nheld);
	arg_int8(&note, job->id);
	arg_datum(&note, TEXTARRAYOID, text_column(1, nheld), false);
	arg_tids(&note, held, nheld);
	spi_catalog("WITH k AS (SELECT * FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($2)) AS u(tid, key)),"
				" n AS (INSERT INTO evmig.job_failure (job_id, row_tid, row_key, sqlstate, message)"
				"  SELECT $1, tid, key, '23503', 'duplicate left in place: a foreign key points at it' FROM k)"
				" SELECT pg_catalog.string_agg(pg_catalog.quote_literal(key), ', ')"
				" FROM (SELECT key FROM k ORDER BY tid LIMIT 5) f", &note);
	return spi_text(0, 0);
}

char *
settle_lockers(Settle *settle, const Loser *losers, int n)
{
	SqlArgs		args = {0};
	int			many = Min(n, NOTED_ROWS);
	ItemPointerData *tids = palloc(sizeof(ItemPointerData) * many * 2);

	for (int i = 0; i < many; i++)
	{
		tids[2 * i] = losers[i].row;
		tids[2 * i + 1] = losers[i].keeper;
	}
	arg_tids(&args, tids, many * 2);
	return row_lockers(settle->relid, LockTupleExclusive, settle->still_there, &args, NULL);
}
