/*-------------------------------------------------------------------------
 *
 * listing.c
 *	  The items of a block that PL/pgSQL has compiled.
 *
 * The compiler keeps of each statement its line and the texts of its
 * expressions, so those are looked for in the body, from that line on.  It
 * leaves out the INTO of a statement, makes SELECT of PERFORM, and composes
 * the conditions of a CASE with an argument.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/listing.h"

#include <ctype.h>

#include "miscadmin.h"

static void list_statements(Listing *l, List *statements);

/* ---- where the compiler's texts stand in the body ---- */

/* offset of the start of a line, which counts from 1 */
static int
line_offset(const Listing *l, int lineno)
{
	return l->lines[Max(0, Min(lineno, l->nlines) - 1)];
}

/*
 * Does query stand at p?  The compiler blanks an INTO out, so one run of
 * spaces of the query may be anything.
 */
static bool
matches(const char *p, const char *query, int len)
{
	int			i = 0;
	bool		blanked = false;

	while (i < len)
	{
		if (p[i] == query[i])
			i++;
		else if (p[i] == '\0' || query[i] != ' ' || blanked)
			return false;
		else
		{
			/* the run may have begun with spaces that are in both */
			blanked = true;
			while (i < len && query[i] == ' ')
			{
				if (p[i++] == '\0')
					return false;
			}
		}
	}
	return true;
}

/* the first token at or behind from where a query stands; -1: none */
static int
find_from(const Listing *l, int from, const char *query, int len)
{
	for (int i = body_token_at(l->body, from); i < l->body->ntokens; i++)
	{
		int			offset = l->body->tokens[i].offset;

		if (offset + len > l->body->len)
			break;
		if (l->text[offset] == query[0] && matches(l->text + offset, query, len))
			return offset;
	}
	return -1;
}

static int
find_query(Listing *l, int lineno, const char *query)
{
	int			start = line_offset(l, lineno);
	int			len = strlen(query);
	int			found;

	while (len > 0 && isspace((unsigned char) query[len - 1]))
		len--;
	if (len == 0)
		return -1;
	found = find_from(l, Max(start, l->cursor), query, len);
	if (found < 0 && l->cursor > start)
		found = find_from(l, start, query, len);
	return found;
}

/* ---- items ---- */

static void
list_expr(Listing *l, BodyItemKind kind, int lineno, const PLpgSQL_expr *expr)
{
	const char *query;
	char	   *text;
	int			found;
	int			prefix = 0;

	if (expr == NULL || expr->query == NULL)
		return;
	query = expr->query;
	text = pstrdup(query);
	if (strncmp(query, "\"__Case__Variable_", 18) == 0)
	{
		/* WHEN a, b THEN of a CASE with an argument: "variable" IN (a, b) */
		const char *in = strstr(query, " IN (");

		if (in)
		{
			query = in + 5;
			text = psprintf("(%s", query);
			prefix = 1;
			query = pnstrdup(query, strlen(query) - 1);
		}
	}
	found = find_query(l, lineno, query);
	if (found >= 0)
	{
		l->cursor = found + 1;
		l->statement = l->body->tokens[body_statement_of(l->body, body_token_at(l->body, found))].offset;
	}
	else
		l->statement = l->body->tokens[body_token_at(l->body, line_offset(l, lineno))].offset;
	body_add_text(l->body, kind, expr->parseMode, text, found < 0 ? -1 : found - prefix,
				  l->statement);
}

/* PERFORM x: the compiler made SELECT x of it, one letter shorter */
static void
list_perform(Listing *l, int lineno, const PLpgSQL_expr *expr)
{
	int			found = -1;

	for (int i = body_token_at(l->body, Max(l->cursor, line_offset(l, lineno)));
		 i < l->body->ntokens; i++)
	{
		int			offset = l->body->tokens[i].offset;

		if (!body_word(l->body, i, "perform"))
			continue;
		if (offset + 1 + strlen(expr->query) <= l->body->len &&
			matches(l->text + offset + strlen("PERFORM"), expr->query + strlen("SELECT"),
					strlen(expr->query) - strlen("SELECT")))
		{
			found = offset;
			break;
		}
	}
	if (found >= 0)
		l->cursor = found + 1;
	l->statement = found >= 0 ? found :
		l->body->tokens[body_token_at(l->body, line_offset(l, lineno))].offset;
	body_add_text(l->body, BODY_EXPRESSION, expr->parseMode, psprintf(" %s", expr->query),
				  found, l->statement);
}

