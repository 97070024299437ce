/*-------------------------------------------------------------------------
 *
 * restore.c
 *	  Put archived rows and old keys back.
 *
 * Rows move from the children of the archive to the table in batches, each
 * deleted here and inserted there in one statement.  A re-keyed row gets its
 * old key back only where it still holds the new one.
 *
 * A unique index on the key forbids all of this; a job that was told so drops
 * it first, concurrently.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "base/statement.h"
#include "evmig.h"
#include "integrity/archive.h"
#include "integrity/ingest.h"
#include "integrity/reference.h"
#include "job/chunk.h"
#include "job/governor.h"
#include "job/kinds.h"
#include "job/pace.h"
#include "job/worker.h"

#define ALL_JOBS INT64CONST(-1)
#define FIND_ROWS 100000		/* re-keyed rows that one read finds at most */

PG_FUNCTION_INFO_V1(evmig_restore);

/* one child of the archive, or the re-keyed rows of one key column */
typedef struct Part
{
	int64		archive_id;		/* 0: re-keyed rows */
	char	   *find;
	char	   *lock;			/* re-keyed rows only */
	char	   *restore;
	char	   *key_column;		/* re-keyed rows only */
	ItemPointerData cursor;		/* archive: first TID not looked at */
	int			passes;
	bool		done;
} Part;

typedef struct Restore
{
	int64		only_job;
	List	   *parts;
	List	   *drop;			/* quoted names of indexes */
	Pace		pace;

	/* re-keyed rows that a read has found */
	ItemPointerData *tids;
	int64	   *ids;
	int			nfound;
	int			next;
	int64		skipped;		/* of this pass: locked or changed */

	int64		lost;			/* rows of children that were dropped by hand */
} Restore;

/* ---- what is in the way ---- */

/* $1 the table, $2 the job or -1: key columns of what there is to put back */
#define KEY_COLUMNS \
	"(SELECT key_column FROM evmig.archive WHERE target = $1 AND purged_at IS NULL" \
	"  AND ($2 = -1 OR job_id = $2)" \
	" UNION SELECT key_column FROM evmig.rekey WHERE target = $1 AND restored_at IS NULL" \
	"  AND ($2 = -1 OR coalesce(job_id, 0) = $2))"

/* Quoted names of the unique indexes on the key; inside SPI. */
static List *
unique_indexes(Target *target, int64 job_id, bool drop)
{
	SqlArgs		args = {0};
	List	   *names = NIL;
	int			n;

	arg_oid(&args, target->relid);
	arg_int8(&args, job_id);
	n = (int) spi_catalog("SELECT i.indexrelid, c.conname::text FROM pg_catalog.pg_index i"
						  " JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
						  " LEFT JOIN pg_catalog.pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')"
						  " WHERE i.indrelid = $1 AND i.indisunique AND i.indnkeyatts = 1"
						  " AND a.attname IN " KEY_COLUMNS " ORDER BY 1", &args);
	for (int i = 0; i < n; i++)
	{
		char	   *index = quote_relation(spi_oid(i, 0));
		char	   *constraint = spi_text(i, 1);

		if (!drop || constraint)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("unique index %s forbids duplicates in table %s", index, target->quoted),
					 constraint ?
					 errhint("ALTER TABLE %s DROP CONSTRAINT %s, and call it again.",
							 target->quoted, quote_identifier(constraint)) :
					 errhint("Say drop_index => true to drop it concurrently first.")));
		names = lappend(names, pstrdup(index));
	}
	return names;
}

/* An ingest guard that settles duplicates would settle what comes back. */
static void
refuse_guard(Target *target)
{
	char	   *duplicates;

	if (ingest_guard_get(target->relid, &duplicates) == NULL ||
		strcmp(duplicates, "pass") == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the ingest guard of table %s does not let duplicates pass", target->quoted),
			 errdetail("Its setting for duplicates is \"%s\", so what is put back would be treated as new duplicates.",
					   duplicates),
			 errhint("SELECT evmig_ingest_guard(%s, duplicates => 'pass'), and call it again.",
					 quote_literal_cstr(target->quoted))));
}

