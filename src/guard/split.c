/*-------------------------------------------------------------------------
 *
 * split.c
 *	  Cut a source into statements, by its quotes, comments and semicolons.
 *
 * The rules are those of the server's lexer and of psql: a semicolon in
 * parentheses or in a BEGIN ATOMIC body does not end a statement, a backslash
 * begins a psql command, COPY ... FROM STDIN is followed by rows.  Each byte
 * is looked at once, so a source costs time in proportion to its length and
 * memory in proportion to the comments of one statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/split_internal.h"

static bool scan(Splitter *s);
static void scan_comment(Splitter *s);
static void scan_quote(Splitter *s, bool escapes);
static bool scan_dollar(Splitter *s);
static void scan_word(Splitter *s);

uint8		split_chars[256];

static void
fill_chars(void)
{
	for (int c = 0; c < 256; c++)
	{
		uint8		kind = 0;

		if (c != 0 && strchr(" \t\n\r\f\v", c))
			kind |= CHAR_SPACE;
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80)
			kind |= CHAR_WORD_START | CHAR_WORD;
		if ((c >= '0' && c <= '9') || c == '$')
			kind |= CHAR_WORD;
		if (c != 0 && strchr("0123456789,.=+*<>[]!%^&|~?#`", c))
			kind |= CHAR_PLAIN;
		split_chars[c] = kind;
	}
}

/* ---- entry points ---- */

Splitter *
split_begin(const char *text, int len)
{
	Splitter   *s = palloc0(sizeof(Splitter));

	if (split_chars['a'] == 0)
		fill_chars();
	s->text = text;
	s->len = len;
	s->standard = true;
	s->start = -1;
	s->size = 16;
	s->queue = palloc(s->size * sizeof(Piece));
	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
		s->at = 3;
	return s;
}

void
split_standard_strings(Splitter *splitter, bool standard)
{
	splitter->standard = standard;
}

void
split_flat(Splitter *splitter)
{
	splitter->flat = true;
}

bool
split_next(Splitter *s, Piece *piece)
{
	if (s->head >= s->nqueue)
	{
		s->head = s->nqueue = 0;
		s->nholes = 0;
		while (s->nqueue == 0 || s->start >= 0)
			if (!scan(s))
			{
				split_end_statement(s);
				break;
			}
		if (s->nqueue == 0)
			return false;
	}
	*piece = s->queue[s->head++];
	return true;
}

void
split_end(Splitter *s)
{
	if (s->holes)
		pfree(s->holes);
	pfree(s->queue);
	pfree(s);
}

/* ---- pieces ---- */

Piece *
split_add_piece(Splitter *s, PieceKind kind, int start, int end)
{
	Piece	   *piece;

	if (s->nqueue == s->size)
	{
		s->size *= 2;
		s->queue = repalloc_huge(s->queue, s->size * sizeof(Piece));
	}
	piece = &s->queue[s->nqueue++];
	memset(piece, 0, sizeof(Piece));
	piece->kind = kind;
	piece->start = start;
	piece->len = end - start;
	piece->statement = s->ordinal;
	return piece;
}

void
split_add_hole(Splitter *s, HoleKind kind, int start, int end)
{
	Hole	   *hole;

	if (s->nholes == s->maxholes)
	{
		s->maxholes = s->maxholes ? 2 * s->maxholes : 16;
		s->holes = s->holes ?
			repalloc_huge(s->holes, s->maxholes * sizeof(Hole)) :
			palloc(s->maxholes * sizeof(Hole));
	}
	hole = &s->holes[s->nholes++];
	hole->kind = kind;
	hole->start = start;
	hole->len = end - start;
}

/* bytes [start, end) belong to the statement, which they may begin */
void
split_add_code(Splitter *s, int start, int end)
{
	if (s->start < 0)
	{
		s->start = start;
		s->piece.templated = s->piece.compound = s->piece.nested = false;
		s->parens = s->atomic = s->nwords = s->from = 0;
		s->last[0] = '\0';
	}
	s->end = end;
	s->same_line = false;
}

