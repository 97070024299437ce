/*-------------------------------------------------------------------------
 *
 * source.c
 *	  Go through a source piece by piece: statements, psql's commands, and
 *	  what cannot be read.
 *
 * Each statement is a frame of its own, so that the parser's locations count
 * in the current frame, and is parsed into a context that goes with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/guard.h"

#include <ctype.h>

#include "miscadmin.h"
#include "parser/parser.h"
#include "utils/memutils.h"

#include "guard/data.h"
#include "guard/rules.h"
#include "guard/split.h"

/* one text that is gone through */
typedef struct Source
{
	Guard	   *guard;
	GuardFrame *frame;
	Splitter   *splitter;
	bool		flat;			/* part of a statement that failed */
	int			ifs;			/* depth of psql's \if */
} Source;

static void inspect_text(Guard *guard, GuardFrame *frame, bool flat);

void
guard_sql(Guard *guard, GuardFrame *frame)
{
	inspect_text(guard, frame, false);
}

/* ---- statements ---- */

/* Write over what is no SQL, so that positions hold. */
static void
fill_holes(char *text, int start, const Piece *piece)
{
	for (int i = 0; i < piece->nholes; i++)
	{
		const Hole *hole = &piece->holes[i];
		char	   *at = text + hole->start - start;

		switch (hole->kind)
		{
			case HOLE_META:
			case HOLE_BLOCK:
				memset(at, ' ', hole->len);
				break;
			case HOLE_QUOTED_VARIABLE:
				*at = ' ';
				break;
			case HOLE_TEST_VARIABLE:
				memset(at, ' ', hole->len);
				memcpy(at, "true", 4);
				break;
			case HOLE_VARIABLE:
				*at = '_';
				break;
			case HOLE_TEMPLATE:
				for (int j = 0; j < hole->len; j++)
					if (!isalnum((unsigned char) at[j]))
						at[j] = '_';
				break;
		}
	}
}

/* Blank template marks that stand before the statement; false: there are none. */
static bool
blank_leading_marks(char *text, const Piece *piece)
{
	bool		found = false;

	for (int i = 0; i < piece->nholes; i++)
	{
		const Hole *hole = &piece->holes[i];
		int			at = hole->start - piece->start;

		if (hole->kind == HOLE_META || hole->kind == HOLE_BLOCK)
			continue;
		if (hole->kind != HOLE_TEMPLATE || strspn(text, " \t\r\n") < at)
			break;
		memset(text + at, ' ', hole->len);
		found = true;
	}
	return found;
}

/* could all its holes be SQL, such as the colon of an array's slice? */
static bool
may_be_sql(const Piece *piece)
{
	for (int i = 0; i < piece->nholes; i++)
		if (piece->holes[i].kind != HOLE_VARIABLE)
			return false;
	return true;
}

/* A frame for len bytes at start of another one. */
static void
frame_within(GuardFrame *frame, const GuardFrame *outer, int start, int len)
{
	char	   *text = palloc_extended(len + 1, MCXT_ALLOC_HUGE);

	memcpy(text, outer->text + start, len);
	text[len] = '\0';
	memset(frame, 0, sizeof(GuardFrame));
	frame->text = text;
	frame->len = len;
	frame->base = outer->base >= 0 ? outer->base + start : -1;
	frame->map = outer->map ? outer->map + start : NULL;
	frame->anchor = outer->anchor;
}

/* what a statement means for those behind it, to the lexer */
static void
note_settings(Source *source, Node *tree)
{
	VariableSetStmt *set = (VariableSetStmt *) tree;
	Node	   *value;

	if (!IsA(tree, VariableSetStmt) || set->kind != VAR_SET_VALUE ||
		strcmp(set->name, "standard_conforming_strings") != 0 || list_length(set->args) != 1)
		return;
	value = linitial(set->args);
	if (!IsA(value, A_Const) || ((A_Const *) value)->isnull)
		return;
	standard_conforming_strings = !guard_is_false((Node *) &((A_Const *) value)->val);
	split_standard_strings(source->splitter, standard_conforming_strings);
}

