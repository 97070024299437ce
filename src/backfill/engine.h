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

/* Make the block ranges if there are none, and compose the statements. */
extern Engine *engine_prepare(Job *job, const FillSpec *spec);

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

/* pids that hold row locks on what remains, as text; NULL if none is known */
extern char *engine_lockers(Job *job, Engine *engine);

#endif							/* EVMIG_ENGINE_H */
