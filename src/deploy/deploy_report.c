/*-------------------------------------------------------------------------
 *
 * deploy_report.c
 *	  What a deployment did: item by item, or as a page.
 *
 * Jobs go on after the call, so their items show how they stand now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/lock.h"
#include "base/markup.h"
#include "base/relation.h"
#include "base/spi.h"
#include "deploy/deploy.h"
#include "job/job.h"

#define COLUMNS 5
#define SHOWN_WARNINGS 5

PG_FUNCTION_INFO_V1(evmig_deploy_report);
PG_FUNCTION_INFO_V1(evmig_deploy_summary);

/* The deployment that is meant, if the current user may see it: 0 where there is none yet. */
static int64
find_deploy(FunctionCallInfo fcinfo)
{
	SqlArgs		args = {0};

	arg_oid(&args, GetUserId());
	arg_datum(&args, INT8OID, PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0), PG_ARGISNULL(0));
	if (spi_catalog("SELECT deploy_id FROM evmig.deploy WHERE deploy_id = coalesce($2, deploy_id)"
					" AND pg_catalog.pg_has_role($1, deployed_by, 'USAGE')"
					" ORDER BY 1 DESC LIMIT 1", &args) > 0)
		return spi_int8(0, 0);
	if (!PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("deployment " INT64_FORMAT " does not exist", PG_GETARG_INT64(0))));
	return 0;
}

/* of the partitions of an index job's table, those that its index, as it is now, has no part for */
#define MISSING_PARTS \
	"WITH RECURSIVE part(relid, index) AS (" \
	"  SELECT r.oid, i.indexrelid FROM pg_catalog.pg_class r LEFT JOIN" \
	"   (pg_catalog.pg_index i JOIN pg_catalog.pg_class n ON n.oid = i.indexrelid AND n.relname = j.spec ->> 'index_name')" \
	"   ON i.indrelid = r.oid" \
	"   WHERE r.oid = j.target AND r.relkind = 'p' AND j.kind = 'index' AND j.state <> 'succeeded'" \
	"  UNION ALL SELECT h.inhrelid, (SELECT i.indexrelid FROM pg_catalog.pg_inherits ih" \
	"    JOIN pg_catalog.pg_index i ON i.indexrelid = ih.inhrelid WHERE ih.inhparent = part.index AND i.indrelid = h.inhrelid)" \
	"   FROM part JOIN pg_catalog.pg_inherits h ON h.inhparent = part.relid)" \
	" SELECT count(*) AS parts, count(*) FILTER (WHERE index IS NULL) AS missing" \
	" FROM part JOIN pg_catalog.pg_class r ON r.oid = relid WHERE r.relkind <> 'p'"

/* Read the items: phase, item, status, seconds, detail. */
static uint64
read_items(int64 deploy)
{
	SqlArgs		args = {0};

	arg_int8(&args, deploy);
	return spi_catalog("SELECT i.phase, i.item,"
					   " CASE WHEN i.job_id IS NULL THEN i.status WHEN j.job_id IS NULL THEN 'unknown' ELSE " JOB_STATE " END,"
					   " CASE WHEN j.job_id IS NULL THEN i.seconds ELSE coalesce(extract(epoch FROM"
					   "  coalesce(j.finished_at, pg_catalog.clock_timestamp()) - j.started_at)::float8, 0) END,"
					   " pg_catalog.concat_ws('; ', i.detail, 'job ' || i.job_id || CASE WHEN j.job_id IS NULL THEN ', of which no record is left' ELSE '' END,"
					   "  CASE WHEN c.changed + c.unchanged + c.failed > 0 THEN"
					   "   pg_catalog.format('%s rows changed, %s left as they are, %s failed', c.changed, c.unchanged, c.failed) END,"
					   "  CASE WHEN c.skipped > 0 THEN pg_catalog.format('%s times a row was locked and skipped', c.skipped) END,"
					   "  CASE WHEN p.missing > 0 THEN pg_catalog.format('%s of %s partitions are without it', p.missing, p.parts) END,"
					   "  j.message, CASE WHEN pg_catalog.strpos(j.message, j.detail) = 0 THEN j.detail END)"
					   " FROM evmig.deploy_item i LEFT JOIN evmig.job j ON j.job_id = i.job_id"
					   " LEFT JOIN LATERAL (SELECT sum(changed) AS changed, sum(unchanged) AS unchanged, sum(failed) AS failed,"
					   "  sum(skipped) AS skipped FROM evmig.job_chunk k WHERE k.job_id = j.job_id) c ON true"
					   " LEFT JOIN LATERAL (" MISSING_PARTS ") p ON true"
					   " WHERE i.deploy_id = $1 ORDER BY i.item_id", &args);
}

