/*-------------------------------------------------------------------------
 *
 * runbook.h
 *	  The guarded Path A: what is known of a runbook, and when it may go on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_RUNBOOK_H
#define EVMIG_RUNBOOK_H

#include "base/compat.h"
#include "base/relation.h"
#include "utils/timestamp.h"

/* states of evmig.runbook */
#define RUNBOOK_OPEN "open"
#define RUNBOOK_APPROVED "approved"
#define RUNBOOK_EXECUTING "executing"
#define RUNBOOK_SUCCEEDED "succeeded"
#define RUNBOOK_ROLLING_BACK "rolling back"
#define RUNBOOK_ROLLED_BACK "rolled back"

/* a row of evmig.runbook, in the caller's memory */
typedef struct Runbook
{
	int64		id;
	char	   *schema;
	char	   *name;
	char	   *quoted;			/* schema.table, quoted */
	Oid			target;			/* when it was opened */
	char	   *key;
	char	   *order;
	char	   *mode;
	char	   *generator;		/* canonical, unless an extension must come first */
	char	   *extension;		/* that the generator needs and nobody created, or NULL */
	bool		harden;
	char	   *app_version;
	bool		direct;			/* one call: no attestations, no approval */
	char		path;			/* 'A' or 'B' */
	char	   *state;
	char	   *opened_by;		/* session role */
	TimestampTz opened_at;
	char	   *approved_by;
	TimestampTz approved_at;
	int64		rows_to_remove; /* at the last audit that was recorded */
} Runbook;

/* what preflight and audit say now */
typedef struct Measured
{
	int64		total;
	int64		nulls;
	int64		groups;
	int64		losers;
	char	   *audit;			/* JSON object */
	char	   *preflight;		/* JSON array of objects */
} Measured;

/* arguments of evmig_runbook_open() */
typedef struct OpenRequest
{
	Oid			relid;
	char	   *key;
	char	   *order;
	char	   *mode;
	bool		harden;
	char	   *app_version;
	char	   *generator;
	bool		direct;
} OpenRequest;

/*
 * All that opening a runbook checks and measures: the target, preflight and
 * audit, the generator (and the extension that it needs, or NULL), the
 * duplicates that differ in payload.  Raises where a runbook cannot be opened;
 * writes nothing.  Inside SPI.
 */
extern Target *runbook_plan(OpenRequest *request, Measured *measured, char **generator,
							char **extension, int64 *differing);

/* Open a runbook; inside SPI.  Returns its id. */
extern int64 runbook_open(OpenRequest *request);

/*
 * Read a runbook, FOR UPDATE if lock; inside SPI.  Raises undefined_object
 * where there is none, or none that the current user may see.
 */
extern Runbook *runbook_load(int64 id, bool lock);

/* Its table, checked to be the one that it was opened for; see target_resolve(). */
extern Target *runbook_target(Runbook *runbook, int flags);

extern void runbook_set_state(Runbook *runbook, const char *state);

/* Measure, and read no more than that.  Inside SPI, as the current user. */
extern void runbook_measure(Target *target, Measured *measured);

/*
 * Run preflight and audit again, record both, and raise
 * object_not_in_prerequisite_state where a check fails that is not waived, an
 * attestation is missing, the mode is not said though it must be, or the rows
 * to remove grew by more than a fifth.  step names the caller in messages.
 */
extern void runbook_recheck(Runbook *runbook, Target *target, const char *step,
							Measured *measured);

/* names of waived checks as a JSON array */
extern char *runbook_waived(int64 id);

/*
 * Why Path B is not possible, NULL if it is: rows in the table, or rows of
 * other tables that may refer to it.  Inside SPI.
 */
extern char *path_b_obstacle(Target *target);

/* rows that differ in payload from the one that would be kept */
extern int64 differing_rows(Target *target);

#endif							/* EVMIG_RUNBOOK_H */
