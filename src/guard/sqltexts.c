/*-------------------------------------------------------------------------
 *
 * sqltexts.c
 *	  The texts that an expression may yield: what a source composes in order
 *	  to run it as SQL.
 *
 * Follows constants, ||, format(), concat(), quote_ident() and their like, and
 * the variables of the body at hand.  Each byte knows its place in the source.
 * Nothing is evaluated by the server: functions of the same names that the
 * user has written are not called, nor taken for these.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/body.h"

#include <ctype.h>

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"

/* longer ones are not followed */
#define MAX_TEXT (1024 * 1024)

static List *texts_of(Guard *guard, Node *expr);

/* ---- texts ---- */

static SqlText *
new_text(int len)
{
	SqlText    *text = palloc(sizeof(SqlText));

	text->len = text->allocated = len;
	text->data = palloc(len + 1);
	text->data[len] = '\0';
	text->map = palloc(sizeof(int) * (len + 1));
	return text;
}

SqlText *
sql_text_at(const char *data, int offset)
{
	SqlText    *text = new_text(strlen(data));

	memcpy(text->data, data, text->len);
	for (int i = 0; i <= text->len; i++)
		text->map[i] = offset;
	return text;
}

/* a part, which keeps its places */
static SqlText *
text_part(const SqlText *from, int start, int len)
{
	SqlText    *text = new_text(len);

	memcpy(text->data, from->data + start, len);
	memcpy(text->map, from->map + start, sizeof(int) * (len + 1));
	return text;
}

/* lengthen a text that nobody else refers to; doubles, so that many appends stay cheap */
static void
text_append(SqlText *text, const SqlText *tail)
{
	int			len = text->len + tail->len;

	if (len >= text->allocated)
	{
		text->allocated = len * 2 + 32;
		text->data = repalloc(text->data, text->allocated + 1);
		text->map = repalloc(text->map, sizeof(int) * (text->allocated + 1));
	}
	memcpy(text->data + text->len, tail->data, tail->len + 1);
	memcpy(text->map + text->len, tail->map, sizeof(int) * (tail->len + 1));
	text->len = len;
}

SqlText *
sql_text_joined(const SqlText *a, const SqlText *b)
{
	SqlText    *text = text_part(a, 0, a->len);

	text_append(text, b);
	return text;
}

bool
sql_text_known(const SqlText *text)
{
	return strstr(text->data, RUN_TIME_VALUE) == NULL &&
		strstr(text->data, RUN_TIME_NAME) == NULL;
}

static List *
unknown_at(Guard *guard, int location)
{
	return list_make1(sql_text_at(RUN_TIME_VALUE, guard_source_offset(guard, location)));
}

/*
 * Each of the one followed by each of the other, while that is few and short.
 * The left ones are the caller's own and may be changed.
 */
static List *
joined(List *lefts, List *rights)
{
	List	   *result = NIL;
	ListCell   *left;
	ListCell   *right;

	if (list_length(lefts) * list_length(rights) > MAX_ALTERNATIVES)
		rights = list_make1(sql_text_at(RUN_TIME_VALUE, ((SqlText *) linitial(rights))->map[0]));
	foreach(left, lefts)
	{
		foreach(right, rights)
		{
			SqlText    *a = lfirst(left);
			const SqlText *b = lfirst(right);

			CHECK_FOR_INTERRUPTS();
			if (a->len + b->len > MAX_TEXT)
				return list_make1(sql_text_at(RUN_TIME_VALUE, a->map[0]));
			if (list_length(rights) > 1)
				a = text_part(a, 0, a->len);
			text_append(a, b);
			result = lappend(result, a);
		}
	}
	return result;
}

/* ---- constants ---- */

static List *
constant_texts(Guard *guard, const A_Const *constant)
{
	if (constant->isnull)
		return unknown_at(guard, constant->location);
	switch (nodeTag(&constant->val))
	{
		case T_Integer:
			return list_make1(sql_text_at(psprintf("%d", intVal(&constant->val)),
									  guard_source_offset(guard, constant->location)));
		case T_Float:
			return list_make1(sql_text_at(castNode(Float, &constant->val)->fval,
									  guard_source_offset(guard, constant->location)));
		case T_Boolean:
			return list_make1(sql_text_at(boolVal(&constant->val) ? "true" : "false",
									  guard_source_offset(guard, constant->location)));
		case T_String:
			return list_make1(guard_literal(guard, strVal(&constant->val), constant->location));
		default:
			return unknown_at(guard, constant->location);
	}
}