/*
 * evmig_deploy_report(deploy bigint) returns rows
 */
Datum
evmig_deploy_report(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64		n;

	require_deployer();
	InitMaterializedSRF(fcinfo, 0);
	spi_begin();
	n = read_items(find_deploy(fcinfo));
	for (uint64 i = 0; i < n; i++)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS] = {0};

		for (int c = 0; c < COLUMNS; c++)
		{
			nulls[c] = spi_isnull(i, c);
			if (c == 3)
				values[c] = Float8GetDatum(spi_float8(i, c));
			else if (!nulls[c])
				values[c] = CStringGetTextDatum(spi_text(i, c));
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	spi_end();
	return (Datum) 0;
}

/* ---- as a page ---- */

static const char *const field_names[] = {"deployed_by", "started_at", "finished_at", "quiesce", "wait_for"};

#define FIELDS lengthof(field_names)

typedef struct Summary
{
	int64		id;
	char	   *state;
	char	   *head;			/* who, when, how */
	char	   *fields[FIELDS]; /* the same one by one, as JSON */
	const char *verdict;
	uint64		n;
} Summary;

static bool
is_one_of(const char *status, const char *a, const char *b, const char *c)
{
	return strcmp(status, a) == 0 || strcmp(status, b) == 0 || strcmp(status, c) == 0;
}

/* What ended it: its own last item, where it has one. */
static const char *
failure(uint64 n)
{
	for (uint64 i = n; i-- > 0;)
	{
		if (strcmp(spi_text(i, 2), "failed") != 0)
			continue;
		if (strcmp(spi_text(i, 0), "migrations") == 0)
			return psprintf("failed at migration %s; nothing of it is left", spi_text(i, 1));
		if (strcmp(spi_text(i, 0), "connections") == 0)
			return "failed: other sessions are connected; nothing was deployed";
	}
	return "failed";
}

static bool
is_warning(const char *status)
{
	return is_one_of(status, "warning", "failed", "incomplete") ||
		is_one_of(status, "cancelled", "interrupted", "paused");
}

/* ": orders_total failed, orders_state paused, 3 more" */
static char *
warnings_of(uint64 n)
{
	StringInfoData names;
	int			count = 0;

	initStringInfo(&names);
	for (uint64 i = 0; i < n; i++)
		if (is_warning(spi_text(i, 2)) && ++count <= SHOWN_WARNINGS)
			appendStringInfo(&names, "%s%s %s", count > 1 ? ", " : ": ", spi_text(i, 1),
							 strcmp(spi_text(i, 2), "warning") == 0 ? "not started" : spi_text(i, 2));
	if (count > SHOWN_WARNINGS)
		appendStringInfo(&names, ", %d more", count - SHOWN_WARNINGS);
	return names.data;
}

/* What the items add up to; they are SPI's last result. */
static const char *
find_verdict(const char *state, bool newest, uint64 n)
{
	char	   *warnings = warnings_of(n);
	bool		working = false;

	if (strcmp(state, "failed") == 0)
		return failure(n);
	for (uint64 i = 0; i < n; i++)
		working = working || is_one_of(spi_text(i, 2), "running", "queued", "started");
	if (strcmp(state, "succeeded") != 0)
		return newest && job_lock_is_held(0, JOB_LOCK_DEPLOY) ? "at work" : "interrupted: deploy again";
	return psprintf("succeeded%s%s%s", warnings[0] ? " with warnings" : "",
					working ? ", jobs are still at work" : "", warnings);
}

static void
read_summary(FunctionCallInfo fcinfo, Summary *s)
{
	SqlArgs		args = {0};
	bool		newest;

	s->id = find_deploy(fcinfo);
	if (s->id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no deployment yet"),
				 errhint("CALL evmig_deploy() makes one.")));
	arg_int8(&args, s->id);
	spi_catalog("SELECT state, pg_catalog.format('by %s, from %s to %s; quiesce %s, waited for %s',"
				" deployed_by, started_at, coalesce(finished_at::text, '(open)'), quiesce, wait_for),"
				" deploy_id = (SELECT max(deploy_id) FROM evmig.deploy),"
				" to_json(deployed_by::text)::text, to_json(started_at)::text, to_json(finished_at)::text,"
				" to_json(quiesce)::text, to_json(wait_for)::text"
				" FROM evmig.deploy WHERE deploy_id = $1", &args);
	s->state = spi_text(0, 0);
	s->head = spi_text(0, 1);
	newest = spi_bool(0, 2);
	for (int i = 0; i < FIELDS; i++)
		s->fields[i] = spi_text(0, i + 3);
	s->n = read_items(s->id);
	s->verdict = find_verdict(s->state, newest, s->n);
}

