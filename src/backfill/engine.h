/*-------------------------------------------------------------------------
 *
 * engine.h
 *	  One batch of a fill: UPDATE target SET ... WHERE predicate, by block
 *	  ranges.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_ENGINE_H
#define EVMIG_ENGINE_H

#include "job/chunk.h"
#include "job/job.h"
#include "job/pace.h"

/* What to do; the texts are SQL, fully qualified, safe to compose. */
typedef struct FillSpec
{
	const char *set_list;
	const char *predicate;
	bool		unique;			/* a column that is set is in a unique index:
								 * rows need the stronger lock */
	bool		hot;			/* no index covers a column that is set */
} FillSpec;

typedef struct Engine Engine;

/* what the last sweep found */
typedef struct SweepCount
{
	int64		todo;			/* rows that are still to be changed */
	int64		left;			/* rows that stay as they are, or fail */
	ItemPointerData first;		/* of the rows to be changed */
	ItemPointerData last;
} SweepCount;

/*
 * Another way to change and to count rows than a FillSpec's; both run inside a
 * transaction of the job.
 */
typedef struct RowWork
{
	/*
	 * Change rows from the chunk's cursor to *upto, at most limit; lower *upto
	 * behind the last one where there may be more.
	 */
	void		(*change) (Job *job, void *arg, Chunk *chunk, ItemPointer upto,
						   int limit, ChunkCounts *counts);

	/* false: a row made it fail, which another walk will tell apart */
	bool		(*count) (Job *job, void *arg, SweepCount *sweep);
} RowWork;

/* Make the block ranges if there are none, and compose the statements. */
extern Engine *engine_prepare(Job *job, const FillSpec *spec);

/*
 * The same for rows that work changes.  look: likely nothing is to be done, so
 * count first, and walk only where there is something.
 */
extern Engine *engine_prepare_work(Job *job, const RowWork *work, void *arg, bool look);

/*
 * One batch: some rows of the worker's chunk, in one transaction with the
 * chunk's cursor and counters, then the pause that the pace asks for.  Rows
 * that are locked are skipped and visited again in a later pass.  Returns
 * false when there is no chunk left to claim.
 */
extern bool engine_batch(Job *job, Engine *engine);

/*
 * Count what still satisfies the predicate; where there is any, put its blocks
 * up for another walk and return true, at most evmig.max_passes times.
 * *remaining is the count.
 */
extern bool engine_sweep(Job *job, Engine *engine, int64 *remaining);

/* Did engine_prepare_work() look and find nothing to do? */
extern bool engine_has_nothing_to_do(Engine *engine);

/* The same with what stays as it is counted apart; for engine_prepare_work. */
extern bool engine_sweep_work(Job *job, Engine *engine, SweepCount *sweep);

/* Who holds locks of what remains, as row_lockers(). */
extern char *engine_lockers(Job *job, Engine *engine);

#endif							/* EVMIG_ENGINE_H */
