/*-------------------------------------------------------------------------
 *
 * engine.c
 *	  One batch of a fill, by block ranges.
 *
 * The cursor is a TID: no index, no key and no sort are needed, and each
 * block is read once a pass.  A batch finds its rows without locking, then
 * updates them under a lock timeout of a millisecond; only where somebody
 * holds one of them are they locked with SKIP LOCKED first.  The predicate
 * stands next to the TIDs each time, so the row that is locked is checked
 * again.
 *
 * Where no index is touched and a page has many rows to change, a window of
 * pages is walked in laps, each of which changes a part of the rows of each
 * page and commits: pruning then finds room on the page for the next lap's row
 * versions, which saves WAL, heap and index growth.
 *
 * An application's UPDATE can carry a row past the cursor, so the last word
 * is a sweep that counts what is left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <limits.h>

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "backfill/engine.h"
#include "base/row_lock.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "evmig.h"
#include "job/governor.h"
#include "job/worker.h"

#define MIN_CHUNK_BLOCKS 1024	/* 8 MB: neighbours do not share pages */
#define MAX_CHUNKS 1024			/* a claim reads all of them */
#define BATCH_BLOCKS 1024		/* read by one batch at most */
#define LOG_EVERY 10			/* batches */
#define HOT_LAPS 4
#define DENSE_ROWS 2			/* rows to change on a page, from which laps pay */
#define NO_WAIT_MS "1"

struct Engine
{
	char	   *relation;		/* quoted */
	const RowWork *work;		/* NULL: the statements here */
	void	   *work_arg;
	bool		looked;			/* there was nothing to do, says this count: */
	SweepCount	seen;
	char	   *find;
	char	   *lock;
	char	   *update;
	char	   *count;
	char	   *left;
	LockTupleMode lock_mode;
	Pace		pace;
	Chunk		chunk;
	bool		have_chunk;
	bool		hot;			/* no index is touched: laps are of use */
	int			laps;			/* over the window at hand */
	int			lap;			/* the next one, from 0 */
	ItemPointerData window_end;
	int			contended;		/* batches to lock first, after a clash */
	int			batches;
	int			sweeps;
	TimestampTz logged;
};

static BlockNumber
relation_blocks(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	relation_close(rel, NoLock);
	return blocks;
}

/*
 * Put a range of blocks up for a walk.  A canary's share must be whole chunks.
 */
static void
make_chunks(Job *job, BlockNumber from, BlockNumber to)
{
	BlockNumber size = Max(MIN_CHUNK_BLOCKS, (to - from) / MAX_CHUNKS + 1);

	if (evmig_canary_pct > 0)
		size = Min(size, Max(1, (BlockNumber) ((to - from) * evmig_canary_pct / 100)));
	chunks_make(job, job->target, from, to, size);
}

/* Count what is to be done, and put only those blocks up for a walk. */
static void
look_first(Job *job, Engine *engine)
{
	SweepCount *seen = &engine->seen;

	if (!engine->work->count(job, engine->work_arg, seen))
		make_chunks(job, 0, relation_blocks(job->target));
	else if (seen->todo > 0)
		make_chunks(job, ItemPointerGetBlockNumberNoCheck(&seen->first),
					ItemPointerGetBlockNumberNoCheck(&seen->last) + 1);
	else
		engine->looked = true;
}

/* What every engine has: block ranges, pace. */
static Engine *
engine_make(Job *job, const RowWork *work, void *work_arg, bool look)
{
	Engine	   *engine = MemoryContextAllocZero(job->context, sizeof(Engine));

	engine->work = work;
	engine->work_arg = work_arg;
	job_begin_untimed(job);
	(void) job_check_target(job);
	if (!chunks_exist(job))
	{
		if (look)
			look_first(job, engine);
		else
			make_chunks(job, 0, relation_blocks(job->target));
	}
	job_commit(job);

	engine->relation = MemoryContextStrdup(job->context, job->target_name);
	governor_pace_init(&engine->pace);
	engine->laps = 1;
	return engine;
}

