/*-------------------------------------------------------------------------
 *
 * rows.h
 *	  Rows of executions that write several relations.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_ROWS_H
#define EVMIG_KPI_ROWS_H

#include "base/compat.h"
#include "executor/execdesc.h"

#include "kpi/watch.h"

/* relations at hand, of all executions that have not ended */
extern int	rows_relations;

/*
 * An execution begins, inside so many others.  What is at hand of others as
 * deep, or deeper, has failed and was caught: it is forgotten.
 */
extern void rows_begin(int depth);

/*
 * An execution begins, and ends, whose one number of rows, where it has one, is
 * not that of its one relation.
 */
extern void rows_begin_several(const QueryDesc *query, int depth);
extern void rows_after_several(const QueryDesc *query);

/* Of the rows that the server tells of an execution. */
extern uint64 rows_inserted(const QueryDesc *query);

/*
 * An execution inserts into the partitioned table of entry; told: what it tells
 * are the rows of the tables of entry, so they do not matter here.
 */
extern void rows_before_routing(const void *execution, WatchEntry *entry, int depth, bool told);

/* It has ended.  told: rows of the tables of whole, NULL for none. */
extern void rows_after(const void *execution, const WatchEntry *whole, uint64 told);

/*
 * An error leaves an execution, NULL for none: it has tried to write the
 * partitions that it has found for its rows.
 */
extern void rows_abandon(const QueryDesc *query);

/* The same for a COPY, as far as that is known; while the error is at hand. */
extern void rows_abandon_copy(const PlannedStmt *copy);

#endif							/* EVMIG_KPI_ROWS_H */
