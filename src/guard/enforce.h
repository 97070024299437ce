/*-------------------------------------------------------------------------
 *
 * enforce.h
 *	  The guard live: a session's own statements are judged as they run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_ENFORCE_H
#define EVMIG_GUARD_ENFORCE_H

#include "base/compat.h"

/* Define evmig.guard, evmig.guard_roles and what belongs to them, and hook in; from _PG_init. */
extern void enforce_init(void);

/* Was the library loaded by the postmaster, so that no session is without it? */
extern bool enforce_preloaded(void);

/* evmig.guard or evmig.guard_roles ask, here, for somebody to be judged */
extern bool enforce_wanted(void);

#endif							/* EVMIG_GUARD_ENFORCE_H */
