/*-------------------------------------------------------------------------
 *
 * reader.c
 *	  Tokens, expressions, SQL and declarations of a PL/pgSQL body.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/reader.h"

#include "miscadmin.h"

const char *const reader_until_end[] = {NULL};

/* ---- tokens ---- */

bool
reader_at_end(const Reader *r)
{
	return r->i >= r->body->ntokens - 1;
}

bool
reader_at_word(const Reader *r, const char *word)
{
	return body_word(r->body, r->i, word);
}

/* to the next token; the last one stays */
void
reader_advance(Reader *r)
{
	if (!reader_at_end(r))
		r->i++;
}

bool
reader_take(Reader *r, const char *word)
{
	if (!reader_at_word(r, word))
		return false;
	r->i++;
	return true;
}

int
reader_code(const Reader *r)
{
	return r->body->tokens[r->i].code;
}

bool
reader_at_operator(const Reader *r, const char *operator)
{
	return reader_code(r) == TOKEN_OP && strcmp(r->body->tokens[r->i].text, operator) == 0;
}

int
reader_offset(const Reader *r, int i)
{
	return r->body->tokens[i].offset;
}

void
reader_skip_to(Reader *r, const char *const *words)
{
	int			depth = 0;

	for (; !reader_at_end(r); r->i++)
	{
		int			code = reader_code(r);

		CHECK_FOR_INTERRUPTS();
		if (code == '(' || code == '[')
			depth++;
		else if (code == ')' || code == ']')
			depth--;
		else if (code == ';')
			return;
		if (depth > 0)
			continue;
		for (const char *const *word = words; *word; word++)
		{
			if (reader_at_word(r, *word))
				return;
		}
	}
}

void
reader_skip_statement(Reader *r)
{
	reader_skip_to(r, reader_until_end);
	if (reader_code(r) == ';')
		r->i++;
}

BodyItem *
reader_add(Reader *r, BodyItemKind kind, RawParseMode mode, int from, int statement)
{
	int			start = reader_offset(r, from);

	if (r->i <= from)
		return NULL;
	return body_add(r->body, kind, mode, start, reader_offset(r, r->i) - start,
					reader_offset(r, statement));
}

/* ---- expressions ---- */

static const char *const until_clause[] = {"into", "using", "loop", NULL};

void
reader_expression(Reader *r, const char *const *words, BodyItemKind kind, int statement)
{
	int			from = r->i;

	reader_skip_to(r, words);
	(void) reader_add(r, kind, RAW_PARSE_PLPGSQL_EXPR, from, statement);
}

static bool
is_name(const GuardToken *token)
{
	return token->code == TOKEN_IDENT || token->code > TOKEN_NOT_EQUALS;
}

/* the targets of an INTO: a, b.c, d[1] */
void
reader_targets(Reader *r, int statement)
{
	(void) reader_take(r, "strict");
	for (;;)
	{
		const GuardToken *token = &r->body->tokens[r->i];

		if (!is_name(token))
			return;
		body_variable(r->body, BODY_SET, token->text, reader_offset(r, statement));
		reader_advance(r);
		while (reader_code(r) == '.')
		{
			reader_advance(r);
			reader_advance(r);
		}
		if (reader_code(r) == '[')
		{
			while (!reader_at_end(r) && reader_code(r) != ']')
				reader_advance(r);
			reader_advance(r);
		}
		if (reader_code(r) != ',')
			return;
		reader_advance(r);
	}
}

/* EXECUTE, behind the word: text [INTO targets] [USING values] */
void
reader_execute(Reader *r, int statement)
{
	reader_expression(r, until_clause, BODY_DYNAMIC, statement);
	for (;;)
	{
		if (reader_take(r, "into"))
			reader_targets(r, statement);
		else if (reader_take(r, "using"))
			reader_expression(r, until_clause, BODY_EXPRESSION, statement);
		else
			return;
	}
}

/* ---- SQL ---- */

/*
 * One SQL statement up to its semicolon.  PL/pgSQL's INTO is blanked out; that
 * of INSERT, MERGE and utility statements is SQL's own.
 */
void
reader_sql(Reader *r, int statement)
{
	int			from = r->i;
	int			into_from = -1;
	int			into_to = -1;
	int			depth = 0;
	bool		utility = reader_at_word(r, "create") || reader_at_word(r, "alter") ||
		reader_at_word(r, "import");
	BodyItem   *item;

	for (; !reader_at_end(r); r->i++)
	{
		int			code = reader_code(r);

		CHECK_FOR_INTERRUPTS();
		if (code == '(')
			depth++;
		else if (code == ')')
			depth--;
		else if (code == ';')
			break;
		if (reader_at_word(r, "into") && into_from < 0 && depth <= 0 && !utility &&
			!body_word(r->body, r->i - 1, "insert") && !body_word(r->body, r->i - 1, "merge"))
		{
			into_from = reader_offset(r, r->i);
			reader_advance(r);
			reader_targets(r, statement);
			into_to = reader_offset(r, r->i);
			r->i--;
		}
	}
	item = reader_add(r, BODY_STATEMENT, RAW_PARSE_DEFAULT, from, statement);
	if (item && into_from >= 0)
		memset(item->text + into_from - item->offset, ' ', into_to - into_from);
}

/* ---- declarations ---- */

static void
read_cursor(Reader *r, int statement)
{
	while (!reader_at_end(r) && reader_code(r) != ';' && !reader_at_word(r, "for") &&
		   !reader_at_word(r, "is"))
		r->i++;
	if (reader_take(r, "for") || reader_take(r, "is"))
		reader_sql(r, statement);
}

void
reader_declaration(Reader *r)
{
	int			statement = r->i;
	const char *name = is_name(&r->body->tokens[r->i]) ? r->body->tokens[r->i].text : NULL;

	/* name [NO SCROLL] CURSOR ... */
	for (int k = 1; k <= 3 && r->i + k < r->body->ntokens; k++)
	{
		if (body_word(r->body, r->i + k, "cursor"))
		{
			r->i += k;
			read_cursor(r, statement);
			if (reader_code(r) == ';')
				r->i++;
			return;
		}
	}
	for (; !reader_at_end(r) && reader_code(r) != ';'; r->i++)
	{
		if (reader_code(r) == TOKEN_COLON_EQUALS || reader_code(r) == '=' || reader_at_word(r, "default"))
		{
			BodyItem   *item;
			int			from = ++r->i;

			reader_skip_to(r, reader_until_end);
			item = reader_add(r, name ? BODY_ASSIGN : BODY_EXPRESSION, RAW_PARSE_PLPGSQL_EXPR,
							  from, statement);
			if (item && name)
				item->variable = pstrdup(name);
			name = NULL;
			break;
		}
	}
	if (name)
		body_variable(r->body, BODY_DECLARE, name, reader_offset(r, statement));
	reader_skip_statement(r);
}
