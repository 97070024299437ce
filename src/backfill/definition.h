/*-------------------------------------------------------------------------
 *
 * definition.h
 *	  The two texts of a backfill, SET list and WHERE clause, parsed by the
 *	  server's own parser.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_DEFINITION_H
#define EVMIG_DEFINITION_H

#include "base/relation.h"

/* aliases that the deparsed texts use for the target's row */
#define ALIAS_OLD "evmig_old"	/* as it is */
#define ALIAS_NEW "evmig_new"	/* with the new values in place */
#define ALIAS_PLAIN "evmig_plain"	/* the same, but for generated columns */
#define ALIAS_SOURCE "evmig_source" /* and a number: a subquery of several columns */

/* What an UPDATE of the target does; texts are the server's, not the user's. */
typedef struct Definition
{
	int			ncolumns;		/* 0: work of a routine */
	char	  **columns;		/* names, not quoted */
	char	  **values;			/* expressions of the column's type, on ALIAS_OLD */
	int			nsources;		/* of "(a, b) = (SELECT ...)" */
	char	  **sources;		/* subqueries with parentheses, on ALIAS_OLD */
	int		   *source_columns; /* how many each returns */
	char	   *where_old;		/* the predicate, on ALIAS_OLD */
	char	   *where_new;		/* the same on ALIAS_NEW */
	List	   *relations;		/* OIDs of the tables that it reads */
	char	  **generated;		/* by attribute: expression of a generated column on
								 * ALIAS_PLAIN; NULL: the predicate needs none */
} Definition;

/*
 * Parse and analyze both texts as one UPDATE of the target under search_path
 * (definition_path()'s); set_list NULL: the predicate alone.  Takes ROW
 * EXCLUSIVE on the target until the transaction ends.  Raises what the server
 * raises, with the position in the user's own text; syntax_error for anything
 * beyond the two clauses; feature_not_supported for what a batch cannot
 * compute before it writes.
 */
extern Definition *definition_analyze(Target *target, const char *set_list,
									  const char *where_clause, const char *search_path);

/* The schemas on the current search_path, quoted, pg_temp at the end. */
extern char *definition_path(void);

/* Put such a path in force; returns the nest level for definition_path_end(). */
extern int	definition_path_begin(const char *search_path);
extern void definition_path_end(int nest_level);

#endif							/* EVMIG_DEFINITION_H */