static void
list_exprs(Listing *l, BodyItemKind kind, int lineno, const List *exprs)
{
	ListCell   *cell;

	foreach(cell, exprs)
		list_expr(l, kind, lineno, lfirst(cell));
}

/* a variable, or those of a row, got values that we do not know */
static void
list_set(Listing *l, const PLpgSQL_datum *datum)
{
	if (datum == NULL)
		return;
	switch (datum->dtype)
	{
		case PLPGSQL_DTYPE_VAR:
		case PLPGSQL_DTYPE_PROMISE:
		case PLPGSQL_DTYPE_REC:
			if (((const PLpgSQL_variable *) datum)->refname)
				body_variable(l->body, BODY_SET, ((const PLpgSQL_variable *) datum)->refname,
							  l->statement);
			break;
		case PLPGSQL_DTYPE_ROW:
			{
				const PLpgSQL_row *row = (const PLpgSQL_row *) datum;

				for (int i = 0; i < row->nfields; i++)
				{
					if (row->varnos[i] >= 0)
						list_set(l, l->function->datums[row->varnos[i]]);
				}
			}
			break;
		case PLPGSQL_DTYPE_RECFIELD:
			break;
	}
}

/* ---- statements ---- */

/* the declarations of a block, in their order */
static void
list_declarations(Listing *l, const PLpgSQL_stmt_block *block)
{
	for (int i = 0; i < block->n_initvars; i++)
	{
		PLpgSQL_datum *datum = l->function->datums[block->initvarnos[i]];
		PLpgSQL_variable *variable = (PLpgSQL_variable *) datum;

		if (datum->dtype != PLPGSQL_DTYPE_VAR && datum->dtype != PLPGSQL_DTYPE_REC)
			continue;
		if (variable->default_val)
		{
			list_expr(l, BODY_ASSIGN, variable->lineno, variable->default_val);
			((BodyItem *) llast(l->body->items))->variable = pstrdup(variable->refname);
		}
		else
			body_variable(l->body, BODY_DECLARE, variable->refname, l->statement);
		if (datum->dtype == PLPGSQL_DTYPE_VAR)
			list_expr(l, BODY_STATEMENT, variable->lineno,
					  ((PLpgSQL_var *) datum)->cursor_explicit_expr);
	}
}

static void
list_block(Listing *l, const PLpgSQL_stmt_block *block)
{
	ListCell   *cell;

	list_declarations(l, block);
	list_statements(l, block->body);
	if (block->exceptions)
	{
		foreach(cell, block->exceptions->exc_list)
		{
			body_mark(l->body, BODY_BRANCH, l->statement);
			list_statements(l, ((PLpgSQL_exception *) lfirst(cell))->action);
			body_mark(l->body, BODY_END, l->statement);
		}
	}
	/* an outer variable of the same name has another value */
	for (int i = 0; i < block->n_initvars; i++)
		list_set(l, l->function->datums[block->initvarnos[i]]);
}

static void
list_branch(Listing *l, BodyItemKind kind, List *statements)
{
	body_mark(l->body, kind, l->statement);
	list_statements(l, statements);
	body_mark(l->body, BODY_END, l->statement);
}

