/*-------------------------------------------------------------------------
 *
 * markup.c
 *	  Values of YAML and XML, as change logs keep their SQL in them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "miscadmin.h"

#include "guard/text.h"

/* keys and tags whose value is SQL */
static bool
means_sql(const char *name, int len)
{
	static const char *const names[] = {"sql", "query", "statement", "rollback", "up", "down", "run", "command"};

	for (int i = 0; i < lengthof(names); i++)
		if (strlen(names[i]) == len && pg_strncasecmp(name, names[i], len) == 0)
			return true;
	return false;
}

/* ---- YAML ---- */

static int
indent_of(const char *text, int len, int pos)
{
	int			start = pos;

	while (pos < len && (text[pos] == ' ' || text[pos] == '-'))
		pos++;
	return pos - start;
}

static bool
is_blank(const char *text, int from, int to)
{
	while (from < to && isspace((unsigned char) text[from]))
		from++;
	return from >= to;
}

/*
 * Lines that are indented deeper than the key: a block (| or >), or a plain
 * value that goes on.  Returns the start of the line behind them.
 */
static int
deeper_lines(const char *text, int len, int line, int indent, TextBuffer *value)
{
	while (line < len)
	{
		int			end = text_line_end(text, len, line);

		if (!is_blank(text, line, end) && strspn(text + line, " ") <= indent)
			break;
		text_buffer_append(value, text + line, end - line, line, true);
		text_buffer_byte(value, '\n', end);
		line = end + 1;
	}
	return Min(line, len);
}

/* '...' or "..." from pos on; returns the offset behind it, or -1 */
static int
yaml_quoted(const char *text, int len, int pos, TextBuffer *value)
{
	char		q = text[pos++];

	for (; pos < len; pos++)
	{
		char		c = text[pos];

		if (c == q && !(q == '\'' && text[pos + 1] == q))
			return pos + 1;
		if (q == '"' && c == '\\' && pos + 1 < len)
		{
			pos++;
			text_buffer_byte(value, text[pos] == 'n' ? '\n' : text[pos] == 't' ? '\t' : text[pos], pos - 1);
			continue;
		}
		text_buffer_byte(value, c, pos);
		pos += c == q;
	}
	return -1;
}

/* where the value of "key: value" or "- value" begins; key_len 0: no key */
static int
yaml_value(const char *text, int pos, int end, int *key, int *key_len)
{
	int			i = pos;

	*key = pos;
	*key_len = 0;
	if (i < end && text[i] != '"' && text[i] != '\'')
		while (i < end && text[i] != '#' && !(text[i] == ':' && (i + 1 == end || isspace((unsigned char) text[i + 1]))))
			i++;
	if (i < end && text[i] == ':')
	{
		*key_len = i - pos;
		pos = i + 1;
	}
	while (pos < end && isspace((unsigned char) text[pos]))
		pos++;
	return pos;
}

void
text_scan_yaml(const char *text, int len, MarkupValue report, MarkupPlace comment, void *arg)
{
	TextBuffer	value;
	int			line = 0;

	text_buffer_init(&value);
	while (line < len)
	{
		int			end = text_line_end(text, len, line);
		int			indent = indent_of(text, len, line);
		int			key;
		int			key_len;
		int			pos = yaml_value(text, line + indent, end, &key, &key_len);
		int			next = end + 1;
		int			outer = key_len > 0 ? indent : strspn(text + line, " ");
		bool		sql = means_sql(text + key, key_len);

		CHECK_FOR_INTERRUPTS();
		text_buffer_reset(&value);
		if (pos < end && text[pos] == '#')
			comment(arg, pos, end);
		else if (pos < end && (text[pos] == '|' || text[pos] == '>'))
			next = deeper_lines(text, len, next, outer, &value);
		else if (pos < end && (text[pos] == '"' || text[pos] == '\''))
		{
			int			behind = yaml_quoted(text, len, pos, &value);

			if (behind > 0)
				next = text_line_end(text, len, behind) + 1;
		}
		else if (pos < end)
		{
			const char *hash = strstr(text + pos, " #");
			int			stop = hash && hash - text < end ? hash - text : end;

			text_buffer_append(&value, text + pos, stop - pos, pos, true);
			text_buffer_byte(&value, '\n', stop);
			if (stop < end)
				comment(arg, stop + 1, end);
			else if (key_len > 0)
				next = deeper_lines(text, len, next, outer, &value);
		}
		if (value.text.len > 0)
			report(arg, &value, pos, sql);
		line = next;
	}
}

/* ---- XML ---- */

static void
xml_text(const char *text, int from, int to, TextBuffer *value)
{
	static const struct
	{
		const char *entity;
		char		means;
	}			entities[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};

	while (from < to)
	{
		int			n = 1;
		char		c = text[from];

		for (int i = 0; c == '&' && i < lengthof(entities); i++)
			if (strncmp(text + from, entities[i].entity, strlen(entities[i].entity)) == 0)
			{
				n = strlen(entities[i].entity);
				c = entities[i].means;
			}
		text_buffer_byte(value, c, from);
		from += n;
	}
}

/* the offset of what ends a piece of markup, or len */
static int
find(const char *text, int len, int pos, const char *what)
{
	const char *end = strstr(text + pos, what);

	return end ? end - text : len;
}

/* Liquibase's changes of rows, which name a table: <update tableName="t"> */
static bool
changes_rows(const char *tag, int len, const char *end)
{
	static const char *const names[] = {"insert", "update", "delete", "loadData", "loadUpdateData"};
	static const char attribute[] = "tableName";

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strlen(names[i]) != len || memcmp(tag, names[i], len) != 0)
			continue;
		for (const char *p = tag + len; p + strlen(attribute) < end; p++)
			if (memcmp(p, attribute, strlen(attribute)) == 0)
				return true;
	}
	return false;
}

void
text_scan_xml(const char *text, int len, MarkupValue report, MarkupPlace change,
			  MarkupPlace comment, void *arg)
{
	TextBuffer	value;
	int			pos = 0;
	int			tag = 0;
	int			tag_len = 0;

	text_buffer_init(&value);
	while (pos < len)
	{
		int			start = pos;

		CHECK_FOR_INTERRUPTS();
		text_buffer_reset(&value);
		if (strncmp(text + pos, "<!--", 4) == 0)
		{
			pos = Min(find(text, len, pos + 4, "-->") + 3, len);
			comment(arg, start, pos);
			continue;
		}
		if (strncmp(text + pos, "<![CDATA[", 9) == 0)
		{
			int			end = find(text, len, pos + 9, "]]>");

			text_buffer_append(&value, text + pos + 9, end - pos - 9, pos + 9, true);
			pos = Min(end + 3, len);
		}
		else if (text[pos] == '<')
		{
			tag = pos + 1;
			for (tag_len = 0; isalnum((unsigned char) text[tag + tag_len]); tag_len++)
				;
			pos = Min(find(text, len, pos, ">") + 1, len);
			if (changes_rows(text + tag, tag_len, text + pos))
				change(arg, tag, tag + tag_len);
			continue;
		}
		else
		{
			pos = find(text, len, pos, "<");
			xml_text(text, start, pos, &value);
		}
		if (!is_blank(value.text.data, 0, value.text.len))
			report(arg, &value, start, means_sql(text + tag, tag_len));
	}
}
