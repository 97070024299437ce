/*-------------------------------------------------------------------------
 *
 * literal_sql.h
 *	  What a literal or a call of another language means for the guard.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_LITERAL_SQL_H
#define EVMIG_GUARD_LITERAL_SQL_H

#include "guard/text.h"

typedef enum CallKind
{
	CALL_NONE,
	CALL_EXECUTE,				/* its first argument is run as SQL */
	CALL_WRAPS,					/* hands on a text: text("...") */
	CALL_DATA					/* changes data; reported already */
} CallKind;

/*
 * A call by its name and what qualifies it (op.execute); reports data-helper
 * where the call is a data change by itself.
 */
extern CallKind literal_call(Guard *guard, const char *name, int name_len,
							 const char *qualifier, int qualifier_len, int offset);

/*
 * Inspect a literal if it is SQL; false: it is not.  offset is where it starts
 * in the source; executed: a call runs it; composed: values of the run are
 * woven in.  The buffer may be changed.
 */
extern bool literal_inspect(Guard *guard, TextBuffer *buffer, int offset, bool executed,
							bool composed);

/* a call that executes what only the run knows; end: behind its arguments */
extern void literal_opaque(Guard *guard, int offset, int end);

#endif							/* EVMIG_GUARD_LITERAL_SQL_H */
