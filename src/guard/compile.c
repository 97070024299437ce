/*-------------------------------------------------------------------------
 *
 * compile.c
 *	  What a PL/pgSQL body does, as PL/pgSQL's own compiler sees it.
 *
 * All of its compiler that every server version exports is the handler of DO.
 * It compiles a block, tells a plugin (func_setup), and only then initialises
 * variables and runs statements.  So for the time of one call we are that
 * plugin: func_setup lists what the block does and raises an error, which ends
 * the call before anything is run.  The subtransaction around it writes
 * nothing, so it needs no transaction id and works on a standby, too.
 *
 * The body of a routine becomes an inner block of a block that declares its
 * arguments; RETURN with a value, which a DO block must not have, becomes
 * ASSERT, of the same length.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/listing.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/subxact.h"

/* ends the handler's call; never leaves this file */
#define ERRCODE_BODY_LISTED MAKE_SQLSTATE('E', 'V', 'G', '0', '0')

/* what func_setup fills; NULL while we are not compiling */
static Listing *listing = NULL;

/* ---- the text to compile ---- */

static void
blank(char *text, int from, int to)
{
	for (; from < to; from++)
	{
		if (text[from] != '\n' && text[from] != '\r')
			text[from] = ' ';
	}
}

/*
 * A DO block must not return a value: RETURN x becomes ASSERT x, RETURN NEXT x
 * too, RETURN QUERY EXECUTE just EXECUTE, and RETURN QUERY a statement of its own.
 */
static void
rewrite_return(const Body *body, char *text, int i)
{
	int			at = body->tokens[i].offset;
	int			next = body->tokens[i + 1].offset;

	if (body->tokens[i + 1].code == ';')
		return;
	memcpy(text + at, "ASSERT", strlen("ASSERT"));
	if (body_word(body, i + 1, "next"))
	{
		if (body->tokens[i + 2].code == ';')
		{
			blank(text, at, next + strlen("NEXT"));
			memcpy(text + at, "NULL", strlen("NULL"));
		}
		else
			blank(text, next, next + strlen("NEXT"));
	}
	else if (body_word(body, i + 1, "query"))
	{
		blank(text, at, next + strlen("QUERY"));
		if (body->tokens[i + 2].code == '(')
			memcpy(text + at, "PERFORM", strlen("PERFORM"));
	}
}

/* #variable_conflict and such must come first, and do not matter here */
static int
blank_options(const Body *body, char *text)
{
	int			i = 0;

	while (text[body->tokens[i].offset] == '#')
	{
		int			from = body->tokens[i].offset;
		const char *end = strchr(text + from, '\n');
		int			to = end ? (int) (end - text) : body->len;

		blank(text, from, to);
		while (i < body->ntokens - 1 && body->tokens[i].offset < to)
			i++;
	}
	return i;
}

/* the body of a routine as it may stand in a DO block, each byte at its place */
static char *
rewrite_body(const Body *body)
{
	char	   *text = pnstrdup(body->text, body->len);
	int			first = blank_options(body, text);

	for (int i = first; i + 2 < body->ntokens; i++)
	{
		if (body_word(body, i, "return") && body_statement_of(body, i) == i)
			rewrite_return(body, text, i);
	}
	return text;
}

static void
find_lines(Listing *l)
{
	int			allocated = 64;

	l->lines = palloc(sizeof(int) * allocated);
	l->lines[l->nlines++] = 0;
	for (const char *p = strchr(l->body->text, '\n'); p; p = strchr(p + 1, '\n'))
	{
		if (l->nlines == allocated)
		{
			allocated *= 2;
			l->lines = repalloc_huge(l->lines, sizeof(int) * (Size) allocated);
		}
		l->lines[l->nlines++] = p + 1 - l->body->text;
	}
}

/* ---- locks ---- */

/* the relation that the names from token i on mean; InvalidOid: none */
static Oid
relation_named(const Body *body, int *i)
{
	List	   *names = list_make1(makeString(pstrdup(body->tokens[*i].text)));

	while (*i + 2 < body->ntokens && body->tokens[*i + 1].code == '.' &&
		   body->tokens[*i + 2].text && list_length(names) < 2)
	{
		*i += 2;
		names = lappend(names, makeString(pstrdup(body->tokens[*i].text)));
	}
	return RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
}

/*
 * The compiler opens each table whose row type a variable has.  Lock what its
 * declarations may mean first, without waiting: what is held by others is for
 * blocks.c.  The end of the subtransaction releases all.
 */
static void
lock_declared(const Body *body)
{
	bool		declares = false;

	for (int i = 0; i < body->ntokens - 1; i++)
	{
		const GuardToken *token = &body->tokens[i];
		Oid			relid;

		if (body_word(body, i, "declare"))
			declares = true;
		else if (body_word(body, i, "begin"))
			declares = false;
		else if (declares && (token->code == TOKEN_IDENT || token->code > TOKEN_NOT_EQUALS))
		{
			relid = relation_named(body, &i);
			if (OidIsValid(relid) && !ConditionalLockRelationOid(relid, AccessShareLock))
				ereport(ERROR,
						(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						 errmsg_internal("relation %u is locked", relid)));
		}
	}
}

/* ---- the call ---- */

