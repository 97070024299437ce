/*-------------------------------------------------------------------------
 *
 * style.h
 *	  Rules about what is better done otherwise, and rarer hazards.
 *
 * What is a matter of taste is said only where evmig.guard_style is on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_STYLE_H
#define EVMIG_GUARD_STYLE_H

#include "guard/catalog.h"
#include "guard/guard.h"

extern bool guard_style_on;		/* evmig.guard_style */

/* For each statement of the source; takes no lock. */
extern void guard_style(Guard *guard, Node *tree);

/* At the end of the source. */
extern void guard_style_finish(Guard *guard);

/* ---- style_columns.c ---- */

extern void style_create_table(Guard *guard, CreateStmt *stmt);
extern bool style_is_primary_key(List *constraints);
extern void style_key_added(Guard *guard, RangeVar *table);	/* no-primary-key is none */
extern void style_column(Guard *guard, ColumnDef *column, GuardRelation *relation);
extern void style_assigned_twice(Guard *guard, List *targets, const char *where);
extern void style_name_length(Guard *guard, int location);

/* ---- style_index.c ---- */

extern void style_create_index(Guard *guard, IndexStmt *stmt);

#endif							/* EVMIG_GUARD_STYLE_H */
