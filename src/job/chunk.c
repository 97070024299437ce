/*-------------------------------------------------------------------------
 *
 * chunk.c
 *	  Block ranges of a job: made, claimed, advanced, counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/builtins.h"

#include "base/spi.h"
#include "evmig.h"
#include "job/chunk.h"

static void
arg_tid(SqlArgs *args, const ItemPointerData *tid)
{
	ItemPointer copy = palloc(sizeof(ItemPointerData));

	*copy = *tid;
	arg_datum(args, TIDOID, PointerGetDatum(copy), false);
}

bool
chunks_exist(Job *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	return spi_catalog("SELECT 1 FROM evmig.job_chunk WHERE job_id = $1 LIMIT 1", &args) > 0;
}

void
chunks_make(Job *job, Oid relation, BlockNumber from, BlockNumber to,
			BlockNumber chunk_blocks)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_oid(&args, relation);
	arg_int8(&args, from);
	arg_int8(&args, to);
	arg_int8(&args, chunk_blocks);
	spi_catalog("INSERT INTO evmig.job_chunk (job_id, chunk, relation, block_from, block_to, cursor, walk_to)"
				" SELECT $1, n.last + pg_catalog.row_number() OVER (ORDER BY b), $2, b,"
				" least(b + $5, $4), pg_catalog.format('(%s,0)', b)::tid, least(b + $5, $4)"
				" FROM pg_catalog.generate_series($3, $4 - 1, $5) b,"
				" (SELECT coalesce(max(chunk), 0) AS last FROM evmig.job_chunk WHERE job_id = $1) n",
				&args);
}

void
chunks_reclaim(Job *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	spi_catalog("UPDATE evmig.job_chunk SET state = 'todo', claim = NULL"
				" WHERE job_id = $1 AND state = 'claimed'", &args);
}

void
chunks_restart(Job *job)
{
	SqlArgs		args = {0};

	/* keep the rows for their counters, with an empty range */
	arg_int8(&args, job->id);
	spi_catalog("UPDATE evmig.job_chunk SET state = 'done', claim = NULL,"
				" block_from = 0, block_to = 0, walk_to = 0, redo_from = NULL, redo_to = NULL,"
				" skipped = 0 WHERE job_id = $1", &args);
}

bool
chunk_claim(Job *job, Chunk *chunk)
{
	SqlArgs		args = {0};

	/* the chunk that this worker held before an error comes first */
	arg_int8(&args, job->id);
	arg_int8(&args, (int64) (pg_prng_uint64(&pg_global_prng_state) >> 1));
	arg_int8(&args, chunk->claim);
	/* materialized: a rescan under a join would lock, and claim, one more */
	if (spi_catalog("WITH n AS MATERIALIZED (SELECT chunk FROM evmig.job_chunk"
					"  WHERE job_id = $1 AND (state = 'todo' OR claim = $3)"
					"  ORDER BY claim IS DISTINCT FROM $3, pass, chunk LIMIT 1 FOR UPDATE SKIP LOCKED)"
					" UPDATE evmig.job_chunk c SET state = 'claimed', claim = $2"
					" FROM n WHERE c.job_id = $1 AND c.chunk = n.chunk"
					" RETURNING c.chunk, c.relation, c.walk_to, c.cursor,"
					" c.pass, c.claim", &args) == 0)
		return false;
	chunk->number = (int) spi_int8(0, 0);
	chunk->relation = spi_oid(0, 1);
	chunk->to = (BlockNumber) spi_int8(0, 2);
	spi_tid(0, 3, &chunk->cursor);
	chunk->pass = (int) spi_int8(0, 4);
	chunk->claim = spi_int8(0, 5);
	return true;
}

