/*-------------------------------------------------------------------------
 *
 * blocks.c
 *	  The items of a PL/pgSQL body by its tokens, where PL/pgSQL's compiler
 *	  refuses it: it declares something of a type or table that does not
 *	  exist here, or has an error somewhere.
 *
 * Reads what it is given from left to right, and does not check it: whatever
 * begins no PL/pgSQL statement is SQL, which the parser will judge.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/reader.h"

#include "miscadmin.h"

/* ---- PL/pgSQL's statements ---- */

static const char *const until_then[] = {"then", NULL};
static const char *const until_loop[] = {"loop", NULL};
static const char *const until_when[] = {"when", NULL};

static void
open_construct(Reader *r, const char *what)
{
	r->open = lappend(r->open, unconstify(char *, what));
}

static bool
open_is(const Reader *r, const char *what)
{
	return r->open != NIL && strcmp(llast(r->open), what) == 0;
}

static void
mark(Reader *r, BodyItemKind kind)
{
	body_mark(r->body, kind, reader_offset(r, r->i));
}

/* END [IF | LOOP | CASE] [label] ; */
static void
read_end(Reader *r)
{
	if (open_is(r, "handlers"))
	{
		mark(r, BODY_END);
		r->open = list_delete_last(r->open);
	}
	if (r->open != NIL)
	{
		if (!open_is(r, "block"))
			mark(r, BODY_END);
		r->open = list_delete_last(r->open);
	}
	reader_skip_statement(r);
}

/* does a query begin at token i? */
static bool
begins_query(const Body *body, int i)
{
	static const char *const words[] = {
		"select", "with", "values", "table", "insert", "update", "delete", "merge",
		"explain", "show", "execute"
	};

	if (body->tokens[i].code == '(')
		return true;
	for (int k = 0; k < lengthof(words); k++)
	{
		if (body_word(body, i, words[k]))
			return true;
	}
	return false;
}

/* what a FOR goes through: [REVERSE] a .. b [BY c] | query | cursor */
static void
read_range(Reader *r, int statement)
{
	static const char *const until_by[] = {"by", "loop", NULL};
	int			from;
	int			dots = -1;
	int			to;

	(void) reader_take(r, "reverse");
	from = r->i;
	reader_skip_to(r, until_loop);
	to = r->i;
	for (int i = from; i < to && dots < 0; i++)
	{
		if (r->body->tokens[i].code == TOKEN_DOT_DOT)
			dots = i;
	}
	if (dots >= 0)
	{
		r->i = dots;
		(void) reader_add(r, BODY_EXPRESSION, RAW_PARSE_PLPGSQL_EXPR, from, statement);
		r->i = dots + 1;
		reader_expression(r, until_by, BODY_EXPRESSION, statement);
		if (reader_take(r, "by"))
			reader_expression(r, until_loop, BODY_EXPRESSION, statement);
	}
	else if (begins_query(r->body, from))
		(void) reader_add(r, BODY_STATEMENT, RAW_PARSE_DEFAULT, from, statement);
	r->i = to;
}

/* FOR variables IN ..., FOREACH variable [SLICE n] IN ARRAY a */
static void
read_for(Reader *r, int statement)
{
	int			targets = r->i;
	int			from;

	while (!reader_at_end(r) && reader_code(r) != ';' && !reader_at_word(r, "in"))
		r->i++;
	if (!reader_take(r, "in"))
		return;
	if (reader_take(r, "array"))
		reader_expression(r, until_loop, BODY_EXPRESSION, statement);
	else if (reader_take(r, "execute"))
		reader_execute(r, statement);
	else
		read_range(r, statement);
	mark(r, BODY_LOOP);
	open_construct(r, "loop");
	from = r->i;
	r->i = targets;
	reader_targets(r, statement);
	r->i = from;
	(void) reader_take(r, "loop");
}

/* CASE [x] WHEN a, b THEN: the test and the conditions of its arms */
static void
read_condition(Reader *r, int statement)
{
	int			from = r->i;

	reader_skip_to(r, until_then);
	if (r->i > from)
	{
		/* WHEN a, b: as a row */
		char	   *text = psprintf("(%s)", pnstrdup(r->body->text + reader_offset(r, from),
													 reader_offset(r, r->i) - reader_offset(r, from)));

		body_add_text(r->body, BODY_EXPRESSION, RAW_PARSE_PLPGSQL_EXPR, text,
					  reader_offset(r, from) - 1, reader_offset(r, statement));
	}
}

