/*-------------------------------------------------------------------------
 *
 * quotes.c
 *	  SQL's string literals: where each byte of a value stands in the source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/body.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "parser/parser.h"

/* bytes of the source for one byte or character of a value in E'...' */
static int
escape_length(const char *p)
{
	int			n = 2;
	int			most;

	switch (p[1])
	{
		case 'x':
			most = 2;
			break;
		case 'u':
			most = 4;
			break;
		case 'U':
			most = 8;
			break;
		default:
			if (p[1] < '0' || p[1] > '7')
				return p[1] == '\0' ? 1 : 1 + pg_mblen(p + 1);
			while (n < 4 && p[n] >= '0' && p[n] <= '7')
				n++;
			return n;
	}
	while (n < most + 2 && isxdigit((unsigned char) p[n]))
		n++;
	return n;
}

/* behind a closing quote at p: where the next part of the literal begins, or NULL */
static const char *
continued(const char *p)
{
	bool		newline = false;

	for (p++; isspace((unsigned char) *p); p++)
	{
		if (*p == '\n' || *p == '\r')
			newline = true;
	}
	return newline && *p == '\'' ? p + 1 : NULL;
}

/* bytes of the value that an escape of several bytes in the source stands for */
static int
escape_value_length(const char *p, const char *value)
{
	return p[1] == 'u' || p[1] == 'U' ? pg_mblen(value) : 1;
}

SqlText *
guard_literal(Guard *guard, const char *value, int offset)
{
	const char *text = guard->frame->text;
	const char *p = text + Max(offset, 0);
	SqlText    *result = sql_text_at(value, guard_source_offset(guard, offset));
	bool		escapes = false;
	bool		dollar = false;

	if (offset < 0 || offset >= guard->frame->len)
		return result;
	if (*p == '$')
	{
		dollar = true;
		for (p++; *p && *p != '$'; p++)
			;
		p += *p ? 1 : 0;
	}
	else
	{
		if (*p == 'e' || *p == 'E')
		{
			escapes = true;
			p++;
		}
		else if (*p == 'n' || *p == 'N')
			p++;
		else if (!standard_conforming_strings)
			escapes = true;
		if (*p++ != '\'')
			return result;		/* U&'...', a number: all at its start */
	}
	for (int i = 0; i <= result->len;)
	{
		const char *at = p;
		int			n = 1;

		if (!dollar && *p == '\'' && p[1] == '\'')
			p += 2;
		else if (!dollar && *p == '\'' && i < result->len)
		{
			p = continued(p);
			if (p == NULL)
				break;
			continue;
		}
		else if (escapes && *p == '\\')
		{
			n = escape_value_length(p, value + i);
			p += escape_length(p);
		}
		else if (i < result->len && *p != value[i])
			break;
		else
			p++;
		for (; n > 0 && i <= result->len; n--)
			result->map[i++] = guard_source_offset(guard, at - text);
	}
	return result;
}

/*
 * A literal that stands in dollar quotes, or has no quote or escape in it, is
 * its own text in the source; only for others places are kept byte by byte.
 */
void
guard_literal_frame(Guard *guard, GuardFrame *frame, const char *value, int offset)
{
	const GuardFrame *outer = guard->frame;
	int			len = strlen(value);
	int			at = offset;

	memset(frame, 0, sizeof(GuardFrame));
	frame->text = value;
	frame->len = len;
	frame->base = -1;
	if (offset >= 0 && offset < outer->len)
	{
		if (outer->text[at] == '$')
		{
			for (at++; at < outer->len && outer->text[at] != '$'; at++)
				;
			at++;
		}
		else if (outer->text[at] == '\'')
			at++;
		if (at > offset && at + len <= outer->len && memcmp(outer->text + at, value, len) == 0)
		{
			if (outer->base >= 0)
				frame->base = outer->base + at;
			else if (outer->map)
				frame->map = outer->map + at;
			else
				frame->anchor = outer->anchor;
			return;
		}
		frame->map = guard_literal(guard, value, offset)->map;
		return;
	}
	frame->anchor = guard_source_offset(guard, offset);
}