Engine *
engine_prepare(Job *job, const FillSpec *spec)
{
	MemoryContext oldcontext;
	Engine	   *engine = engine_make(job, NULL, NULL, false);

	oldcontext = MemoryContextSwitchTo(job->context);
	engine->find = psprintf("SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.>=) $1"
							" AND ctid OPERATOR(pg_catalog.<) $2 AND (%s) LIMIT $3",
							job->target_name, spec->predicate);
	engine->lock = psprintf("SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)"
							" AND (%s) %s SKIP LOCKED",
							job->target_name, spec->predicate,
							spec->unique ? "FOR UPDATE" : "FOR NO KEY UPDATE");
	engine->lock_mode = spec->unique ? LockTupleExclusive : LockTupleNoKeyExclusive;
	engine->update = psprintf("UPDATE ONLY %s SET %s WHERE ctid OPERATOR(pg_catalog.=) ANY ($1) AND (%s)",
							  job->target_name, spec->set_list, spec->predicate);
	engine->count = psprintf("SELECT pg_catalog.count(*), pg_catalog.min(ctid), pg_catalog.max(ctid) FROM ONLY %s WHERE (%s)",
							 job->target_name, spec->predicate);
	engine->left = psprintf("SELECT ctid FROM ONLY %s WHERE (%s) LIMIT 1000", job->target_name, spec->predicate);
	engine->hot = spec->hot;
	MemoryContextSwitchTo(oldcontext);
	return engine;
}

Engine *
engine_prepare_work(Job *job, const RowWork *work, void *arg, bool look)
{
	return engine_make(job, work, arg, look);
}

/* ---- one batch ---- */

