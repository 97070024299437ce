/*-------------------------------------------------------------------------
 *
 * split_psql.c
 *	  What stands in a script and is no SQL: psql's commands and variables,
 *	  rows of COPY, marks of template languages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/split_internal.h"

/* ---- psql ---- */

/* commands that send the statement before them, or throw it away */
static const char *const sending[] = {
	"g", "gx", "gexec", "gset", "gdesc", "crosstabview", "watch", "bind", "bind_named",
	"parse", "sendpipeline"
};

/* commands that take all of their line, backslashes too */
static const char *const whole_line[] = {
	"copy", "!", "sf", "sf+", "sv", "sv+", "ef", "ev", "h", "help"
};

static bool
is_one_of(const char *const *names, int n, const char *name, int len)
{
	for (int i = 0; i < n; i++)
		if ((int) strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return true;
	return false;
}

/* skip a quoted argument of a command, which ends with its line */
static void
skip_argument_quote(Splitter *s)
{
	char		quote = s->text[s->at++];

	while (s->at < s->len && s->text[s->at] != '\n')
	{
		char		c = s->text[s->at++];

		if (c == quote)
			return;
		if (c == '\\' && quote == '\'' && s->at < s->len && s->text[s->at] != '\n')
			s->at++;
	}
}

/* does a \copy, up to end, read its rows from what follows it? */
static bool
copies_from_here(const char *text, const char *end)
{
	bool		from = false;

	while (text < end)
	{
		const char *word = text;
		int			len;

		while (text < end && is_word(*text))
			text++;
		len = text - word;
		if (len == 0)
			text++;
		else if (from)
			return len == 5 && pg_strncasecmp(word, "stdin", 5) == 0;
		else
			from = len == 4 && pg_strncasecmp(word, "from", 4) == 0;
	}
	return false;
}

/* a backslash command, to the end of its line or the next one */
void
split_scan_meta(Splitter *s)
{
	int			start = s->at++;
	const char *name = s->text + s->at;
	int			len = 0;
	bool		whole;

	if (peek(s, 0) == ';')
	{
		/* ends the statement, though psql sends it later */
		s->at++;
		split_end_statement(s);
		return;
	}
	while (!is_space(peek(s, len)) && peek(s, len) != '\0' && peek(s, len) != '\\' &&
		   peek(s, len) != ';')
		len++;
	s->at += len;
	whole = is_one_of(whole_line, lengthof(whole_line), name, len);
	while (s->at < s->len && s->text[s->at] != '\n')
	{
		char		c = s->text[s->at];

		if (!whole && (c == '\'' || c == '"' || c == '`'))
		{
			skip_argument_quote(s);
			continue;
		}
		if (!whole && c == '\\')
		{
			if (peek(s, 1) == '\\')
				s->at += 2;
			break;
		}
		s->at++;
	}

	if (is_one_of(sending, lengthof(sending), name, len))
		split_end_statement(s);
	else if (len == 1 && *name == 'r')
		s->start = -1;			/* thrown away */
	else if (s->start >= 0)
		split_add_hole(s, HOLE_META, start, s->at);
	split_add_piece(s, PIECE_META, start, s->at);
	if (len == 4 && memcmp(name, "copy", 4) == 0 &&
		copies_from_here(name + 4, s->text + s->at))
		s->rows_next++;
}

/* the rows behind COPY ... FROM STDIN, up to a line that is \. */
void
split_scan_rows(Splitter *s)
{
	while (s->rows_next > 0)
	{
		int			start = s->at;
		bool		closed = false;

		s->rows_next--;
		while (s->at < s->len && !closed)
		{
			const char *line = s->text + s->at;
			const char *end = memchr(line, '\n', s->len - s->at);
			int			len = (end ? end : s->text + s->len) - line;

			s->at += len + (end ? 1 : 0);
			closed = len >= 2 && line[0] == '\\' && line[1] == '.' &&
				(len == 2 || (len == 3 && line[2] == '\r'));
		}
		if (!closed)
		{
			split_unterminated(s, start);
			return;
		}
		split_add_piece(s, PIECE_COPY_DATA, start, s->at);
	}
}

/* is this a character of a psql variable's name? */
static inline bool
is_variable(char c)
{
	return is_word(c) && c != '$';
}

/* :name, :'name', :"name", :{?name}; also the :: of a cast.  False: none */
bool
split_scan_variable(Splitter *s)
{
	int			start = s->at;
	char		c = peek(s, 1);
	HoleKind	kind = HOLE_VARIABLE;
	int			len = 1;

	if (c == ':')
	{
		split_add_code(s, start, start + 2);
		s->at += 2;
		return true;
	}
	if (c == '\'' || c == '"')
	{
		kind = HOLE_QUOTED_VARIABLE;
		len = 2;
	}
	else if (c == '{' && peek(s, 2) == '?')
	{
		kind = HOLE_TEST_VARIABLE;
		len = 3;
	}
	if (!is_variable(peek(s, len)))
		return false;
	while (is_variable(peek(s, len)))
		len++;
	if (kind != HOLE_VARIABLE && peek(s, len++) != (kind == HOLE_TEST_VARIABLE ? '}' : c))
		return false;
	split_add_code(s, start, start + len);
	s->at += len;
	split_add_hole(s, kind, start, s->at);
	return true;
}

/* ---- templates ---- */

/* length of ${name}; 0: it is none */
static int
placeholder_length(Splitter *s)
{
	int			len = 2;

	if (peek(s, 1) != '{')
		return 0;
	while (is_variable(peek(s, len)) || (peek(s, len) != '\0' && strchr(".:- ", peek(s, len))))
		len++;
	return peek(s, len) == '}' && len > 2 ? len + 1 : 0;
}

/* {{ ... }}, {% ... %}, {# ... #}, ${...}; false where it is none */
bool
split_scan_template(Splitter *s)
{
	static const char closing[] = "}%#";
	int			start = s->at;
	char		c = peek(s, 1);
	int			kind = c == '{' ? 0 : c == '%' ? 1 : 2;
	const char *close = s->text + s->at + 2;
	const char *end = s->text + s->len;

	if (s->text[start] == '$')
	{
		int			len = placeholder_length(s);

		if (len == 0)
			return false;
		close = s->text + start + len;
	}
	else
	{
		if ((c != '{' && c != '%' && c != '#') || s->no_close[kind])
			return false;
		for (;; close++)
		{
			close = close < end ? memchr(close, closing[kind], end - close) : NULL;
			if (close == NULL || close + 1 >= end)
			{
				s->no_close[kind] = true;
				return false;
			}
			if (close[1] == '}')
				break;
		}
		close += 2;
	}
	s->at = close - s->text;
	if (c != '{')
	{
		/* between statements it is nothing but space */
		if (s->start >= 0)
			split_add_hole(s, HOLE_BLOCK, start, s->at);
	}
	else
	{
		split_add_code(s, start, s->at);
		split_add_hole(s, HOLE_TEMPLATE, start, s->at);
	}
	s->piece.templated = true;
	return true;
}

/*
 * @extschema@, @extschema:name@ and @extowner@, which CREATE EXTENSION replaces
 * in its scripts; false where it is none.
 */
bool
split_scan_extension(Splitter *s)
{
	static const char *const marks[] = {"@extschema", "@extowner"};
	int			start = s->at;

	for (int i = 0; i < lengthof(marks); i++)
	{
		int			len = strlen(marks[i]);

		if (s->len - start <= len || memcmp(s->text + start, marks[i], len) != 0)
			continue;
		if (i == 0 && peek(s, len) == ':')
			for (len++; is_variable(peek(s, len)); len++)
				 /* on */ ;
		if (peek(s, len) != '@')
			return false;
		s->at += len + 1;
		split_add_code(s, start, s->at);
		split_add_hole(s, HOLE_TEMPLATE, start, s->at);
		return true;
	}
	return false;
}
