/*-------------------------------------------------------------------------
 *
 * literal.c
 *	  String literals of other languages, decoded, with the source's offset
 *	  of each byte.
 *
 * A value that is woven in ("... #{x}", f"... {x}") becomes the identifier
 * run_time_value, so that the SQL around it still parses.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "guard/text.h"

/* how one literal is read */
typedef struct Form
{
	const char *quote;			/* that ends it */
	int			quote_len;
	bool		escapes;		/* \n and such */
	bool		raw_single;		/* only \\ and \' */
	bool		doubled;		/* a quote written twice is one */
	bool		multiline;
	char		braces;			/* what begins a value of the run: '{' alone, or
								 * '$' or '#' before a '{' */
	bool		dollar_word;	/* also $word */
} Form;

/*
 * Behind the } that closes the { at pos, strings in between being skipped;
 * -1: none before limit.
 */
static int
skip_braces(Scanner *s, int pos, int limit)
{
	const char *text = s->text;
	int			start = pos;
	int			depth = 0;

	for (; pos < limit && !s->gave_up; pos++)
	{
		char		c = text[pos];

		if (c == '{')
			depth++;
		else if (c == '}' && --depth == 0)
			return pos + 1;
		else if (c == '\'' || c == '"' || c == '`')
		{
			int			end = pos + 1;

			while (end < limit && text[end] != c && text[end] != '\n')
				end += text[end] == '\\' ? 2 : 1;
			if (end < limit && text[end] == c)
				pos = end;
		}
	}
	(void) text_scan_wasted(s, limit - start);
	return -1;
}

/* a value of the run at pos: its end, or -1 */
static int
woven_in(Scanner *s, const Form *form, int pos, int limit)
{
	const char *p = s->text + pos;

	if (form->braces == '{' && p[0] == '{')
		return p[1] == '{' ? -1 : skip_braces(s, pos, limit);
	if (form->braces != '{' && form->braces != '\0' && p[0] == form->braces && p[1] == '{')
		return skip_braces(s, pos + 1, limit);
	if (form->dollar_word && p[0] == '{' && p[1] == '$')
		return skip_braces(s, pos, limit);
	if (form->dollar_word && p[0] == '$' && (isalpha((unsigned char) p[1]) || p[1] == '_'))
	{
		for (pos++; pos < limit && (isalnum((unsigned char) s->text[pos]) || s->text[pos] == '_'); pos++)
			;
		return pos;
	}
	return -1;
}

/* the byte that a \u, \x or \0 means; what is not ASCII reads as ? */
static char
coded(const char *text, int *pos, int limit)
{
	int			digits = text[*pos] == 'x' ? 2 : text[*pos] == 'u' ? 4 : 8;
	long		code = 0;
	int			i = *pos + 1;

	if (i < limit && text[i] == '{')
	{
		for (i++; i < limit && isxdigit((unsigned char) text[i]); i++)
			code = Min(code * 16 + strtol((char[]) {text[i], '\0'}, NULL, 16), 0x110000);
		i += i < limit && text[i] == '}';
	}
	else
		for (; digits > 0 && i < limit && isxdigit((unsigned char) text[i]); i++, digits--)
			code = code * 16 + strtol((char[]) {text[i], '\0'}, NULL, 16);
	*pos = i - 1;
	return code == 0 ? ' ' : code < 0x80 ? (char) code : '?';
}

/* one escape at pos (a backslash); returns the offset behind it */
static int
unescape(Scanner *s, const Form *form, int pos, int limit)
{
	TextBuffer *out = &s->string;
	int			at = pos++;
	char		c = s->text[pos];

	if (pos >= limit)
		text_buffer_byte(out, '\\', at);
	else if (form->raw_single)
	{
		if (c != '\\' && c != '\'')
			text_buffer_byte(out, '\\', at);
		text_buffer_byte(out, c, pos);
	}
	else if (c == 'n' || c == 'r' || c == 't')
		text_buffer_byte(out, c == 'n' ? '\n' : c == 'r' ? '\r' : '\t', at);
	else if (c == 'x' || c == 'u' || c == 'U')
		text_buffer_byte(out, coded(s->text, &pos, limit), at);
	else if (c == '0')
		text_buffer_byte(out, ' ', at);
	else if (c != '\n')			/* a line goes on */
	{
		if (isalnum((unsigned char) c))
			text_buffer_byte(out, '\\', at);
		text_buffer_byte(out, c, pos);
	}
	return pos + 1;
}