/* loops, and any END */
static bool
read_loop(Reader *r, int statement)
{
	if (reader_take(r, "loop"))
	{
		mark(r, BODY_LOOP);
		open_construct(r, "loop");
	}
	else if (reader_take(r, "while"))
	{
		reader_expression(r, until_loop, BODY_EXPRESSION, statement);
		mark(r, BODY_LOOP);
		open_construct(r, "loop");
		(void) reader_take(r, "loop");
	}
	else if (reader_take(r, "for") || reader_take(r, "foreach"))
		read_for(r, statement);
	else if (reader_take(r, "end"))
		read_end(r);
	else
		return false;
	return true;
}

/* what other statements stand in; false if none of it is at hand */
static bool
read_structure(Reader *r, int statement)
{
	if (reader_at_operator(r, "<<"))
	{
		while (!reader_at_end(r) && !reader_at_operator(r, ">>"))
			reader_advance(r);
		reader_advance(r);
	}
	else if (reader_take(r, "declare"))
	{
		while (!reader_at_end(r) && !reader_at_word(r, "begin"))
			reader_declaration(r);
	}
	else if (reader_take(r, "begin"))
		open_construct(r, "block");
	else if (reader_take(r, "exception"))
	{
		mark(r, BODY_BRANCH);
		open_construct(r, "handlers");
	}
	else if (reader_take(r, "when"))
	{
		mark(r, BODY_END);
		if (open_is(r, "case"))
			read_condition(r, statement);
		else
			reader_skip_to(r, until_then);
		mark(r, BODY_BRANCH);
		(void) reader_take(r, "then");
	}
	else if (reader_take(r, "if"))
	{
		reader_expression(r, until_then, BODY_EXPRESSION, statement);
		mark(r, BODY_BRANCH);
		open_construct(r, "if");
		(void) reader_take(r, "then");
	}
	else if (reader_take(r, "elsif") || reader_take(r, "elseif"))
	{
		mark(r, BODY_END);
		reader_expression(r, until_then, BODY_EXPRESSION, statement);
		mark(r, BODY_BRANCH);
		(void) reader_take(r, "then");
	}
	else if (reader_take(r, "else"))
	{
		mark(r, BODY_END);
		mark(r, BODY_BRANCH);
	}
	else if (reader_take(r, "case"))
	{
		reader_expression(r, until_when, BODY_EXPRESSION, statement);
		mark(r, BODY_BRANCH);
		open_construct(r, "case");
	}
	else
		return read_loop(r, statement);
	return true;
}

/* RETURN [NEXT | QUERY] ... */
static void
read_return(Reader *r, int statement)
{
	if (reader_take(r, "query"))
	{
		if (reader_take(r, "execute"))
			reader_execute(r, statement);
		else
			reader_sql(r, statement);
	}
	else
	{
		(void) reader_take(r, "next");
		reader_expression(r, reader_until_end, BODY_EXPRESSION, statement);
	}
	reader_skip_statement(r);
}

/* RAISE: each expression behind a comma or an option's equals sign */
static void
read_raise(Reader *r, int statement)
{
	for (int depth = 0; !reader_at_end(r) && reader_code(r) != ';'; r->i++)
	{
		int			from;

		if (reader_code(r) != ',' && reader_code(r) != '=')
			continue;
		from = ++r->i;
		for (; !reader_at_end(r) && reader_code(r) != ';'; r->i++)
		{
			if (reader_code(r) == '(' || reader_code(r) == '[')
				depth++;
			else if (reader_code(r) == ')' || reader_code(r) == ']')
				depth--;
			else if (depth <= 0 && (reader_code(r) == ',' || reader_at_word(r, "using")))
				break;
		}
		(void) reader_add(r, BODY_EXPRESSION, RAW_PARSE_PLPGSQL_EXPR, from, statement);
		r->i--;
	}
	reader_skip_statement(r);
}