/* ---- the SQL function ---- */

/*
 * evmig_restore(target regclass, job bigint, drop_index boolean) returns bigint
 *
 * Start a job that puts back what a job (NULL: every job, and the ingest
 * guard) has archived or re-keyed.  Returns the job's id.  Takes ACCESS SHARE
 * here; the job takes ROW EXCLUSIVE and row locks, a batch at a time.
 */
Datum
evmig_restore(PG_FUNCTION_ARGS)
{
	Target	   *target = target_resolve(ARG_RELID(0), NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY);
	int64		job_id = PG_ARGISNULL(1) ? ALL_JOBS : PG_GETARG_INT64(1);
	bool		drop = PG_ARGISNULL(2) ? false : PG_GETARG_BOOL(2);
	JobRequest	request = {"restore"};
	SqlArgs		args = {0};

	spi_begin();
	arg_oid(&args, target->relid);
	arg_int8(&args, job_id);
	if (job_id != ALL_JOBS &&
		spi_catalog("SELECT 1 FROM " KEY_COLUMNS " k LIMIT 1", &args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is nothing of job " INT64_FORMAT " to put back into table %s",
						job_id, target->quoted),
				 errhint("The tables evmig.archive and evmig.rekey show what there is.")));
	(void) unique_indexes(target, job_id, drop);
	refuse_guard(target);
	spi_end();

	request.spec = psprintf("{\"only_job\": " INT64_FORMAT ", \"drop_index\": %s}",
							job_id, drop ? "true" : "false");
	PG_RETURN_INT64(job_create(target, &request));
}

/* ---- preparing ---- */

/* A child of the archive: its rows are deleted there and inserted here. */
static Part *
archive_part(Target *target, int64 archive_id, Oid child)
{
	Part	   *part = palloc0(sizeof(Part));
	char	   *from = quote_relation(child);
	char	   *columns = archive_restore_columns(target, child, "");

	part->archive_id = archive_id;
	ItemPointerSet(&part->cursor, 0, 0);
	part->find = psprintf("SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.>=) $1 LIMIT $2", from);
	part->restore = psprintf("WITH del AS (DELETE FROM ONLY %s d WHERE d.ctid OPERATOR(pg_catalog.=) ANY ($1) RETURNING %s),"
							 " ins AS (INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT * FROM del RETURNING 1)"
							 " SELECT (SELECT pg_catalog.count(*) FROM del), (SELECT pg_catalog.count(*) FROM ins)",
							 from, archive_restore_columns(target, child, "d."),
							 target->quoted, columns);
	return part;
}

/* The rows that hold a new key; r is what evmig.rekey says of them. */
static Part *
rekey_part(Target *target, const char *key_column, int64 only_job)
{
	Part	   *part = palloc0(sizeof(Part));
	Target	   *keyed = target_resolve(target->relid, key_column, NULL, TARGET_CHANGE);
	char	   *type = quote_type(keyed->key.type, keyed->key.typmod);
	char	   *is_row = psprintf("t.%s %s r.new_key::%s AND (r.row_identity IS NULL"
								  " OR pg_catalog.jsonb_exists(r.row_identity, 'ctid')"
								  " OR pg_catalog.to_jsonb(t.*) OPERATOR(pg_catalog.@>) r.row_identity)",
								  keyed->key.quoted, quote_operator(keyed->key.eq_op), type);

	part->key_column = pstrdup(key_column);
	part->find = psprintf("WITH r AS MATERIALIZED (SELECT rekey_id, new_key, row_identity FROM evmig.rekey"
						  " WHERE target OPERATOR(pg_catalog.=) $1 AND key_column OPERATOR(pg_catalog.=) $2::pg_catalog.name"
						  " AND restored_at IS NULL%s)"
						  " SELECT t.ctid, r.rekey_id FROM ONLY %s t JOIN r ON %s ORDER BY t.ctid LIMIT $3",
						  only_job == ALL_JOBS ? "" :
						  psprintf(" AND coalesce(job_id, 0) OPERATOR(pg_catalog.=) " INT64_FORMAT, only_job),
						  target->quoted, is_row);
	part->lock = psprintf("SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)"
						  " FOR UPDATE SKIP LOCKED", target->quoted);
	part->restore = psprintf("UPDATE ONLY %s t SET %s = r.old_key::%s"
							 " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS p(tid, id)"
							 " JOIN evmig.rekey r ON r.rekey_id OPERATOR(pg_catalog.=) p.id AND r.restored_at IS NULL"
							 " WHERE t.ctid OPERATOR(pg_catalog.=) p.tid AND %s RETURNING r.rekey_id",
							 target->quoted, keyed->key.quoted, type, is_row);
	return part;
}

