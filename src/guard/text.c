/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Sources in other languages: their string literals that are SQL, and
 *	  calls that change data or run SQL that only the run knows.
 *
 * Literals that are concatenated are one text; what stands between them is
 * taken for an identifier.  A literal that does not parse is no finding, unless
 * it is what a call executes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "utils/memutils.h"

#include "guard/literal_sql.h"
#include "guard/text.h"

/* literals that are being put together */
typedef enum ConcatState
{
	CONCAT_NONE,
	CONCAT_STRING,				/* a literal came last */
	CONCAT_OPERATOR,				/* an operator that concatenates */
	CONCAT_OPERAND				/* something else, to be concatenated */
} ConcatState;

#define LINE_MAX_BYTES 10000	/* a comment further away is not behind on the line */

/* one bracket that is open, or the file itself */
typedef struct Level
{
	char		bracket;		/* '\0': the file; ' ': a call without parentheses */
	CallKind	call;			/* of the nearest call that has a name */
	bool		named;			/* its own */
	int			offset;			/* of the name */
	int			commas;
	bool		arguments;		/* it has any */
	bool		strings;		/* a literal among them, here or deeper */
	ConcatState	state;
	TextBuffer	group;
	int			group_offset;
	bool		composed;
} Level;

typedef struct Reader
{
	Guard	   *guard;
	Scanner		scanner;
	Level	   *levels;
	int			depth;			/* of levels, the file's included */
	int			allocated;
	TextToken		last;			/* the token before, comments apart */
	TextToken		before;			/* and the one before that */
	TextToken		qualifier;		/* the word in front of the last one: op in op.execute */
	MemoryContext work;			/* of one literal */
	List	   *comments;		/* Unit */
	List	   *units;			/* Unit */
} Reader;

/* a stretch of the source: a comment, or SQL that a comment can belong to */
typedef struct Unit
{
	int			start;
	int			end;
} Unit;

static List *
add_unit(List *list, int start, int end)
{
	Unit	   *unit = palloc(sizeof(Unit));

	unit->start = start;
	unit->end = end;
	return lappend(list, unit);
}

/* ---- levels and groups ---- */

static Level *
top(Reader *r)
{
	return &r->levels[r->depth - 1];
}

static void
push_level(Reader *r, char bracket, CallKind call, bool named, int offset)
{
	Level	   *level;

	if (r->depth == r->allocated)
	{
		r->allocated *= 2;
		r->levels = repalloc(r->levels, sizeof(Level) * r->allocated);
		memset(r->levels + r->depth, 0, sizeof(Level) * (r->allocated - r->depth));
	}
	level = &r->levels[r->depth++];
	level->bracket = bracket;
	level->call = call;
	level->named = named;
	level->offset = offset;
	level->commas = 0;
	level->arguments = level->strings = false;
	level->state = CONCAT_NONE;
	if (level->group.map == NULL)
		text_buffer_init(&level->group);
}

static void
inspect(Reader *r, TextBuffer *buffer, int offset, bool executed, bool composed)
{
	int			end = buffer->map[buffer->text.len];
	MemoryContext old = MemoryContextSwitchTo(r->work);
	bool		sql = literal_inspect(r->guard, buffer, offset, executed, composed);

	MemoryContextSwitchTo(old);
	MemoryContextReset(r->work);
	if (sql)
		r->units = add_unit(r->units, offset, Max(end, offset + 1));
}

/* no more of it follows: is it SQL? */
static void
finish_group(Reader *r)
{
	Level	   *level = top(r);
	bool		executed = level->call == CALL_EXECUTE && level->commas == 0;

	if (level->state == CONCAT_NONE)
		return;
	if (level->state == CONCAT_OPERAND)
	{
		text_buffer_append(&level->group, RUN_TIME_VALUE, strlen(RUN_TIME_VALUE), level->group_offset, false);
		level->composed = true;
	}
	level->state = CONCAT_NONE;
	inspect(r, &level->group, level->group_offset, executed, level->composed);
}

