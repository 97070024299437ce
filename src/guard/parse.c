/*-------------------------------------------------------------------------
 *
 * parse.c
 *	  The server's lexer and raw parser, applied to text that may be anything.
 *
 * Both look at their text only: no catalog, no lock, no resource but memory of
 * the current context.  So an error of theirs can be caught without a
 * subtransaction; what is no fault of the text (cancel, out of memory) is
 * raised again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/guard.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/scanner.h"

#define MESSAGE_SHOWN 200		/* bytes of the parser's message */

/* characters of operators, as the lexer has them */
#define OPERATOR_CHARACTERS "~!@#^&|`?+-*/%<>="

/* comments begun in one run of such characters; more than anybody writes */
#define MAX_COMMENTS_IN_RUN 50

/*
 * At each comment's begin the lexer reads to the end of the operator
 * characters that it stands in, so "/" "*" "/" "*" ... takes it a time that
 * grows with the square of the length, without a look at interrupts.
 */
static bool
lexes_for_ever(const char *text)
{
	const char *run = NULL;
	int			n = 0;

	for (const char *begin = strstr(text, "/*"); begin; begin = strstr(begin + 2, "/*"))
	{
		while (run && run < begin && strchr(OPERATOR_CHARACTERS, *run))
			run++;
		n = run == begin ? n + 1 : 0;
		if (n > MAX_COMMENTS_IN_RUN)
			return true;
		run = begin + 2;
	}
	return false;
}

/* errors that say something about the text */
static bool
is_about_text(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return true;
		default:
			return false;
	}
}

/* bytes before the character at cursorpos, which counts from 1; -1: none */
static int
cursor_offset(const char *text, int cursorpos)
{
	int			offset = 0;

	if (cursorpos <= 0)
		return -1;
	while (--cursorpos > 0 && text[offset] != '\0')
		offset += IS_HIGHBIT_SET(text[offset]) ? pg_mblen(text + offset) : 1;
	return offset;
}

/*
 * In a PG_CATCH: put what was raised aside if it is about the text, else raise
 * it again.
 */
static void
swallow(MemoryContext context, const char *text, GuardSyntaxError *error)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(context);
	edata = CopyErrorData();
	if (!is_about_text(edata->sqlerrcode))
		PG_RE_THROW();
	FlushErrorState();
	if (error)
	{
		int			len = strlen(edata->message);

		/* it may quote a token of any length */
		if (len > MESSAGE_SHOWN)
			len = pg_mbcliplen(edata->message, len, MESSAGE_SHOWN);
		error->message = psprintf("%.*s%s", len, edata->message,
								  edata->message[len] ? "..." : "");
		error->offset = cursor_offset(text, edata->cursorpos);
	}
}

bool
guard_parse(const char *text, RawParseMode mode, List **trees, GuardSyntaxError *error)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorContextCallback *callers = error_context_stack;
	volatile bool ok = true;

	*trees = NIL;
	if (lexes_for_ever(text))
	{
		if (error)
		{
			error->message = pstrdup("too many comments without anything between them");
			error->offset = -1;
		}
		return false;
	}
	PG_TRY();
	{
		/* our callers would take the position for one in their own text */
		error_context_stack = NULL;
		*trees = raw_parser(text, mode);
		error_context_stack = callers;
	}
	PG_CATCH();
	{
		swallow(context, text, error);
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

static void
lex(core_yyscan_t scanner, GuardTokenVisitor visitor, void *context)
{
	core_YYSTYPE value;
	YYLTYPE		location;
	GuardToken	token = {0};

	do
	{
		token.code = core_yylex(&value, &location, scanner);
		token.offset = location;
		token.text = NULL;
		token.number = 0;
		if (token.code == TOKEN_ICONST || token.code == TOKEN_PARAM)
			token.number = value.ival;
		else if (token.code >= TOKEN_IDENT && token.code <= TOKEN_OP)
			token.text = value.str;
		else if (token.code > TOKEN_NOT_EQUALS)
			token.text = value.keyword;
	} while (visitor(&token, context) && token.code != TOKEN_END);
}

bool
guard_lex(const char *text, GuardTokenVisitor visitor, void *context)
{
	MemoryContext memory = CurrentMemoryContext;
	ErrorContextCallback *callers = error_context_stack;
	core_yy_extra_type extra;
	volatile bool ok = true;

	if (lexes_for_ever(text))
		return false;
	PG_TRY();
	{
		core_yyscan_t scanner = scanner_init(text, &extra, &ScanKeywords, ScanKeywordTokens);

		error_context_stack = NULL;
		extra.escape_string_warning = false;
		lex(scanner, visitor, context);
		scanner_finish(scanner);
		error_context_stack = callers;
	}
	PG_CATCH();
	{
		swallow(memory, text, NULL);
		ok = false;
	}
	PG_END_TRY();
	return ok;
}
