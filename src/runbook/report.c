/*-------------------------------------------------------------------------
 *
 * report.c
 *	  What a runbook decided, who answered for it, what was measured and done.
 *
 * Each section is one query on the runbook's events, so that the report says
 * what the evidence says and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/markup.h"
#include "base/spi.h"
#include "runbook/event.h"
#include "runbook/report.h"
#include "runbook/report_section.h"
#include "runbook/runbook.h"

PG_FUNCTION_INFO_V1(evmig_runbook_report);

#define SECTION_FACTS \
	"SELECT v.name, v.value FROM evmig.runbook r, LATERAL (VALUES" \
	" (1, 'state', r.state)," \
	" (2, 'table', pg_catalog.format('%I.%I', r.target_schema, r.target_name))," \
	" (3, 'key column', r.key_column::text), (4, 'order column', r.order_column::text)," \
	" (5, 'duplicates', coalesce(r.mode, 'archive')), (6, 'generator', r.generator)," \
	" (7, 'harden', CASE WHEN r.harden THEN 'yes: NOT NULL' ELSE 'no' END)," \
	" (8, 'application', r.app_version)," \
	" (9, 'opened', pg_catalog.format('%s by %s', " UTC("r.opened_at") ", r.opened_by))," \
	" (10, 'started', " UTC("r.started_at") "), (11, 'finished', " UTC("r.finished_at") "))" \
	" v(n, name, value) WHERE r.runbook_id = $1 AND v.value IS NOT NULL ORDER BY v.n"

#define SECTION_DECISION \
	"SELECT 'Path ' || (e.data ->> 'path'), e.data ->> 'reason'," \
	" CASE WHEN (e.data ->> 'path_b_possible')::bool THEN 'possible'" \
	"  ELSE 'not possible: ' || (e.data ->> 'path_b_obstacle') END" \
	" FROM evmig.runbook_event e WHERE e.runbook_id = $1 AND e.event = 'decided' ORDER BY e.seq"

/* the last preflight, with what was waived and attested */
#define SECTION_CHECKS \
	"SELECT c.check, c.status, c.detail," \
	" (SELECT CASE w.event WHEN 'waived' THEN pg_catalog.format('waived by %s: %s', w.session_role, w.data ->> 'reason')" \
	"   ELSE pg_catalog.format('attested by %s', w.session_role) END" \
	"  FROM evmig.runbook_event w WHERE w.runbook_id = $1 AND w.event IN ('waived', 'attested')" \
	"  AND w.subject = c.check ORDER BY w.seq DESC LIMIT 1)" \
	" FROM (SELECT data FROM evmig.runbook_event WHERE runbook_id = $1 AND event = 'preflight'" \
	"  ORDER BY seq DESC LIMIT 1) p, pg_catalog.jsonb_to_recordset(p.data)" \
	"  AS c(\"check\" text, status text, detail text)" \
	" ORDER BY pg_catalog.array_position(ARRAY['fail', 'warn', 'pass', 'manual'], c.status), c.check"

#define SECTION_ATTESTED \
	"SELECT e.subject, e.data ->> 'evidence'," \
	" coalesce(" UTC("(e.data ->> 'kept_until')::timestamptz") ", e.data ->> 'kept_until')," \
	" e.session_role::text, " UTC("e.at") \
	" FROM evmig.runbook_event e WHERE e.runbook_id = $1 AND e.event = 'attested' ORDER BY e.seq"

#define SECTION_APPROVAL \
	"SELECT e.session_role::text, " UTC("e.at") ", 'Path ' || (e.data ->> 'path')," \
	" e.data ->> 'rows_to_remove', e.data ->> 'note'" \
	" FROM evmig.runbook_event e WHERE e.runbook_id = $1 AND e.event = 'approved' ORDER BY e.seq"

#define SECTION_AUDITS \
	"SELECT e.subject, " UTC("e.at") ", e.data ->> 'total_events', e.data ->> 'null_request_ids'," \
	" e.data ->> 'duplicate_count', e.data ->> 'duplicate_rows'" \
	" FROM evmig.runbook_event e WHERE e.runbook_id = $1 AND e.event = 'audit' ORDER BY e.seq"

/* "key: value, ..." of an object */
#define IN_WORDS(object) \
	"(SELECT pg_catalog.string_agg(w.key || ': ' || w.value, ', ') FROM pg_catalog.jsonb_each_text(" object ") w)"

