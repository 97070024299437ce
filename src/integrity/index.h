/*-------------------------------------------------------------------------
 *
 * index.h
 *	  Indexes on the key, built and dropped concurrently by a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_INDEX_H
#define EVMIG_INDEX_H

#include "base/relation.h"

/*
 * Start a job of kind "unique_index".  name NULL: ux_<table>_<key>.  What
 * comes in meanwhile is deduped by the given rules (see dedupe_start), so the
 * target is resolved with TARGET_CHANGE | TARGET_ORDER.
 */
extern int64 unique_index_start(Target *target, const char *name, const char *mode,
								const char *on_referenced, const char *generator,
								const char *waived);

/* Start a job of kind "helper_index": a plain index on the key for the ingest guard. */
extern int64 helper_index_start(Target *target);

/*
 * Start a job of kind "drop_index": DROP INDEX CONCURRENTLY.  Raises where the
 * index is not one of the target's, or more than an index depends on it.
 */
extern int64 drop_index_start(Target *target, Oid index);

/* Raise unless this is an index of the target that may go as an index. */
extern void index_require_droppable(Target *target, Oid index);

/* what there is of an index on the key */
typedef enum IndexState
{
	INDEX_ABSENT,
	INDEX_VALID,				/* one that serves, of this name or another */
	INDEX_INVALID,				/* of this name and definition: a build that
								 * failed, or is at work */
	INDEX_OTHER					/* the name is taken by something else */
} IndexState;

/* Look for a unique or plain index on the key alone; needs a transaction. */
extern IndexState index_look(Target *target, const char *name, bool unique, Oid *index);

/* Raise duplicate_table: the name of an index to be built is taken. */
compat_noreturn extern void index_name_is_taken(Target *target, const char *name, bool unique);

/* A valid index that a look-up by the key can use, InvalidOid for none. */
extern Oid	key_index_find(Target *target, bool unique);

/* The helper index, valid or not, InvalidOid for none. */
extern Oid	helper_index_find(Target *target);

/* Start a job of kind "harden": NOT NULL without a long lock. */
extern int64 harden_start(Target *target);

#endif							/* EVMIG_INDEX_H */
