/*-------------------------------------------------------------------------
 *
 * report_section.h
 *	  Tables of a report, as Markdown or HTML, and the page around them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_REPORT_SECTION_H
#define EVMIG_REPORT_SECTION_H

#include "lib/stringinfo.h"

/* one table of a report; $1 is the id that it is about, all columns are text */
typedef struct Section
{
	const char *title;
	const char *columns;		/* the head line, in Markdown */
	int			ncolumns;
	const char *none;			/* said when there is no row */
	const char *sql;
	bool		side_by_side;	/* rows become columns, headed by their first cell */
} Section;

/* a point in time as a report shows it */
#define UTC(time) \
	"pg_catalog.to_char(" time " AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC')"

/* Inside SPI. */
extern void append_section(StringInfo out, const Section *section, int64 id);
extern void append_html_section(StringInfo out, const Section *section, int64 id);

/* A self-contained page: style inline, nothing from elsewhere. */
extern void append_page_head(StringInfo out, const char *title);
extern void append_page_end(StringInfo out);

#endif							/* EVMIG_REPORT_SECTION_H */
