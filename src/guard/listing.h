/*-------------------------------------------------------------------------
 *
 * listing.h
 *	  Between compile.c and listing.c: a block that PL/pgSQL has compiled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_LISTING_H
#define EVMIG_GUARD_LISTING_H

#include "guard/body.h"

#include "plpgsql.h"

typedef struct Listing
{
	Body	   *body;
	const char *text;			/* the body's, as it was compiled */
	MemoryContext context;		/* of the items */
	PLpgSQL_function *function;
	int		   *lines;			/* where each line of the body starts */
	int			nlines;
	int			cursor;			/* what comes next is looked for from here on */
	int			statement;		/* where the statement at hand starts */
	bool		wrapped;		/* in a block of the routine's arguments */
	bool		listed;
} Listing;

/* add what a function does to listing->body */
extern void listing_add(Listing *l, PLpgSQL_function *function);

#endif							/* EVMIG_GUARD_LISTING_H */