/* ---- functions ---- */

typedef enum Quoting
{
	QUOTE_NONE,
	QUOTE_IDENT,
	QUOTE_LITERAL
} Quoting;

static SqlText *
quoted(const SqlText *text, Quoting quoting)
{
	const char *done;

	if (quoting == QUOTE_NONE)
		return unconstify(SqlText *, text);
	if (quoting == QUOTE_IDENT)
	{
		if (!sql_text_known(text))
			return sql_text_at(RUN_TIME_NAME, text->map[0]);
		done = quote_identifier(text->data);
	}
	else
		done = quote_literal_cstr(text->data);
	if (strcmp(done, text->data) == 0)
		return unconstify(SqlText *, text);
	return sql_text_at(done, text->map[0]);
}

static List *
quoted_texts(Guard *guard, Node *expr, Quoting quoting)
{
	List	   *texts = texts_of(guard, expr);
	ListCell   *cell;

	if (quoting != QUOTE_NONE)
	{
		foreach(cell, texts)
			lfirst(cell) = quoted(lfirst(cell), quoting);
	}
	return texts;
}

/* one % specification of format(), p behind its %; false: not understood */
static bool
format_spec(const char **p, int *position, Quoting *quoting)
{
	int			number = 0;

	while (isdigit((unsigned char) **p))
		number = Min(number, 100000) * 10 + *(*p)++ - '0';
	if (**p == '$')
	{
		*position = number;
		(*p)++;
	}
	if (**p == '-')
		(*p)++;
	while (isdigit((unsigned char) **p))
		(*p)++;
	switch (*(*p)++)
	{
		case 's':
			*quoting = QUOTE_NONE;
			return true;
		case 'I':
			*quoting = QUOTE_IDENT;
			return true;
		case 'L':
			*quoting = QUOTE_LITERAL;
			return true;
		default:
			return false;
	}
}

/* format() with one template */
static List *
formatted(Guard *guard, const SqlText *template, const FuncCall *call)
{
	List	   *result = list_make1(text_part(template, 0, 0));
	const char *data = template->data;
	const char *p = data;
	int			next = 1;

	while (*p)
	{
		const char *percent = strchr(p, '%');
		int			plain = percent ? percent - p : strlen(p);
		Quoting		quoting;
		int			position = next;

		CHECK_FOR_INTERRUPTS();
		if (percent && percent[1] == '%')
			plain++;
		result = joined(result, list_make1(text_part(template, p - data, plain)));
		if (percent == NULL)
			break;
		p = percent + 1;
		if (*p == '%')
		{
			p++;
			continue;
		}
		if (!format_spec(&p, &position, &quoting))
			return unknown_at(guard, call->location);
		next = position + 1;
		if (position < 1 || position >= list_length(call->args) || call->func_variadic)
			result = joined(result,
							list_make1(quoted(sql_text_at(RUN_TIME_VALUE,
													  template->map[p - data]), quoting)));
		else
			result = joined(result,
							quoted_texts(guard, list_nth(call->args, position), quoting));
	}
	return result;
}

static List *
format_texts(Guard *guard, const FuncCall *call)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, texts_of(guard, linitial(call->args)))
	{
		result = list_concat(result, formatted(guard, lfirst(cell), call));
		if (list_length(result) > MAX_ALTERNATIVES)
			return unknown_at(guard, call->location);
	}
	return result;
}

/* concat(a, b ...) and concat_ws(separator, a, b ...) */
static List *
concat_texts(Guard *guard, const FuncCall *call, bool separated)
{
	List	   *result = list_make1(sql_text_at("", guard_source_offset(guard, call->location)));
	bool		first = true;

	for (int i = separated ? 1 : 0; i < list_length(call->args); i++)
	{
		if (separated && !first)
			result = joined(result, texts_of(guard, linitial(call->args)));
		result = joined(result, texts_of(guard, list_nth(call->args, i)));
		first = false;
	}
	return result;
}