/* PERFORM x is SELECT x */
static void
read_perform(Reader *r, int statement)
{
	int			from = r->i - 1;
	BodyItem   *item;

	reader_skip_to(r, reader_until_end);
	item = reader_add(r, BODY_EXPRESSION, RAW_PARSE_DEFAULT, from, statement);
	memcpy(item->text, " SELECT", strlen("PERFORM"));
	reader_skip_statement(r);
}

/* target := expression; false if this is none */
static bool
read_assignment(Reader *r, int statement)
{
	const char *name = r->body->tokens[r->i].text;
	bool		plain = true;
	int			i = r->i + 1;
	int			from;
	BodyItem   *item;

	for (; i < r->body->ntokens - 1; i++)
	{
		int			code = r->body->tokens[i].code;

		if (code == '.')
			i++;
		else if (code == '[')
		{
			while (i < r->body->ntokens - 1 && r->body->tokens[i].code != ']')
				i++;
		}
		else
			break;
		plain = false;
	}
	i = Min(i, r->body->ntokens - 1);
	if (r->body->tokens[i].code != TOKEN_COLON_EQUALS && r->body->tokens[i].code != '=')
		return false;
	from = r->i = i + 1;
	reader_skip_to(r, reader_until_end);
	item = reader_add(r, plain ? BODY_ASSIGN : BODY_EXPRESSION, RAW_PARSE_PLPGSQL_EXPR, from,
					  statement);
	if (item && plain)
		item->variable = pstrdup(name);
	else if (!plain)
		body_variable(r->body, BODY_SET, name, reader_offset(r, statement));
	reader_skip_statement(r);
	return true;
}

/* OPEN c FOR EXECUTE text | FOR query */
static void
read_open(Reader *r, int statement)
{
	while (!reader_at_end(r) && reader_code(r) != ';' && !reader_at_word(r, "for"))
		r->i++;
	if (reader_take(r, "for"))
	{
		if (reader_take(r, "execute"))
			reader_execute(r, statement);
		else
			reader_sql(r, statement);
	}
	reader_skip_statement(r);
}

static void
read_statement(Reader *r)
{
	int			statement = r->i;
	int			code = reader_code(r);

	if (code == ';')
		r->i++;
	else if (read_structure(r, statement))
		return;
	else if ((code == TOKEN_IDENT || code > TOKEN_NOT_EQUALS) && read_assignment(r, statement))
		return;
	else if (reader_take(r, "execute"))
	{
		reader_execute(r, statement);
		reader_skip_statement(r);
	}
	else if (reader_take(r, "perform"))
		read_perform(r, statement);
	else if (reader_take(r, "return"))
		read_return(r, statement);
	else if (reader_take(r, "raise"))
		read_raise(r, statement);
	else if (reader_take(r, "assert"))
	{
		reader_expression(r, reader_until_end, BODY_EXPRESSION, statement);
		reader_skip_statement(r);
	}
	else if (reader_take(r, "open"))
		read_open(r, statement);
	else if (reader_take(r, "exit") || reader_take(r, "continue"))
	{
		reader_skip_to(r, until_when);
		if (reader_take(r, "when"))
			reader_expression(r, reader_until_end, BODY_EXPRESSION, statement);
		reader_skip_statement(r);
	}
	else if (reader_at_word(r, "null") || reader_at_word(r, "get") || reader_at_word(r, "close") ||
			 reader_at_word(r, "move") || reader_at_word(r, "fetch"))
		reader_skip_statement(r);
	else
	{
		reader_sql(r, statement);
		reader_skip_statement(r);
	}
}

void
body_blocks(Body *body)
{
	Reader		reader = {body, 0, NIL};

	/* #variable_conflict and such */
	while (body->text[body->tokens[reader.i].offset] == '#')
	{
		const char *end = strchr(body->text + body->tokens[reader.i].offset, '\n');
		int			to = end ? end - body->text : body->len;

		while (!reader_at_end(&reader) && body->tokens[reader.i].offset < to)
			reader.i++;
	}
	while (!reader_at_end(&reader))
	{
		int			before = reader.i;

		CHECK_FOR_INTERRUPTS();
		read_statement(&reader);
		if (reader.i == before)
			reader.i++;
	}
	while (reader.open != NIL)
		read_end(&reader);
}
