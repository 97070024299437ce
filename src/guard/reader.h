/*-------------------------------------------------------------------------
 *
 * reader.h
 *	  Reading a PL/pgSQL body by its tokens: what blocks.c is made of.
 *
 * statement is everywhere the token that the PL/pgSQL statement begins with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_READER_H
#define EVMIG_GUARD_READER_H

#include "guard/body.h"

typedef struct Reader
{
	Body	   *body;
	int			i;				/* the token at hand */
	List	   *open;			/* words of what is open: if, loop, case, block, handlers */
} Reader;

extern bool reader_at_end(const Reader *r);
extern bool reader_at_word(const Reader *r, const char *word);
extern void reader_advance(Reader *r);	/* stays at the last token */
extern bool reader_take(Reader *r, const char *word);
extern int	reader_code(const Reader *r);
extern bool reader_at_operator(const Reader *r, const char *operator);
extern int	reader_offset(const Reader *r, int i);

/*
 * Go to the first of some words, or to a semicolon, outside parentheses.
 * words is a list that ends with NULL.
 */
extern void reader_skip_to(Reader *r, const char *const *words);
extern void reader_skip_statement(Reader *r);	/* behind its semicolon */

extern const char *const reader_until_end[];	/* for reader_skip_to(): of the statement */

/* an item of tokens from..r->i - 1; NULL where there are none */
extern BodyItem *reader_add(Reader *r, BodyItemKind kind, RawParseMode mode, int from,
							int statement);
extern void reader_expression(Reader *r, const char *const *words, BodyItemKind kind,
							int statement);
extern void reader_targets(Reader *r, int statement);	/* of an INTO: a, b.c, d[1] */
extern void reader_execute(Reader *r, int statement);	/* behind the word EXECUTE */
extern void reader_sql(Reader *r, int statement); /* up to its semicolon */
extern void reader_declaration(Reader *r);

#endif							/* EVMIG_GUARD_READER_H */