static void
list_if(Listing *l, const PLpgSQL_stmt_if *stmt)
{
	ListCell   *cell;

	list_expr(l, BODY_EXPRESSION, stmt->lineno, stmt->cond);
	list_branch(l, BODY_BRANCH, stmt->then_body);
	foreach(cell, stmt->elsif_list)
	{
		PLpgSQL_if_elsif *elsif = lfirst(cell);

		list_expr(l, BODY_EXPRESSION, elsif->lineno, elsif->cond);
		list_branch(l, BODY_BRANCH, elsif->stmts);
	}
	list_branch(l, BODY_BRANCH, stmt->else_body);
}

static void
list_case(Listing *l, const PLpgSQL_stmt_case *stmt)
{
	ListCell   *cell;

	list_expr(l, BODY_EXPRESSION, stmt->lineno, stmt->t_expr);
	foreach(cell, stmt->case_when_list)
	{
		PLpgSQL_case_when *arm = lfirst(cell);

		list_expr(l, BODY_EXPRESSION, arm->lineno, arm->expr);
		list_branch(l, BODY_BRANCH, arm->stmts);
	}
	list_branch(l, BODY_BRANCH, stmt->else_stmts);
}

/* a loop with a variable: that is set in each round */
static void
list_loop(Listing *l, const void *variable, List *statements)
{
	body_mark(l->body, BODY_LOOP, l->statement);
	list_set(l, variable);
	list_statements(l, statements);
	body_mark(l->body, BODY_END, l->statement);
}

static void
list_loop_statement(Listing *l, const PLpgSQL_stmt *stmt)
{
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_LOOP:
			list_loop(l, NULL, ((const PLpgSQL_stmt_loop *) stmt)->body);
			break;
		case PLPGSQL_STMT_WHILE:
			list_expr(l, BODY_EXPRESSION, stmt->lineno, ((const PLpgSQL_stmt_while *) stmt)->cond);
			list_loop(l, NULL, ((const PLpgSQL_stmt_while *) stmt)->body);
			break;
		case PLPGSQL_STMT_FORI:
			{
				const PLpgSQL_stmt_fori *loop = (const PLpgSQL_stmt_fori *) stmt;

				list_expr(l, BODY_EXPRESSION, stmt->lineno, loop->lower);
				list_expr(l, BODY_EXPRESSION, stmt->lineno, loop->upper);
				list_expr(l, BODY_EXPRESSION, stmt->lineno, loop->step);
				list_loop(l, loop->var, loop->body);
			}
			break;
		case PLPGSQL_STMT_FORS:
			{
				const PLpgSQL_stmt_fors *loop = (const PLpgSQL_stmt_fors *) stmt;

				list_expr(l, BODY_STATEMENT, stmt->lineno, loop->query);
				list_loop(l, loop->var, loop->body);
			}
			break;
		case PLPGSQL_STMT_FORC:
			{
				const PLpgSQL_stmt_forc *loop = (const PLpgSQL_stmt_forc *) stmt;

				list_expr(l, BODY_EXPRESSION, stmt->lineno, loop->argquery);
				list_loop(l, loop->var, loop->body);
			}
			break;
		case PLPGSQL_STMT_DYNFORS:
			{
				const PLpgSQL_stmt_dynfors *loop = (const PLpgSQL_stmt_dynfors *) stmt;

				list_expr(l, BODY_DYNAMIC, stmt->lineno, loop->query);
				list_exprs(l, BODY_EXPRESSION, stmt->lineno, loop->params);
				list_loop(l, loop->var, loop->body);
			}
			break;
		default:
			{
				const PLpgSQL_stmt_foreach_a *loop = (const PLpgSQL_stmt_foreach_a *) stmt;

				list_expr(l, BODY_EXPRESSION, stmt->lineno, loop->expr);
				list_loop(l, l->function->datums[loop->varno], loop->body);
			}
			break;
	}
}

static void
list_raise(Listing *l, const PLpgSQL_stmt_raise *stmt)
{
	ListCell   *cell;

	list_exprs(l, BODY_EXPRESSION, stmt->lineno, stmt->params);
	foreach(cell, stmt->options)
		list_expr(l, BODY_EXPRESSION, stmt->lineno,
				  ((PLpgSQL_raise_option *) lfirst(cell))->expr);
}

