/*-------------------------------------------------------------------------
 *
 * audit.h
 *	  What is wrong with a key column, and whether a dedupe may be believed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_AUDIT_H
#define EVMIG_AUDIT_H

#include "base/relation.h"

typedef struct AuditFigures
{
	int64		total_events;	/* all rows */
	int64		null_request_ids;
	int64		duplicate_count;	/* groups of more than one row */
	int64		duplicate_rows; /* rows beyond the first of each group */
	int64		largest_group;	/* rows of the largest group, 0 or 1: none */
	char	   *largest_key;	/* its key as text, NULL if none */
} AuditFigures;

/* One read of the table in one snapshot; inside SPI; ACCESS SHARE only. */
extern void audit_table(Target *target, AuditFigures *figures);

/* names of the checks, as in evmig_preflight */
#define CHECK_PLACEHOLDER "placeholder_keys"
#define CHECK_GROUP_SIZE "group_size"
#define CHECK_LOSER_SHARE "loser_share"

/*
 * Raise data_exception (with detail and hint) where duplicates of this table
 * are not to be believed: placeholder keys, a group over
 * evmig.max_group_rows, losers over evmig.max_loser_pct.  waived: text of a
 * JSON array of check names to leave out, or NULL.  Inside SPI.
 */
extern void audit_require_plausible(Target *target, const char *waived);

#endif							/* EVMIG_AUDIT_H */
