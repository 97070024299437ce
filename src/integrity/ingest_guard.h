/*-------------------------------------------------------------------------
 *
 * ingest_guard.h
 *	  What the files of the ingest guard share; not for other rooms.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_INGEST_GUARD_H
#define EVMIG_INGEST_GUARD_H

#include "base/compat.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "integrity/generator.h"
#include "integrity/ingest.h"

/* sorts behind names that begin with a letter, so it fires last */
#define GUARD_TRIGGER GUARD_TRIGGER_NAME
#define GUARD_FUNCTION "ingest_guard"

/* the arguments of the trigger */
enum
{
	GUARD_ARG_MODE,
	GUARD_ARG_DUPLICATES,
	GUARD_ARG_PATH,				/* search_path of the generator's functions */
	GUARD_NARGS
};

typedef enum GuardMode
{
	GUARD_FILL,
	GUARD_REPORT,
	GUARD_REJECT
} GuardMode;

typedef enum GuardDuplicates
{
	DUPLICATES_PASS,
	DUPLICATES_ARCHIVE,
	DUPLICATES_REKEY,
	DUPLICATES_REJECT
} GuardDuplicates;

/* names in the order of the enums, NULL at the end */
extern const char *const guard_modes[];
extern const char *const guard_duplicates[];
extern int	guard_option(const char *const *options, const char *value);	/* -1: unknown */

/* one guard at one statement; lives in the statement's memory */
typedef struct GuardCall
{
	Oid			trigger;
	AttrNumber	attno;
	GuardMode	mode;
	GuardDuplicates duplicates;
	Oid			index;			/* for look-ups by the key, or InvalidOid */
	bool		has_generator;
	GeneratorTarget target;
	MemoryContext context;
	KeyGenerator *generator;	/* NULL until it is needed */
	TupleTableSlot *slot;		/* the same */
	bool		archive_known;
	char	   *archive_sql;	/* NULL: there is no archive */
} GuardCall;

/*
 * ingest_trigger.c: the generator in a guard's WHEN condition (text of a parse
 * tree), NULL if it has none
 */
extern Node *guard_generator(const char *when);

/* A new key; valid until the next one. */
extern Datum guard_new_key(GuardCall *call, TriggerData *trigdata);
extern HeapTuple guard_set_key(GuardCall *call, TriggerData *trigdata,
							   HeapTuple tuple, Datum key);

/*
 * ingest_duplicate.c: settle a tuple whose key may be taken already; returns
 * what is to be stored, or NULL.
 */
extern HeapTuple guard_settle(GuardCall *call, TriggerData *trigdata,
							  HeapTuple tuple, Datum key);

/* A valid index for look-ups by exactly this column, InvalidOid for none. */
extern Oid	guard_index(Relation rel, AttrNumber attno);

/* ingest_culprit.c: count a row that came without a key */
extern void culprit_count(Oid relid);

/* ingest_trigger.c: tell guard_outcome_hook */
extern void guard_tell(Oid relid, GuardOutcome outcome);

/* Sum up what the writers of all tables have left; inside SPI. */
extern void culprits_compact(void);

#endif							/* EVMIG_INGEST_GUARD_H */
