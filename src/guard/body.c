/*-------------------------------------------------------------------------
 *
 * body.c
 *	  The tokens of a PL/pgSQL body, and the list of what it does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/body.h"

#include "miscadmin.h"

/* ---- tokens ---- */

typedef struct Collector
{
	Body	   *body;
	int			allocated;
} Collector;

static bool
collect_token(const GuardToken *token, void *context)
{
	Collector  *collector = context;
	Body	   *body = collector->body;

	CHECK_FOR_INTERRUPTS();
	if (body->ntokens + 1 >= collector->allocated)
	{
		collector->allocated *= 2;
		body->tokens = repalloc_huge(body->tokens,
									 sizeof(GuardToken) * (Size) collector->allocated);
	}
	body->tokens[body->ntokens++] = *token;
	return true;
}

Body *
body_begin(const char *text, int len)
{
	Body	   *body = palloc0(sizeof(Body));
	Collector	collector = {body, 64};

	body->text = text;
	body->len = len;
	body->tokens = palloc(sizeof(GuardToken) * collector.allocated);
	body->lexed = guard_lex(text, collect_token, &collector);
	if (body->ntokens == 0 || body->tokens[body->ntokens - 1].code != TOKEN_END)
	{
		GuardToken	end = {TOKEN_END, len, NULL, 0};

		body->tokens[body->ntokens++] = end;
	}
	return body;
}

bool
body_word(const Body *body, int i, const char *word)
{
	const GuardToken *token;

	if (i < 0 || i >= body->ntokens)
		return false;
	token = &body->tokens[i];
	return (token->code == TOKEN_IDENT || token->code > TOKEN_NOT_EQUALS) &&
		body->text[token->offset] != '"' && strcmp(token->text, word) == 0;
}

int
body_token_at(const Body *body, int offset)
{
	int			low = 0;
	int			high = body->ntokens - 1;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (body->tokens[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* does a PL/pgSQL statement begin behind token i? */
static bool
ends_statement(const Body *body, int i)
{
	static const char *const openers[] = {"then", "else", "loop", "begin", "declare"};

	if (body->tokens[i].code == ';')
		return true;
	if (body->tokens[i].code == TOKEN_OP && strcmp(body->tokens[i].text, ">>") == 0)
		return i >= 2 && body->tokens[i - 2].code == TOKEN_OP &&
			strcmp(body->tokens[i - 2].text, "<<") == 0;
	for (int k = 0; k < lengthof(openers); k++)
	{
		if (body_word(body, i, openers[k]))
			return true;
	}
	return false;
}

int
body_statement_of(const Body *body, int i)
{
	while (i > 0 && !ends_statement(body, i - 1))
		i--;
	return i;
}

/* ---- items ---- */

static BodyItem *
new_item(Body *body, BodyItemKind kind, int statement)
{
	BodyItem   *item = palloc0(sizeof(BodyItem));

	item->kind = kind;
	item->offset = -1;
	item->statement = statement;
	body->items = lappend(body->items, item);
	return item;
}

BodyItem *
body_add(Body *body, BodyItemKind kind, RawParseMode mode, int offset, int len, int statement)
{
	BodyItem   *item = new_item(body, kind, statement);

	item->mode = mode;
	item->text = pnstrdup(body->text + offset, len);
	item->offset = offset;
	return item;
}

void
body_add_text(Body *body, BodyItemKind kind, RawParseMode mode, char *text, int offset,
			  int statement)
{
	BodyItem   *item = new_item(body, kind, statement);

	item->mode = mode;
	item->text = text;
	item->offset = offset;
}

void
body_variable(Body *body, BodyItemKind kind, const char *variable, int statement)
{
	new_item(body, kind, statement)->variable = pstrdup(variable);
}

void
body_mark(Body *body, BodyItemKind kind, int statement)
{
	(void) new_item(body, kind, statement);
}