static void
list_open(Listing *l, const PLpgSQL_stmt_open *stmt)
{
	list_expr(l, BODY_EXPRESSION, stmt->lineno, stmt->argquery);
	list_expr(l, BODY_STATEMENT, stmt->lineno, stmt->query);
	list_expr(l, BODY_DYNAMIC, stmt->lineno, stmt->dynquery);
	list_exprs(l, BODY_EXPRESSION, stmt->lineno, stmt->params);
	list_set(l, l->function->datums[stmt->curvar]);
}

static void
list_assign(Listing *l, const PLpgSQL_stmt_assign *stmt)
{
	PLpgSQL_datum *datum = l->function->datums[stmt->varno];

	if (datum->dtype == PLPGSQL_DTYPE_VAR && stmt->expr->parseMode != RAW_PARSE_PLPGSQL_EXPR)
	{
		list_expr(l, BODY_ASSIGN, stmt->lineno, stmt->expr);
		((BodyItem *) llast(l->body->items))->variable =
			pstrdup(((PLpgSQL_variable *) datum)->refname);
	}
	else
	{
		list_expr(l, BODY_EXPRESSION, stmt->lineno, stmt->expr);
		list_set(l, datum);
	}
}

static void
list_getdiag(Listing *l, const PLpgSQL_stmt_getdiag *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->diag_items)
		list_set(l, l->function->datums[((PLpgSQL_diag_item *) lfirst(cell))->target]);
}

/* COMMIT and ROLLBACK, of which the compiler keeps the line alone */
static void
list_transaction(Listing *l, int lineno, const char *word, bool chain)
{
	int			i = body_token_at(l->body, Max(line_offset(l, lineno), l->cursor));

	while (i < l->body->ntokens - 1 && !body_word(l->body, i, word))
		i++;
	if (i == l->body->ntokens - 1)
		i = body_token_at(l->body, line_offset(l, lineno));
	l->statement = l->body->tokens[i].offset;
	l->cursor = l->statement + 1;
	body_add_text(l->body, BODY_STATEMENT, RAW_PARSE_DEFAULT,
				  psprintf("%s%s", word, chain ? " AND CHAIN" : ""), -1, l->statement);
}

/* those that embed SQL or a few expressions, and no statements */
static void
list_simple(Listing *l, const PLpgSQL_stmt *stmt)
{
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_EXIT:
			list_expr(l, BODY_EXPRESSION, stmt->lineno, ((const PLpgSQL_stmt_exit *) stmt)->cond);
			break;
		case PLPGSQL_STMT_RETURN:
			list_expr(l, BODY_EXPRESSION, stmt->lineno, ((const PLpgSQL_stmt_return *) stmt)->expr);
			break;
		case PLPGSQL_STMT_RETURN_NEXT:
			list_expr(l, BODY_EXPRESSION, stmt->lineno,
					  ((const PLpgSQL_stmt_return_next *) stmt)->expr);
			break;
		case PLPGSQL_STMT_RETURN_QUERY:
			list_expr(l, BODY_STATEMENT, stmt->lineno,
					  ((const PLpgSQL_stmt_return_query *) stmt)->query);
			list_expr(l, BODY_DYNAMIC, stmt->lineno,
					  ((const PLpgSQL_stmt_return_query *) stmt)->dynquery);
			list_exprs(l, BODY_EXPRESSION, stmt->lineno,
					   ((const PLpgSQL_stmt_return_query *) stmt)->params);
			break;
		case PLPGSQL_STMT_ASSERT:
			list_expr(l, BODY_EXPRESSION, stmt->lineno, ((const PLpgSQL_stmt_assert *) stmt)->cond);
			list_expr(l, BODY_EXPRESSION, stmt->lineno,
					  ((const PLpgSQL_stmt_assert *) stmt)->message);
			break;
		case PLPGSQL_STMT_FETCH:
			list_expr(l, BODY_EXPRESSION, stmt->lineno, ((const PLpgSQL_stmt_fetch *) stmt)->expr);
			list_set(l, (const PLpgSQL_datum *) ((const PLpgSQL_stmt_fetch *) stmt)->target);
			break;
		case PLPGSQL_STMT_EXECSQL:
			list_expr(l, BODY_STATEMENT, stmt->lineno,
					  ((const PLpgSQL_stmt_execsql *) stmt)->sqlstmt);
			list_set(l, (const PLpgSQL_datum *) ((const PLpgSQL_stmt_execsql *) stmt)->target);
			break;
		case PLPGSQL_STMT_DYNEXECUTE:
			list_expr(l, BODY_DYNAMIC, stmt->lineno,
					  ((const PLpgSQL_stmt_dynexecute *) stmt)->query);
			list_exprs(l, BODY_EXPRESSION, stmt->lineno,
					   ((const PLpgSQL_stmt_dynexecute *) stmt)->params);
			list_set(l, (const PLpgSQL_datum *) ((const PLpgSQL_stmt_dynexecute *) stmt)->target);
			break;
		case PLPGSQL_STMT_CALL:
			list_expr(l, BODY_STATEMENT, stmt->lineno, ((const PLpgSQL_stmt_call *) stmt)->expr);
			break;
		case PLPGSQL_STMT_PERFORM:
			list_perform(l, stmt->lineno, ((const PLpgSQL_stmt_perform *) stmt)->expr);
			break;
		default:				/* CLOSE */
			break;
	}
}