/*
 * A bracket closes.  What an execute call was given without any literal was
 * not seen; "execute(sql) {" defines it.
 */
static void
pop_level(Reader *r, int end)
{
	Level	   *level = top(r);
	bool		opaque;

	finish_group(r);
	opaque = level->named && level->call == CALL_EXECUTE && level->arguments && !level->strings;
	if (opaque)
	{
		while (end < r->scanner.len && (r->scanner.text[end] == ' ' || r->scanner.text[end] == '\t'))
			end++;
		opaque = end >= r->scanner.len || r->scanner.text[end] != '{';
	}
	if (opaque)
	{
		literal_opaque(r->guard, level->offset, end);
		r->units = add_unit(r->units, level->offset, end);
	}
	r->depth--;
	if (level->strings || (level->named && level->call != CALL_NONE))
		top(r)->strings |= level->strings;
	if (opaque)
		top(r)->strings = true;
}

static void
append_string(Reader *r, TextToken *token)
{
	Level	   *level = top(r);
	TextBuffer *from = &r->scanner.string;

	for (int i = 0; i < from->text.len;)
	{
		int			n = 1;

		/* runs of bytes that stand side by side go at once */
		while (i + n < from->text.len && from->map[i + n] == from->map[i] + n)
			n++;
		text_buffer_append(&level->group, from->text.data + i, n, from->map[i], true);
		i += n;
	}
	level->group.map[level->group.text.len] = token->end;
	level->composed |= token->composed;
	level->state = CONCAT_STRING;
	level->strings = level->arguments = true;
}

static bool
in_statements(Level *level)
{
	return level->bracket == '\0' || level->bracket == '{' || level->bracket == ' ';
}

static void
read_string(Reader *r, TextToken *token)
{
	Level	   *level = top(r);
	bool		goes_on = level->state == CONCAT_OPERATOR ||
		(level->state == CONCAT_STRING && !(token->newline && in_statements(level)));

	/* a docstring is a comment */
	if (token->triple && in_statements(level) && level->state == CONCAT_NONE && token->newline &&
		(r->scanner.language->flags & LANG_PREFIX))
	{
		r->comments = add_unit(r->comments, token->start, token->end);
		return;
	}
	if (!goes_on)
	{
		finish_group(r);
		text_buffer_reset(&level->group);
		level->group_offset = token->start;
		level->composed = false;
	}
	append_string(r, token);
}

static bool
concatenates(Reader *r, char c)
{
	uint32		flags = r->scanner.language->flags;

	return c == '+' || c == '&' || c == '\\' || (c == '.' && (flags & LANG_DOT)) ||
		(c == '<' && r->scanner.text[r->scanner.pos] == '>');
}

/* ---- calls ---- */

static bool
is_word(Reader *r, TextToken *token, const char *words)
{
	char		padded[40];
	int			n = token->end - token->start;

	if (token->kind != TEXT_WORD || n > sizeof(padded) - 3)
		return false;
	snprintf(padded, sizeof(padded), " %.*s ", n, r->scanner.text + token->start);
	return strstr(words, padded) != NULL;
}

/* what the last word means if it is called; names a data change at once */
static CallKind
call_kind(Reader *r, bool *named)
{
	TextToken	   *name = &r->last;
	const char *text = r->scanner.text;
	CallKind	kind;

	*named = false;
	if (name->kind != TEXT_WORD || is_word(r, &r->before, " def function func fun fn fp sub void async new task class "))
		return CALL_NONE;
	*named = true;
	kind = literal_call(r->guard, text + name->start, name->end - name->start,
						r->qualifier.kind == TEXT_WORD ? text + r->qualifier.start : "",
						r->qualifier.kind == TEXT_WORD ? r->qualifier.end - r->qualifier.start : 0,
						name->start);
	if (kind == CALL_DATA)
		r->units = add_unit(r->units, name->start, name->end);
	return kind;
}

