/*-------------------------------------------------------------------------
 *
 * plpgsql.c
 *	  Going through what a PL/pgSQL body does, in the order of its text.
 *
 * Variables are followed along, as far as they hold texts that may be run as
 * SQL later: behind a branch a variable may hold what it held before or what
 * the branch made of it, and at the start of a loop also what a round left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/body.h"

#include <ctype.h>

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"

/* variables beyond that are not followed, which makes their texts unknown */
#define MAX_VARIABLES 200

/* ---- variables: guard->variables; one that is not there may hold anything ---- */

static BodyVariable *
find_variable(List *variables, const char *name)
{
	ListCell   *cell;

	foreach(cell, variables)
	{
		BodyVariable *variable = lfirst(cell);

		if (strcmp(variable->name, name) == 0)
			return variable;
	}
	return NULL;
}

static void
set_variable(Guard *guard, const char *name, List *values, bool unknown)
{
	BodyVariable *variable = find_variable(guard->variables, name);

	if (variable == NULL)
	{
		if (unknown || list_length(guard->variables) >= MAX_VARIABLES)
			return;
		variable = palloc0(sizeof(BodyVariable));
		variable->name = pstrdup(name);
		guard->variables = lappend(guard->variables, variable);
	}
	variable->values = values;
	variable->unknown = unknown;
}

static List *
copy_variables(List *variables)
{
	List	   *copy = NIL;
	ListCell   *cell;

	foreach(cell, variables)
	{
		BodyVariable *variable = palloc(sizeof(BodyVariable));

		*variable = *(BodyVariable *) lfirst(cell);
		copy = lappend(copy, variable);
	}
	return copy;
}

/* behind a branch: each variable may hold either */
static void
merge_variables(Guard *guard, List *before)
{
	ListCell   *cell;
	ListCell   *value;

	foreach(cell, guard->variables)
	{
		BodyVariable *now = lfirst(cell);
		BodyVariable *then = find_variable(before, now->name);

		if (then == NULL)
		{
			now->unknown = true;
			continue;
		}
		now->unknown |= then->unknown;
		if (now->values == then->values)
			continue;
		now->values = list_copy(now->values);
		foreach(value, then->values)
			now->values = list_append_unique_ptr(now->values, lfirst(value));
		if (list_length(now->values) > MAX_ALTERNATIVES)
		{
			now->values = NIL;
			now->unknown = true;
		}
	}
}

/* v := v || ..., or what such a statement assigns */
static bool
appends_to(const char *text, const char *variable)
{
	int			len = strlen(variable);

	for (int round = 0; round < 2; round++)
	{
		while (isspace((unsigned char) *text))
			text++;
		if (pg_strncasecmp(text, variable, len) != 0)
			return false;
		for (text += len; isspace((unsigned char) *text);)
			text++;
		if (text[0] == '|' && text[1] == '|')
			return true;
		if (*text == ':')
			text++;
		if (*text++ != '=')
			return false;
	}
	return false;
}

/*
 * What a variable may hold at the start of a round: also what earlier rounds
 * made of it.  Where they only append, at least the beginning is known.
 */
static void
note_rounds(Guard *guard, BodyVariable *variable, bool appends)
{
	List	   *values = list_copy(variable->values);
	ListCell   *cell;

	if (!appends || variable->unknown)
	{
		variable->unknown = true;
		return;
	}
	foreach(cell, variable->values)
	{
		SqlText    *text = lfirst(cell);

		values = lappend(values, sql_text_joined(text, sql_text_at(RUN_TIME_VALUE,
																  text->map[text->len])));
	}
	variable->values = values;
	if (list_length(values) > MAX_ALTERNATIVES)
		variable->unknown = true;
}

