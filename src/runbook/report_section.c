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

/* a section's texts; NULL is an empty cell */
typedef struct Grid
{
	int			nrows;
	int			ncolumns;
	char	  **heads;			/* NULL: none */
	char	  **cells;			/* row by row */
} Grid;

/* ---- reading ---- */

/* The cells of a Markdown head line; NULL where all are empty. */
static char **
split_heads(const char *columns, int ncolumns)
{
	char	  **heads = palloc(sizeof(char *) * ncolumns);
	const char *cell = columns + 1;
	bool		empty = true;

	for (int i = 0; i < ncolumns; i++)
	{
		int			length = (int) strcspn(cell, "|");
		const char *text = cell;

		cell += length + 1;
		while (length > 0 && *text == ' ')
			text++, length--;
		while (length > 0 && text[length - 1] == ' ')
			length--;
		heads[i] = pnstrdup(text, length);
		empty = empty && length == 0;
	}
	return empty ? NULL : heads;
}

/* Rows become columns; the first column becomes the heads. */
static void
turn(Grid *grid)
{
	int			nrows = grid->ncolumns - 1;
	int			ncolumns = grid->nrows + 1;
	char	  **heads = palloc(sizeof(char *) * ncolumns);
	char	  **cells = palloc(sizeof(char *) * nrows * ncolumns);

	heads[0] = pstrdup("");
	for (int i = 0; i < grid->nrows; i++)
		heads[i + 1] = grid->cells[i * grid->ncolumns];
	for (int row = 0; row < nrows; row++)
	{
		cells[row * ncolumns] = grid->heads[row + 1];
		for (int i = 0; i < grid->nrows; i++)
			cells[row * ncolumns + i + 1] = grid->cells[i * grid->ncolumns + row + 1];
	}
	grid->nrows = nrows;
	grid->ncolumns = ncolumns;
	grid->heads = heads;
	grid->cells = cells;
}

static void
read_section(const Section *section, int64 id, Grid *grid)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	grid->nrows = (int) spi_catalog(section->sql, &args);
	grid->ncolumns = section->ncolumns;
	grid->heads = split_heads(section->columns, section->ncolumns);
	grid->cells = palloc(sizeof(char *) * Max(grid->nrows * grid->ncolumns, 1));
	for (int row = 0; row < grid->nrows; row++)
		for (int i = 0; i < grid->ncolumns; i++)
			grid->cells[row * grid->ncolumns + i] = spi_text(row, i);
	if (section->side_by_side && grid->nrows > 0)
		turn(grid);
}

/* ---- Markdown ---- */

static void
append_markdown_row(StringInfo out, char *const *cells, int n)
{
	appendStringInfoChar(out, '|');
	for (int i = 0; i < n; i++)
	{
		appendStringInfoChar(out, ' ');
		if (cells && cells[i])
			append_markdown(out, cells[i]);
		appendStringInfoString(out, " |");
	}
	appendStringInfoChar(out, '\n');
}

void
append_section(StringInfo out, const Section *section, int64 id)
{
	Grid		grid;

	if (section->title)
		appendStringInfo(out, "\n## %s\n\n", section->title);
	read_section(section, id, &grid);
	if (grid.nrows == 0)
	{
		appendStringInfo(out, "%s\n", section->none);
		return;
	}
	append_markdown_row(out, grid.heads, grid.ncolumns);
	appendStringInfoChar(out, '|');
	for (int i = 0; i < grid.ncolumns; i++)
		appendStringInfoString(out, " --- |");
	appendStringInfoChar(out, '\n');
	for (int row = 0; row < grid.nrows; row++)
		append_markdown_row(out, grid.cells + row * grid.ncolumns, grid.ncolumns);
}

/* ---- HTML ---- */

/* id="side-by-side" of "Side by side" */
static void
append_anchor(StringInfo out, const char *title)
{
	for (const char *s = title; *s; s++)
		appendStringInfoChar(out, *s == ' ' ? '-' : pg_tolower((unsigned char) *s));
}

/* A check that failed, or does not hold, stands out. */
static bool
is_bad(const char *text)
{
	return text && (strcmp(text, "fail") == 0 || strcmp(text, "NO") == 0 || strcmp(text, "worse") == 0);
}

void
append_html_section(StringInfo out, const Section *section, int64 id)
{
	Grid		grid;

	appendStringInfoString(out, "<section");
	if (section->title)
	{
		appendStringInfoString(out, " id=\"");
		append_anchor(out, section->title);
		appendStringInfo(out, "\"><h2>%s</h2", section->title);
	}
	appendStringInfoString(out, ">\n");
	read_section(section, id, &grid);
	if (grid.nrows == 0)
	{
		appendStringInfo(out, "<p>%s</p></section>\n", section->none);
		return;
	}
	appendStringInfoString(out, "<table>");
	if (grid.heads)
	{
		appendStringInfoString(out, "<thead><tr>");
		for (int i = 0; i < grid.ncolumns; i++)
		{
			appendStringInfoString(out, "<th scope=\"col\">");
			append_html(out, grid.heads[i]);
			appendStringInfoString(out, "</th>");
		}
		appendStringInfoString(out, "</tr></thead>\n");
	}
	appendStringInfoString(out, "<tbody>\n");
	for (int row = 0; row < grid.nrows; row++)
	{
		appendStringInfoString(out, "<tr>");
		for (int i = 0; i < grid.ncolumns; i++)
		{
			char	   *text = grid.cells[row * grid.ncolumns + i];

			appendStringInfo(out, "<td%s>", is_bad(text) ? " class=\"bad\"" : "");
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
"th{white-space:nowrap}td{overflow-wrap:break-word}td:last-child{overflow-wrap:anywhere;min-width:9em}\n"
"section{overflow-x:auto}h1{overflow-wrap:anywhere}\n"
".result{font-size:1.1em;font-weight:600;border-left:.3em solid var(--s0);padding-left:.7em;overflow-wrap:anywhere}\n"
".open{border-color:var(--band)}.not{border-color:var(--s2)}\n"
"td{white-space:pre-wrap}.bad{font-weight:bold;text-decoration:underline}\n"
"figure{margin:1.5em 0}figcaption{font-weight:600}svg{width:100%;height:auto}\n"
".axis{stroke:currentColor;stroke-opacity:.2}.tick,.band-label{fill:currentColor;font-size:12px}\n"
".band{fill:var(--band);fill-opacity:.14}.b1{fill-opacity:.26}.bar{fill:var(--band);fill-opacity:.6}\n"
".line{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}\n"
".s0{stroke:var(--s0)}.s1{stroke:var(--s1);stroke-dasharray:7 4}.s2{stroke:var(--s2);stroke-dasharray:2 4}\n"
"code{overflow-wrap:anywhere}\n"
"@media print{body{max-width:none;margin:0;font-size:11px}section{overflow:visible}tr,figure{break-inside:avoid}h2{break-after:avoid}}\n";

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
