/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Findings, and where they stand in the source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/guard.h"

#include "catalog/pg_proc.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "guard/rules.h"

#define STATEMENT_SHOWN 1000	/* bytes of a statement in a finding */

/* a finding, for "reported once" */
typedef struct ReportedKey
{
	const GuardRule *rule;
	int			offset;
	int			padding;
	uint64		relation;
} ReportedKey;

static GuardFinding *report(Guard *guard, GuardSeverity severity, const GuardRule *rule,
							int offset, const char *relation, const char *hint,
							const char *format, va_list args) pg_attribute_printf(7, 0);
static char *format_message(Guard *guard, const char *format, va_list args) pg_attribute_printf(2, 0);

/* ---- reporting ---- */

GuardFinding *
guard_report(Guard *guard, const char *rule, int offset, const char *relation,
			 const char *hint, const char *format,...)
{
	const GuardRule *found = guard_rule(rule);
	GuardFinding *finding;
	va_list		args;

	va_start(args, format);
	finding = report(guard, found ? found->severity : GUARD_ERROR, found, offset, relation,
					 hint, format, args);
	va_end(args);
	return finding;
}

GuardFinding *
guard_report_as(Guard *guard, GuardSeverity severity, const char *rule, int offset,
				const char *relation, const char *hint, const char *format,...)
{
	GuardFinding *finding;
	va_list		args;

	va_start(args, format);
	finding = report(guard, severity, guard_rule(rule), offset, relation, hint, format, args);
	va_end(args);
	return finding;
}

/* ", through function g(), called by function f()": outermost last */
static void
append_way(StringInfo message, const GuardFrame *frame)
{
	const char *between = ", through ";

	for (; frame; frame = frame->parent)
	{
		if (frame->via == NULL)
			continue;
		appendStringInfo(message, "%s%s", between, frame->via);
		between = ", called by ";
	}
}

