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
	int64		placeholder_rows;	/* by audit_plausibility() alone */
	char	   *placeholders;	/* the first of them, SQL text of an array */
} AuditFigures;

/*
 * One read of the table in one snapshot; inside SPI; ACCESS SHARE only.
 * Raises insufficient_privilege where row level security hides rows from the
 * current user.
 */
extern void audit_table(Target *target, AuditFigures *figures);

/* Told what evmig_audit has found, inside SPI; or NULL. */
extern PGDLLIMPORT void (*audit_done_hook) (Target *target, const AuditFigures *figures);

/*
 * Raise insufficient_privilege where row level security hides rows of the
 * table from the current user: what it counts would be too little.
 */
extern void audit_require_all_rows(Target *target);

/*
 * "ROW(d.a, d.b, ...)": what makes two rows with one key the same event or
 * not, that is all columns but key, order column, primary key and generated
 * ones.  Compare with OPERATOR(pg_catalog.*<>), which needs no equality of the
 * types and finds json and toasted values equal where their bytes are.  NULL
 * where nothing is left to compare.  prefix as "d.", or "".  Inside SPI.
 */
extern char *audit_payload(Target *target, const char *prefix);

/* names of the checks, as in evmig_preflight */
#define CHECK_PLACEHOLDER "placeholder_keys"
#define CHECK_GROUP_SIZE "group_size"
#define CHECK_LOSER_SHARE "loser_share"

/* one row of evmig_preflight */
typedef struct AuditCheck
{
	const char *name;
	bool		ok;
	char	   *detail;
	char	   *hint;			/* NULL if ok */
} AuditCheck;

#define AUDIT_CHECKS 3

/* audit_table(), with the three checks above judged from it; inside SPI. */
extern void audit_plausibility(Target *target, AuditFigures *figures,
							   AuditCheck checks[AUDIT_CHECKS]);

/*
 * Raise data_exception (with detail and hint) where duplicates of this table
 * are not to be believed: placeholder keys, a group over
 * evmig.max_group_rows, losers over evmig.max_loser_pct.  waived: text of a
 * JSON array of check names to leave out, or NULL.  Inside SPI.
 */
extern void audit_require_plausible(Target *target, const char *waived);

#endif							/* EVMIG_AUDIT_H */