static List *
chr_texts(Guard *guard, const FuncCall *call)
{
	Node	   *arg = linitial(call->args);

	if (IsA(arg, A_Const) && !castNode(A_Const, arg)->isnull &&
		IsA(&castNode(A_Const, arg)->val, Integer))
	{
		int			code = intVal(&castNode(A_Const, arg)->val);

		if (code > 0 && code < 128)
			return list_make1(sql_text_at(psprintf("%c", code),
									  guard_source_offset(guard, call->location)));
	}
	return unknown_at(guard, call->location);
}

/* an argument's one text, if all of it is known; NULL: it is not */
static const SqlText *
known_text(Guard *guard, Node *expr)
{
	List	   *texts = texts_of(guard, expr);

	if (list_length(texts) != 1 || !sql_text_known(linitial(texts)))
		return NULL;
	return linitial(texts);
}

/* trim(text, characters); the characters of a value that is not known stay */
static List *
trimmed_texts(Guard *guard, const FuncCall *call, bool left, bool right)
{
	List	   *texts = texts_of(guard, linitial(call->args));
	const char *set = " ";
	ListCell   *cell;

	if (list_length(call->args) > 1)
	{
		const SqlText *characters = known_text(guard, lsecond(call->args));

		if (characters == NULL)
			return unknown_at(guard, call->location);
		set = characters->data;
	}
	foreach(cell, texts)
	{
		SqlText    *text = lfirst(cell);
		int			start = 0;
		int			end = text->len;

		if (*set == '\0')
			continue;
		while (left && start < end && strchr(set, text->data[start]))
			start++;
		while (right && end > start && strchr(set, text->data[end - 1]))
			end--;
		if (!sql_text_known(text) && strpbrk(set, RUN_TIME_VALUE RUN_TIME_NAME))
			return unknown_at(guard, call->location);
		lfirst(cell) = text_part(text, start, end - start);
	}
	return texts;
}

/* replace(text, from, to): a template, with marks of its own */
static List *
replaced_texts(Guard *guard, const FuncCall *call)
{
	const SqlText *text = known_text(guard, linitial(call->args));
	const SqlText *from = known_text(guard, lsecond(call->args));
	List	   *result;
	List	   *to;
	int			start = 0;

	if (text == NULL || from == NULL || from->len == 0)
		return unknown_at(guard, call->location);
	result = list_make1(text_part(text, 0, 0));
	to = texts_of(guard, lthird(call->args));
	for (;;)
	{
		const char *found = strstr(text->data + start, from->data);
		int			end = found ? found - text->data : text->len;

		CHECK_FOR_INTERRUPTS();
		result = joined(result, list_make1(text_part(text, start, end - start)));
		if (found == NULL)
			return result;
		result = joined(result, to);
		start = end + from->len;
	}
}

static List *
call_texts(Guard *guard, const FuncCall *call)
{
	const char *name = strVal(llast(call->funcname));
	int			nargs = list_length(call->args);

	if (list_length(call->funcname) > 2 || nargs == 0 ||
		(list_length(call->funcname) == 2 &&
		 strcmp(strVal(linitial(call->funcname)), "pg_catalog") != 0))
		return unknown_at(guard, call->location);
	if (strcmp(name, "format") == 0)
		return format_texts(guard, call);
	if (strcmp(name, "concat") == 0 && !call->func_variadic)
		return concat_texts(guard, call, false);
	if (strcmp(name, "concat_ws") == 0 && !call->func_variadic)
		return concat_texts(guard, call, true);
	if (strcmp(name, "replace") == 0 && nargs == 3)
		return replaced_texts(guard, call);
	if (strcmp(name, "btrim") == 0 || strcmp(name, "ltrim") == 0 || strcmp(name, "rtrim") == 0)
		return trimmed_texts(guard, call, name[0] != 'r', name[0] != 'l');
	if (nargs > 1)
		return unknown_at(guard, call->location);
	if (strcmp(name, "quote_ident") == 0)
		return quoted_texts(guard, linitial(call->args), QUOTE_IDENT);
	if (strcmp(name, "quote_literal") == 0 || strcmp(name, "quote_nullable") == 0)
		return quoted_texts(guard, linitial(call->args), QUOTE_LITERAL);
	if (strcmp(name, "chr") == 0)
		return chr_texts(guard, call);
	return unknown_at(guard, call->location);
}

