/*-------------------------------------------------------------------------
 *
 * sqltext.h
 *	  Quoting, and SQL text composed from parts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_SQLTEXT_H
#define EVMIG_SQLTEXT_H

#include "base/compat.h"
#include "lib/stringinfo.h"

/* all results are palloc'd */
extern char *quote_relation(Oid relid); /* schema.table, always qualified; quoted
										 * where it must be, in every session
										 * alike: jobs remember it */
extern char *quote_type(Oid type, int32 typmod);	/* always qualified */
extern char *quote_collation(Oid collation);	/* schema.collation */
extern char *quote_operator(Oid opno);	/* OPERATOR(schema.op) */

/* "prefix_name" shortened to NAMEDATALEN - 1 as the server does for indexes */
extern char *object_name(const char *name1, const char *name2, const char *label);

/* an argument whose text is being read */
typedef struct ArgumentContext
{
	ErrorContextCallback callback;
	const char *param;
	const char *text;
} ArgumentContext;

/* In between, an error's position points into that text, not into the statement that brought it. */
extern void argument_begin(ArgumentContext *argument, const char *param, const char *text);
extern void argument_end(ArgumentContext *argument);

/*
 * Parse a user's expression (a key generator) and return it as the server
 * deparses it: fully qualified, nothing of the user's own text left.  It is
 * parsed under the current search_path, must be one volatile expression
 * without columns, aggregates or sets, with an assignment cast to the column's
 * type; param names it in messages.  Raises a clear error otherwise.
 */
extern char *canonical_generator(const char *text, const char *param,
								 Oid type, int32 typmod, Oid collation);

/* The raw parse tree of a text that is one expression, NULL where it is not. */
extern Node *single_expression(const char *text);

#endif							/* EVMIG_SQLTEXT_H */
