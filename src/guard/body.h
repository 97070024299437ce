/*-------------------------------------------------------------------------
 *
 * body.h
 *	  PL/pgSQL bodies: what they evaluate and run, in the order of the text.
 *
 * A body becomes a list of items, made by PL/pgSQL's own compiler (compile.c)
 * or, where that refuses because something does not exist here, by its tokens
 * (blocks.c).  plpgsql.c goes through the items; nothing of a body is executed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_BODY_H
#define EVMIG_GUARD_BODY_H

#include "guard/guard.h"

typedef enum BodyItemKind
{
	BODY_STATEMENT,				/* SQL, its INTO blanked out */
	BODY_EXPRESSION,			/* evaluated */
	BODY_DYNAMIC,				/* evaluated, and the result is run as SQL */
	BODY_ASSIGN,				/* evaluated, and becomes the value of a variable */
	BODY_DECLARE,				/* a variable that holds nothing yet */
	BODY_SET,					/* a variable gets a value that only the run knows */
	BODY_BRANCH,				/* what follows may not run, up to */
	BODY_LOOP,					/* what follows may run never or many times, up to */
	BODY_END					/* the end of either */
} BodyItemKind;

typedef struct BodyItem
{
	BodyItemKind kind;
	RawParseMode mode;
	char	   *text;			/* to be parsed */
	int			offset;			/* in the body, of text[0]; -1: it does not stand
								 * there as it is */
	int			statement;		/* in the body, of the PL/pgSQL statement */
	char	   *variable;		/* of BODY_ASSIGN, BODY_DECLARE and BODY_SET */
} BodyItem;

typedef struct Body
{
	const char *text;
	int			len;
	GuardToken *tokens;			/* the last is TOKEN_END, at len */
	int			ntokens;
	bool		lexed;			/* false: the tokens end where the lexer gave up */
	List	   *items;			/* BodyItem */
} Body;

/* ---- body.c ---- */

/* the tokens of a body of len bytes that ends with a NUL, in the current context */
extern Body *body_begin(const char *text, int len);

/* is token i this unquoted word? */
extern bool body_word(const Body *body, int i, const char *word);

/* the first token at or behind an offset */
extern int	body_token_at(const Body *body, int offset);

/* the first token of the PL/pgSQL statement that token i stands in */
extern int	body_statement_of(const Body *body, int i);

/* add an item; text is len bytes of the body from offset on, copied */
extern BodyItem *body_add(Body *body, BodyItemKind kind, RawParseMode mode,
						  int offset, int len, int statement);
extern void body_add_text(Body *body, BodyItemKind kind, RawParseMode mode, char *text,
						  int offset, int statement);
extern void body_variable(Body *body, BodyItemKind kind, const char *variable, int statement);
extern void body_mark(Body *body, BodyItemKind kind, int statement);

/* ---- compile.c ---- */

typedef enum CompileOutcome
{
	COMPILED,					/* body->items are complete */
	COMPILE_ENVIRONMENT,		/* something it names does not exist here; no items */
	COMPILE_SYNTAX				/* PL/pgSQL does not take it, see the error; no items */
} CompileOutcome;

/*
 * Let PL/pgSQL compile a body and list what it does.  declaration is the text
 * of a label and DECLARE section for a routine's arguments (of which no items
 * are made); NULL for a DO block.  Runs nothing and leaves no trace: no catalog row, no transaction id,
 * no lock that outlives it.
 */
extern CompileOutcome body_compile(Body *body, const char *declaration,
								   GuardSyntaxError *error);

/* ---- blocks.c ---- */

/* the same by the body's tokens; takes whatever it is given */
extern void body_blocks(Body *body);

/* ---- sqltexts.c ---- */

/*
 * A text that the source composes: what is known of it, RUN_TIME_VALUE where
 * it is not, and where in the source each byte comes from.
 */
typedef struct SqlText
{
	char	   *data;			/* NUL-terminated */
	int			len;
	int			allocated;
	int		   *map;			/* len + 1 offsets in the source */
} SqlText;

/* RUN_TIME_VALUE, to the lexer, and as long, for a value that certainly is a name */
#define RUN_TIME_NAME "Run_Time_Value"

/* at most as many texts are followed for one expression */
#define MAX_ALTERNATIVES 8

/* what a variable may hold */
typedef struct BodyVariable
{
	char	   *name;
	int			number;			/* of an argument, from 1; else 0 */
	List	   *values;			/* SqlText; NIL: it was not assigned yet */
	bool		unknown;		/* or something else */
} BodyVariable;

/*
 * The texts (SqlText) that an expression of the current frame may yield; with
 * RUN_TIME_VALUE for what is not known.
 */
extern List *guard_texts(Guard *guard, Node *expr);

/* a text all of which comes from one place of the source */
extern SqlText *sql_text_at(const char *data, int offset);

/* both, one behind the other, in a new text */
extern SqlText *sql_text_joined(const SqlText *a, const SqlText *b);

/* a text in which nothing of the run is missing */
extern bool sql_text_known(const SqlText *text);

/* dynamic.c: the beginning of a text, for a message */
extern char *guard_excerpt(const char *text);

/* dynamic.c: a form of the text, of the same length, that parses; NULL: none */
extern const SqlText *sql_text_parseable(const SqlText *text);

/* does a statement refer to variables of the body at hand, or to what only the run knows? */
extern bool guard_needs_run(Guard *guard, Node *tree);

/* ---- quotes.c ---- */

/*
 * Find the string literal at an offset of the current frame's text and where
 * each byte of its value stands in the source.
 */
extern SqlText *guard_literal(Guard *guard, const char *value, int offset);

/* a frame for the value of a string literal at an offset of the current frame's text */
extern void guard_literal_frame(Guard *guard, GuardFrame *frame, const char *value, int offset);

#endif							/* EVMIG_GUARD_BODY_H */