static void
open_bracket(Reader *r, TextToken *token, char c)
{
	Level	   *level = top(r);
	CallKind	kind = level->commas == 0 ? level->call : CALL_NONE;
	bool		named = false;
	int			offset = token->start;

	level->arguments = true;
	if (c == '(' && r->last.end == token->start)
	{
		CallKind	own = call_kind(r, &named);

		if (named)
		{
			offset = r->last.start;
			/* what wraps a text hands it on: execute(text("...")) */
			if (own != CALL_WRAPS)
				kind = own;
			else
				named = false;
		}
	}
	if (level->state == CONCAT_STRING)
		finish_group(r);
	else if (level->state == CONCAT_OPERATOR)
		level->state = CONCAT_OPERAND;
	push_level(r, c, c == '{' && !named && level->bracket != '(' ? CALL_NONE : kind, named, offset);
}

static void
close_bracket(Reader *r, TextToken *token)
{
	while (r->depth > 1 && top(r)->bracket == ' ')
		pop_level(r, token->start);
	if (r->depth > 1)
		pop_level(r, token->end);
	else
		finish_group(r);
}

static void
read_punct(Reader *r, TextToken *token)
{
	Level	   *level = top(r);
	char		c = r->scanner.text[token->start];

	if (c == '(' || c == '[' || c == '{')
		open_bracket(r, token, c);
	else if (c == ')' || c == ']' || c == '}')
		close_bracket(r, token);
	else if (c == ',' || c == ';')
	{
		finish_group(r);
		level->commas++;
	}
	else if (level->state == CONCAT_NONE)
		level->arguments |= c != '!' && c != '?' && c != ':';
	else if (concatenates(r, c))
	{
		if (level->state == CONCAT_OPERAND)
		{
			text_buffer_append(&level->group, RUN_TIME_VALUE, strlen(RUN_TIME_VALUE), token->start, false);
			level->composed = true;
		}
		if (level->state == CONCAT_OPERAND || level->state == CONCAT_STRING)
			level->state = CONCAT_OPERATOR;
	}
	else if (level->state == CONCAT_STRING)
	{
		/* what a method makes of it is not known: "...".join(list) */
		level->composed |= c == '.';
		finish_group(r);
	}
}

/* "execute sql", "execute <<~SQL": a call that ends with its line */
static void
open_command(Reader *r, TextToken *token)
{
	bool		named;
	CallKind	kind;

	if (!(r->scanner.language->flags & LANG_COMMAND) || token->newline || r->last.kind != TEXT_WORD ||
		(token->kind != TEXT_WORD && token->kind != TEXT_STRING) ||
		is_word(r, token, " if unless do and or while then in "))
		return;
	kind = call_kind(r, &named);
	if (named && kind == CALL_EXECUTE)
		push_level(r, ' ', kind, true, r->last.start);
}

/* a line has ended: with it statements that nothing carries on */
static void
end_line(Reader *r, TextToken *token)
{
	char		c = token->kind == TEXT_PUNCT ? r->scanner.text[token->start] : '\0';

	if (r->last.kind == TEXT_PUNCT && r->scanner.text[r->last.start] == ',')
		return;
	while (in_statements(top(r)) && top(r)->state != CONCAT_OPERATOR && c != '.' && c != '+' && !concatenates(r, c))
	{
		finish_group(r);
		if (top(r)->bracket != ' ')
			break;
		pop_level(r, r->last.end);
	}
}

static void
read_token(Reader *r, TextToken *token)
{
	if (token->newline)
		end_line(r, token);
	open_command(r, token);
	if (token->kind == TEXT_STRING)
		read_string(r, token);
	else if (token->kind == TEXT_PUNCT)
		read_punct(r, token);
	else if (token->kind == TEXT_WORD || token->kind == TEXT_NUMBER)
	{
		Level	   *level = top(r);

		level->arguments = true;
		if (level->state == CONCAT_STRING)
			finish_group(r);
		else if (level->state == CONCAT_OPERATOR)
			level->state = CONCAT_OPERAND;
	}

	/* a name may be qualified: op.execute, DB::statement, $this->addSql */
	if (token->kind == TEXT_WORD)
	{
		char		c = r->last.kind == TEXT_PUNCT ? r->scanner.text[r->last.start] : '\0';

		if (c != '.' && c != ':' && c != '>')
			r->qualifier.kind = TEXT_END;
		else if (r->last.end != token->start)
			r->qualifier.kind = TEXT_END;
	}
	else if (r->last.kind == TEXT_WORD)
		r->qualifier = r->last;
	r->before = r->last;
	r->last = *token;
}

