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

/* rows of a relation change, unless nobody else can see it yet: what is it to do with them? */
extern void guard_data_change(Guard *guard, const char *rule, const char *statement,
							  const char *what, RangeVar *relation);
extern void guard_data_insert(Guard *guard, InsertStmt *stmt);
extern void guard_data_truncate(Guard *guard, TruncateStmt *stmt);

/* a new table or materialized view is filled from a large one */
extern void guard_data_into(Guard *guard, SelectStmt *select);
extern bool guard_data_create_as(Guard *guard, CreateTableAsStmt *stmt);	/* true: the query
																			 * runs */
extern void guard_data_refresh(Guard *guard, RefreshMatViewStmt *stmt);

/* setval() */
extern void guard_data_call(Guard *guard, FuncCall *call);

/* a boolean option's value that says no */
extern bool guard_is_false(Node *value);

#endif							/* EVMIG_GUARD_DATA_H */