/* PL/pgSQL's func_setup: the block is compiled, and nothing of it has run */
static void
func_setup(PLpgSQL_execstate *estate, PLpgSQL_function *function)
{
	if (listing && !listing->listed && function->fn_oid == InvalidOid)
	{
		MemoryContext old = MemoryContextSwitchTo(listing->context);

		listing_add(listing, function);
		listing->listed = true;
		MemoryContextSwitchTo(old);
	}
	ereport(ERROR,
			(errcode(ERRCODE_BODY_LISTED),
			 errmsg_internal("the body is not run")));
}

/* let the handler of DO compile a text; always raises an error */
static void
call_handler(const char *text)
{
	static PLpgSQL_plugin plugin = {.func_setup = func_setup};
	PLpgSQL_plugin **slot;
	PLpgSQL_plugin *others;
	static PGFunction handler = NULL;
	InlineCodeBlock *block = makeNode(InlineCodeBlock);
	LOCAL_FCINFO(fcinfo, 1);

	if (handler == NULL)
		handler = (PGFunction) load_external_function("$libdir/plpgsql",
													  "plpgsql_inline_handler", true, NULL);
	slot = (PLpgSQL_plugin **) find_rendezvous_variable("PLpgSQL_plugin");

	block->source_text = pstrdup(text);
	block->langIsTrusted = true;
	block->atomic = true;
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(block);
	fcinfo->args[0].isnull = false;

	others = *slot;
	*slot = &plugin;
	PG_TRY();
	{
		(void) handler(fcinfo);
	}
	PG_FINALLY();
	{
		*slot = others;
	}
	PG_END_TRY();
	elog(ERROR, "PL/pgSQL did not call its plugin");
}

/* a fault of the body, rather than of the moment? */
static bool
is_about_body(const ErrorData *edata)
{
	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case ERRCODE_OPERATOR_INTERVENTION: /* cancelled, shut down */
		case ERRCODE_INSUFFICIENT_RESOURCES:
			return false;
		default:
			return true;
	}
}

/* what the compiler said, in terms of the body; prefix bytes stand before it */
static CompileOutcome
judge_error(const Body *body, const ErrorData *edata, const char *text, int prefix,
			GuardSyntaxError *error)
{
	int			offset = 0;

	if (edata->sqlerrcode != ERRCODE_SYNTAX_ERROR || edata->internalpos <= 0)
		return COMPILE_ENVIRONMENT;
	for (int i = 1; i < edata->internalpos && text[offset] != '\0'; i++)
		offset += pg_mblen(text + offset);
	offset -= prefix;
	/* x t.c%TYPE of a table that is not there is a syntax error to older servers */
	if (offset < 0 || (offset < body->len && body->text[offset] == '%'))
		return COMPILE_ENVIRONMENT;
	error->message = edata->message;
	error->offset = Min(offset, body->len);
	return COMPILE_SYNTAX;
}

typedef struct CompileCall
{
	Listing    *listing;
	const char *text;
} CompileCall;

/* in a subtransaction, whose memory takes what the compiler leaves */
static void
call_compile(void *arg)
{
	CompileCall *call = arg;

	MemoryContextSwitchTo(CurTransactionContext);
	lock_declared(call->listing->body);
	/* for what is less direct, such as a domain over a row type */
	SetConfigOption("lock_timeout", "1", PGC_USERSET, PGC_S_SESSION);
	/* each expression will be parsed by us, for its own error */
	SetConfigOption("check_function_bodies", "off", PGC_USERSET, PGC_S_SESSION);
	listing = call->listing;
	call_handler(call->text);
}

/* list the body in a subtransaction, in which nothing is written */
static CompileOutcome
compile(Listing *l, const char *text, int prefix, GuardSyntaxError *error)
{
	CompileCall call = {l, text};
	CompileOutcome outcome = COMPILED;
	ErrorData  *edata = subxact_probe(call_compile, &call);

	listing = NULL;
	if (edata && edata->sqlerrcode != ERRCODE_BODY_LISTED)
	{
		if (!is_about_body(edata))
			ReThrowError(edata);
		outcome = judge_error(l->body, edata, text, prefix, error);
	}
	if (outcome != COMPILED || !l->listed)
		l->body->items = NIL;
	return outcome;
}

CompileOutcome
body_compile(Body *body, const char *declaration, GuardSyntaxError *error)
{
	Listing		l = {0};
	StringInfoData text;
	int			prefix = 0;

	l.body = body;
	l.context = CurrentMemoryContext;
	find_lines(&l);
	initStringInfo(&text);
	if (declaration == NULL)
	{
		l.text = body->text;

		/*
		 * The comment keeps the server from finding the body in the statement
		 * that called us, in whose terms it would give an error's position.
		 */
		appendStringInfo(&text, "%s\n-- inspected, not run", body->text);
	}
	else
	{
		bool		closed = body->ntokens > 1 && body->tokens[body->ntokens - 2].code == ';';

		l.text = rewrite_body(body);
		l.wrapped = true;
		appendStringInfo(&text, "%s BEGIN ", declaration);
		prefix = text.len;
		/* on a line of its own: the body may end with a comment */
		appendStringInfo(&text, "%s\n%s END", l.text, closed ? "" : ";");
	}
	return compile(&l, text.data, prefix, error);
}
