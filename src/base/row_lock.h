/*-------------------------------------------------------------------------
 *
 * row_lock.h
 *	  Who holds the locks of rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_ROW_LOCK_H
#define EVMIG_ROW_LOCK_H

#include "base/compat.h"
#include "nodes/lockoptions.h"

#include "base/spi.h"

/*
 * Who keeps rows of a relation from being locked in a mode?  sql returns their
 * ctids in its first column; it runs as the current user and only reads.
 * Returns "pid 17, 42", "a prepared transaction", or both, for a message; NULL
 * for nobody, and for a table of another access method than heap.  nrows, if not NULL, is set to how many of the rows are held.
 * Inside SPI, with a snapshot; takes ACCESS SHARE.
 */
extern char *row_lockers(Oid relid, LockTupleMode mode, const char *sql, SqlArgs *args,
						 int64 *nrows);

#endif							/* EVMIG_ROW_LOCK_H */
