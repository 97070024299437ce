/*-------------------------------------------------------------------------
 *
 * text.h
 *	  Sources in other languages: which language, and its tokens.
 *
 * A scanner of one screen a language, not a parser: it knows comments, string
 * literals, words and brackets.  Where a language is not certain it prefers to
 * take something for a string, since what is no SQL is no finding.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_TEXT_H
#define EVMIG_GUARD_TEXT_H

#include "guard/guard.h"

/* what a language knows */
#define LANG_HASH			0x00001 /* # comment */
#define LANG_SLASH			0x00002 /* // and block comments */
#define LANG_DASH			0x00004 /* -- comment */
#define LANG_MULTILINE		0x00008 /* '...' and "..." may span lines */
#define LANG_CHAR			0x00010 /* '...' is one character */
#define LANG_TRIPLE			0x00020 /* """...""" */
#define LANG_BACKTICK		0x00040 /* `...` is a string */
#define LANG_HEREDOC		0x00080 /* <<TAG, <<~TAG, <<-TAG, <<"TAG" */
#define LANG_HEREDOC3		0x00100 /* <<<TAG */
#define LANG_REGEX			0x00200 /* /.../ where an operand is due */
#define LANG_DOT			0x00400 /* . concatenates */
#define LANG_PERCENT		0x00800 /* %q(...) */
#define LANG_PREFIX			0x01000 /* r"...", f"..." */
#define LANG_VERBATIM		0x02000 /* @"...", $"..." */
#define LANG_RUST_RAW		0x04000 /* r#"..."# */
#define LANG_DOLLAR			0x08000 /* $x and ${x} in "..." */
#define LANG_HASH_BRACE		0x10000 /* #{x} in "..." */
#define LANG_COMMAND		0x20000 /* calls without parentheses */
#define LANG_RAW_SINGLE		0x40000 /* in '...' a backslash hides nothing but itself and ' */
#define LANG_YAML			0x80000 /* markup: yaml.c */
#define LANG_XML			0x100000
#define LANG_SQL			0x200000	/* no other language at all */

typedef struct Language
{
	const char *name;
	const char *extensions;		/* of files: " py pyi " */
	const char *marks;			/* words that tell it from others, one a line;
								 * ^ at its start: at the start of a line */
	uint32		flags;
} Language;

/* by the name's extension, else by the text; never NULL */
extern const Language *language_of(const char *name, const char *text, int len);
extern const Language *language_default(void);	/* where nothing tells */

/* decoded text of literals, with the source's offset of each byte */
typedef struct TextBuffer
{
	StringInfoData text;
	int		   *map;			/* text.len entries are valid */
	int			map_size;
} TextBuffer;

extern void text_buffer_init(TextBuffer *buffer);
extern void text_buffer_reset(TextBuffer *buffer);
extern void text_buffer_append(TextBuffer *buffer, const char *bytes, int len, int offset,
						  bool spread);
extern void text_buffer_byte(TextBuffer *buffer, char c, int offset);

typedef enum TextTokenKind
{
	TEXT_END,
	TEXT_WORD,
	TEXT_NUMBER,
	TEXT_STRING,
	TEXT_COMMENT,
	TEXT_PUNCT					/* one byte */
} TextTokenKind;

typedef struct TextToken
{
	TextTokenKind	kind;
	int			start;			/* in the source */
	int			end;
	bool		newline;		/* a line began between the token before and this one */
	bool		triple;			/* """...""" */
	bool		composed;		/* values of the run are woven into the string */
} TextToken;

typedef struct Scanner
{
	const char *text;
	int			len;
	int			pos;
	const Language *language;
	bool		operand_due;	/* so that / begins a pattern */
	int			heredoc_from;	/* the newline at which a here-document begins, */
	int			heredoc_to;		/* and the line behind it; 0: none pending */
	int64		wasted;			/* bytes read for literals that turned out to be none */
	bool		gave_up;		/* on those that never end; the rest is not certain */
	TextBuffer	string;			/* of the last TEXT_STRING */
} Scanner;

extern void text_scanner_init(Scanner *scanner, const Language *language, const char *text, int len);
extern void text_scanner_next(Scanner *scanner, TextToken *token);

/* literal.c: string literals for scanner.c; false: none here */
extern bool text_scan_string(Scanner *scanner, TextToken *token);
extern bool text_scan_wasted(Scanner *scanner, int bytes);	/* false, for callers to return */
extern bool text_begins_argument(const Scanner *scanner);
extern int	text_line_end(const char *text, int len, int pos);	/* of the newline, or len */

/* markup.c: values of YAML and XML; for each, sql says whether its key does */
typedef void (*MarkupValue) (void *arg, TextBuffer *value, int offset, bool sql);
typedef void (*MarkupPlace) (void *arg, int start, int end);
extern void text_scan_yaml(const char *text, int len, MarkupValue value, MarkupPlace comment, void *arg);
extern void text_scan_xml(const char *text, int len, MarkupValue value, MarkupPlace change,
						  MarkupPlace comment, void *arg);

#endif							/* EVMIG_GUARD_TEXT_H */