/* rows of a job that is still at work come from itself */
#define SECTION_STEPS \
	"SELECT e.subject, CASE e.event WHEN 'step started' THEN 'under way'" \
	"  ELSE pg_catalog.substr(e.event, 6) END, e.job_id::text," \
	" " UTC("(coalesce(s.at, e.at) - " TIME_BEFORE("e") ")") ", e.data ->> 'seconds', coalesce(e.data ->> 'rows_done'," \
	"  (SELECT sum(c.changed)::text FROM evmig.job j JOIN evmig.job_chunk c USING (job_id)" \
	"   WHERE e.event = 'step started' AND j.job_id = e.job_id AND j.runbook_id = e.runbook_id))," \
	" coalesce(nullif(pg_catalog.concat_ws('; ', e.data ->> 'message', e.data ->> 'detail'), '')," \
	"  " IN_WORDS("(e.data - ARRAY['seconds', 'rows_done', 'checks', 'kind', 'state', 'batches', 'remaining'," \
	"   'rows_unchanged', 'rows_failed', 'rows_skipped', 'result']) || coalesce(e.data -> 'result', '{}')") ")" \
	" FROM evmig.runbook_event e LEFT JOIN LATERAL (SELECT b.at FROM evmig.runbook_event b" \
	"  WHERE b.runbook_id = $1 AND b.subject = e.subject AND b.event = 'step started'" \
	"  AND b.seq < e.seq ORDER BY b.seq DESC LIMIT 1) s ON true" \
	" WHERE e.runbook_id = $1 AND (e.event IN ('step done', 'step failed') OR e.event = 'step started'" \
	"  AND NOT EXISTS (SELECT FROM evmig.runbook_event l WHERE l.runbook_id = $1" \
	"   AND l.subject = e.subject AND l.seq > e.seq)) ORDER BY e.seq"

#define SECTION_LIMITS \
	"SELECT " UTC("e.at") ", e.event, " IN_WORDS("e.data") ", e.session_role::text" \
	" FROM evmig.runbook_event e WHERE e.runbook_id = $1" \
	" AND e.event IN ('limits set', 'paused at a limit', 'ingest paused', 'ingest resumed') ORDER BY e.seq"

#define SECTION_VERIFIED \
	"SELECT c.check, c.expected, c.actual, CASE WHEN NOT c.ok THEN 'NO'" \
	"  WHEN r.state IN ('rolling back', 'rolled back') THEN 'did, before the rollback' ELSE 'yes' END" \
	" FROM evmig.runbook r, (SELECT data FROM evmig.runbook_event WHERE runbook_id = $1 AND event = 'step done'" \
	"  AND subject = 'verify' ORDER BY seq DESC LIMIT 1) v," \
	" pg_catalog.jsonb_to_recordset(v.data -> 'checks')" \
	"  AS c(\"check\" text, expected text, actual text, ok bool) WHERE r.runbook_id = $1"

#define SECTION_APPLICATION \
	APPLICATION_FIGURES \
	" SELECT 'taken', (SELECT " UTC("sampled_at") " FROM b)," \
	"  (SELECT CASE pg_catalog.count(*) WHEN 0 THEN 'no sample' WHEN 1 THEN '1 sample' ELSE pg_catalog.count(*) || ' samples' END" \
	"   FROM s WHERE label = 'during'), (SELECT " UTC("sampled_at") " FROM a), NULL WHERE EXISTS (SELECT FROM f)" \
	" UNION ALL SELECT 'latencies', (SELECT source FROM b)," \
	"  (SELECT pg_catalog.string_agg(DISTINCT source, ', ') FROM s WHERE label = 'during'), (SELECT source FROM a), NULL" \
	"  WHERE EXISTS (SELECT FROM s WHERE source <> 'measured')" \
	" UNION ALL (SELECT kpi, pg_catalog.trim_scale(pg_catalog.round(before, 3))::text, pg_catalog.trim_scale(pg_catalog.round(during, 3))::text," \
	" pg_catalog.trim_scale(pg_catalog.round(after, 3))::text, pg_catalog.to_char(change_pct, 'FMSG999999990.0 %')" \
	" FROM f ORDER BY n, kpi)"