/* ---- variables ---- */

/* of a name, or of an argument's number */
static List *
variable_texts(Guard *guard, const char *name, int number, int location)
{
	ListCell   *cell;

	foreach(cell, guard->variables)
	{
		BodyVariable *variable = lfirst(cell);

		if (name ? strcmp(variable->name, name) != 0 : variable->number != number)
			continue;
		if (variable->number > 0)
			guard->argument_asked = true;
		if (variable->unknown || variable->values == NIL)
			return list_concat(list_copy(variable->values), unknown_at(guard, location));
		return list_copy(variable->values);
	}
	return unknown_at(guard, location);
}

/* ---- expressions ---- */

static List *
either(Guard *guard, List *exprs, int location)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, exprs)
	{
		Node	   *expr = lfirst(cell);

		/* nothing is run where it yields NULL */
		if (expr == NULL || (IsA(expr, A_Const) && ((A_Const *) expr)->isnull))
			continue;
		result = list_concat(result, texts_of(guard, expr));
		if (list_length(result) > MAX_ALTERNATIVES)
			return unknown_at(guard, location);
	}
	return result ? result : unknown_at(guard, location);
}

static List *
case_texts(Guard *guard, const CaseExpr *expr)
{
	List	   *results = NIL;
	ListCell   *cell;

	foreach(cell, expr->args)
		results = lappend(results, castNode(CaseWhen, lfirst(cell))->result);
	return either(guard, lappend(results, expr->defresult), expr->location);
}

static bool
is_concatenation(const Node *expr)
{
	const A_Expr *op = (const A_Expr *) expr;

	return expr && IsA(expr, A_Expr) && op->kind == AEXPR_OP && op->lexpr && op->rexpr &&
		strcmp(strVal(llast(op->name)), "||") == 0;
}

/* a || b || c is ((a || b) || c): down the left side without recursion */
static List *
concatenated(Guard *guard, Node *expr)
{
	List	   *operands = NIL;
	List	   *result;

	for (; is_concatenation(expr); expr = ((A_Expr *) expr)->lexpr)
		operands = lappend(operands, ((A_Expr *) expr)->rexpr);
	result = joined(list_make1(sql_text_at("", guard_source_offset(guard, exprLocation(expr)))),
					texts_of(guard, expr));
	for (int i = list_length(operands) - 1; i >= 0; i--)
		result = joined(result, texts_of(guard, list_nth(operands, i)));
	return result;
}

static List *
texts_of(Guard *guard, Node *expr)
{
	CHECK_FOR_INTERRUPTS();
	if (expr == NULL || guard_too_deep(guard))
		return unknown_at(guard, -1);
	switch (nodeTag(expr))
	{
		case T_A_Const:
			return constant_texts(guard, (A_Const *) expr);
		case T_TypeCast:
			return texts_of(guard, ((TypeCast *) expr)->arg);
		case T_CollateClause:
			return texts_of(guard, ((CollateClause *) expr)->arg);
		case T_NamedArgExpr:
			return texts_of(guard, (Node *) ((NamedArgExpr *) expr)->arg);
		case T_A_Expr:
			if (is_concatenation(expr))
				return concatenated(guard, expr);
			return unknown_at(guard, exprLocation(expr));
		case T_CoalesceExpr:
			return either(guard, ((CoalesceExpr *) expr)->args,
						  ((CoalesceExpr *) expr)->location);
		case T_CaseExpr:
			return case_texts(guard, (CaseExpr *) expr);
		case T_FuncCall:
			return call_texts(guard, (FuncCall *) expr);
		case T_ColumnRef:
			{
				ColumnRef  *ref = (ColumnRef *) expr;

				if (list_length(ref->fields) == 1 && IsA(linitial(ref->fields), String))
					return variable_texts(guard, strVal(linitial(ref->fields)), 0,
										  ref->location);
				return unknown_at(guard, ref->location);
			}
		case T_ParamRef:
			return variable_texts(guard, NULL, ((ParamRef *) expr)->number,
								  ((ParamRef *) expr)->location);
		default:
			return unknown_at(guard, exprLocation(expr));
	}
}

List *
guard_texts(Guard *guard, Node *expr)
{
	return texts_of(guard, expr);
}