/* give out the statement that was scanned, if there is one */
void
split_end_statement(Splitter *s)
{
	Piece	   *piece;

	if (s->start < 0)
		return;
	/* a psql command or template mark behind the last word is not in it */
	while (s->nholes > 0 && s->holes[s->nholes - 1].start >= s->end)
		s->nholes--;
	piece = split_add_piece(s, PIECE_STATEMENT, s->start, s->end);
	piece->templated = s->piece.templated;
	piece->compound = s->piece.compound;
	piece->nested = s->piece.nested;
	piece->holes = s->holes;
	piece->nholes = s->nholes;
	if (s->from == 2)
		s->rows_next++;
	s->start = -1;
	s->ordinal++;
	s->same_line = true;
}

/* what follows is in a quote or comment that never ends */
void
split_unterminated(Splitter *s, int start)
{
	/* what stands before it is no statement without it, but may hold some */
	if (s->piece.nested)
		split_end_statement(s);
	s->start = -1;
	split_add_piece(s, PIECE_UNTERMINATED, start, s->len);
	s->ordinal++;
	s->at = s->len;
}

/* ---- scanning ---- */

static void
scan_spaces(Splitter *s)
{
	const char *text = s->text;

	while (s->at < s->len && is_space(text[s->at]))
	{
		if (text[s->at] == '\n' || text[s->at] == '\r')
		{
			if (s->escapes == 1)
				s->escapes = 2;
			s->same_line = false;
			if (s->rows_next > 0 && s->start < 0 && text[s->at] == '\n')
			{
				s->at++;
				split_scan_rows(s);
				return;
			}
		}
		s->at++;
	}
}

/* one character that is neither word, quote, comment nor space */
static void
scan_other(Splitter *s)
{
	char		c = s->text[s->at];

	if (c == ';')
	{
		if (s->flat || (s->parens == 0 && s->atomic == 0))
		{
			s->at++;
			if (s->start >= 0)
				split_end_statement(s);
			return;
		}
		s->piece.nested = true;
	}
	split_add_code(s, s->at, s->at + 1);
	s->at++;
	if (c == '(')
		s->parens++;
	else if (c == ')' && s->parens > 0)
		s->parens--;
}

/*
 * Look at the next thing.  False at the end of the text.
 */
static bool
scan(Splitter *s)
{
	char		c;
	bool		escapes;

	if (s->at >= s->len)
		return false;
	c = s->text[s->at];
	if (is_space(c))
	{
		scan_spaces(s);
		return true;
	}
	if ((c == '-' && peek(s, 1) == '-') || (c == '/' && peek(s, 1) == '*'))
	{
		scan_comment(s);
		return true;
	}

	if (is_kind(c, CHAR_PLAIN))
	{
		split_add_code(s, s->at, s->at + 1);
		s->at++;
		s->escapes = 0;
		return true;
	}

	/* "E'a' <newline> 'b'" is one string */
	escapes = !s->standard || s->escapes == 2;
	s->escapes = 0;
	if (is_word_start(c))
		scan_word(s);
	else if (c == '\'')
		scan_quote(s, escapes);
	else if (c == '"')
		scan_quote(s, false);
	else if (c == '$' && scan_dollar(s))
		 /* done */ ;
	else if (c == '\\')
		split_scan_meta(s);
	else if ((c == '{' || c == '$') && split_scan_template(s))
		 /* done */ ;
	else if (c == '@' && split_scan_extension(s))
		 /* done */ ;
	else if (c == ':' && split_scan_variable(s))
		 /* done */ ;
	else
		scan_other(s);
	return true;
}

static void
scan_comment(Splitter *s)
{
	int			start = s->at;
	bool		trailing = s->same_line && s->start < 0 && s->ordinal > 0;

	if (s->text[s->at] == '-')
	{
		while (s->at < s->len && s->text[s->at] != '\n' && s->text[s->at] != '\r')
			s->at++;
	}
	else
	{
		int			depth = 0;

		do
		{
			if (s->at >= s->len)
			{
				split_unterminated(s, start);
				return;
			}
			if (s->text[s->at] == '/' && peek(s, 1) == '*')
			{
				depth++;
				s->at += 2;
			}
			else if (s->text[s->at] == '*' && peek(s, 1) == '/')
			{
				depth--;
				s->at += 2;
			}
			else
				s->at++;
		} while (depth > 0);
		s->escapes = 0;
	}
	split_add_piece(s, PIECE_COMMENT, start, s->at);
	if (trailing)
		s->queue[s->nqueue - 1].statement--;
}