/* All parts of the job; inside SPI, in the job's memory. */
static void
load_parts(Job *job, Restore *restore, Target *target)
{
	SqlArgs		args = {0};
	int			n;
	MemoryContext oldcontext;

	arg_oid(&args, target->relid);
	arg_int8(&args, restore->only_job);
	n = (int) spi_catalog("SELECT a.archive_id, c.oid, archived_rows - restored_rows - purged_rows"
						  " FROM evmig.archive a LEFT JOIN pg_catalog.pg_class c ON c.oid = a.relation"
						  " WHERE a.target = $1 AND a.purged_at IS NULL AND ($2 = -1 OR a.job_id = $2)"
						  " ORDER BY 1", &args);
	oldcontext = MemoryContextSwitchTo(job->context);
	for (int i = 0; i < n; i++)
	{
		if (OidIsValid(spi_oid(i, 1)))
			restore->parts = lappend(restore->parts,
									 archive_part(target, spi_int8(i, 0), spi_oid(i, 1)));
		else
			restore->lost += Max(spi_int8(i, 2), 0);
	}
	MemoryContextSwitchTo(oldcontext);

	n = (int) spi_catalog("SELECT DISTINCT key_column::text FROM evmig.rekey WHERE target = $1"
						  " AND restored_at IS NULL AND key_column IS NOT NULL"
						  " AND ($2 = -1 OR coalesce(job_id, 0) = $2) ORDER BY 1", &args);
	oldcontext = MemoryContextSwitchTo(job->context);
	for (int i = 0; i < n; i++)
		restore->parts = lappend(restore->parts,
								 rekey_part(target, spi_text(i, 0), restore->only_job));
	restore->drop = unique_indexes(target, restore->only_job, job_spec_bool(job, "drop_index", false));
	MemoryContextSwitchTo(oldcontext);
}

static void
drop_indexes(Job *job, Restore *restore)
{
	ListCell   *lc;

	foreach(lc, restore->drop)
	{
		ErrorData  *error;
		char	   *saved = pstrdup(GetConfigOption("lock_timeout", false, false));

		job_phase(job, psprintf("dropping unique index %s", (char *) lfirst(lc)), -1);

		/* a timeout while it waits would leave an invalid index behind */
		SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
		error = run_toplevel(psprintf("DROP INDEX CONCURRENTLY IF EXISTS %s", (char *) lfirst(lc)));
		SetConfigOption("lock_timeout", saved, PGC_USERSET, PGC_S_SESSION);
		if (error)
			ReThrowError(error);
	}
	restore->drop = NIL;
}

static void
restore_prepare(Job *job)
{
	Restore    *restore = MemoryContextAllocZero(job->context, sizeof(Restore));
	Target	   *target;

	restore->only_job = job_spec_int8(job, "only_job", ALL_JOBS);
	job_begin(job);
	(void) job_check_target(job);
	target = target_resolve(job->target, NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY);
	refuse_guard(target);
	load_parts(job, restore, target);
	job_commit(job);
	drop_indexes(job, restore);

	governor_pace_init(&restore->pace);
	job->state = restore;
	job_phase(job, "putting rows back", -1);
}

/* ---- a batch of archived rows ---- */

