/*-------------------------------------------------------------------------
 *
 * report_section.c
 *	  Tables of a report, as Markdown or HTML, and the page around them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "base/markup.h"
#include "base/spi.h"
#include "runbook/report_section.h"

static uint64
read_section(const Section *section, int64 id)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	return spi_catalog(section->sql, &args);
}

/* ---- Markdown ---- */

void
append_section(StringInfo out, const Section *section, int64 id)
{
	uint64		n;

	if (section->title)
		appendStringInfo(out, "\n## %s\n\n", section->title);
	n = read_section(section, id);
	if (n == 0)
	{
		appendStringInfo(out, "%s\n", section->none);
		return;
	}
	appendStringInfo(out, "%s\n|", section->columns);
	for (int i = 0; i < section->ncolumns; i++)
		appendStringInfoString(out, " --- |");
	for (uint64 row = 0; row < n; row++)
	{
		appendStringInfoString(out, "\n|");
		for (int i = 0; i < section->ncolumns; i++)
		{
			char	   *text = spi_text(row, i);

			appendStringInfoChar(out, ' ');
			if (text)
				append_markdown(out, text);
			appendStringInfoString(out, " |");
		}
	}
	appendStringInfoChar(out, '\n');
}

/* ---- HTML ---- */

/* The cells of a Markdown head line. */
static void
append_heads(StringInfo out, const char *columns)
{
	const char *cell = columns + 1;
	const char *end;

	appendStringInfoString(out, "<thead><tr>");
	while ((end = strchr(cell, '|')) != NULL)
	{
		char	   *text = pnstrdup(cell, end - cell);

		appendStringInfoString(out, "<th scope=\"col\">");
		append_html(out, text + strspn(text, " "));
		appendStringInfoString(out, "</th>");
		cell = end + 1;
	}
	appendStringInfoString(out, "</tr></thead>\n");
}

/* id="side-by-side" of "Side by side" */
static void
append_anchor(StringInfo out, const char *title)
{
	for (const char *s = title; *s; s++)
		appendStringInfoChar(out, *s == ' ' ? '-' : pg_tolower((unsigned char) *s));
}

void
append_html_section(StringInfo out, const Section *section, int64 id)
{
	uint64		n = read_section(section, id);

	appendStringInfoString(out, "<section");
	if (section->title)
	{
		appendStringInfoString(out, " id=\"");
		append_anchor(out, section->title);
		appendStringInfo(out, "\"><h2>%s</h2", section->title);
	}
	appendStringInfoString(out, ">\n");
	if (n == 0)
	{
		appendStringInfo(out, "<p>%s</p></section>\n", section->none);
		return;
	}
	appendStringInfoString(out, "<table>");
	if (strcmp(section->columns, "| | |") != 0)
		append_heads(out, section->columns);
	appendStringInfoString(out, "<tbody>\n");
	for (uint64 row = 0; row < n; row++)
	{
		appendStringInfoString(out, "<tr>");
		for (int i = 0; i < section->ncolumns; i++)
		{
			char	   *text = spi_text(row, i);

			appendStringInfo(out, "<td%s>", text && strcmp(text, "fail") == 0 ? " class=\"bad\"" : "");
			append_html(out, text);
			appendStringInfoString(out, "</td>");
		}
		appendStringInfoString(out, "</tr>\n");
	}
	appendStringInfoString(out, "</tbody></table></section>\n");
}

/* ---- the page ---- */

static const char page_style[] =
":root{color-scheme:light dark;--s0:#0b6e4f;--s1:#b35c00;--s2:#a01a58;--band:#4a7ab5}\n"
"@media(prefers-color-scheme:dark){:root{--s0:#5fd3a5;--s1:#ffb054;--s2:#ff8fc7;--band:#8fb8ee}}\n"
"body{font:15px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em}\n"
"h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}\n"
"table{border-collapse:collapse;width:100%}\n"
"th,td{text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid #8886}\n"
"th{white-space:nowrap}td{overflow-wrap:break-word}td:last-child{overflow-wrap:anywhere}\n"
"td{white-space:pre-wrap}.bad{font-weight:bold;text-decoration:underline}\n"
"figure{margin:1.5em 0}figcaption{font-weight:600}svg{width:100%;height:auto}\n"
".axis{stroke:currentColor;stroke-opacity:.2}.tick,.band-label{fill:currentColor;font-size:12px}\n"
".band{fill:var(--band);fill-opacity:.14}.b1{fill-opacity:.26}\n"
".line{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}\n"
".s0{stroke:var(--s0)}.s1{stroke:var(--s1);stroke-dasharray:7 4}.s2{stroke:var(--s2);stroke-dasharray:2 4}\n"
"code{overflow-wrap:anywhere}\n"
"@media print{body{max-width:none;margin:0;font-size:11px}section,figure{break-inside:avoid}}\n";

void
append_page_head(StringInfo out, const char *title)
{
	appendStringInfoString(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
						   "<meta name=\"viewport\" content=\"width=device-width\">\n"
						   "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
						   "<title>");
	append_html(out, title);
	appendStringInfo(out, "</title>\n<style>\n%s</style></head>\n<body><h1>", page_style);
	append_html(out, title);
	appendStringInfoString(out, "</h1>\n");
}

void
append_page_end(StringInfo out)
{
	appendStringInfoString(out, "</body></html>\n");
}
