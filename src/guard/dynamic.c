/*-------------------------------------------------------------------------
 *
 * dynamic.c
 *	  SQL that a source composes and runs: EXECUTE, and what hands a text to
 *	  some function that runs it.
 *
 * What is known of the text is inspected like any other; a value that only the
 * run knows is taken for a name, a number, a column's definition or nothing,
 * whichever lets the text parse.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/body.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"

static const char hint_inspect[] =
"Have the statement inspected on its own, or write its verb and table out: "
"EXECUTE format('ALTER TABLE %I ...', t).";

static void
report_opaque(Guard *guard, int location, const char *by, const char *what)
{
	if (guard_reads_only(guard))
		return;					/* whatever it is, it changes nothing */
	guard_report(guard, "dynamic-sql", location, NULL, hint_inspect,
				 "%s could not be inspected: %s", by, what);
}

/* the beginning of a text, for a message */
char *
guard_excerpt(const char *text)
{
	return pnstrdup(text, pg_mbcliplen(text, strlen(text), 60));
}

/* does an unknown value begin a statement of the text, or stand for one? */
static bool
begins_statement(const char *text, const char *value)
{
	for (const char *p = strstr(text, value); p; p = strstr(p + 1, value))
	{
		const char *before = p;

		while (before > text && isspace((unsigned char) before[-1]))
			before--;
		if (before == text || before[-1] == ';')
			return true;
	}
	return false;
}

static bool
statement_unknown(const SqlText *text)
{
	return begins_statement(text->data, RUN_TIME_VALUE) ||
		begins_statement(text->data, RUN_TIME_NAME);
}

/* the text with each unknown value replaced; of the same length */
static SqlText *
filled(const SqlText *text, const char *filler)
{
	SqlText    *result = palloc(sizeof(SqlText));
	int			len = strlen(RUN_TIME_VALUE);
	char	   *p;

	*result = *text;
	result->data = pstrdup(text->data);
	for (p = strstr(result->data, RUN_TIME_VALUE); p; p = strstr(p + len, RUN_TIME_VALUE))
	{
		memset(p, ' ', len);
		memcpy(p, filler, strlen(filler));
	}
	return result;
}

static bool
parses(const SqlText *text)
{
	List	   *trees;

	return guard_parse(text->data, RAW_PARSE_DEFAULT, &trees, NULL) && trees != NIL;
}

const SqlText *
sql_text_parseable(const SqlText *text)
{
	static const char *const fillers[] = {"0", "a = 0", "a int", "(a)", ""};

	if (parses(text))
		return text;
	if (sql_text_known(text))
		return NULL;
	for (int i = 0; i < lengthof(fillers); i++)
	{
		const SqlText *other = filled(text, fillers[i]);

		if (parses(other))
			return other;
	}
	return NULL;
}

/*
 * An incomplete text that does not parse in any form: what it does may be
 * clear from how it begins all the same.
 */
static void
judge_by_verb(Guard *guard, const SqlText *text, int location, const char *by)
{
	static const struct
	{
		const char *verb;
		const char *rule;
	}			verbs[] = {
		{"update ", "data-update"},
		{"delete from ", "data-delete"},
		{"insert into ", "data-insert-select"},
		{"merge into ", "data-merge"},
		{"truncate ", "data-truncate"},
	};
	const char *p = text->data;

	if (guard_reads_only(guard))
		return;
	while (isspace((unsigned char) *p))
		p++;
	for (int i = 0; i < lengthof(verbs); i++)
	{
		if (pg_strncasecmp(p, verbs[i].verb, strlen(verbs[i].verb)) != 0)
			continue;
		guard_report(guard, verbs[i].rule, location, NULL, NULL,
					 "%s runs a statement that changes rows: %s ...", by, guard_excerpt(p));
		return;
	}
	report_opaque(guard, location, by, "parts of its text are only known at run time");
}

static void
follow_text(Guard *guard, const SqlText *text, const char *by)
{
	GuardFrame	frame = {0};

	frame.text = text->data;
	frame.len = text->len;
	frame.base = -1;
	frame.map = text->map;
	frame.via = by;
	guard_push(guard, &frame);
	guard_sql(guard, &frame);
	guard_pop(guard);
}

/*
 * Of several texts, some may be those of a moment at which the statement was
 * not complete yet; so one that does not parse counts only if none does.
 */
void
guard_dynamic(Guard *guard, Node *expr, const char *by)
{
	int			location = exprLocation(expr);
	const char *opaque = NULL;
	bool		followed = false;
	List	   *texts;
	ListCell   *cell;

	if (guard_too_deep(guard))
		return;
	texts = guard_texts(guard, expr);
	foreach(cell, texts)
	{
		const SqlText *text = lfirst(cell);
		const SqlText *sql = NULL;

		CHECK_FOR_INTERRUPTS();
		if (strcmp(text->data, RUN_TIME_VALUE) == 0)
			opaque = "its text is only known at run time";
		else if (statement_unknown(text))
			opaque = "a statement in its text is only known at run time";
		if (strcmp(text->data, RUN_TIME_VALUE) != 0)
			sql = sql_text_parseable(text);
		if (sql)
		{
			follow_text(guard, sql, by);
			followed = true;
		}
	}
	if (!followed && list_length(texts) == 1 && sql_text_known(linitial(texts)))
		follow_text(guard, linitial(texts), by);	/* says what is wrong with it */
	else if (!followed)
	{
		foreach(cell, texts)
		{
			if (!statement_unknown(lfirst(cell)))
				judge_by_verb(guard, lfirst(cell), location, by);
		}
	}
	if (opaque)
		report_opaque(guard, location, by, opaque);
}