/* the archives of this runbook's jobs; a job's number alone may return after a restore */
#define SECTION_ARCHIVES \
	"SELECT a.relation_name, a.job_id::text," \
	" (a.archived_rows - a.restored_rows - a.purged_rows)::text," \
	" CASE WHEN a.purged_at IS NOT NULL THEN 'purged at ' || " UTC("a.purged_at") \
	"  ELSE coalesce('not purged before ' || " UTC("greatest(a.kept_until, r.kept_until)") \
	", 'until evmig_archive_purge') END" \
	" FROM evmig.runbook r JOIN evmig.archive a ON a.target = r.target" \
	" WHERE r.runbook_id = $1 AND (a.job_id = 0 OR EXISTS (SELECT FROM evmig.runbook_event e" \
	"  WHERE e.runbook_id = $1 AND e.job_id = a.job_id)) ORDER BY a.job_id"

#define SECTION_EVENTS \
	"SELECT e.seq::text, " UTC("e.at") ", e.event, e.subject," \
	" CASE WHEN e.session_role = e.role THEN e.role::text" \
	"  ELSE pg_catalog.format('%s as %s', e.session_role, e.role) END" \
	" FROM evmig.runbook_event e WHERE e.runbook_id = $1 ORDER BY e.seq"

static const Section sections[] = {
	{"Decision", "| Path | Reason | Path B |", 3, "None.", SECTION_DECISION},
	{"Checks", "| Check | Status | Detail | Answer |", 4, "None.", SECTION_CHECKS},
	{"Attestations", "| Item | Evidence | Kept until | By | At |", 5, "None.", SECTION_ATTESTED},
	{"Approval", "| By | At | Path | Rows to remove | Note |", 5, "Not approved.", SECTION_APPROVAL},
	{"Audits", "| When | At | Rows | NULL keys | Duplicate keys | Rows too many |", 6, "None.", SECTION_AUDITS, true},
	{"Steps", "| Step | State | Job | Started | Seconds | Rows | Notes |", 7, "None yet.", SECTION_STEPS},
	{"Limits", "| At | Event | Figures | By |", 4, "None were set.", SECTION_LIMITS},
	{"Application", "| Figure | Before | During, at worst | After | After to before |", 5,
	"No sample yet: where evmig is in shared_preload_libraries there is one of the approval, and some of the execution.", SECTION_APPLICATION},
	{"Verification", "| Check | Expected | Actual | Holds |", 4, "Not verified yet.", SECTION_VERIFIED},
};

static const Section archives_section =
{NULL, "| Archive | Job | Rows | Kept |", 4, "Nothing is archived.", SECTION_ARCHIVES};

static const Section facts_section =
{NULL, "| | |", 2, "", SECTION_FACTS};

static const Section events_section =
{NULL, "| # | At | Event | Subject | By |", 5, "None.", SECTION_EVENTS};

/* ---- Markdown ---- */

/* What can still be taken back, and until when. */
static void
append_rollback(StringInfo out, Runbook *rb)
{
	appendStringInfoString(out, "\n## Rollback\n\n");
	if (strcmp(rb->state, RUNBOOK_ROLLED_BACK) == 0)
		appendStringInfoString(out, "Rolled back: filled keys and later rows stayed.\n\n");
	else if (strcmp(rb->state, RUNBOOK_OPEN) == 0 || strcmp(rb->state, RUNBOOK_APPROVED) == 0)
		appendStringInfoString(out, "Nothing was changed yet.\n\n");
	else
		appendStringInfo(out, "`CALL evmig_runbook_rollback(" INT64_FORMAT ")` drops the index, NOT NULL and"
						 " the ingest guard at any time, and restores what the archives still hold."
						 " Filled keys and later rows stay.\n\n", rb->id);
	append_section(out, &archives_section, rb->id);
}

