/*-------------------------------------------------------------------------
 *
 * settle.h
 *	  Find the rows beyond the first of each key, and archive or re-key some
 *	  of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_SETTLE_H
#define EVMIG_SETTLE_H

#include "integrity/reference.h"
#include "job/job.h"

typedef enum DedupeMode
{
	DEDUPE_ARCHIVE,
	DEDUPE_REKEY,
	DEDUPE_AUTO					/* archive exact repeats, re-key the rest */
} DedupeMode;

/* Composed statements for one target; NULL where the mode does not need it. */
typedef struct Settle
{
	Oid			relid;
	Oid			child;			/* of the archive; InvalidOid for rekey */
	char	   *target;			/* quoted */
	char	   *key_column;
	char	   *find;
	char	   *lock_rows;
	char	   *lock_keepers;
	char	   *recheck;
	char	   *archive;
	char	   *rekey;
	char	   *still_there;
	char	   *keys;			/* of given rows */
	References *refs;
} Settle;

/* what became of a batch */
typedef struct SettleCounts
{
	int64		archived;
	int64		rekeyed;
	int64		locked;			/* left: locked, changed or moved */
	int64		referenced;		/* left: a foreign key points at them */
	int64		suppressed;		/* left: a trigger of the table said no */
} SettleCounts;

/* "archive" and so on; raises invalid_parameter_value */
extern DedupeMode parse_dedupe_mode(const char *text);

/* Compose the statements, in the given memory context.  Inside SPI. */
extern Settle *settle_compose(Target *target, DedupeMode mode, Oid child,
							  const char *generator, References *refs,
							  MemoryContext context);

/*
 * Settle n losers in the current transaction: lock them and their keepers
 * without waiting, look at both again, and archive or re-key what still is a
 * duplicate.  Deletes exactly what it archives, or raises.
 */
extern void settle_batch(Job *job, Settle *settle, const Loser *losers, int n,
						 SettleCounts *counts);

/*
 * Note those of these rows that are referenced in evmig.job_failure; returns
 * the keys of the first few, NULL if there are none.
 */
extern char *settle_note_referenced(Job *job, Settle *settle, const Loser *losers, int n);

/* Who holds locks of these pairs, as row_lockers(). */
extern char *settle_lockers(Settle *settle, const Loser *losers, int n);

#endif							/* EVMIG_SETTLE_H */
