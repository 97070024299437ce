/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  The rows of one batch of a registered backfill.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_BATCH_H
#define EVMIG_BATCH_H

#include "backfill/definition.h"
#include "backfill/engine.h"
#include "job/job.h"

/* what a backfill does to its target's rows */
typedef struct BatchSpec
{
	Definition *definition;
	const char *search_path;	/* for the user's texts */
	const char *routine;		/* qualified and quoted; NULL: the SET list */
	const char *tenant_column;	/* NULL: rows are not told apart */
	const char *tenants;		/* text of a text[]: only these; NULL: all */
	int64		max_failures;
	bool		undo;			/* log old values */
} BatchSpec;

typedef struct Batch Batch;

/* Compose the statements; allocates in job->context.  Inside a transaction. */
extern Batch *batch_prepare(Job *job, Target *target, const BatchSpec *spec);

/* For engine_prepare(): changes and counts rows by a Batch. */
extern const RowWork batch_work;

/*
 * Raise what the row that was one too many raised; outside a transaction, after
 * the batch has committed.  Does nothing up to max_failures.
 */
extern void batch_check_failures(Job *job, Batch *batch);

/*
 * Who holds locks of what is left, as row_lockers(), and how many of the rows.
 */
extern char *batch_lockers(Job *job, Batch *batch, int64 *nrows);

/*
 * Is the row to blame?  Not for a lock, a cancel, a lack of resources, nor for
 * what fails for every row alike (a missing privilege, a dropped column).
 */
extern bool is_row_error(const ErrorData *error);
/* The statement by which a batch locks its rows.  Inside SPI. */
extern char *batch_lock_statement(Target *target, const BatchSpec *spec);

/* ---- parts of composed statements, for others in this room ---- */

/* "col" of alias as text exactly as its type prints it, NULL for NULL */
extern char *value_as_text(const char *alias, const char *column);

/* jsonb of such texts by column name; NULL::jsonb where there are none */
extern char *values_as_jsonb(const char *alias, char *const *columns, int n);

/* names of the primary key's columns, in its order; inside SPI */
extern int	primary_key_columns(Oid relid, char ***columns);

/*
 * FROM clause that puts the new values (ALIAS_SET.evmig_1, ...) and the row
 * with them in place (ALIAS_NEW) beside each row (ALIAS_OLD).  Inside SPI.
 */
#define ALIAS_SET "evmig_set"
extern char *compose_from(Target *target, const Definition *definition);

/* boolean expression over it: a write would leave the row as it is */
extern char *compose_unchanged(const Definition *definition);

/* the predicate, opaque to the planner so that rows come in the order of TIDs */
extern char *compose_predicate(const BatchSpec *spec, Target *target);

#endif							/* EVMIG_BATCH_H */
