/*-------------------------------------------------------------------------
 *
 * registry.h
 *	  Registered backfills: evmig.backfill.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_REGISTRY_H
#define EVMIG_REGISTRY_H

#include "backfill/definition.h"

/* a row of evmig.backfill */
typedef struct Backfill
{
	char	   *name;
	Oid			target;
	Oid			owner;
	char	   *set_list;		/* NULL for a routine */
	char	   *routine;		/* quoted, with its schema; NULL for a SET list */
	char	   *where_clause;
	char	   *search_path;
	char	   *priority;
	char	   *tenant_column;	/* NULL if none */
	int			batch_size;
	int			sleep_ms;
	bool		adaptive;
	int			workers;
	int64		max_failures;
	bool		undo;
	char	   *description;
	char	   *settings;		/* text of a jsonb; evmig_backfill_set() */
} Backfill;

/*
 * Read a definition and lock its row until the transaction ends; inside SPI.
 * Raises undefined_object where there is none that the current user may see.
 */
extern Backfill *backfill_load(const char *name);

/* May the current user see and run it? */
extern bool backfill_is_ours(const Backfill *backfill);

/*
 * Parse the definition as it is registered; returns its target.  Raises what
 * evmig_backfill_register would, insufficient_privilege where its owner has
 * lost the rights on the table.
 */
extern Target *backfill_resolve(const Backfill *backfill, Definition **definition);

/* the job of that name that has not ended, 0 if none; inside SPI */
extern int64 backfill_active_job(const char *name, char **state, Oid *run_as);

/* Oid of a routine as Backfill names it; raises undefined_function. */
extern Oid	routine_resolve(const char *routine);

/* rows written to these tables, as the statistics count them; inside SPI */
extern int64 count_writes(List *relations);

#endif							/* EVMIG_REGISTRY_H */