/* the message, and by which way the guard came here */
static char *
format_message(Guard *guard, const char *format, va_list args)
{
	StringInfoData message;
	char	   *exact;

	initStringInfo(&message);
	for (;;)
	{
		va_list		copy;
		int			needed;

		va_copy(copy, args);
		needed = appendStringInfoVA(&message, format, copy);
		va_end(copy);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	append_way(&message, guard->frame);
	exact = pnstrdup(message.data, message.len);
	pfree(message.data);
	return exact;
}

/* has this rule been reported here? */
static bool
already_reported(Guard *guard, const GuardRule *rule, int offset, const char *relation)
{
	ReportedKey key = {rule, offset, 0, 0};
	bool		found;

	if (relation)
		key.relation = hash_bytes_extended((const unsigned char *) relation,
										   strlen(relation), 1);
	if (guard->reported == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = ctl.entrysize = sizeof(ReportedKey);
		ctl.hcxt = guard->context;
		guard->reported = hash_create("evmig guard findings", 64, &ctl,
									  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(guard->reported, &key, HASH_ENTER, &found);
	return found;
}

static GuardFinding *
report(Guard *guard, GuardSeverity severity, const GuardRule *rule, int offset,
	   const char *relation, const char *hint, const char *format, va_list args)
{
	static GuardFinding ignored;
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	GuardFinding *finding;

	if (rule == NULL)
		elog(ERROR, "the guard has no such rule");
	offset = guard_source_offset(guard, offset);
	if (already_reported(guard, rule, offset, relation))
	{
		MemoryContextSwitchTo(old);
		memset(&ignored, 0, sizeof(ignored));
		return &ignored;
	}

	finding = palloc0(sizeof(GuardFinding));
	finding->rule = rule;
	finding->severity = severity;
	finding->offset = offset;
	finding->statement_offset = guard->statement_offset;
	finding->sequence = list_length(guard->findings);
	finding->relation = relation ? pstrdup(relation) : NULL;
	finding->message = format_message(guard, format, args);
	finding->hint = hint ? pstrdup(hint) : unconstify(char *, rule->safe ? rule->safe : "");
	if (guard->statement_text == NULL)
	{
		int			len = Min(guard->statement_len, STATEMENT_SHOWN);
		const char *start = guard->source->text + guard->statement_offset;

		if (len < guard->statement_len)
			len = pg_mbcliplen(start, guard->statement_len, len);
		guard->statement_text = pnstrdup(start, len);
	}
	finding->statement = guard->statement_text;
	finding->fingerprint = guard_fingerprint(guard, rule->id);
	guard->findings = lappend(guard->findings, finding);
	MemoryContextSwitchTo(old);
	return finding;
}

void
guard_withdrawable(Guard *guard, List **list, GuardFinding *finding)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);

	*list = lappend(*list, finding);
	MemoryContextSwitchTo(old);
}

void
guard_withdraw(Guard *guard, GuardFinding *finding)
{
	guard->findings = list_delete_ptr(guard->findings, finding);
}

/* Say which lock a finding is about, and what it holds up. */
void
guard_finding_lock(GuardFinding *finding, LOCKMODE mode)
{
	static const char *const names[] = {
		NULL, "AccessShareLock", "RowShareLock", "RowExclusiveLock",
		"ShareUpdateExclusiveLock", "ShareLock", "ShareRowExclusiveLock",
		"ExclusiveLock", "AccessExclusiveLock"
	};

	if (mode <= NoLock || mode > AccessExclusiveLock)
		return;
	finding->lock_mode = unconstify(char *, names[mode]);
	if (mode == AccessExclusiveLock)
		finding->blocks = "reads, writes, ddl";
	else if (mode >= ShareLock)
		finding->blocks = "writes, ddl";
	else if (mode == ShareUpdateExclusiveLock)
		finding->blocks = "ddl";
}

/* ---- frames and positions ---- */

void
guard_push(Guard *guard, GuardFrame *frame)
{
	frame->parent = guard->frame;
	if (guard->frame && guard->frame->conditional)
		frame->conditional = true;
	if (guard->frame && frame->volatility == '\0')
		frame->volatility = guard->frame->volatility;
	guard->frame = frame;
}

void
guard_pop(Guard *guard)
{
	guard->frame = guard->frame->parent;
}

bool
guard_reads_only(const Guard *guard)
{
	return guard->frame->volatility != '\0' && guard->frame->volatility != PROVOLATILE_VOLATILE;
}

/*
 * Where a byte of the current frame stands in the source; -1 is the start of
 * the tree at hand.
 */
int
guard_source_offset(Guard *guard, int offset)
{
	const GuardFrame *frame = guard->frame;

	if (offset < 0)
		offset = guard->tree_offset;
	if (offset > frame->len)
		offset = frame->len;
	if (frame->base >= 0)
		return Min(frame->base + offset, guard->source->len);
	if (frame->map)
		return frame->map[offset];
	return frame->anchor;
}

void
guard_statement(Guard *guard, int offset, int len)
{
	guard->statement_offset = offset;
	guard->statement_len = len;
	guard->statement_text = NULL;
	guard->statement_digest = NULL;
}

/*
 * Line and column, both from 1, of a byte of the source.  Counts on from the
 * last one asked for, so asking in order costs one pass over the text.
 */
void
guard_line_col(Guard *guard, int offset, int *line, int *col)
{
	const char *text = guard->source->text;
	int			at = guard->seen_offset;

	if (guard->seen_line == 0 || offset < at)
	{
		at = 0;
		guard->seen_line = guard->seen_col = 1;
	}
	/* no editor counts a byte-order mark */
	if (at == 0 && offset >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
		at = 3;
	while (at < offset)
	{
		if (text[at] == '\n')
		{
			guard->seen_line++;
			guard->seen_col = 1;
			at++;
			continue;
		}
		guard->seen_col++;
		at += IS_HIGHBIT_SET(text[at]) ? pg_mblen(text + at) : 1;
	}
	guard->seen_offset = at;
	*line = guard->seen_line;
	*col = guard->seen_col;
}
