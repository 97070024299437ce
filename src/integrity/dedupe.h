/*-------------------------------------------------------------------------
 *
 * dedupe.h
 *	  Remove or re-key the rows beyond the first of each key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_DEDUPE_H
#define EVMIG_DEDUPE_H

#include "base/relation.h"

/*
 * Start a job of kind "dedupe" on a target resolved with TARGET_CHANGE |
 * TARGET_ORDER; arguments as in evmig_dedupe(), NULL means its default.
 * waived: JSON array of audit checks not to fail on, or NULL.
 *
 * The job's spec has the fields order_column, mode, on_referenced, generator
 * (canonical text) and waived.  A job of another kind whose spec has the same
 * fields can run a dedupe by worker_run_kind(job, "dedupe").
 */
extern int64 dedupe_start(Target *target, const char *mode, const char *on_referenced,
						  const char *generator, const char *waived);

/* text of that spec, to be merged into another job's */
extern char *dedupe_spec(Target *target, const char *mode, const char *on_referenced,
						 const char *generator, const char *waived);

#endif							/* EVMIG_DEDUPE_H */