static char *
report_markdown(Runbook *rb)
{
	StringInfoData out;
	ChainState	chain;
	Outcome		outcome;

	runbook_chain(rb->id, &chain);
	initStringInfo(&out);
	appendStringInfo(&out, "# Runbook " INT64_FORMAT ": ", rb->id);
	append_markdown(&out, rb->quoted);
	appendStringInfoString(&out, "\n\n**");
	append_markdown(&out, runbook_result(rb, chain.problem, &outcome));
	appendStringInfoString(&out, "**\n\n");
	if (rb->direct)
		appendStringInfoString(&out, "**Done in one call, without attestations and approval.**\n\n");
	append_section(&out, &facts_section, rb->id);
	for (int i = 0; i < lengthof(sections); i++)
		append_section(&out, &sections[i], rb->id);
	append_rollback(&out, rb);

	appendStringInfoString(&out, "\n## Evidence\n\n");
	if (chain.problem)
		appendStringInfo(&out, "**The chain of events is BROKEN: %s.**\n\n", chain.problem);
	else
		appendStringInfo(&out, INT64_FORMAT " events; each carries the sha256 of the one before it,"
						 " and the chain is whole.\n\n", chain.events);
	appendStringInfo(&out, "Head: `%s`\n\n", chain.head ? chain.head : "");
	append_section(&out, &events_section, rb->id);
	return out.data;
}

/* ---- HTML ---- */

static void
append_html_rollback(StringInfo out, Runbook *rb)
{
	appendStringInfoString(out, "<section id=\"rollback\"><h2>Rollback</h2>\n<p>");
	if (strcmp(rb->state, RUNBOOK_ROLLED_BACK) == 0)
		appendStringInfoString(out, "Rolled back: filled keys and later rows stayed.");
	else if (strcmp(rb->state, RUNBOOK_OPEN) == 0 || strcmp(rb->state, RUNBOOK_APPROVED) == 0)
		appendStringInfoString(out, "Nothing was changed yet.");
	else
		appendStringInfo(out, "<code>CALL evmig_runbook_rollback(" INT64_FORMAT ")</code> drops the index, NOT NULL and"
						 " the ingest guard at any time, and restores what the archives still hold."
						 " Filled keys and later rows stay.", rb->id);
	appendStringInfoString(out, "</p>\n");
	append_html_section(out, &archives_section, rb->id);
	appendStringInfoString(out, "</section>\n");
}

static char *
report_html(Runbook *rb)
{
	StringInfoData out;
	ChainState	chain;
	Outcome		outcome;
	char	   *result;

	runbook_chain(rb->id, &chain);
	initStringInfo(&out);
	append_page_head(&out, psprintf("Runbook " INT64_FORMAT ": %s", rb->id, rb->quoted));
	result = runbook_result(rb, chain.problem, &outcome);
	append_html_result(&out, result, outcome);
	if (rb->direct)
		appendStringInfoString(&out, "<p><strong>Done in one call, without attestations and approval.</strong></p>\n");
	append_html_section(&out, &facts_section, rb->id);
	for (int i = 0; i < lengthof(sections); i++)
	{
		append_html_section(&out, &sections[i], rb->id);
		if (strcmp(sections[i].title, "Steps") == 0)
			append_runbook_plots(&out, rb);
	}
	append_html_rollback(&out, rb);

	appendStringInfoString(&out, "<section id=\"evidence\"><h2>Evidence</h2>\n<p>");
	if (chain.problem)
	{
		appendStringInfoString(&out, "<strong>The chain of events is BROKEN: ");
		append_html(&out, chain.problem);
		appendStringInfoString(&out, ".</strong>");
	}
	else
		appendStringInfo(&out, INT64_FORMAT " events; each carries the sha256 of the one before it,"
						 " and the chain is whole.", chain.events);
	appendStringInfo(&out, "</p>\n<p>Head: <code>%s</code></p>\n", chain.head ? chain.head : "");
	append_html_section(&out, &events_section, rb->id);
	appendStringInfoString(&out, "</section>\n");
	append_page_end(&out);
	return out.data;
}

/*
 * evmig_runbook_report(id bigint, format text) returns text
 *
 * The whole story of a runbook, as Markdown, JSON or one HTML page.  Takes no
 * lock.
 */
Datum
evmig_runbook_report(PG_FUNCTION_ARGS)
{
	char	   *format = ARG_TEXT(1);
	Runbook    *rb;
	char	   *text;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (format == NULL || (strcmp(format, "markdown") != 0 && strcmp(format, "json") != 0 &&
						   strcmp(format, "html") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown format \"%s\"", format ? format : "NULL"),
				 errhint("Say markdown, json or html.")));
	spi_begin();
	rb = runbook_load(PG_GETARG_INT64(0), false);
	text = format[0] == 'm' ? report_markdown(rb) : format[0] == 'j' ? report_json(rb) : report_html(rb);
	spi_end();
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
