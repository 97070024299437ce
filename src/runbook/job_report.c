/*-------------------------------------------------------------------------
 *
 * job_report.c
 *	  What a job did: evmig_job_report().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/markup.h"
#include "base/spi.h"
#include "job/job.h"
#include "runbook/report.h"
#include "runbook/report_section.h"

#define SHOWN_FAILURES 100
#define TEXT_OF(number) #number
#define AS_TEXT(number) TEXT_OF(number)

PG_FUNCTION_INFO_V1(evmig_job_report);

/* columns of job j and its backfill's definition b */
#define SET_LIST "coalesce(j.spec ->> 'set_list', b.set_list)"
#define WHERE_CLAUSE "coalesce(j.spec ->> 'where_clause', b.where_clause)"
#define WORKED_FOR "(coalesce(j.finished_at, pg_catalog.clock_timestamp()) - j.started_at)"

#define SECTION_FACTS \
	"SELECT v.name, v.value FROM evmig.job j LEFT JOIN evmig.backfill b ON b.name = j.name AND j.kind = 'backfill'," \
	" LATERAL (SELECT sum(changed) AS changed, sum(skipped) AS skipped, sum(unchanged) AS unchanged," \
	"  sum(failed) AS failed, sum(batches) AS batches FROM evmig.job_chunk c WHERE c.job_id = j.job_id) c," \
	" LATERAL (VALUES (1, 'kind', j.kind), (2, 'table', j.target_name)," \
	" (3, 'state', " JOB_STATE ")," \
	" (4, 'outcome', j.message), (5, 'detail', j.detail), (6, 'hint', j.hint)," \
	" (7, 'SET', " SET_LIST "), (8, 'WHERE', " WHERE_CLAUSE ")," \
	" (9, 'started by', pg_catalog.pg_get_userbyid(j.owner)::text), (10, 'ran as', pg_catalog.pg_get_userbyid(j.run_as)::text)," \
	" (11, 'created', " UTC("j.created_at") "), (12, 'started', " UTC("j.started_at") ")," \
	" (13, 'finished', " UTC("j.finished_at") ")," \
	" (14, 'duration', pg_catalog.date_trunc('milliseconds', " WORKED_FOR ")::text)," \
	" (15, 'rows changed', c.changed::text), (16, 'rows left as they are', c.unchanged::text)," \
	" (17, 'rows that failed', c.failed::text), (18, 'times a row was locked and skipped', c.skipped::text)," \
	" (19, 'rows remaining', j.remaining::text), (20, 'batches', c.batches::text)," \
	" (21, 'throttled', nullif(j.throttled_ms, 0)::numeric(20, 0)::text || ' ms')," \
	" (22, 'restarts', nullif(j.restarts, 0)::text), (23, 'settings', nullif(j.settings::text, '{}'))) v(n, name, value)" \
	" WHERE j.job_id = $1 AND v.value IS NOT NULL ORDER BY v.n"

#define SECTION_TENANTS \
	"SELECT coalesce(tenant, '(none)'), sum(changed)::text, sum(unchanged)::text, sum(failed)::text" \
	" FROM evmig.job_tenant WHERE job_id = $1 GROUP BY tenant ORDER BY tenant NULLS LAST"

#define SECTION_FAILURES \
	"(SELECT row_tid::text, row_key, sqlstate, message, " UTC("failed_at") \
	"  FROM evmig.job_failure WHERE job_id = $1 ORDER BY failed_at, row_tid LIMIT " AS_TEXT(SHOWN_FAILURES) ")" \
	" UNION ALL SELECT '...', NULL, NULL, pg_catalog.count(*) - " AS_TEXT(SHOWN_FAILURES) " || ' more: see evmig_failures', NULL" \
	"  FROM evmig.job_failure WHERE job_id = $1 HAVING pg_catalog.count(*) > " AS_TEXT(SHOWN_FAILURES)

static const Section facts = {NULL, "| | |", 2, "", SECTION_FACTS};
static const Section sections[] = {
	{"Tenants", "| Tenant | Changed | Left as they are | Failed |", 4, "Rows were not told apart by tenant.", SECTION_TENANTS},
	{"Failures", "| Row | Key | SQLSTATE | Message | At |", 5, "No row that failed was set aside.", SECTION_FAILURES},
};

/* ---- formats ---- */

