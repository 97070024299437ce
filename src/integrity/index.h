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

/* Start a job of kind "drop_index": DROP INDEX CONCURRENTLY. */
extern int64 drop_index_start(Target *target, Oid index);

/* A valid index that a look-up by the key can use, InvalidOid for none. */
extern Oid	key_index_find(Target *target, bool unique);

/* The helper index, valid or not, InvalidOid for none. */
extern Oid	helper_index_find(Target *target);

/* Start a job of kind "harden": NOT NULL without a long lock. */
extern int64 harden_start(Target *target);

#endif							/* EVMIG_INDEX_H */
