/*-------------------------------------------------------------------------
 *
 * batch_internal.h
 *	  What the files that make up a batch share: statements.c composes,
 *	  batch.c works, record.c keeps the books.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_BATCH_INTERNAL_H
#define EVMIG_BATCH_INTERNAL_H

#include "nodes/lockoptions.h"

#include "backfill/batch.h"
#include "job/chunk.h"

/* what the values of a batch are called in its UPDATE */
#define ROWS_NAME "evmig_batch"

/* columns of the statements that compute */
enum
{
	COL_TID, COL_VERSION, COL_UNCHANGED, COL_TENANT
};

/* columns of what an UPDATE returns */
enum
{
	RET_TID, RET_TENANT, RET_KEY	/* and old and new values */
};

/* what became of a row, for the tenants' counters */
typedef enum Fate
{
	FATE_CHANGED, FATE_UNCHANGED, FATE_FAILED
} Fate;

struct Batch
{
	BatchSpec	spec;
	Oid			relid;

	/* statements */
	char	   *range;			/* compute by TID range */
	char	   *by_tid;			/* compute by TIDs */
	char	   *find;			/* TIDs in a range that satisfy the predicate */
	char	   *every;			/* TIDs in a range */
	char	   *lock;
	char	   *update;
	char	   *still;			/* does one of these TIDs satisfy the predicate? */
	char	   *count;			/* of the last sweep */
	char	   *count_but;		/* without some TIDs */
	char	   *identify;		/* key and tenant of a row */
	char	   *call;
	char	   *left;			/* TIDs that satisfy the predicate */
	LockTupleMode lock_mode;

	int			contended;

	/* of the batch at hand, in job->batch_context */
	Job		   *job;
	Chunk	   *chunk;
	ChunkCounts *counts;
	bool		count_unchanged;	/* not seen in an earlier pass */
	ItemPointerData *found;
	int			nfound;
	char	  **tenants;		/* of each row that was dealt with */
	char	  **fates;
	int			ntenants;
	int			max_tenants;

	int64		nfailures;		/* of the job */
	int64		changed_before; /* the last sweep, by a routine */
};

/* ---- statements.c ---- */

extern void statements_compose(Batch *batch, Target *target);

/* ---- record.c ---- */

extern void note_tenant(Batch *batch, char *tenant, Fate fate);
extern void write_tenants(Batch *batch);
extern void log_undo(Batch *batch, const ItemPointerData *tids, char **key,
					 char **old, char **new, int n);
extern void load_failures(Batch *batch);
extern bool too_many_failures(Batch *batch);
extern void record_failure(Batch *batch, const ItemPointerData *tid,
						   const ErrorData *error);
extern void set_unchanged(Batch *batch, char **tenants, char **numbers, int n,
						  int64 total);

#endif							/* EVMIG_BATCH_INTERNAL_H */