/* a string or a quoted identifier; escapes: a backslash takes the next byte along */
static void
scan_quote(Splitter *s, bool escapes)
{
	int			start = s->at;
	char		quote = s->text[s->at++];

	for (;;)
	{
		const char *p = NULL;

		if (s->at < s->len)
		{
			if (!escapes)
				p = memchr(s->text + s->at, quote, s->len - s->at);
			else
				for (p = s->text + s->at; p < s->text + s->len && *p != quote && *p != '\\'; p++)
					;
		}
		if (p == NULL || p >= s->text + s->len)
		{
			split_unterminated(s, start);
			return;
		}
		s->at = p - s->text + 1;
		if (*p == '\\')
			s->at++;
		else if (peek(s, 0) == quote)
			s->at++;
		else
			break;
	}
	split_add_code(s, start, s->at);
	s->escapes = escapes && s->standard ? 1 : 0;
}

/* $tag$ ... $tag$; false where it is no such quote */
static bool
scan_dollar(Splitter *s)
{
	const char *start = s->text + s->at;
	const char *end = s->text + s->len;
	const char *p = start + 1;
	const char *close;
	int			taglen;

	if (p < end && is_word_start(*p))
		while (p < end && is_word(*p) && *p != '$')
			p++;
	if (p >= end || *p != '$')
		return false;
	taglen = p + 1 - start;

	/* memmem() is not everywhere */
	for (close = p + 1;; close++)
	{
		close = close < end ? memchr(close, '$', end - close) : NULL;
		if (close == NULL || end - close < taglen)
		{
			split_unterminated(s, s->at);
			return true;
		}
		if (memcmp(close, start, taglen) == 0)
			break;
	}
	split_add_code(s, s->at, close + taglen - s->text);
	s->at = s->end;
	return true;
}

/* is this the beginning of a definition whose body may be BEGIN ATOMIC? */
static bool
defines_routine(Splitter *s)
{
	int			kind = 1;

	if (s->nwords > 3 && strcmp(s->words[1], "or") == 0)
		kind = 3;
	return s->nwords > kind && strcmp(s->words[0], "create") == 0 &&
		(strcmp(s->words[kind], "function") == 0 || strcmp(s->words[kind], "procedure") == 0);
}

/* what a word at the level of the statement itself means for its end */
static void
note_word(Splitter *s, const char *word)
{
	if (s->nwords < WORDS_KEPT)
		strcpy(s->words[s->nwords++], word);
	if (s->nwords == 1)
		s->watched = strcmp(word, "copy") == 0 || strcmp(word, "create") == 0;
	if (s->parens > 0)
		return;
	if (s->from == 0 && strcmp(word, "from") == 0 && strcmp(s->words[0], "copy") == 0)
		s->from = 1;
	else if (s->from == 1)
		s->from = strcmp(word, "stdin") == 0 ? 2 : 3;
	else if (s->atomic > 0 && strcmp(word, "case") == 0)
		s->atomic++;
	else if (s->atomic > 0 && strcmp(word, "end") == 0)
		s->atomic--;
	else if (strcmp(word, "atomic") == 0 && strcmp(s->last, "begin") == 0 &&
			 s->atomic == 0 && defines_routine(s))
	{
		s->atomic = 1;
		s->piece.compound = true;
	}
	strcpy(s->last, word);
}

/* an identifier, a keyword, or the prefix of a string */
static void
scan_word(Splitter *s)
{
	int			start = s->at;
	int			len;
	char		word[12];

	while (s->at < s->len && is_word(s->text[s->at]))
		s->at++;
	len = s->at - start;
	split_add_code(s, start, s->at);
	if (peek(s, 0) == '\'' && len == 1)
	{
		char		prefix = pg_ascii_tolower((unsigned char) s->text[start]);

		if (prefix == 'e' || prefix == 'b' || prefix == 'x')
		{
			scan_quote(s, prefix == 'e');
			return;
		}
	}
	else if (len == 1 && peek(s, 0) == '&' && peek(s, 1) == '\'' &&
			 (s->text[start] == 'u' || s->text[start] == 'U'))
	{
		s->at++;
		scan_quote(s, false);
		return;
	}
	if (s->nwords > 0 && !s->watched)
		return;
	if (len < (int) sizeof(word))
	{
		for (int i = 0; i < len; i++)
			word[i] = pg_ascii_tolower((unsigned char) s->text[start + i]);
		word[len] = '\0';
		note_word(s, word);
	}
	else
		note_word(s, "...");
}