/* Put back the next rows of a child; returns how many. */
static int64
restore_rows(Part *part, int limit)
{
	SqlArgs		find = {0};
	SqlArgs		args = {0};
	SqlArgs		count = {0};
	int			n;
	ItemPointerData *tids;
	int64		back;

	arg_datum(&find, TIDOID, PointerGetDatum(&part->cursor), false);
	arg_int8(&find, limit);
	n = (int) spi_run_cached(part->find, &find);
	if (n == 0)
	{
		/* somebody may have added rows behind the cursor: look once more */
		part->done = part->passes++ > 0 && ItemPointerGetBlockNumberNoCheck(&part->cursor) == 0 &&
			ItemPointerGetOffsetNumberNoCheck(&part->cursor) == 0;
		ItemPointerSet(&part->cursor, 0, 0);
		return 0;
	}
	tids = result_tids(0, &n);
	arg_tids(&args, tids, n);
	spi_run_cached(part->restore, &args);
	back = spi_int8(0, 0);
	if (back != spi_int8(0, 1))
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg(INT64_FORMAT " rows were taken from the archive, but only " INT64_FORMAT " inserted",
						back, spi_int8(0, 1)),
				 errdetail("A trigger of the table keeps rows out; the batch was rolled back."),
				 errhint("Disable the trigger, and call it again.")));
	part->cursor = tids[n - 1];
	ItemPointerSetOffsetNumber(&part->cursor, ItemPointerGetOffsetNumberNoCheck(&part->cursor) + 1);

	arg_int8(&count, part->archive_id);
	arg_int8(&count, back);
	spi_catalog("UPDATE evmig.archive SET restored_rows = restored_rows + $2 WHERE archive_id = $1",
				&count);
	return back;
}

/* ---- a batch of old keys ---- */

/* One read of the table for rows that hold a new key; false when there is none. */
static bool
find_rekeyed(Job *job, Restore *restore, Part *part)
{
	SqlArgs		args = {0};
	int64		before = restore->nfound;
	int64		skipped = restore->skipped;

	job_begin_untimed(job);
	arg_oid(&args, job->target);
	arg_text(&args, part->key_column);
	arg_int8(&args, FIND_ROWS);
	restore->nfound = (int) spi_read(part->find, &args, 0);
	restore->next = 0;
	restore->skipped = 0;
	if (restore->tids == NULL)
	{
		restore->tids = MemoryContextAlloc(job->context, sizeof(ItemPointerData) * FIND_ROWS);
		restore->ids = MemoryContextAlloc(job->context, sizeof(int64) * FIND_ROWS);
	}
	for (int i = 0; i < restore->nfound; i++)
	{
		spi_tid(i, 0, &restore->tids[i]);
		restore->ids[i] = spi_int8(i, 1);
	}
	job_commit(job);

	/* what others hold is tried again, but not for ever */
	if (restore->nfound == 0)
		return false;
	if (before > 0 && skipped == before && ++part->passes >= evmig_max_passes)
		return false;
	if (skipped > 0)
		worker_sleep(job, 100.0 * (1 << Min(part->passes, 5)));
	return true;
}

static int64
restore_keys(Restore *restore, Part *part, int limit)
{
	int			n = Min(limit, restore->nfound - restore->next);
	ItemPointerData *locked;
	ItemPointerData *rows = palloc(sizeof(ItemPointerData) * n);
	Datum	   *ids = palloc(sizeof(Datum) * n);
	int			nlocked;
	int			kept = 0;
	SqlArgs		lock = {0};
	SqlArgs		args = {0};
	SqlArgs		done = {0};
	int64		back = 0;

	arg_tids(&lock, restore->tids + restore->next, n);
	spi_run_cached(part->lock, &lock);
	locked = result_tids(0, &nlocked);
	qsort(locked, nlocked, sizeof(ItemPointerData), tid_compare);
	for (int i = restore->next; i < restore->next + n; i++)
		if (bsearch(&restore->tids[i], locked, nlocked, sizeof(ItemPointerData), tid_compare))
		{
			rows[kept] = restore->tids[i];
			ids[kept++] = Int64GetDatum(restore->ids[i]);
		}
	if (kept > 0)
	{
		arg_tids(&args, rows, kept);
		arg_datum(&args, INT8ARRAYOID,
				  PointerGetDatum(construct_array(ids, kept, INT8OID, sizeof(int64),
												  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)), false);
		back = (int64) spi_run_cached(part->restore, &args);
		for (int i = 0; i < back; i++)
			ids[i] = Int64GetDatum(spi_int8(i, 0));
		arg_datum(&done, INT8ARRAYOID,
				  PointerGetDatum(construct_array(ids, (int) back, INT8OID, sizeof(int64),
												  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)), false);
		spi_catalog("UPDATE evmig.rekey SET restored_at = pg_catalog.clock_timestamp()"
					" WHERE rekey_id = ANY ($1)", &done);
	}
	restore->skipped += n - back;
	return back;
}