/* Rows of the last result as an array of TIDs. */
static ItemPointerData *
result_tids(int *n)
{
	ItemPointerData *tids;

	*n = (int) spi_nrows();
	tids = palloc(sizeof(ItemPointerData) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		spi_tid(i, 0, &tids[i]);
	return tids;
}

typedef struct UpdateCall
{
	Engine	   *engine;
	SqlArgs    *args;
	int64		changed;
} UpdateCall;

static void
call_update(void *arg)
{
	UpdateCall *call = arg;
	int			nest = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", NO_WAIT_MS, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	call->changed = spi_run_cached(call->engine->update, call->args);
	AtEOXact_GUC(false, nest);
}

/*
 * Update rows without waiting for anybody: true, or false with nothing done
 * when one of them is locked.
 */
static bool
update_nowait(Engine *engine, SqlArgs *args, int64 *changed)
{
	UpdateCall	call = {engine, args};
	ErrorData  *error = subxact_try(call_update, &call);

	*changed = call.changed;
	if (error == NULL)
		return true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* Lock what can be locked, update that, count the rest as skipped. */
static void
update_unlocked(Engine *engine, const ItemPointerData *found, int nfound,
				ChunkCounts *counts)
{
	SqlArgs		args = {0};
	SqlArgs		update = {0};
	ItemPointerData *locked;
	int			nlocked;
	int			j = 0;

	arg_tids(&args, found, nfound);
	spi_run_cached(engine->lock, &args);
	locked = result_tids(&nlocked);
	arg_tids(&update, locked, nlocked);
	counts->changed = nlocked > 0 ? spi_run_cached(engine->update, &update) : 0;

	/* both lists are in TID order, as a TID scan returns them */
	for (int i = 0; i < nfound; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&found[i]);

		if (j < nlocked && ItemPointerEquals(unconstify(ItemPointerData *, &found[i]), &locked[j]))
		{
			j++;
			continue;
		}
		if (counts->skipped++ == 0)
			counts->skip_from = block;
		counts->skip_to = block;
	}
}

/* A line in the server log now and then; asked for no more often than it may come. */
static void
log_progress(Job *job, Engine *engine)
{
	TimestampTz now = GetCurrentTimestamp();

	if (engine->batches % LOG_EVERY != 0 ||
		!TimestampDifferenceExceeds(engine->logged, now, evmig_log_min_interval))
		return;
	engine->logged = now;
	job_log_progress(job);
}

/* The table was rewritten: block numbers mean nothing any more. */
static void
start_pass_again(Job *job, Engine *engine)
{
	chunks_restart(job);
	make_chunks(job, 0, relation_blocks(job->target));
	engine->have_chunk = false;
	ereport(LOG,
			(errmsg("evmig job " INT64_FORMAT ": table %s was rewritten, its pass starts again",
					job->id, engine->relation)));
}

/* Are there more rows to change on a page than find room on it? */
static bool
is_dense(const ItemPointerData *found, int nfound)
{
	BlockNumber blocks = ItemPointerGetBlockNumberNoCheck(&found[nfound - 1]) -
		ItemPointerGetBlockNumberNoCheck(&found[0]) + 1;

	return nfound >= blocks * DENSE_ROWS;
}

/*
 * Find the rows of a batch.  The first lap over a window finds its end: as
 * many rows as the pace allows, in each of the laps that the window takes.
 * Later laps read the same pages again while they are cached, which prunes
 * them, and take their share of the rows.
 */
static ItemPointerData *
find_rows(Engine *engine, int *nfound)
{
	Chunk	   *chunk = &engine->chunk;
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(&chunk->cursor);
	int			batch = pace_rows(&engine->pace);
	int			limit = engine->lap > 0 ? INT_MAX : engine->hot ? batch * HOT_LAPS : batch;
	ItemPointerData *found;
	SqlArgs		args = {0};
	int			n;

	if (engine->lap == 0)
		ItemPointerSet(&engine->window_end, Min(chunk->to, block + BATCH_BLOCKS), 0);
	arg_datum(&args, TIDOID, PointerGetDatum(&chunk->cursor), false);
	arg_datum(&args, TIDOID, PointerGetDatum(&engine->window_end), false);
	arg_int8(&args, limit);
	spi_run_cached(engine->find, &args);
	found = result_tids(&n);

	if (engine->lap == 0)
	{
		engine->laps = engine->hot && n > 0 && is_dense(found, n) ? HOT_LAPS : 1;
		if (engine->laps == 1 && n > batch)
			limit = n = batch;
		if (n == limit)
		{
			engine->window_end = found[n - 1];
			ItemPointerSetOffsetNumber(&engine->window_end,
									   ItemPointerGetOffsetNumberNoCheck(&found[n - 1]) + 1);
		}
	}
	if (engine->laps > 1)
	{
		int			kept = 0;

		for (int i = 0; i < n; i++)
			if (ItemPointerGetOffsetNumberNoCheck(&found[i]) % engine->laps == engine->lap)
				found[kept++] = found[i];
		n = kept;
	}
	*nfound = n;
	return found;
}

/* The same by the engine's own way to do it. */
static void
do_work(Job *job, Engine *engine, ChunkCounts *counts)
{
	Chunk	   *chunk = &engine->chunk;
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(&chunk->cursor);
	TimestampTz start = GetCurrentTimestamp();
	ItemPointerData upto;

	ItemPointerSet(&upto, Min(chunk->to, block + BATCH_BLOCKS), 0);
	engine->work->change(job, engine->work_arg, chunk, &upto, pace_rows(&engine->pace), counts);
	counts->ms = (GetCurrentTimestamp() - start) / 1000.0;
	chunk_advance(job, chunk, &upto, counts,
				  ItemPointerGetBlockNumberNoCheck(&upto) >= chunk->to);
}

/* Find and change the batch's rows, move the cursor behind a finished window. */
static void
change_rows(Job *job, Engine *engine, ChunkCounts *counts)
{
	Chunk	   *chunk = &engine->chunk;
	TimestampTz start = GetCurrentTimestamp();
	ItemPointerData *found;
	int			nfound;
	bool		last_lap;
	SqlArgs		none = {0};

	job_wait_for_rows(job, NIL);
	found = find_rows(engine, &nfound);
	last_lap = engine->lap == engine->laps - 1;
	if (nfound > 0)
	{
		SqlArgs		update = {0};

		arg_tids(&update, found, nfound);
		if (engine->contended > 0 || !update_nowait(engine, &update, &counts->changed))
		{
			engine->contended = engine->contended > 0 ? engine->contended - 1 : LOG_EVERY;
			update_unlocked(engine, found, nfound, counts);
		}
		/* a deferred constraint must fail here, where it can be told */
		spi_run_cached("SET CONSTRAINTS ALL IMMEDIATE", &none);
	}
	counts->ms = (GetCurrentTimestamp() - start) / 1000.0;
	chunk_advance(job, chunk, last_lap ? &engine->window_end : &chunk->cursor, counts,
				  last_lap && ItemPointerGetBlockNumberNoCheck(&engine->window_end) >= chunk->to);
}

bool
engine_batch(Job *job, Engine *engine)
{
	ChunkCounts counts = {0};
	uint64		wal;
	TimestampTz start;
	double		rest;
	bool		had_chunk = engine->have_chunk;

	governor_wait(job);
	wal = pgWalUsage.wal_bytes;
	start = GetCurrentTimestamp();

	/* after an error the chunk is claimed again, with the committed cursor */
	engine->have_chunk = false;
	job_begin(job);
	if (job_check_target(job))
	{
		start_pass_again(job, engine);
		job_commit(job);
		return true;
	}
	if (!had_chunk)
	{
		engine->lap = 0;
		if (!chunk_claim(job, &engine->chunk))
		{
			job_commit(job);
			return false;
		}
	}
	if (engine->work)
		do_work(job, engine, &counts);
	else
		change_rows(job, engine, &counts);
	job_commit(job);

	engine->lap = (engine->lap + 1) % engine->laps;
	engine->have_chunk =
		ItemPointerGetBlockNumberNoCheck(&engine->chunk.cursor) < engine->chunk.to;
	engine->batches++;
	log_progress(job, engine);
	/* the laps of a window share its rows unevenly; their mean is the size */
	rest = pace_next(&engine->pace,
					 engine->laps > 1 ? Max(counts.changed, pace_rows(&engine->pace)) : counts.changed,
					 (GetCurrentTimestamp() - start) / 1000.0,
					 pgWalUsage.wal_bytes - wal);
	/* what was locked a moment ago is likely to be locked still */
	if (counts.skipped > 0 && engine->chunk.pass > 1)
		rest = Max(rest, 100.0 * (1 << Min(engine->chunk.pass, 5)));
	governor_rest(job, &engine->pace, rest);
	return true;
}

/* ---- the last sweep ---- */

bool
engine_sweep(Job *job, Engine *engine, int64 *remaining)
{
	SqlArgs		none = {0};
	bool		again = false;

	job_phase(job, "last sweep", -1);
	job_begin_untimed(job);
	if (job_check_target(job))
	{
		start_pass_again(job, engine);
		job_commit(job);
		return true;
	}
	spi_read(engine->count, &none, 0);
	*remaining = spi_int8(0, 0);
	if (*remaining > 0)
	{
		ItemPointerData first;
		ItemPointerData last;

		spi_tid(0, 1, &first);
		spi_tid(0, 2, &last);
		again = engine->sweeps++ < evmig_max_passes;
		if (again)
			make_chunks(job, ItemPointerGetBlockNumberNoCheck(&first),
						ItemPointerGetBlockNumberNoCheck(&last) + 1);
	}
	job_commit(job);
	return again;
}

bool
engine_has_nothing_to_do(Engine *engine)
{
	return engine->looked;
}

bool
engine_sweep_work(Job *job, Engine *engine, SweepCount *sweep)
{
	bool		counted;
	bool		again;

	if (engine->looked)
	{
		*sweep = engine->seen;
		return false;
	}
	job_phase(job, "last sweep", -1);
	job_begin_untimed(job);
	memset(sweep, 0, sizeof(*sweep));
	if (job_check_target(job))
	{
		start_pass_again(job, engine);
		job_commit(job);
		return true;
	}
	counted = engine->work->count(job, engine->work_arg, sweep);
	again = (!counted || sweep->todo > 0) && engine->sweeps++ < evmig_max_passes;
	if (again)
	{
		make_chunks(job, counted ? ItemPointerGetBlockNumberNoCheck(&sweep->first) : 0,
					counted ? ItemPointerGetBlockNumberNoCheck(&sweep->last) + 1 :
					relation_blocks(job->target));
		chunks_walk_again(job);
	}
	else if (!counted)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("rows that fail keep turning up in table %s", engine->relation),
				 errdetail("What is left could not be counted.")));
	job_commit(job);
	return again;
}

char *
engine_lockers(Job *job, Engine *engine)
{
	char	   *lockers;

	job_begin(job);
	lockers = row_lockers(job->target, engine->lock_mode, engine->left, NULL, NULL);
	job_commit(job);
	return lockers;
}
