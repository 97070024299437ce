/*-------------------------------------------------------------------------
 *
 * split_internal.h
 *	  What the files of the splitter share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_SPLIT_INTERNAL_H
#define EVMIG_GUARD_SPLIT_INTERNAL_H

#include "guard/split.h"

#include <ctype.h>

#define WORDS_KEPT 4			/* CREATE OR REPLACE FUNCTION */

struct Splitter
{
	const char *text;
	int			len;
	int			at;				/* next byte to look at */
	bool		standard;		/* standard_conforming_strings */
	bool		flat;			/* split at every semicolon */
	int			rows_next;		/* so many blocks of COPY's rows follow this line */
	bool		no_close[3];	/* no }}, %}, #} follows any more */

	/* pieces that wait to be given out; comments come before their statement */
	Piece	   *queue;
	int			nqueue;
	int			head;
	int			size;

	/* the statement being scanned */
	int			ordinal;
	int			start;			/* -1: none has begun */
	int			end;			/* behind its last byte that is no space */
	int			parens;
	int			atomic;			/* depth of BEGIN ATOMIC and CASE */
	bool		watched;		/* COPY or CREATE: its words matter */
	char		words[WORDS_KEPT][12];	/* its first words, in lower case */
	int			nwords;
	char		last[12];		/* the last one */
	int			from;			/* COPY: 1 behind FROM, 2 behind FROM STDIN */
	bool		same_line;		/* nothing but a comment since the last one's end */
	int			escapes;		/* 1 behind a string with backslashes, 2 and a newline
								 * since: another quote goes on with it */
	Piece		piece;
	Hole	   *holes;
	int			nholes;
	int			maxholes;
};

/* kinds of characters; split_begin() fills the table */
#define CHAR_SPACE		0x01
#define CHAR_WORD_START	0x02	/* of an identifier, a keyword, a prefix */
#define CHAR_WORD		0x04	/* in one */
#define CHAR_PLAIN		0x08	/* means nothing to the splitter */

extern uint8 split_chars[256];

static inline bool
is_kind(char c, int kind)
{
	return (split_chars[(unsigned char) c] & kind) != 0;
}

static inline bool
is_space(char c)
{
	return is_kind(c, CHAR_SPACE);
}

static inline bool
is_word_start(char c)
{
	return is_kind(c, CHAR_WORD_START);
}

static inline bool
is_word(char c)
{
	return is_kind(c, CHAR_WORD);
}

/* the byte n behind the one at hand; NUL at the end */
static inline char
peek(Splitter *s, int n)
{
	return s->at + n < s->len ? s->text[s->at + n] : '\0';
}

/* ---- split.c ---- */

extern Piece *split_add_piece(Splitter *s, PieceKind kind, int start, int end);
extern void split_add_hole(Splitter *s, HoleKind kind, int start, int end);
extern void split_add_code(Splitter *s, int start, int end);
extern void split_end_statement(Splitter *s);
extern void split_unterminated(Splitter *s, int start);

/* ---- split_psql.c; those that return false have looked at nothing ---- */

extern void split_scan_meta(Splitter *s);
extern void split_scan_rows(Splitter *s);
extern bool split_scan_variable(Splitter *s);
extern bool split_scan_template(Splitter *s);
extern bool split_scan_extension(Splitter *s);

#endif							/* EVMIG_GUARD_SPLIT_INTERNAL_H */
