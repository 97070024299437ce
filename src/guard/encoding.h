/*-------------------------------------------------------------------------
 *
 * encoding.h
 *	  Sources that come as bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_ENCODING_H
#define EVMIG_GUARD_ENCODING_H

#include "guard/guard.h"

/*
 * As guard_inspect(), of a file's bytes in UTF-8: those that are no text are
 * a finding, and the rest is inspected.
 */
extern Guard *guard_inspect_bytes(const bytea *bytes, const char *name, const char *lang);

#endif							/* EVMIG_GUARD_ENCODING_H */
