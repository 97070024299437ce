/*-------------------------------------------------------------------------
 *
 * scanner.c
 *	  Tokens of a source in another language; literal.c has its strings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "guard/text.h"

/* ---- decoded text ---- */

void
text_buffer_init(TextBuffer *buffer)
{
	initStringInfo(&buffer->text);
	buffer->map_size = 64;
	buffer->map = palloc(sizeof(int) * buffer->map_size);
}

void
text_buffer_reset(TextBuffer *buffer)
{
	resetStringInfo(&buffer->text);
}

/* bytes that stand at offset in the source; not spread: all of them there */
void
text_buffer_append(TextBuffer *buffer, const char *bytes, int len, int offset, bool spread)
{
	int			from = buffer->text.len;

	enlargeStringInfo(&buffer->text, len);
	memcpy(buffer->text.data + from, bytes, len);
	buffer->text.len += len;
	buffer->text.data[buffer->text.len] = '\0';
	if (buffer->text.len >= buffer->map_size)
	{
		buffer->map_size = buffer->text.len * 2;
		buffer->map = repalloc_huge(buffer->map, sizeof(int) * buffer->map_size);
	}
	for (int i = 0; i < len; i++)
		buffer->map[from + i] = offset + (spread ? i : 0);
	buffer->map[buffer->text.len] = offset + (spread ? len : 0);
}

void
text_buffer_byte(TextBuffer *buffer, char c, int offset)
{
	text_buffer_append(buffer, &c, 1, offset, false);
}

/* ---- tokens ---- */

int
text_line_end(const char *text, int len, int pos)
{
	const char *end = memchr(text + pos, '\n', len - pos);

	return end ? end - text : len;
}

void
text_scanner_init(Scanner *scanner, const Language *language, const char *text, int len)
{
	memset(scanner, 0, sizeof(Scanner));
	scanner->text = text;
	scanner->len = len;
	scanner->language = language;
	scanner->operand_due = true;
	text_buffer_init(&scanner->string);
}

static bool
is_word_start(char c)
{
	return isalpha((unsigned char) c) || c == '_' || c == '$' || c == '@' || IS_HIGHBIT_SET(c);
}

static bool
is_word(char c)
{
	return is_word_start(c) || isdigit((unsigned char) c);
}

/* past spaces, and past the bodies of here-documents that were read already */
static void
skip_space(Scanner *s, TextToken *token)
{
	while (s->pos < s->len && isspace((unsigned char) s->text[s->pos]))
	{
		if (s->text[s->pos] == '\n')
		{
			token->newline = true;
			if (s->heredoc_to > 0 && s->pos >= s->heredoc_from)
			{
				/* a string that spans lines may have run into it */
				s->pos = Max(s->pos, s->heredoc_to);
				s->heredoc_to = 0;
				continue;
			}
		}
		s->pos++;
	}
}

/*
 * So many bytes were read for what turned out to be no literal.  A text that
 * is full of such beginnings must not cost the square of its length: after
 * some times its length they are left alone.
 */
bool
text_scan_wasted(Scanner *s, int bytes)
{
	s->wasted += bytes;
	if (s->wasted > INT64CONST(8) * s->len + 1000000)
		s->gave_up = true;
	return false;
}

/* "execute %q(...)", "split /x/": no operator, which has spaces on both sides or on none */
bool
text_begins_argument(const Scanner *s)
{
	return (s->language->flags & LANG_COMMAND) && s->pos > 0 &&
		isspace((unsigned char) s->text[s->pos - 1]) &&
		s->pos + 1 < s->len && !isspace((unsigned char) s->text[s->pos + 1]);
}

static bool
scan_comment(Scanner *s, TextToken *token)
{
	const char *p = s->text + s->pos;
	uint32		flags = s->language->flags;

	if (((flags & LANG_HASH) && p[0] == '#' &&
		 (s->pos == 0 || (p[-1] != '$' && p[-1] != '{'))) ||
		((flags & LANG_SLASH) && p[0] == '/' && p[1] == '/') ||
		((flags & LANG_DASH) && p[0] == '-' && p[1] == '-'))
		s->pos = text_line_end(s->text, s->len, s->pos);
	else if ((flags & LANG_SLASH) && p[0] == '/' && p[1] == '*')
	{
		const char *end = strstr(p + 2, "*/");

		s->pos = end ? end + 2 - s->text : s->len;
	}
	else
		return false;
	token->kind = TEXT_COMMENT;
	return true;
}

/* a pattern such as /it's/, on one line; its quotes are no strings */
static bool
scan_regex(Scanner *s)
{
	bool		in_class = false;

	if (!(s->language->flags & LANG_REGEX) || s->text[s->pos] != '/' ||
		!(s->operand_due || text_begins_argument(s)))
		return false;
	for (int i = s->pos + 1; i < s->len && s->text[i] != '\n'; i++)
	{
		if (s->text[i] == '\\')
			i++;
		else if (s->text[i] == '[')
			in_class = true;
		else if (s->text[i] == ']')
			in_class = false;
		else if (s->text[i] == '/' && !in_class)
		{
			s->pos = i + 1;
			return true;
		}
	}
	return false;
}

void
text_scanner_next(Scanner *s, TextToken *token)
{
	char		c;

	CHECK_FOR_INTERRUPTS();
	memset(token, 0, sizeof(TextToken));
	skip_space(s, token);
	token->start = s->pos;
	if (s->pos >= s->len)
	{
		token->kind = TEXT_END;
		token->newline = true;
	}
	else if (scan_comment(s, token))
		;
	else if (text_scan_string(s, token))
	{
		token->kind = TEXT_STRING;
		s->operand_due = false;
	}
	else if (scan_regex(s))
	{
		token->kind = TEXT_NUMBER;
		s->operand_due = false;
	}
	else if (is_word_start(c = s->text[s->pos]))
	{
		while (s->pos < s->len && is_word(s->text[s->pos]))
			s->pos++;
		token->kind = TEXT_WORD;
		s->operand_due = s->pos - token->start == 6 && memcmp(s->text + token->start, "return", 6) == 0;
	}
	else if (isdigit((unsigned char) c))
	{
		while (s->pos < s->len && is_word(s->text[s->pos]))
			s->pos++;
		token->kind = TEXT_NUMBER;
		s->operand_due = false;
	}
	else
	{
		s->pos++;
		token->kind = TEXT_PUNCT;
		s->operand_due = c != ')' && c != ']' && c != '}';
	}
	token->end = s->pos;
}
