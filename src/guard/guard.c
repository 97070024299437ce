/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  Inspect a source, and the SQL functions that do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/guard.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "guard/encoding.h"
#include "guard/rules.h"
#include "guard/settings.h"
#include "guard/style.h"

PG_FUNCTION_INFO_V1(evmig_guard);
PG_FUNCTION_INFO_V1(evmig_guard_bytes);
PG_FUNCTION_INFO_V1(evmig_guard_assert);

#define LISTED 20				/* findings that evmig_guard_assert's error lists */
#define COLUMNS 12

/* ---- inspecting ---- */

/* "sql", "text" or "auto": is the text in another language? */
static bool
is_other_language(const char *name, const char *text, int len, const char *lang)
{
	if (strcmp(lang, "sql") == 0)
		return false;
	if (strcmp(lang, "text") == 0)
		return true;
	if (strcmp(lang, "auto") == 0)
		return guard_looks_like_text(name, text, len);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized language: \"%s\"", lang),
			 errhint("Valid values are sql, text and auto.")));
}

static int
by_position(const ListCell *a, const ListCell *b)
{
	const GuardFinding *x = lfirst(a);
	const GuardFinding *y = lfirst(b);

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

/*
 * The lexer's and other messages about the text are none of the caller's
 * business, and the text's own settings hold for the rest of it only.
 * Returns the level to go back to; an error goes back by itself.
 */
static int
quiet(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("client_min_messages", "error", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("log_min_messages", "error", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("standard_conforming_strings",
							 standard_conforming_strings ? "on" : "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return level;
}

Guard *
guard_begin(const char *text, int len, const char *name)
{
	Guard	   *guard = palloc0(sizeof(Guard));

	guard->context = CurrentMemoryContext;
	guard->statement_context = CurrentMemoryContext;
	guard->name = name;
	guard->target_version = guard_target_version();
	guard->tx.open = guard_in_transaction;
	guard->tx.lock_timeout = guard->tx.statement_timeout = -1;
	guard->source = palloc0(sizeof(GuardFrame));
	guard->source->text = text;
	guard->source->len = len;
	guard->frame = guard->source;
	return guard;
}

void
guard_run(Guard *guard, const char *lang)
{
	const char *text = guard->source->text;
	int			len = guard->source->len;
	bool		other = is_other_language(guard->name, text, len, lang);
	int			level = quiet();

	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
		guard_report(guard, "byte-order-mark", 0, NULL, NULL,
					 "the source begins with a byte-order mark");
	if (other)
		guard_text(guard, guard->source);
	else
	{
		guard_sql(guard, guard->source);
		guard_comments(guard, guard->source);
	}
	guard_locks_finish(guard);
	guard_style_finish(guard);
	guard_allow_finish(guard);
	AtEOXact_GUC(true, level);

	list_sort(guard->findings, by_position);
	guard_baseline_apply(guard);
}

Guard *
guard_inspect(const char *text, int len, const char *name, const char *lang)
{
	Guard	   *guard = guard_begin(text, len, name);

	guard_run(guard, lang);
	return guard;
}

static bool
is_new_error(const GuardFinding *finding)
{
	return finding->severity == GUARD_ERROR && !finding->allowed && !finding->grandfathered;
}

int
guard_count_new_errors(Guard *guard)
{
	ListCell   *lc;
	int			n = 0;

	foreach(lc, guard->findings)
		n += is_new_error(lfirst(lc));
	return n;
}

/* ---- SQL functions ---- */

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
put_finding(Guard *guard, const GuardFinding *finding, ReturnSetInfo *rsinfo)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};
	int			line;
	int			col;

	guard_line_col(guard, finding->offset, &line, &col);
	values[0] = Int32GetDatum(line);
	values[1] = Int32GetDatum(col);
	values[2] = CStringGetTextDatum(finding->rule->id);
	values[3] = CStringGetTextDatum(guard_severity_name(finding->severity));
	values[4] = text_or_null(finding->relation, &nulls[4]);
	values[5] = text_or_null(finding->lock_mode, &nulls[5]);
	values[6] = text_or_null(finding->blocks, &nulls[6]);
	values[7] = CStringGetTextDatum(finding->message);
	values[8] = CStringGetTextDatum(finding->hint);
	values[9] = CStringGetTextDatum(finding->statement);
	values[10] = CStringGetTextDatum(finding->fingerprint);
	values[11] = BoolGetDatum(finding->grandfathered);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* the arguments behind the source's text */
static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
require_text(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the text to inspect must not be null")));
}

/* Inspect a text in a context that goes when its findings have been given out. */
static void
guard_rows(FunctionCallInfo fcinfo, bool bytes)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		new_only = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	MemoryContext work;
	MemoryContext old;
	MemoryContext row;
	char	   *lang;
	Guard	   *guard;
	ListCell   *lc;

	require_text(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	work = AllocSetContextCreate(CurrentMemoryContext, "evmig guard", ALLOCSET_DEFAULT_SIZES);
	row = AllocSetContextCreate(work, "evmig guard row", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work);
	lang = text_argument(fcinfo, 2);
	if (bytes)
		guard = guard_inspect_bytes(PG_GETARG_BYTEA_PP(0), text_argument(fcinfo, 1),
									lang ? lang : "auto");
	else
	{
		char	   *text = text_argument(fcinfo, 0);

		guard = guard_inspect(text, strlen(text), text_argument(fcinfo, 1), lang ? lang : "auto");
	}
	MemoryContextSwitchTo(row);
	foreach(lc, guard->findings)
	{
		GuardFinding *finding = lfirst(lc);

		if (finding->allowed || (new_only && finding->grandfathered))
			continue;
		put_finding(guard, finding, rsinfo);
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
}

/*
 * evmig_guard(sql text, source text, lang text, new_only boolean)
 * returns setof record
 *
 * Reads catalogs; runs nothing of the text.  Raises null_value_not_allowed,
 * invalid_parameter_value for an unknown language.
 */
Datum
evmig_guard(PG_FUNCTION_ARGS)
{
	guard_rows(fcinfo, false);
	return (Datum) 0;
}

/* The same of a file's bytes, which may be no text. */
Datum
evmig_guard_bytes(PG_FUNCTION_ARGS)
{
	guard_rows(fcinfo, true);
	return (Datum) 0;
}

/* the new errors, a line each */
static char *
list_new_errors(Guard *guard, int n)
{
	StringInfoData list;
	ListCell   *lc;
	int			listed = 0;

	initStringInfo(&list);
	foreach(lc, guard->findings)
	{
		GuardFinding *finding = lfirst(lc);
		int			line;
		int			col;

		if (!is_new_error(finding))
			continue;
		if (listed++ == LISTED)
		{
			appendStringInfo(&list, "\nand %d more", n - LISTED);
			break;
		}
		guard_line_col(guard, finding->offset, &line, &col);
		appendStringInfo(&list, "%s%d:%d: %s: %s", listed > 1 ? "\n" : "", line, col,
						 finding->rule->id, finding->message);
	}
	return list.data;
}

/*
 * evmig_guard_assert(sql text, source text) returns int
 *
 * The number of findings that are grandfathered.  Raises VG001 where there
 * is an error-level finding that is not, with all of them in its detail.
 */
Datum
evmig_guard_assert(PG_FUNCTION_ARGS)
{
	char	   *text;
	Guard	   *guard;
	ListCell   *lc;
	int			n;
	int			grandfathered = 0;

	require_text(fcinfo);
	text = text_argument(fcinfo, 0);
	guard = guard_inspect(text, strlen(text), text_argument(fcinfo, 1), "auto");
	n = guard_count_new_errors(guard);
	if (n > 0)
		ereport(ERROR,
				(errcode(ERRCODE_EVMIG_GUARD),
				 guard->name ?
				 errmsg_plural("the guard found %d error in \"%s\"",
							   "the guard found %d errors in \"%s\"", n, n, guard->name) :
				 errmsg_plural("the guard found %d error", "the guard found %d errors", n, n),
				 errdetail("%s", list_new_errors(guard, n)),
				 errhint("evmig_guard() shows them with the safe way.")));
	foreach(lc, guard->findings)
		grandfathered += ((GuardFinding *) lfirst(lc))->grandfathered;
	PG_RETURN_INT32(grandfathered);
}