static void
as_markdown(StringInfo out, int64 id, const char *title)
{
	Outcome		outcome;

	appendStringInfoString(out, "# ");
	append_markdown(out, title);
	appendStringInfoString(out, "\n\n**");
	append_markdown(out, job_report_result(id, &outcome));
	appendStringInfoString(out, "**\n\n");
	append_section(out, &facts, id);
	for (int i = 0; i < lengthof(sections); i++)
		append_section(out, &sections[i], id);
}

static void
as_html(StringInfo out, int64 id, const char *title)
{
	Outcome		outcome;
	char	   *result = job_report_result(id, &outcome);

	append_page_head(out, title);
	append_html_result(out, result, outcome);
	append_html_section(out, &facts, id);
	append_job_plots(out, id);
	for (int i = 0; i < lengthof(sections); i++)
		append_html_section(out, &sections[i], id);
	append_page_end(out);
}

static void
as_json(StringInfo out, int64 id, const char *title)
{
	SqlArgs		args = {0};
	Outcome		outcome;

	(void) title;
	arg_int8(&args, id);
	arg_text(&args, job_report_result(id, &outcome));
	spi_catalog("SELECT pg_catalog.jsonb_pretty(pg_catalog.jsonb_build_object("
				" 'result', $2, 'job', pg_catalog.to_jsonb(j) - ARRAY['filenumber', 'settings_version', 'request', 'target'] ||"
				"  pg_catalog.jsonb_build_object('state', " JOB_STATE ", 'owner', pg_catalog.pg_get_userbyid(j.owner),"
				"   'run_as', pg_catalog.pg_get_userbyid(j.run_as), 'set_list', " SET_LIST ", 'where_clause', " WHERE_CLAUSE ","
				"   'duration_s', pg_catalog.round(extract(epoch FROM " WORKED_FOR "), 3)),"
				" 'counters', (SELECT pg_catalog.to_jsonb(c) FROM (SELECT sum(changed) AS rows_done, sum(unchanged) AS rows_unchanged,"
				"  sum(failed) AS rows_failed, sum(skipped) AS rows_skipped, sum(batches) AS batches"
				"  FROM evmig.job_chunk c WHERE c.job_id = j.job_id) c),"
				" 'tenants', coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t) ORDER BY t.tenant) FROM"
				"  (SELECT tenant, sum(changed) AS rows_done, sum(unchanged) AS rows_unchanged, sum(failed) AS rows_failed"
				"   FROM evmig.job_tenant WHERE job_id = $1 GROUP BY tenant) t), '[]'),"
				" 'failures', coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(f) - 'job_id' ORDER BY f.failed_at)"
				"  FROM evmig.job_failure f WHERE f.job_id = $1), '[]')))"
				" FROM evmig.job j LEFT JOIN evmig.backfill b ON b.name = j.name AND j.kind = 'backfill'"
				" WHERE j.job_id = $1", &args);
	appendStringInfoString(out, spi_text(0, 0));
}

/* Raise undefined_object unless the job is there and the caller may see it. */
static char *
visible_title(int64 id)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	if (spi_catalog("SELECT owner, run_as, name FROM evmig.job WHERE job_id = $1", &args) == 0 ||
		!(has_privs_of_role(GetUserId(), spi_oid(0, 0)) || has_privs_of_role(GetUserId(), spi_oid(0, 1))))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job " INT64_FORMAT " does not exist", id)));
	return psprintf("Job " INT64_FORMAT ": %s", id, spi_text(0, 2));
}

/*
 * evmig_job_report(job bigint, format text) returns text
 *
 * What a job did, as Markdown, JSON or one HTML page.  Takes no lock.
 */
Datum
evmig_job_report(PG_FUNCTION_ARGS)
{
	char	   *format = ARG_TEXT(1);
	void		(*write) (StringInfo, int64, const char *) = NULL;
	StringInfoData out;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (format && strcmp(format, "markdown") == 0)
		write = as_markdown;
	else if (format && strcmp(format, "json") == 0)
		write = as_json;
	else if (format && strcmp(format, "html") == 0)
		write = as_html;
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown format \"%s\"", format ? format : "NULL"),
				 errhint("Say markdown, json or html.")));
	initStringInfo(&out);
	spi_begin();
	write(&out, PG_GETARG_INT64(0), visible_title(PG_GETARG_INT64(0)));
	spi_end();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
