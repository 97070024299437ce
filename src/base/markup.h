/*-------------------------------------------------------------------------
 *
 * markup.h
 *	  Text of others within Markdown and HTML: nothing in it may act as such.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_MARKUP_H
#define EVMIG_MARKUP_H

#include "lib/stringinfo.h"

extern void append_markdown(StringInfo out, const char *text);
extern void append_html(StringInfo out, const char *text);	/* NULL is empty */

#endif							/* EVMIG_MARKUP_H */
