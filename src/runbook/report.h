/*-------------------------------------------------------------------------
 *
 * report.h
 *	  Parts of a runbook's report that stand in files of their own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_REPORT_H
#define EVMIG_REPORT_H

#include "lib/stringinfo.h"
#include "kpi/sample.h"
#include "runbook/runbook.h"

/*
 * What the table's writers saw: s, the samples of its KPIs that the runbook
 * took, with figures from outside, and f, before, at worst and after; no
 * totals, as the samples cover unequal times.  Of those during it the worst:
 * the least of what is good, else the greatest.
 */
#define APPLICATION_FIGURES \
	"WITH s AS MATERIALIZED (SELECT label, sampled_at, sample_id," \
	"  (figures - ARRAY['notes', '" LATENCY_SOURCE "']) || coalesce(figures -> 'notes', '{}') AS figures," \
	"  coalesce(figures ->> '" LATENCY_SOURCE "', 'measured') AS source" \
	"  FROM evmig.kpi_sample WHERE runbook_id = $1)," \
	" b AS (SELECT sampled_at, figures, source FROM s WHERE label = 'before' ORDER BY sampled_at DESC, sample_id DESC LIMIT 1)," \
	" a AS (SELECT sampled_at, figures, source FROM s WHERE label = 'after' ORDER BY sampled_at DESC, sample_id DESC LIMIT 1)," \
	" k AS (SELECT DISTINCT key AS kpi FROM s, pg_catalog.jsonb_object_keys(figures) key)," \
	" v AS (SELECT kpi, (SELECT figures ->> kpi FROM b)::numeric AS before, (SELECT figures ->> kpi FROM a)::numeric AS after," \
	"  (SELECT CASE WHEN kpi = 'writes_per_s' OR kpi LIKE '%request_id_pct'" \
	"   THEN min((figures ->> kpi)::numeric) ELSE max((figures ->> kpi)::numeric) END FROM s WHERE label = 'during') AS during" \
	"  FROM k WHERE kpi NOT IN ('writes', 'rows_written', 'write_errors')" \
	"  AND EXISTS (SELECT FROM s WHERE pg_catalog.jsonb_typeof(figures -> kpi) = 'number'))," \
	" f AS (SELECT kpi, before, during, after, 100 * (after - before) / nullif(before, 0) AS change_pct," \
	"  pg_catalog.array_position('{writes_per_s, p50_ms, p95_ms, p99_ms, max_ms, commit_p95_ms, write_error_rate}', kpi) AS n" \
	"  FROM v WHERE pg_catalog.num_nonnulls(before, during, after) > 0)"

/*
 * How long before its events a step without a job began: both are written when
 * it has ended.  end: the latter of them.
 */
#define TIME_BEFORE(end) \
	"CASE WHEN " end ".job_id IS NULL THEN coalesce((" end ".data ->> 'seconds')::float8, 0) ELSE 0 END" \
	" * interval '1 second'"

/* Inside SPI. */
extern char *report_json(Runbook *rb);

/* how a result is to be taken */
typedef enum Outcome
{
	OUTCOME_OPEN,				/* there is none yet, or it was taken back */
	OUTCOME_GOOD,
	OUTCOME_BAD
} Outcome;

/*
 * What came of a runbook, or a job, in a sentence; chain_problem: see
 * runbook_chain().  Inside SPI.
 */
extern char *runbook_result(Runbook *rb, const char *chain_problem, Outcome *outcome);
extern char *job_report_result(int64 id, Outcome *outcome);

/* The same as the first paragraph of a page. */
extern void append_html_result(StringInfo out, const char *result, Outcome outcome);

/*
 * Append what the application saw, from the samples of the target's KPIs, with
 * the runbook's steps as bands, and the rows done over time.
 */
extern void append_runbook_plots(StringInfo out, Runbook *rb);

/* The same for a job on a table, once it has started. */
extern void append_job_plots(StringInfo out, int64 id);

#endif							/* EVMIG_REPORT_H */