/* decode text[from, to) into the scanner's string */
static void
decode(Scanner *s, TextToken *token, const Form *form, int from, int to)
{
	TextBuffer *out = &s->string;

	text_buffer_reset(out);
	text_buffer_append(out, "", 0, from, true);
	while (from < to)
	{
		int			end;
		int			plain = from;

		while (plain < to && strchr("\\{$#", s->text[plain]) == NULL &&
			   !(form->doubled && s->text[plain] == form->quote[0]))
			plain++;
		if (plain > from)
		{
			text_buffer_append(out, s->text + from, plain - from, from, true);
			from = plain;
		}
		else if ((end = woven_in(s, form, from, to)) > 0)
		{
			text_buffer_append(out, RUN_TIME_VALUE, strlen(RUN_TIME_VALUE), from, false);
			token->composed = true;
			from = end;
		}
		else if (s->text[from] == '\\' && (form->escapes || form->raw_single))
			from = unescape(s, form, from, to);
		else
		{
			text_buffer_byte(out, s->text[from], from);
			/* a doubled quote, and a doubled brace where a brace weaves */
			from += from + 1 < to && s->text[from] == s->text[from + 1] &&
				((form->doubled && s->text[from] == form->quote[0]) ||
				 (form->braces == '{' && s->text[from] == '{')) ? 2 : 1;
		}
	}
	if (to < s->len)
		out->map[out->text.len] = to;
}

/* the literal whose text begins at from; false: it is never closed */
static bool
quoted(Scanner *s, TextToken *token, const Form *form, int from)
{
	int			pos = from;

	while (pos < s->len && !s->gave_up)
	{
		char		c = s->text[pos];
		int			end;

		if (c == form->quote[0] && s->len - pos >= form->quote_len &&
			memcmp(s->text + pos, form->quote, form->quote_len) == 0)
		{
			if (form->doubled && s->text[pos + 1] == c)
				pos++;
			else
			{
				decode(s, token, form, from, pos);
				s->pos = pos + form->quote_len;
				return true;
			}
		}
		else if (c == '\\' && (form->escapes || form->raw_single))
			pos++;
		else if (c == '\n' && !form->multiline)
			return text_scan_wasted(s, pos - from);
		else if ((c == '{' || c == '$' || c == '#') && form->quote[0] != '\'' &&
				 (end = woven_in(s, form, pos, s->len)) > 0 &&
				 (form->multiline || memchr(s->text + pos, '\n', end - pos) == NULL))
			pos = end - 1;
		pos++;
	}
	return text_scan_wasted(s, s->len - from);
}

/* a here-document's tag at pos behind <<; returns the end of the tag, or -1 */
static int
heredoc_tag(Scanner *s, int pos, const char **tag, int *tag_len, char *quote, bool *indented)
{
	const char *p = s->text + pos;

	*indented = *p == '~' || *p == '-';
	if (*indented)
		p++;
	*quote = *p == '\'' || *p == '"' ? *p++ : '\0';
	*tag = p;
	/* x <<y shifts or appends; a tag is written in capitals */
	if (*quote == '\0' && !isupper((unsigned char) *p))
		return -1;
	while (isalnum((unsigned char) *p) || *p == '_')
		p++;
	*tag_len = p - *tag;
	if (*tag_len == 0 || (*quote != '\0' && *p != *quote))
		return -1;
	return p + (*quote != '\0') - s->text;
}

