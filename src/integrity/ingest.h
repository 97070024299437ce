/*-------------------------------------------------------------------------
 *
 * ingest.h
 *	  The ingest guard: a row trigger that keeps new NULLs and duplicates out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_INGEST_H
#define EVMIG_INGEST_H

#include "base/relation.h"

/*
 * Set, change or remove ("off") the guard; arguments as in
 * evmig_ingest_guard(), NULL means its default.  Polls for SHARE ROW
 * EXCLUSIVE and holds it until the transaction ends, so commit at once.
 * Outside SPI.
 */
extern void ingest_guard_set(Target *target, const char *mode, const char *duplicates,
							 const char *generator);

/* The guard's mode ("fill", ...), NULL where there is none; *duplicates too. */
extern char *ingest_guard_get(Oid relid, char **duplicates);

#define GUARD_TRIGGER_NAME "~evmig_ingest_guard"

/* what the guard did with a row that it did not let pass as it was */
typedef enum GuardOutcome
{
	GUARD_FILLED,				/* came without a key and got one */
	GUARD_LET_NULL_IN,			/* came without one, and there is no generator */
	GUARD_ARCHIVED,
	GUARD_REKEYED,
	GUARD_OUTCOMES
} GuardOutcome;

/* Told of each such row, whether or not its transaction commits; or NULL. */
extern PGDLLIMPORT void (*guard_outcome_hook) (Oid relid, GuardOutcome outcome);

#endif							/* EVMIG_INGEST_H */
