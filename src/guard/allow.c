/*-------------------------------------------------------------------------
 *
 * allow.c
 *	  Exceptions in the source: "evmig:allow RULE: reason" excuses the findings
 *	  of a statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "miscadmin.h"

#include "guard/comment.h"
#include "guard/guard.h"
#include "guard/rules.h"

/* one rule of one evmig:allow */
struct GuardAllow
{
	const GuardRule *rule;
	const char *text;			/* the exception itself */
	int			offset;			/* of it in the source */
	int			len;
	int			from;			/* the statement that it is about: a stretch of */
	int			to;				/* the source; -1: none */
	bool		used;
};

/* ---- reading ---- */

static bool
is_rule_char(char c)
{
	return isalnum((unsigned char) c) || c == '-' || c == '_';
}

/* what must not be excused: nobody has read it */
static bool
excusable(const GuardRule *rule)
{
	static const char *const never[] = {
		"unparsed", "unterminated-quote", "invalid-encoding", "allow-without-reason", "allow-unknown-rule", "unused-allow"
	};

	for (int i = 0; i < lengthof(never); i++)
		if (strcmp(rule->id, never[i]) == 0)
			return false;
	return true;
}

static bool
has_reason(const char *p, const char *end)
{
	while (p < end && (isspace((unsigned char) *p) || *p == ':'))
		p++;
	/* what closes the comment is no reason */
	return p < end && strncmp(p, "*/", 2) != 0 && strncmp(p, "-->", 3) != 0;
}

static void
add_allow(Guard *guard, const GuardRule *rule, const char *text, int len, int offset, int from, int to)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	GuardAllow *allow = palloc0(sizeof(GuardAllow));

	allow->rule = rule;
	allow->text = pnstrdup(text, len);
	allow->offset = offset;
	allow->len = len;
	allow->from = from;
	allow->to = to;
	guard->allows = lappend(guard->allows, allow);
	MemoryContextSwitchTo(old);
}

/* see comment.h */
void
guard_allow_read(Guard *guard, const char *text, int len, int offset, int from, int to)
{
	const char *end = text + len;
	const char *rules = text + strlen(ALLOW);
	const char *colon = rules;
	int			n = 0;

	while (colon < end && (is_rule_char(*colon) || *colon == ',' || *colon == ' ' || *colon == '\t'))
		colon++;
	if (colon == end || *colon != ':' || !has_reason(colon + 1, end))
	{
		guard_report_comment(guard, "allow-without-reason", text, len, offset, offset,
					   "an exception gives no reason, so it excuses nothing");
		return;
	}
	while (rules < colon)
	{
		const char *start;
		const GuardRule *rule;
		char	   *id;

		while (rules < colon && !is_rule_char(*rules))
			rules++;
		start = rules;
		while (rules < colon && is_rule_char(*rules))
			rules++;
		if (rules == start)
			break;
		n++;
		id = pnstrdup(start, rules - start);
		rule = guard_rule(id);
		if (rule == NULL)
			guard_report_comment(guard, "allow-unknown-rule", text, len, offset, offset + (start - text),
						   psprintf("an exception names \"%s\", which is no rule", id));
		else if (!excusable(rule))
			guard_report_comment(guard, "unused-allow", text, len, offset, offset + (start - text),
						   psprintf("an exception cannot excuse \"%s\"", id));
		else
			add_allow(guard, rule, text, len, offset, from, to);
		pfree(id);
	}
	if (n == 0)
		guard_report_comment(guard, "allow-unknown-rule", text, len, offset, offset, "an exception names no rule");
}

/* ---- at the end ---- */

static bool
covers(const GuardAllow *allow, int offset)
{
	return allow->from >= 0 && offset >= allow->from && offset < Max(allow->to, allow->from + 1);
}

/* Mark what exceptions excuse; an exception that excuses nothing is a finding. */
void
guard_allow_finish(Guard *guard)
{
	ListCell   *cell;
	ListCell   *other;

	foreach(cell, guard->allows)
	{
		GuardAllow *allow = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		foreach(other, guard->findings)
		{
			GuardFinding *finding = lfirst(other);

			if (finding->rule == allow->rule &&
				(covers(allow, finding->offset) || covers(allow, finding->statement_offset)))
				finding->allowed = allow->used = true;
		}
	}
	foreach(cell, guard->allows)
	{
		GuardAllow *allow = lfirst(cell);

		if (allow->used)
			continue;
		guard_report_comment(guard, "unused-allow", allow->text, allow->len, allow->offset, allow->offset,
					   psprintf("an exception for \"%s\" excuses nothing", allow->rule->id));
	}
}