/* at the start of a loop, whose items begin at i */
static void
forget_assigned(Guard *guard, List *items, int i)
{
	List	   *noted = NIL;

	int			depth = 1;

	for (; i < list_length(items) && depth > 0; i++)
	{
		BodyItem   *item = list_nth(items, i);

		CHECK_FOR_INTERRUPTS();
		if (item->kind == BODY_BRANCH || item->kind == BODY_LOOP)
			depth++;
		else if (item->kind == BODY_END)
			depth--;
		else if (item->variable)
		{
			BodyVariable *variable = find_variable(guard->variables, item->variable);
			bool		appends = item->kind == BODY_ASSIGN &&
				appends_to(item->text, item->variable);

			if (variable == NULL || (appends && list_member_ptr(noted, variable)))
				continue;
			noted = lappend(noted, variable);
			note_rounds(guard, variable, appends);
		}
	}
}

/* the names that the body's items declare or set, for guard->values */
static List *
body_names(const Body *body, List *names)
{
	ListCell   *cell;

	names = list_copy(names);
	foreach(cell, body->items)
	{
		BodyItem   *item = lfirst(cell);

		if (item->variable && (names == NIL || strcmp(llast(names), item->variable) != 0))
			names = lappend(names, item->variable);
	}
	return names;
}

static bool
needs_run(Node *node, void *context)
{
	Guard	   *guard = context;
	ListCell   *cell;
	const char *name;

	if (node == NULL)
		return false;
	if (IsA(node, ParamRef))
		return true;
	if (IsA(node, ColumnRef) && IsA(linitial(((ColumnRef *) node)->fields), String))
	{
		name = strVal(linitial(((ColumnRef *) node)->fields));
		if (strstr(name, RUN_TIME_VALUE))
			return true;
		foreach(cell, guard->values)
		{
			if (strcmp(lfirst(cell), name) == 0)
				return true;
		}
		return false;
	}
	if (IsA(node, RangeVar))
		return strstr(((RangeVar *) node)->relname, RUN_TIME_VALUE) != NULL;
	if (guard_too_deep(guard))
		return true;
	return raw_expression_tree_walker(node, needs_run, context);
}

bool
guard_needs_run(Guard *guard, Node *tree)
{
	return needs_run(tree, guard);
}

/* ---- items ---- */

/* "line 3 of function f()" */
static char *
line_of(const GuardFrame *body, int offset, const char *routine)
{
	int			line = 1;

	for (int i = 0; i < offset; i++)
	{
		if (body->text[i] == '\n')
			line++;
	}
	return psprintf("line %d of %s", line, routine);
}

/*
 * A frame for an item's text within the body's, which is the current one.
 * routine: it does not stand in the source, so say where it does.
 */
static void
push_item(Guard *guard, GuardFrame *frame, const BodyItem *item, const char *routine,
		  bool conditional)
{
	const GuardFrame *body = guard->frame;

	frame->text = item->text;
	frame->len = strlen(item->text);
	frame->base = -1;
	frame->conditional = conditional;
	if (routine)
		frame->via = line_of(body, item->statement, routine);
	if (item->offset >= 0 && body->base >= 0)
		frame->base = body->base + item->offset;
	else if (item->offset >= 0 && body->map)
		frame->map = body->map + item->offset;
	else
		frame->anchor = guard_source_offset(guard, item->statement);
	guard_push(guard, frame);
}

/* the expression that an expression's or an assignment's tree yields; NULL: a query */
static Node *
yielded(Node *tree)
{
	SelectStmt *select;

	if (IsA(tree, PLAssignStmt))
		tree = (Node *) ((PLAssignStmt *) tree)->val;
	if (!IsA(tree, SelectStmt))
		return NULL;
	select = (SelectStmt *) tree;
	if (list_length(select->targetList) != 1 || select->fromClause || select->withClause ||
		select->op != SETOP_NONE)
		return NULL;
	return ((ResTarget *) linitial(select->targetList))->val;
}