static bool
heredoc(Scanner *s, TextToken *token)
{
	uint32		flags = s->language->flags;
	int			sign = (flags & LANG_HEREDOC3) ? 3 : 2;
	const char *tag;
	int			tag_len;
	char		quote;
	bool		indented;
	Form		form = {0};
	int			tag_end;
	int			body;

	if (!(flags & (LANG_HEREDOC | LANG_HEREDOC3)) || s->gave_up || s->len - s->pos < sign ||
		memcmp(s->text + s->pos, "<<<", sign) != 0)
		return false;
	tag_end = s->pos + sign;
	while (sign == 3 && tag_end < s->len && s->text[tag_end] == ' ')
		tag_end++;
	tag_end = heredoc_tag(s, tag_end, &tag, &tag_len, &quote, &indented);
	if (tag_end < 0)
		return false;
	if (s->heredoc_to == 0)
		s->heredoc_from = text_line_end(s->text, s->len, tag_end);
	body = s->heredoc_to > 0 ? s->heredoc_to : Min(s->heredoc_from + 1, s->len);

	for (int line = body; line < s->len; line = text_line_end(s->text, s->len, line) + 1)
	{
		const char *p = s->text + line;

		while (*p == ' ' || *p == '\t')
			p++;
		if (strncmp(p, tag, tag_len) != 0 || isalnum((unsigned char) p[tag_len]) || p[tag_len] == '_' ||
			(sign == 2 && p[tag_len] != '\n' && p[tag_len] != '\r' && p[tag_len] != '\0'))
			continue;
		form.escapes = quote != '\'';
		if (form.escapes)
			form.braces = (flags & LANG_HASH_BRACE) ? '#' : '$';
		form.dollar_word = form.escapes && (flags & LANG_DOLLAR);
		decode(s, token, &form, body, line);
		s->heredoc_to = sign == 3 ? p + tag_len - s->text : Min(text_line_end(s->text, s->len, line) + 1, s->len);
		s->pos = tag_end;
		token->triple = true;
		return true;
	}
	s->heredoc_to = 0;
	return text_scan_wasted(s, s->len - tag_end);
}

/* %q(...), %Q[...], %(...), ~s{...}, q{...} */
static bool
percent(Scanner *s, TextToken *token)
{
	static const char closing[] = "()[]{}<>||//!!";
	const char *p = s->text + s->pos;
	Form		form = {0};
	const char *close;
	int			depth = 1;

	if (!(s->language->flags & LANG_PERCENT) || s->gave_up)
		return false;
	if (*p == '%' && (s->operand_due || text_begins_argument(s)))
		p += strchr("qQ", p[1]) && p[1] ? 2 : 1;
	else if (*p == '~' && (p[1] == 's' || p[1] == 'S'))
		p += 2;
	else if (*p == 'q' && s->operand_due && (s->language->flags & LANG_DOT))
		p += p[1] == 'q' ? 2 : 1;
	else
		return false;
	if (strncmp(p, "\"\"\"", 3) == 0)
		return false;			/* the quotes say it all */
	close = *p != '\0' && !isspace((unsigned char) *p) && *p != '=' ? strchr(closing, *p) : NULL;
	if (close == NULL || (close - closing) % 2 != 0)
		return false;
	form.escapes = true;
	form.braces = '#';
	for (int pos = p + 1 - s->text; pos < s->len; pos++)
	{
		char		c = s->text[pos];

		if (c == '\\')
			pos++;
		else if (c == close[1] && --depth == 0)
		{
			decode(s, token, &form, p + 1 - s->text, pos);
			s->pos = pos + 1;
			return true;
		}
		else if (c == close[0] && close[0] != close[1])
			depth++;
	}
	return text_scan_wasted(s, s->len - s->pos);
}