/* the statement's trees, run in order; more than one only where the splitter erred */
static void
inspect_trees(Source *source, List *trees)
{
	Guard	   *guard = source->guard;
	ListCell   *lc;

	foreach(lc, trees)
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		if (source->frame == guard->source)
			guard->tree = raw->stmt;
		guard_tree(guard, raw->stmt, lc == list_head(trees) ? 0 : raw->stmt_location);
		note_settings(source, raw->stmt);
	}
}

static void
inspect_statement(Source *source, const Piece *piece)
{
	Guard	   *guard = source->guard;
	GuardFrame	frame;
	List	   *trees;
	GuardSyntaxError error;
	bool		filled = piece->nholes > 0 && !may_be_sql(piece);
	bool		ok;

	frame_within(&frame, source->frame, piece->start, piece->len);
	frame.conditional = source->ifs > 0;
	if (filled)
		fill_holes(unconstify(char *, frame.text), piece->start, piece);
	ok = guard_parse(frame.text, RAW_PARSE_DEFAULT, &trees, &error);
	if (!ok && piece->nholes > 0 && !filled)
	{
		fill_holes(unconstify(char *, frame.text), piece->start, piece);
		ok = guard_parse(frame.text, RAW_PARSE_DEFAULT, &trees, &error);
	}

	guard_push(guard, &frame);
	if (ok)
		inspect_trees(source, trees);
	else if (!source->flat)
	{
		bool		rest = blank_leading_marks(unconstify(char *, frame.text), piece);

		guard_report(guard, "unparsed", error.offset, NULL,
					 piece->templated ?
					 "Inspect what the template is rendered to; the guard does not know what its marks stand for." : NULL,
					 "statement could not be read: %s", error.message);
		/* a macro's call on lines of its own must not hide what follows it */
		if (rest && guard_parse(frame.text, RAW_PARSE_DEFAULT, &trees, NULL))
			inspect_trees(source, trees);
		/* nor one parenthesis too many the statements behind it */
		else if (piece->nested)
			inspect_text(guard, &frame, true);
	}
	guard_pop(guard);
}

/* ---- psql ---- */

/* does the command have this name? */
static bool
is_command(const char *text, int len, const char *name)
{
	int			n = strlen(name);

	return len > n && memcmp(text + 1, name, n) == 0 &&
		(len == n + 1 || !(isalnum((unsigned char) text[n + 1]) || text[n + 1] == '_'));
}

/*
 * \copy as COPY: what it reads or writes is what matters; psql's file names
 * need no quotes, so they may have to be put aside.
 */
static void
inspect_copy(Source *source, const Piece *piece)
{
	Guard	   *guard = source->guard;
	GuardFrame	frame;
	List	   *trees;
	char	   *text;
	int			parens = 0;
	bool		ok;

	/* "stdin " fits in where a name follows FROM or TO */
	frame_within(&frame, source->frame, piece->start, piece->len);
	text = palloc(piece->len + 16);
	strcpy(text, frame.text);
	text[0] = ' ';
	frame.text = text;
	ok = guard_parse(text, RAW_PARSE_DEFAULT, &trees, NULL);
	for (int i = 5; !ok && i < piece->len; i++)
	{
		int			len = pg_strncasecmp(text + i, "from", 4) == 0 ? 4 :
			pg_strncasecmp(text + i, "to", 2) == 0 ? 2 : 0;

		parens += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
		if (parens == 0 && len > 0 && isspace((unsigned char) text[i - 1]) &&
			isspace((unsigned char) text[i + len]))
		{
			strcpy(text + i + len, " stdin");
			ok = guard_parse(text, RAW_PARSE_DEFAULT, &trees, NULL);
			break;
		}
	}
	guard_push(guard, &frame);
	if (ok)
		inspect_trees(source, trees);
	else
		guard_report(guard, "unparsed", 0, NULL, NULL, "\\copy could not be read");
	guard_pop(guard);
}