static void
inspect_tree(Guard *guard, const BodyItem *item, Node *tree)
{
	Node	   *expr = yielded(tree);

	if (IsA(tree, PLAssignStmt))
	{
		PLAssignStmt *assign = (PLAssignStmt *) tree;

		guard_expression(guard, (Node *) assign->indirection);
		tree = (Node *) assign->val;
	}
	switch (item->kind)
	{
		case BODY_STATEMENT:
			guard_tree(guard, tree, 0);
			break;
		case BODY_EXPRESSION:
			guard_expression(guard, tree);
			break;
		case BODY_DYNAMIC:
			guard_expression(guard, tree);
			if (expr)
				guard_dynamic(guard, expr, "EXECUTE");
			else
				guard_report(guard, "dynamic-sql", 0, NULL, NULL,
							 "EXECUTE could not be inspected: its text comes from a query");
			break;
		default:				/* BODY_ASSIGN */
			guard_expression(guard, tree);
			if (expr)
				set_variable(guard, item->variable, guard_texts(guard, expr), false);
			else
				set_variable(guard, item->variable, NIL, true);
			break;
	}
}

static void
inspect_item(Guard *guard, const BodyItem *item, const char *routine, bool conditional)
{
	GuardFrame	frame = {0};
	GuardSyntaxError error = {0};
	List	   *trees;
	ListCell   *cell;
	int			outer = guard->tree_offset;

	push_item(guard, &frame, item, routine, conditional);
	guard->tree_offset = 0;
	if (guard_parse(item->text, item->mode, &trees, &error))
	{
		foreach(cell, trees)
			inspect_tree(guard, item, lfirst_node(RawStmt, cell)->stmt);
	}
	else
	{
		guard_report(guard, "unparsed", Max(error.offset, 0), NULL, NULL,
					 "statement could not be read: %s", error.message);
		if (item->variable)
			set_variable(guard, item->variable, NIL, true);
	}
	guard->tree_offset = outer;
	guard_pop(guard);
}

static void
inspect_items(Guard *guard, List *items, const char *routine)
{
	List	   *branches = NIL; /* Lists of BodyVariable: as they were before each */

	for (int i = 0; i < list_length(items); i++)
	{
		const BodyItem *item = list_nth(items, i);

		CHECK_FOR_INTERRUPTS();
		switch (item->kind)
		{
			case BODY_DECLARE:
				set_variable(guard, item->variable, NIL, false);
				break;
			case BODY_SET:
				set_variable(guard, item->variable, NIL, true);
				break;
			case BODY_LOOP:
				forget_assigned(guard, items, i + 1);
				/* FALLTHROUGH */
			case BODY_BRANCH:
				branches = lappend(branches, copy_variables(guard->variables));
				break;
			case BODY_END:
				if (branches != NIL)
				{
					merge_variables(guard, llast(branches));
					list_free_deep(llast(branches));
					branches = list_delete_last(branches);
				}
				break;
			default:
				inspect_item(guard, item, routine, branches != NIL);
				break;
		}
	}
}

void
guard_plpgsql(Guard *guard, GuardFrame *frame, const char *declaration)
{
	Body	   *body;
	GuardSyntaxError error = {0};
	CompileOutcome outcome = COMPILE_SYNTAX;
	const char *routine = NULL;
	List	   *outer_values = guard->values;

	if (frame->base < 0 && frame->map == NULL)
	{
		routine = frame->via;
		frame->via = NULL;
	}
	guard_push(guard, frame);
	body = body_begin(frame->text, frame->len);
	if (!body->lexed)
		guard_report(guard, "unparsed", body->tokens[Max(body->ntokens - 2, 0)].offset, NULL, NULL,
					 "the body could not be read beyond this point");
	else
	{
		outcome = body_compile(body, declaration, &error);
		if (outcome == COMPILE_SYNTAX)
			guard_report(guard, "unparsed", error.offset, NULL, NULL,
						 "PL/pgSQL does not accept the body: %s", error.message);
	}
	if (outcome != COMPILED)
		body_blocks(body);
	guard->values = body_names(body, guard->values);
	inspect_items(guard, body->items, routine);
	guard->values = outer_values;
	guard_pop(guard);
}