static void
as_markdown(StringInfo out, const Summary *s)
{
	appendStringInfo(out, "# Deployment " INT64_FORMAT ": ", s->id);
	append_markdown(out, s->verdict);
	appendStringInfoString(out, "\n\n");
	append_markdown(out, s->head);
	appendStringInfoString(out, "\n\n| Phase | Item | Status | Seconds | Detail |\n|---|---|---|---:|---|\n");
	for (uint64 i = 0; i < s->n; i++)
	{
		for (int c = 0; c < COLUMNS; c++)
		{
			char	   *text = c == 3 ? psprintf("%.2f", spi_float8(i, c)) : spi_text(i, c);

			appendStringInfoString(out, "| ");
			append_markdown(out, text ? text : "");
			appendStringInfoChar(out, ' ');
		}
		appendStringInfoString(out, "|\n");
	}
}

static void
as_html(StringInfo out, const Summary *s)
{
	static const char *const heads[COLUMNS] = {"Phase", "Item", "Status", "Seconds", "Detail"};

	appendStringInfo(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
					 "<title>Deployment " INT64_FORMAT "</title>\n<style>:root{color-scheme:light dark}"
					 "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
					 "table{border-collapse:collapse;width:100%%}th,td{border-bottom:1px solid #8886;"
					 "padding:.3em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
					 "td:nth-child(4){text-align:right;font-variant-numeric:tabular-nums}</style></head>\n<body><h1>Deployment "
					 INT64_FORMAT ": ", s->id, s->id);
	append_html(out, s->verdict);
	appendStringInfoString(out, "</h1>\n<p>");
	append_html(out, s->head);
	appendStringInfoString(out, "</p>\n<table><thead><tr>");
	for (int c = 0; c < COLUMNS; c++)
		appendStringInfo(out, "<th>%s</th>", heads[c]);
	appendStringInfoString(out, "</tr></thead>\n<tbody>\n");
	for (uint64 i = 0; i < s->n; i++)
	{
		appendStringInfoString(out, "<tr>");
		for (int c = 0; c < COLUMNS; c++)
		{
			appendStringInfoString(out, "<td>");
			append_html(out, c == 3 ? psprintf("%.2f", spi_float8(i, c)) : spi_text(i, c));
			appendStringInfoString(out, "</td>");
		}
		appendStringInfoString(out, "</tr>\n");
	}
	appendStringInfoString(out, "</tbody></table></body></html>\n");
}

static void
as_json(StringInfo out, const Summary *s)
{
	appendStringInfo(out, "{\"deploy_id\": " INT64_FORMAT ", \"state\": ", s->id);
	escape_json(out, s->state);
	appendStringInfoString(out, ", \"verdict\": ");
	escape_json(out, s->verdict);
	for (int i = 0; i < FIELDS; i++)
		appendStringInfo(out, ", \"%s\": %s", field_names[i], s->fields[i] ? s->fields[i] : "null");
	appendStringInfoString(out, ", \"items\": [");
	for (uint64 i = 0; i < s->n; i++)
	{
		static const char *const names[COLUMNS] = {"phase", "item", "status", "seconds", "detail"};

		appendStringInfoString(out, i > 0 ? ", {" : "{");
		for (int c = 0; c < COLUMNS; c++)
		{
			char	   *text = spi_text(i, c);

			appendStringInfo(out, "%s\"%s\": ", c > 0 ? ", " : "", names[c]);
			if (c == 3)
				appendStringInfo(out, "%.3f", spi_float8(i, c));
			else if (text == NULL)
				appendStringInfoString(out, "null");
			else
				escape_json(out, text);
		}
		appendStringInfoChar(out, '}');
	}
	appendStringInfoString(out, "]}");
}

/*
 * evmig_deploy_summary(deploy bigint, format text) returns text
 */
Datum
evmig_deploy_summary(PG_FUNCTION_ARGS)
{
	char	   *format = PG_ARGISNULL(1) ? "markdown" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	void		(*write) (StringInfo, const Summary *);
	StringInfoData out;
	Summary		s;

	if (strcmp(format, "markdown") == 0)
		write = as_markdown;
	else if (strcmp(format, "json") == 0)
		write = as_json;
	else if (strcmp(format, "html") == 0)
		write = as_html;
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown format: \"%s\"", format),
				 errhint("Formats are markdown, json and html.")));
	require_deployer();
	initStringInfo(&out);
	spi_begin();
	read_summary(fcinfo, &s);
	write(&out, &s);
	spi_end();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