static void
inspect_meta(Source *source, const Piece *piece)
{
	Guard	   *guard = source->guard;
	const char *text = source->frame->text + piece->start;
	int			len = piece->len;
	int			outer = guard->tree_offset;

	guard->tree_offset = piece->start;
	if (is_command(text, len, "i") || is_command(text, len, "ir") ||
		is_command(text, len, "include") || is_command(text, len, "include_relative"))
		guard_report(guard, "include-not-inspected", -1, NULL, NULL,
					 "%.*s reads another file, which was not inspected",
					 (int) strcspn(text, " \t\r\n"), text);
	else if (is_command(text, len, "copy"))
		inspect_copy(source, piece);
	else if (is_command(text, len, "gexec"))
		guard_report(guard, "dynamic-sql", -1, NULL, NULL,
					 "\\gexec runs the results of its query as statements, which could not be inspected");
	else if (is_command(text, len, "!"))
		guard_report(guard, "dynamic-sql", -1, NULL, NULL,
					 "a shell command could not be inspected");
	else if (is_command(text, len, "if"))
		source->ifs++;
	else if (is_command(text, len, "endif") && source->ifs > 0)
		source->ifs--;
	guard->tree_offset = outer;
}

/* ---- the whole ---- */

static void
inspect_unterminated(Source *source, const Piece *piece)
{
	const char *what;

	switch (source->frame->text[piece->start])
	{
		case '\'':
			what = "quoted string";
			break;
		case '"':
			what = "quoted identifier";
			break;
		case '$':
			what = "dollar-quoted string";
			break;
		case '/':
			what = "comment";
			break;
		default:
			what = "block of rows for COPY";
			break;
	}
	guard_report(source->guard, "unterminated-quote", piece->start, NULL, NULL,
				 "a %s begins here and never ends, so nothing behind it was inspected", what);
}

static void
inspect_piece(Source *source, const Piece *piece)
{
	Guard	   *guard = source->guard;

	if (source->frame == guard->source && piece->kind != PIECE_COMMENT)
		guard_statement(guard, piece->start, piece->len);
	switch (piece->kind)
	{
		case PIECE_STATEMENT:
			guard->statements += source->frame == guard->source;
			inspect_statement(source, piece);
			break;
		case PIECE_META:
			inspect_meta(source, piece);
			break;
		case PIECE_UNTERMINATED:
			if (!source->flat)
				inspect_unterminated(source, piece);
			break;
		case PIECE_COMMENT:
		case PIECE_COPY_DATA:
			break;
	}
}

/*
 * Memory goes with each piece; what outlives it is in guard->context.
 */
static void
inspect_text(Guard *guard, GuardFrame *frame, bool flat)
{
	Source		source = {guard, frame};
	MemoryContext outer = guard->statement_context;
	MemoryContext old = CurrentMemoryContext;
	Piece		piece;

	if (guard_too_deep(guard))
		return;
	source.flat = flat;
	source.splitter = split_begin(frame->text, frame->len);
	split_standard_strings(source.splitter, standard_conforming_strings);
	if (flat)
		split_flat(source.splitter);
	/* large enough to be kept from statement to statement */
	if (frame == guard->source)
		guard->statement_context = AllocSetContextCreate(old, "evmig guard statement",
														 128 * 1024, 128 * 1024,
														 ALLOCSET_DEFAULT_MAXSIZE);
	else
		guard->statement_context = AllocSetContextCreate(old, "evmig guard statement",
														 ALLOCSET_DEFAULT_SIZES);
	while (split_next(source.splitter, &piece))
	{
		CHECK_FOR_INTERRUPTS();
		if (piece.kind == PIECE_COMMENT || piece.kind == PIECE_COPY_DATA)
			continue;
		MemoryContextSwitchTo(guard->statement_context);
		inspect_piece(&source, &piece);
		MemoryContextSwitchTo(old);
		MemoryContextReset(guard->statement_context);
	}
	MemoryContextDelete(guard->statement_context);
	guard->statement_context = outer;
	split_end(source.splitter);
}
