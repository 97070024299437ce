/*-------------------------------------------------------------------------
 *
 * reference.h
 *	  Foreign keys that point at rows which are to be removed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_REFERENCE_H
#define EVMIG_REFERENCE_H

#include "base/relation.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"

/* what to do with a removed row that others reference */
typedef enum OnReferenced
{
	REFERENCED_ERROR,
	REFERENCED_SKIP,
	REFERENCED_REPOINT,			/* at the keeper, in the same transaction */
	REFERENCED_CASCADE			/* what the foreign key's ON DELETE says */
} OnReferenced;

/* rows to remove, and the row that stays for each */
typedef struct Loser
{
	ItemPointerData row;
	ItemPointerData keeper;
} Loser;

/* The foreign keys of a target with composed statements; NULL if there are none. */
typedef struct References References;

/* "error" and so on; raises invalid_parameter_value */
extern OnReferenced parse_on_referenced(const char *text);

/*
 * Look up the foreign keys that point at the target.  Raises where the policy
 * cannot be kept: ON DELETE CASCADE, SET NULL or SET DEFAULT under "error", or
 * role lacks the privileges on a referencing table.  Inside SPI; the result is
 * in the given memory context.
 */
extern References *references_load(Target *target, OnReferenced policy, Oid role,
								   MemoryContext context);

/*
 * Settle the references to n rows that the caller has locked: raise, leave
 * out, or point them elsewhere.  Rows that must stay are taken out of the
 * array; returns how many are left.  *blocked: taken out because they are
 * referenced; others were taken out because a referencing row is locked.
 */
extern int	references_settle(References *refs, Loser *losers, int n, int64 *blocked);

/* Raise where the policy is "error" and one of these rows is referenced. */
extern void references_check(References *refs, const Loser *losers, int n);

/* Which of these rows are referenced now; *nheld is 0 where that is not asked. */
extern ItemPointerData *references_held(References *refs, const Loser *losers, int n,
										int *nheld);

/* column i of the pairs: rows or keepers, as an array of TIDs */
extern ItemPointerData *loser_rows(const Loser *losers, int n);
extern ItemPointerData *loser_keepers(const Loser *losers, int n);

/* Take the pairs whose row is in tids (sorted here) out of the array. */
extern int	losers_without(Loser *losers, int n, ItemPointerData *tids, int ntids);

/* The last result's TIDs of one column. */
extern ItemPointerData *result_tids(int col, int *n);

extern int	tid_compare(const void *a, const void *b);

#endif							/* EVMIG_REFERENCE_H */
