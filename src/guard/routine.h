/*-------------------------------------------------------------------------
 *
 * routine.h
 *	  Functions and procedures that a source calls: its own (defined.c) and
 *	  the database's (stored.c).  routine.c follows them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_ROUTINE_H
#define EVMIG_GUARD_ROUTINE_H

#include "guard/body.h"

typedef struct RoutineArgument
{
	char	   *name;			/* NULL: it has none */
	Oid			type;			/* InvalidOid: not known here */
	bool		input;
	bool		variadic;
	bool		has_default;
} RoutineArgument;

typedef struct Routine
{
	Oid			oid;			/* InvalidOid: the source's own */
	char	   *schema;			/* NULL: created without one */
	char	   *name;
	char	   *signature;		/* "function app.f(integer)", for people */
	List	   *arguments;		/* RoutineArgument */
	char	   *language;
	char		volatility;		/* PROVOLATILE_... */
	bool		trigger;		/* cannot be called */

	GuardFrame	frame;			/* of the body, or of what sql_body stands in */
	Node	   *sql_body;		/* RETURN x, or BEGIN ATOMIC; NULL: the frame's text */
} Routine;

/* could a call be one of this routine, as far as its text tells? */
extern bool routine_takes(const Routine *routine, const FuncCall *call);

/* ---- defined.c ---- */

/* the routines of the source that a call may mean, the latest definitions */
extern List *routines_defined(Guard *guard, const FuncCall *call);

/* did the source make something else of that name: an aggregate, a type, a cast? */
extern bool routine_name_made(Guard *guard, const FuncCall *call);

/* ---- stored.c ---- */

/*
 * The database's routines that a call may mean, as Routine; those that cannot
 * change rows by themselves (C, internal, not volatile) are left out.
 * *known: there is one of that name, or a type.
 */
extern List *routines_stored(Guard *guard, const FuncCall *call, bool *known);

/* ---- executors.c: routines that run the text they are given ---- */

/* true: the call was dealt with */
extern bool guard_executor(Guard *guard, FuncCall *call);

#endif							/* EVMIG_GUARD_ROUTINE_H */