static void
list_statement(Listing *l, const PLpgSQL_stmt *stmt)
{
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_BLOCK:
			list_block(l, (const PLpgSQL_stmt_block *) stmt);
			break;
		case PLPGSQL_STMT_ASSIGN:
			list_assign(l, (const PLpgSQL_stmt_assign *) stmt);
			break;
		case PLPGSQL_STMT_IF:
			list_if(l, (const PLpgSQL_stmt_if *) stmt);
			break;
		case PLPGSQL_STMT_CASE:
			list_case(l, (const PLpgSQL_stmt_case *) stmt);
			break;
		case PLPGSQL_STMT_LOOP:
		case PLPGSQL_STMT_WHILE:
		case PLPGSQL_STMT_FORI:
		case PLPGSQL_STMT_FORS:
		case PLPGSQL_STMT_FORC:
		case PLPGSQL_STMT_DYNFORS:
		case PLPGSQL_STMT_FOREACH_A:
			list_loop_statement(l, stmt);
			break;
		case PLPGSQL_STMT_RAISE:
			list_raise(l, (const PLpgSQL_stmt_raise *) stmt);
			break;
		case PLPGSQL_STMT_GETDIAG:
			list_getdiag(l, (const PLpgSQL_stmt_getdiag *) stmt);
			break;
		case PLPGSQL_STMT_OPEN:
			list_open(l, (const PLpgSQL_stmt_open *) stmt);
			break;
		case PLPGSQL_STMT_COMMIT:
			list_transaction(l, stmt->lineno, "commit",
							 ((const PLpgSQL_stmt_commit *) stmt)->chain);
			break;
		case PLPGSQL_STMT_ROLLBACK:
			list_transaction(l, stmt->lineno, "rollback",
							 ((const PLpgSQL_stmt_rollback *) stmt)->chain);
			break;
		default:
			list_simple(l, stmt);
			break;
	}
}

static void
list_statements(Listing *l, List *statements)
{
	ListCell   *cell;

	check_stack_depth();
	foreach(cell, statements)
	{
		CHECK_FOR_INTERRUPTS();
		list_statement(l, lfirst(cell));
	}
}

void
listing_add(Listing *l, PLpgSQL_function *function)
{
	const PLpgSQL_stmt_block *block = function->action;

	l->function = function;
	if (l->wrapped)
	{
		/* a labelled block such as that of the arguments gets another around it */
		if (block->label == NULL)
			block = linitial(block->body);
		list_statements(l, block->body);
	}
	else
		list_block(l, block);
}