/* ---- the job ---- */

static bool
restore_batch(Job *job)
{
	Restore    *restore = job->state;
	Part	   *part = NULL;
	ListCell   *lc;
	ChunkCounts counts = {0};
	SqlArgs		none = {0};
	uint64		wal;
	TimestampTz start;
	int			limit = pace_rows(&restore->pace);
	int			next = restore->next;

	foreach(lc, restore->parts)
		if (!((Part *) lfirst(lc))->done)
		{
			part = lfirst(lc);
			break;
		}
	if (part == NULL)
		return false;
	if (part->archive_id == 0 && restore->next >= restore->nfound &&
		!find_rekeyed(job, restore, part))
	{
		part->done = true;
		restore->nfound = restore->next = 0;
		return true;
	}
	next = restore->next;

	governor_wait(job);
	wal = pgWalUsage.wal_bytes;
	start = GetCurrentTimestamp();
	job_begin(job);
	if (job_check_target(job) && part->archive_id == 0)
	{
		/* rewritten: the TIDs mean nothing any more */
		job_commit(job);
		restore->nfound = restore->next = 0;
		return true;
	}
	job_wait_for_rows(job, NIL);
	if (part->archive_id != 0)
		counts.changed = restore_rows(part, limit);
	else
	{
		counts.changed = restore_keys(restore, part, limit);
		next = Min(restore->next + limit, restore->nfound);
	}
	spi_run_cached("SET CONSTRAINTS ALL IMMEDIATE", &none);
	counts.ms = (GetCurrentTimestamp() - start) / 1000.0;
	chunk_count(job, &counts);
	job_commit(job);

	restore->next = next;
	governor_rest(job, &restore->pace,
				  pace_next(&restore->pace, counts.changed,
							(GetCurrentTimestamp() - start) / 1000.0,
							pgWalUsage.wal_bytes - wal));
	return true;
}

static bool
restore_verify(Job *job)
{
	Restore    *restore = job->state;
	SqlArgs		args = {0};
	int64		left;
	int64		locked = 0;
	ListCell   *lc;

	job_begin_untimed(job);
	foreach(lc, restore->parts)
	{
		Part	   *part = lfirst(lc);
		SqlArgs		find = {0};

		if (part->archive_id != 0)
			continue;
		arg_oid(&find, job->target);
		arg_text(&find, part->key_column);
		arg_int8(&find, FIND_ROWS);
		locked += (int64) spi_read(part->find, &find, 0);
	}
	arg_oid(&args, job->target);
	arg_int8(&args, restore->only_job);
	spi_catalog("SELECT count(*) FROM evmig.rekey WHERE target = $1 AND restored_at IS NULL"
				" AND ($2 = -1 OR coalesce(job_id, 0) = $2)", &args);
	left = spi_int8(0, 0) - locked;
	job_commit(job);

	if (locked > 0)
		job_outcome(job, "incomplete", locked,
					INT64_FORMAT " rows still have their new key: other sessions hold them", locked);
	else if (restore->lost > 0)
		job_outcome(job, "incomplete", restore->lost,
					INT64_FORMAT " rows cannot be put back: their archive table was dropped", restore->lost);
	else if (left > 0)
		job_outcome(job, "succeeded", 0,
					INT64_FORMAT " re-keyed rows are gone or no longer hold their new key and were left alone", left);
	else
		job_outcome(job, "succeeded", 0, NULL);
	return false;
}

const JobKind restore_kind = {
	.name = "restore",
	.integrity = true,
	.prepare = restore_prepare,
	.batch = restore_batch,
	.verify = restore_verify,
};
