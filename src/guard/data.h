/*-------------------------------------------------------------------------
 *
 * data.h
 *	  The data rules: one function for each form of statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_DATA_H
#define EVMIG_GUARD_DATA_H

#include "guard/guard.h"

/* rows of a relation change, unless nobody else can see it yet */
extern void guard_data_insert(Guard *guard, InsertStmt *stmt);
extern void guard_data_update(Guard *guard, UpdateStmt *stmt);
extern void guard_data_delete(Guard *guard, DeleteStmt *stmt);
extern void guard_data_merge(Guard *guard, MergeStmt *stmt);
extern void guard_data_copy(Guard *guard, CopyStmt *stmt);
extern void guard_data_referred(Guard *guard, RangeVar *table, Constraint *constraint);
extern void guard_data_truncate(Guard *guard, TruncateStmt *stmt);

/* a new table or materialized view is filled from a large one */
extern void guard_data_into(Guard *guard, SelectStmt *select);
extern void guard_data_refresh(Guard *guard, RefreshMatViewStmt *stmt);

/* the same; true where the query runs */
extern bool guard_data_create_as(Guard *guard, CreateTableAsStmt *stmt);

/* setval() */
extern void guard_data_call(Guard *guard, FuncCall *call);

/* ---- data_text.c: the safe way, in SQL that can be pasted ---- */

/*
 * A registration that does what an UPDATE of target does, whose keyword is at
 * offset of the current frame; NULL where it cannot be put so.
 */
extern char *guard_backfill_hint(Guard *guard, UpdateStmt *stmt, int offset, const char *target);

/* ---- data_source.c: what a query reads ---- */

/* the first large relation that a query reads, through views too; NULL: none */
extern GuardRelation *guard_large_source(Guard *guard, Node *query);

/* the same of a view or materialized view in the catalog */
extern GuardRelation *guard_large_in_view(Guard *guard, Oid view);

/* ---- walk.c ---- */

/* what EXECUTE of this name runs; NULL: not known */
extern Node *guard_prepared_query(Guard *guard, const char *name);

/* a boolean option's value that says no */
extern bool guard_is_false(Node *value);

#endif							/* EVMIG_GUARD_DATA_H */
