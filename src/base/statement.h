/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  Run one statement at top level in a background worker, as psql would
 *	  send it: CREATE INDEX CONCURRENTLY and its kin accept nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_STATEMENT_H
#define EVMIG_STATEMENT_H

#include "base/compat.h"

/*
 * Call outside a transaction, in a background worker only.  Returns NULL, or
 * the error in the caller's memory context, not yet reported to anybody, with
 * the statement's last transaction rolled back.  An error also releases the
 * session-level locks on tables that the caller held.
 */
extern ErrorData *run_toplevel(const char *sql);

#endif							/* EVMIG_STATEMENT_H */
