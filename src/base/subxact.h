/*-------------------------------------------------------------------------
 *
 * subxact.h
 *	  Work in a subtransaction, whose error leaves the transaction usable.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_SUBXACT_H
#define EVMIG_SUBXACT_H

#include "base/compat.h"

/*
 * Call work(arg) in a subtransaction.  Returns NULL, or the error that it
 * raised, a copy in the caller's memory, with everything undone that it did to
 * the database.  Cancels are errors, too: whoever does not expect one rethrows
 * it.  Memory context and resource owner are the caller's throughout.
 */
extern ErrorData *subxact_try(void (*work) (void *arg), void *arg);

/* The same, undone in any case. */
extern ErrorData *subxact_probe(void (*work) (void *arg), void *arg);

/*
 * Work on one of many: an error becomes a WARNING, "what: message", so that it
 * does not stop the others.  Returns NULL or that error; raises a cancel.
 */
extern ErrorData *subxact_try_or_warn(void (*work) (void *arg), void *arg, const char *what);

/* Is it somebody's wish that we stop?  Such an error is not swallowed. */
extern bool is_cancel(const ErrorData *error);

#endif							/* EVMIG_SUBXACT_H */