void
chunk_advance(Job *job, Chunk *chunk, const ItemPointerData *cursor,
			  const ChunkCounts *counts, bool done)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_int4(&args, chunk->number);
	arg_int8(&args, chunk->claim);
	arg_tid(&args, cursor);
	arg_int8(&args, counts->changed);
	arg_int8(&args, counts->skipped);
	arg_int8(&args, counts->unchanged);
	arg_int8(&args, counts->failed);
	arg_float8(&args, counts->ms);
	arg_datum(&args, INT8OID, Int64GetDatum(counts->skip_from), counts->skipped == 0);
	arg_datum(&args, INT8OID, Int64GetDatum((int64) counts->skip_to + 1), counts->skipped == 0);
	if (spi_catalog("UPDATE evmig.job_chunk SET cursor = $4, batches = batches + 1,"
					" changed = changed + $5, pass_changed = pass_changed + $5,"
					" skipped = skipped + $6, unchanged = unchanged + $7, failed = failed + $8,"
					" busy_ms = busy_ms + $9, last_rows = $5, last_ms = $9,"
					" redo_from = least(redo_from, $10), redo_to = greatest(redo_to, $11)"
					" WHERE job_id = $1 AND chunk = $2 AND claim = $3", &args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("chunk %d of job " INT64_FORMAT " was claimed by another worker",
						chunk->number, job->id)));
	chunk->cursor = *cursor;

	if (done)
	{
		SqlArgs		end = {0};

		arg_int8(&end, job->id);
		arg_int4(&end, chunk->number);
		arg_int4(&end, evmig_max_passes);
		spi_catalog("WITH c AS (SELECT chunk, redo_from, redo_to, redo_from IS NOT NULL AND"
					"  (pass_changed > 0 OR idle_passes + 1 < $3) AS again"
					"  FROM evmig.job_chunk WHERE job_id = $1 AND chunk = $2)"
					" UPDATE evmig.job_chunk j SET claim = NULL, pass_changed = 0,"
					" idle_passes = CASE WHEN j.pass_changed > 0 THEN 0 ELSE j.idle_passes + 1 END,"
					" redo_from = NULL, redo_to = NULL,"
					" state = CASE WHEN c.again THEN 'todo' ELSE 'done' END,"
					" pass = CASE WHEN c.again THEN j.pass + 1 ELSE j.pass END,"
					" skipped = CASE WHEN c.again THEN 0 ELSE j.skipped END,"
					" cursor = CASE WHEN c.again THEN pg_catalog.format('(%s,0)', c.redo_from)::tid ELSE j.cursor END,"
					" walk_to = CASE WHEN c.again THEN c.redo_to ELSE j.walk_to END"
					" FROM c WHERE j.job_id = $1 AND j.chunk = c.chunk", &end);
	}
}

void
chunks_walk_again(Job *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	spi_catalog("UPDATE evmig.job_chunk SET pass = 2 WHERE job_id = $1 AND state = 'todo' AND pass = 1",
				&args);
}

BlockNumber
chunks_end(Job *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	spi_catalog("SELECT coalesce(max(block_to), 0) FROM evmig.job_chunk WHERE job_id = $1", &args);
	return (BlockNumber) spi_int8(0, 0);
}

void
chunk_count(Job *job, const ChunkCounts *counts)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_oid(&args, job->target);
	arg_int8(&args, counts->changed);
	arg_int8(&args, counts->skipped);
	arg_int8(&args, counts->unchanged);
	arg_int8(&args, counts->failed);
	arg_float8(&args, counts->ms);
	spi_catalog("INSERT INTO evmig.job_chunk AS c (job_id, chunk, relation, block_from, block_to,"
				" cursor, walk_to, state, batches, changed, skipped, unchanged, failed, busy_ms, last_rows, last_ms)"
				" VALUES ($1, 0, $2, 0, 0, '(0,0)', 0, 'done', 1, $3, $4, $5, $6, $7, $3, $7)"
				" ON CONFLICT (job_id, chunk) DO UPDATE SET batches = c.batches + 1,"
				" changed = c.changed + $3, skipped = c.skipped + $4, unchanged = c.unchanged + $5,"
				" failed = c.failed + $6, busy_ms = c.busy_ms + $7, last_rows = $3, last_ms = $7",
				&args);
}

void
chunks_done(Job *job, double *rows, double *blocks, double *total)
{
	SqlArgs		args = {0};

	/* as evmig_progress counts them */
	arg_int8(&args, job->id);
	spi_catalog("SELECT coalesce(sum(changed), 0)::float8,"
				" coalesce(sum(CASE WHEN state = 'done' OR pass > 1 THEN block_to - block_from"
				"  ELSE pg_catalog.split_part(pg_catalog.btrim(cursor::text, '()'), ',', 1)::bigint - block_from END), 0)::float8,"
				" coalesce(sum(block_to - block_from), 0)::float8"
				" FROM evmig.job_chunk WHERE job_id = $1", &args);
	*rows = spi_float8(0, 0);
	*blocks = spi_float8(0, 1);
	*total = spi_float8(0, 2);
}

int64
chunks_total(Job *job, const char *counter)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_text(&args, counter);
	spi_catalog("SELECT coalesce(sum(CASE $2 WHEN 'changed' THEN changed WHEN 'skipped' THEN skipped"
				" WHEN 'unchanged' THEN unchanged WHEN 'failed' THEN failed END), 0)::bigint"
				" FROM evmig.job_chunk WHERE job_id = $1", &args);
	return spi_int8(0, 0);
}
