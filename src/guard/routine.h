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
	Node	   *default_value;	/* NULL: not known; of the source's own a raw tree,
								 * of the database's an analysed one */
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
	Node	   *query;			/* the same as the database keeps it */
	List	   *supports;		/* FuncCall: what an aggregate of the source calls */
} Routine;

/* ---- arguments.c ---- */

/* could a call be one of this routine, as far as its text tells? */
extern bool routine_takes(const Routine *routine, const FuncCall *call);

/* the DECLARE section that a PL/pgSQL body's arguments amount to */
extern char *routine_declaration(const Routine *routine);

/*
 * The variables that a routine's arguments are, as far as the call gives
 * texts, with a digest of those; and the defaults of those that it does not give.
 */
extern List *routine_bind(Guard *guard, const Routine *routine, const FuncCall *call,
						  uint64 *digest, List **defaults);

/* ---- routine.c ---- */

/* a call in a query that the database keeps, or by an operator; at a place of the current frame */
extern void guard_call_stored(Guard *guard, Oid oid, int location);

/* was this object of the database followed for the statement at hand? Now it is. */
extern bool guard_followed(Guard *guard, Oid class, Oid oid);

/* run a tree that is embedded in the current frame: of a rule, or of BEGIN ATOMIC */
extern void guard_embedded_tree(Guard *guard, Node *tree);

/* ---- defined.c ---- */

/* a copy of a frame that outlives the statement, in the current context */
extern GuardFrame guard_lasting_frame(const GuardFrame *frame);

/* the routines of the source that a call may mean, the latest definitions */
extern List *routines_defined(Guard *guard, const FuncCall *call);

/* did the source make something else of that name: an aggregate, a type, a cast? */
extern bool routine_name_made(Guard *guard, const FuncCall *call);

/* ---- stored.c ---- */

/*
 * The database's routines that a call may mean, as Routine; those that can
 * neither change rows nor call what does (C, internal) are left out.
 * *known: there is one of that name, or a type.
 */
extern List *routines_stored(Guard *guard, const FuncCall *call, bool *known);

/* what an aggregate of the database is made of, as Routine; NIL where it is none */
extern List *aggregate_routines(Oid aggregate);

/* functions, of whatever arguments, of the database's operators of a name that are not the server's */
extern List *operators_stored(Guard *guard, const char *name);

/* one routine of the database; NULL: none, or it cannot change rows */
extern Routine *routine_stored(Oid oid);

/* ---- query.c: queries that the database keeps ---- */

/* look for data changes and calls in an analysed tree */
extern void guard_query(Guard *guard, Node *query);

/* the rules of a relation for an event; CMD_SELECT: the query of a view */
extern void guard_stored_rules(Guard *guard, Oid relid, CmdType event);

/* a frame for what stands in the catalog; location is in the current frame */
extern void guard_push_stored(Guard *guard, GuardFrame *frame, int location, const char *via);

/* ---- executors.c: routines that run the text they are given ---- */

/* true: the call was dealt with */
extern bool guard_executor(Guard *guard, FuncCall *call);

#endif							/* EVMIG_GUARD_ROUTINE_H */
