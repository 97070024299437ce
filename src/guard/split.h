/*-------------------------------------------------------------------------
 *
 * split.h
 *	  Cut a source into statements, by its quotes, comments and semicolons.
 *
 * Pure scanning of bytes: no catalog, no parser, so that one syntax error
 * costs one statement, and 20 MB a second are within reach.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_SPLIT_H
#define EVMIG_GUARD_SPLIT_H

#include "base/compat.h"

typedef enum PieceKind
{
	PIECE_STATEMENT,			/* SQL, without its semicolon */
	PIECE_COMMENT,				/* one comment; comes before the statement that
								 * it stands in or in front of */
	PIECE_META,					/* a psql backslash command, to the end of its line */
	PIECE_COPY_DATA,			/* rows behind COPY ... FROM STDIN, with the \. */
	PIECE_UNTERMINATED			/* a quote or comment that is never closed */
} PieceKind;

/* what stands in a statement and is no SQL; the parser is shown a neutral filler */
typedef enum HoleKind
{
	HOLE_META,					/* a psql command inside the statement: spaces */
	HOLE_BLOCK,					/* {% ... %} or {# ... #}: spaces */
	HOLE_TEMPLATE,				/* {{ ... }}, ${...}, @extschema@: an identifier */
	HOLE_VARIABLE,				/* psql's :name */
	HOLE_QUOTED_VARIABLE,		/* psql's :'name' and :"name" */
	HOLE_TEST_VARIABLE			/* psql's :{?name} */
} HoleKind;

typedef struct Hole
{
	HoleKind	kind;
	int			start;			/* in the text */
	int			len;
} Hole;

typedef struct Piece
{
	PieceKind	kind;
	int			start;			/* first byte that is neither space nor comment */
	int			len;
	int			statement;		/* of a comment: ordinal of the statement that it
								 * belongs to: the one it stands in, follows on
								 * the same line, or precedes */
	bool		templated;		/* {{ ... }} or {% ... %} was met in it */
	bool		compound;		/* has a BEGIN ATOMIC body */
	bool		nested;			/* has a semicolon in parentheses or such a body */
	const Hole *holes;			/* valid until the next call */
	int			nholes;
} Piece;

typedef struct Splitter Splitter;

/* text of len bytes, in a client- or server-safe encoding (ASCII bytes are ASCII) */
extern Splitter *split_begin(const char *text, int len);
extern bool split_next(Splitter *splitter, Piece *piece);	/* false at the end */
extern void split_end(Splitter *splitter);

/* from the next piece on: whether a backslash in plain quotes is a character like any other */
extern void split_standard_strings(Splitter *splitter, bool standard);

/* split at every semicolon, those in parentheses and BEGIN ATOMIC too: for a piece that failed */
extern void split_flat(Splitter *splitter);

#endif							/* EVMIG_GUARD_SPLIT_H */