/* letters and signs in front of a quote; returns the offset of the quote */
static int
prefix(Scanner *s, Form *form, char *hashes)
{
	const char *p = s->text + s->pos;
	uint32		flags = s->language->flags;
	int			n = 0;

	form->escapes = true;
	if (flags & LANG_PREFIX)
		while (n < 3 && p[n] != '\0' && strchr("rRbBfFuUsS", p[n]) != NULL)
			n++;
	else if (flags & LANG_VERBATIM)
		while (n < 4 && (p[n] == '@' || p[n] == '$'))
			n++;
	else if ((flags & LANG_RUST_RAW) && (p[0] == 'r' || p[0] == 'b'))
	{
		while (n < 2 && (p[n] == 'r' || p[n] == 'b'))
			n++;
		for (int i = n; p[i] == '#' && i - n < 10; i++)
			strcat(hashes, "#");
		if (p[n + strlen(hashes)] == '"' && memchr(p, 'r', n) != NULL)
		{
			form->escapes = false;
			return s->pos + n + strlen(hashes);
		}
		hashes[0] = '\0';
	}
	if (p[n] != '"' && p[n] != '\'' && !(p[n] == '`' && n == 0))
		return -1;
	for (int i = 0; i < n; i++)
	{
		if (strchr("rR@", p[i]) != NULL)
			form->escapes = false;
		if (p[i] == '@')
			form->doubled = form->multiline = true;
		if (strchr("fF$", p[i]) != NULL)
			form->braces = '{';
		if (strchr("sS", p[i]) != NULL)
			form->braces = '$', form->dollar_word = true;
	}
	return s->pos + n;
}

bool
text_scan_string(Scanner *s, TextToken *token)
{
	uint32		flags = s->language->flags;
	char		close[16] = "\"";
	char		hashes[12] = "";
	char		triple[4] = {0};
	Form		form = {0};
	int			at;
	char		q;

	if (heredoc(s, token) || percent(s, token))
		return true;
	if (s->pos > 0 && isalnum((unsigned char) s->text[s->pos]) && isalnum((unsigned char) s->text[s->pos - 1]))
		return false;
	at = prefix(s, &form, hashes);
	if (at < 0)
		return false;
	q = s->text[at];
	if (q == '`' && !(flags & LANG_BACKTICK))
		return false;
	if (hashes[0] != '\0')
		strcat(close, hashes), form.multiline = true;
	else
		close[0] = q;
	form.quote = close;
	form.quote_len = strlen(close);
	form.multiline |= (flags & LANG_MULTILINE) != 0 || q == '`';
	if (q != '\'' && form.braces == '\0')
		form.braces = (flags & LANG_DOLLAR) ? '$' : (flags & LANG_HASH_BRACE) ? '#' : '\0';
	if (q == '`')
	{
		form.escapes = (flags & LANG_REGEX) != 0;	/* Go's are raw */
		form.braces = '$';
	}
	form.dollar_word |= q == '"' && (flags & LANG_DOLLAR);
	form.raw_single = q == '\'' && (flags & LANG_RAW_SINGLE);
	if (form.raw_single)
		form.escapes = false;

	memset(triple, q, 3);
	if ((flags & LANG_TRIPLE) && q != '`' && strncmp(s->text + at, triple, 3) == 0)
	{
		form.quote = triple;
		form.quote_len = 3;
		form.multiline = true;
		form.doubled = false;
		token->triple = true;
		if (quoted(s, token, &form, at + 3))
			return true;
		token->triple = false;
		return false;
	}
	if (q == '\'' && (flags & LANG_CHAR))
	{
		/* one character, or Rust's lifetime: no string, but its quote is none either */
		int			end = at + (s->text[at + 1] == '\\' ? 3 : 2);

		while (end < s->len && IS_HIGHBIT_SET(s->text[end]))
			end++;
		if (end < s->len && s->text[end] == '\'')
		{
			text_buffer_reset(&s->string);
			s->pos = end + 1;
			return true;
		}
		return false;
	}
	return quoted(s, token, &form, at + 1);
}
