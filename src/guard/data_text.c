/*-------------------------------------------------------------------------
 *
 * data_text.c
 *	  The safe way for an UPDATE, in SQL that can be pasted: the backfill that
 *	  does the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/data.h"

#include "parser/scansup.h"
#include "utils/builtins.h"

#include "base/sqltext.h"
#include "guard/body.h"

#define LONGEST 2000			/* of an UPDATE that is put so, bytes */

/* where the clauses of an UPDATE are, in its text */
typedef struct Clauses
{
	int			depth;			/* of parentheses */
	int			set;			/* behind SET */
	int			set_end;
	int			where;			/* behind WHERE; 0: none */
	int			end;
	bool		parameters;		/* $1, which only EXECUTE knows */
} Clauses;

static bool
note_token(const GuardToken *token, void *context)
{
	Clauses    *clauses = context;
	bool		keyword = token->code > TOKEN_NOT_EQUALS && clauses->depth == 0;

	clauses->end = token->offset;
	clauses->parameters |= token->code == TOKEN_PARAM;
	if (token->code == '(' || token->code == '[')
		clauses->depth++;
	else if (token->code == ')' || token->code == ']')
		clauses->depth--;
	else if (keyword && clauses->set == 0 && strcmp(token->text, "set") == 0)
		clauses->set = token->offset + 3;
	else if (keyword && clauses->where == 0 && strcmp(token->text, "where") == 0)
	{
		clauses->set_end = token->offset;
		clauses->where = token->offset + 5;
	}
	return clauses->depth >= 0 && token->code != ';';
}

/* a literal of a part of the text, spaces around it aside */
static char *
quoted_part(const char *text, int start, int end)
{
	while (start < end && scanner_isspace(text[start]))
		start++;
	while (end > start && scanner_isspace(text[end - 1]))
		end--;
	return quote_literal_cstr(pnstrdup(text + start, end - start));
}

/* "a IS DISTINCT FROM (x)": the rows that an UPDATE without WHERE still has to do */
static char *
remaining(UpdateStmt *stmt, const char *text, int base, const Clauses *clauses)
{
	StringInfoData out;
	ListCell   *lc;

	initStringInfo(&out);
	foreach(lc, stmt->targetList)
	{
		ResTarget  *target = lfirst_node(ResTarget, lc);
		int			next = lnext(stmt->targetList, lc) ?
			lfirst_node(ResTarget, lnext(stmt->targetList, lc))->location - base : clauses->end;
		const char *equals = strchr(text + target->location - base, '=');

		if (equals == NULL || target->indirection != NIL || strchr(target->name, '=') ||
			IsA(target->val, MultiAssignRef) || IsA(target->val, SetToDefault))
			return NULL;
		while (next > equals - text && (scanner_isspace(text[next - 1]) ||
										(lnext(stmt->targetList, lc) && text[next - 1] == ',')))
			next--;
		while (scanner_isspace(equals[1]))
			equals++;
		appendStringInfo(&out, "%s%s IS DISTINCT FROM (%.*s)", out.len > 0 ? " OR " : "",
						 quote_identifier(target->name),
						 (int) (next - (equals + 1 - text)), equals + 1);
	}
	return quote_literal_cstr(out.data);
}

char *
guard_backfill_hint(Guard *guard, UpdateStmt *stmt, int offset, const char *target)
{
	Clauses		clauses = {0};
	const char *column;
	char	   *text;
	char	   *where;

	if (offset < 0)
		offset = guard->tree_offset;
	if (stmt->withClause || stmt->fromClause || stmt->relation->alias ||
		(stmt->whereClause && IsA(stmt->whereClause, CurrentOfExpr)) ||
		compat_update_returning(stmt) || stmt->targetList == NIL ||
		guard->frame->len - offset > LONGEST || guard_needs_run(guard, (Node *) stmt))
		return NULL;
	text = pstrdup(guard->frame->text + offset);
	if (!guard_lex(text, note_token, &clauses) || clauses.set == 0 || clauses.parameters)
		return NULL;
	if (clauses.where == 0)
		clauses.set_end = clauses.end;
	where = clauses.where > 0 ? quoted_part(text, clauses.where, clauses.end) :
		remaining(stmt, text, offset, &clauses);
	if (where == NULL || strstr(text, "--") || strstr(text, "/*"))
		return NULL;
	column = linitial_node(ResTarget, stmt->targetList)->name;
	return psprintf("Register it as a backfill, which changes the rows in small committed batches: SELECT evmig_backfill_register(%s, %s, %s, %s);",
					quote_literal_cstr(object_name(stmt->relation->relname, column, NULL)),
					quote_literal_cstr(target),
					quoted_part(text, clauses.set, clauses.set_end), where);
}
