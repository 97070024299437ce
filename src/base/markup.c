/*-------------------------------------------------------------------------
 *
 * markup.c
 *	  Text of others within Markdown and HTML.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "base/markup.h"

static bool
is_word(char c)
{
	return isalnum((unsigned char) c) || IS_HIGHBIT_SET(c);
}

/* Text in a cell or a line: nothing in it may act as Markdown or HTML. */
void
append_markdown(StringInfo out, const char *text)
{
	for (const char *p = text; *p; p++)
	{
		if (*p == '\n')
			appendStringInfoString(out, "<br>");
		else if (*p == '\r')
			continue;
		else if (*p == '<')
			appendStringInfoString(out, "&lt;");
		else if (*p == '&')
			appendStringInfoString(out, "&amp;");
		else if (*p == '_' && p > text && is_word(p[-1]) && is_word(p[1]))
			appendStringInfoChar(out, *p);	/* within a word it is plain */
		else
		{
			if (strchr("\\`*_[]|~>", *p))
				appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, *p);
		}
	}
}

/* Text between tags, or in a quoted attribute. */
void
append_html(StringInfo out, const char *text)
{
	for (const char *s = text ? text : ""; *s; s++)
		switch (*s)
		{
			case '&':
				appendStringInfoString(out, "&amp;");
				break;
			case '<':
				appendStringInfoString(out, "&lt;");
				break;
			case '>':
				appendStringInfoString(out, "&gt;");
				break;
			case '"':
				appendStringInfoString(out, "&quot;");
				break;
			case '\'':
				appendStringInfoString(out, "&#39;");
				break;
			default:
				appendStringInfoChar(out, *s);
		}
}
