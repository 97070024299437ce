/*-------------------------------------------------------------------------
 *
 * chunk.h
 *	  Block ranges of a job: made, claimed, advanced, counted.
 *
 * A batch moves its chunk's cursor and adds to its counters in the
 * transaction that changes the data.  The chunk's row is found by the claim
 * token as well, so a worker whose chunk was given to another rolls back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_CHUNK_H
#define EVMIG_CHUNK_H

#include "job/job.h"

typedef struct Chunk
{
	int			number;
	Oid			relation;
	BlockNumber to;				/* block behind the last one of this pass */
	ItemPointerData cursor;		/* first TID not looked at */
	int			pass;
	int64		claim;
} Chunk;

/* what a batch adds to its chunk's counters */
typedef struct ChunkCounts
{
	int64		changed;
	int64		skipped;
	int64		unchanged;
	int64		failed;
	double		ms;				/* at work */
	BlockNumber skip_from;		/* blocks of the skipped rows */
	BlockNumber skip_to;		/* the last one */
} ChunkCounts;

/* All inside a transaction of the job. */
extern bool chunks_exist(Job *job);
extern void chunks_make(Job *job, Oid relation, BlockNumber from, BlockNumber to,
						BlockNumber chunk_blocks);
extern void chunks_reclaim(Job *job);	/* of workers that died */
extern void chunks_restart(Job *job);	/* table rewritten: all from block 0; counters stay */

/*
 * Claim a chunk, the one of *chunk's own claim first; zero *chunk before the
 * first call.  False: none left to claim.
 */
extern bool chunk_claim(Job *job, Chunk *chunk);

/*
 * Move the cursor and add the counts; done: the range is finished in this
 * pass.  The part in which rows were skipped is then put up for another pass,
 * unless max_passes of them have changed nothing.
 */
extern void chunk_advance(Job *job, Chunk *chunk, const ItemPointerData *cursor,
						  const ChunkCounts *counts, bool done);

/* Ranges just made cover rows that were looked at before: their second pass. */
extern void chunks_walk_again(Job *job);

/* the block behind the last one that any chunk covers */
extern BlockNumber chunks_end(Job *job);

/* counters of a job without ranges: chunk 0 */
extern void chunk_count(Job *job, const ChunkCounts *counts);

/* sums over the job: rows changed, blocks walked over, all blocks */
extern void chunks_done(Job *job, double *rows, double *blocks, double *total);
extern int64 chunks_total(Job *job, const char *counter);

#endif							/* EVMIG_CHUNK_H */