/* ---- comments ---- */

static int
by_end(const ListCell *a, const ListCell *b)
{
	return ((Unit *) lfirst(a))->end - ((Unit *) lfirst(b))->end;
}

/* Comments belong to the SQL that they stand in, behind which they end the line, or that comes next. */
static void
read_comments(Reader *r)
{
#define UNIT(i) ((Unit *) list_nth(r->units, i))
	const char *text = r->scanner.text;
	int			nunits = list_length(r->units);
	int			next = 0;
	ListCell   *cell;

	list_sort(r->units, by_end);
	foreach(cell, r->comments)
	{
		Unit	   *comment = lfirst(cell);
		Unit	   *owner = NULL;

		while (next < nunits && UNIT(next)->end <= comment->start)
			next++;
		if (next > 0 && comment->start - UNIT(next - 1)->end < LINE_MAX_BYTES &&
			memchr(text + UNIT(next - 1)->end, '\n', comment->start - UNIT(next - 1)->end) == NULL)
			owner = UNIT(next - 1);
		else if (next < nunits)
			owner = UNIT(next);
		guard_comment(r->guard, text + comment->start, comment->end - comment->start, comment->start,
					  owner ? owner->start : -1, owner ? owner->end : -1);
	}
#undef UNIT
}

static void
markup_value(void *arg, TextBuffer *value, int offset, bool sql)
{
	inspect(arg, value, offset, sql, false);
}

static void
markup_comment(void *arg, int start, int end)
{
	Reader	   *r = arg;

	r->comments = add_unit(r->comments, start, end);
}

static void
markup_change(void *arg, int start, int end)
{
	Reader	   *r = arg;

	guard_statement(r->guard, start, end - start);
	guard_report(r->guard, "data-helper", start, NULL, NULL, "<%.*s> changes data",
				 end - start, r->scanner.text + start);
	r->units = add_unit(r->units, start, end);
}

/* ---- entry ---- */

void
guard_text(Guard *guard, GuardFrame *frame)
{
	const Language *language = language_of(guard->name, frame->text, frame->len);
	Reader		r = {.guard = guard, .allocated = 16, .depth = 0};
	TextToken		token;

	r.work = AllocSetContextCreate(CurrentMemoryContext, "evmig guard literal", ALLOCSET_DEFAULT_SIZES);
	text_scanner_init(&r.scanner, language, frame->text, frame->len);
	if (language->flags & LANG_YAML)
		text_scan_yaml(frame->text, frame->len, markup_value, markup_comment, &r);
	else if (language->flags & LANG_XML)
		text_scan_xml(frame->text, frame->len, markup_value, markup_change, markup_comment, &r);
	else
	{
		r.levels = palloc0(sizeof(Level) * r.allocated);
		push_level(&r, '\0', CALL_NONE, false, 0);
		for (;;)
		{
			text_scanner_next(&r.scanner, &token);
			if (token.kind == TEXT_COMMENT)
				r.comments = add_unit(r.comments, token.start, token.end);
			else
				read_token(&r, &token);
			if (token.kind == TEXT_END)
				break;
		}
		while (r.depth > 1)
			pop_level(&r, frame->len);
		finish_group(&r);
		if (r.scanner.gave_up)
		{
			guard_statement(guard, 0, 0);
			guard_report(guard, "unparsed", 0, NULL, "Inspect the SQL in it by itself.",
						 "string literals could not be told from what stands around them");
		}
	}
	read_comments(&r);
	MemoryContextDelete(r.work);
}
