/*-------------------------------------------------------------------------
 *
 * report_plots.c
 *	  What the application saw while a runbook or a job was at work.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/markup.h"
#include "base/spi.h"
#include "runbook/plot.h"
#include "runbook/report.h"

#define MARGIN "interval '2 minutes'"	/* of samples before and after */
#define POINTS "800"			/* of a line; the worst of those that fall on one */

/* columns of the query for samples, behind the time */
enum
{
	SAMPLE_P50 = 1, SAMPLE_P95, SAMPLE_P99, SAMPLE_RATE, SAMPLE_ERRORS
};

/* The steps of a runbook, each from its start to its end or to now. */
static void
read_bands(Plot *plot, int64 runbook)
{
	SqlArgs		args = {0};

	arg_int8(&args, runbook);
	plot->nbands = (int) spi_catalog("SELECT s.subject, s.at - " TIME_BEFORE("e") ", coalesce(e.at, pg_catalog.clock_timestamp()),"
									 " e.at IS NULL FROM evmig.runbook_event s LEFT JOIN LATERAL (SELECT l.at, l.job_id, l.data FROM evmig.runbook_event l"
									 "  WHERE l.runbook_id = $1 AND l.subject = s.subject AND l.seq > s.seq"
									 "  AND l.event IN ('step done', 'step failed', 'step started') ORDER BY l.seq LIMIT 1) e ON true"
									 " WHERE s.runbook_id = $1 AND s.event = 'step started' ORDER BY s.seq", &args);
	plot->bands = palloc(sizeof(PlotBand) * Max(plot->nbands, 1));
	for (int i = 0; i < plot->nbands; i++)
	{
		plot->bands[i].label = spi_text(i, 0);
		plot->bands[i].from = spi_time(i, 1);
		plot->bands[i].to = spi_time(i, 2);
		plot->bands[i].open = spi_bool(i, 3);
	}
}

/* One column of the last result as a series. */
static void
take_series(Plot *plot, const char *name, int column)
{
	PlotSeries *series = &plot->series[plot->nseries++];

	series->name = name;
	series->n = (int) spi_nrows();
	series->at = palloc(sizeof(TimestampTz) * Max(series->n, 1));
	series->value = palloc(sizeof(double) * Max(series->n, 1));
	for (int i = 0; i < series->n; i++)
	{
		series->at[i] = spi_time(i, 0);
		series->value[i] = spi_isnull(i, column) ? NAN : spi_float8(i, column);
	}
}

static bool
has_values(const PlotSeries *series)
{
	for (int i = 0; i < series->n; i++)
		if (!isnan(series->value[i]))
			return true;
	return false;
}

static void
draw(StringInfo out, Plot *plot, const char *title, const char *unit)
{
	plot->title = title;
	plot->unit = unit;
	append_plot(out, plot);
	plot->nseries = 0;
}

/*
 * Latency, throughput and errors of the writers of a table between two points
 * in time; says so where nobody measured.
 */
static void
append_ingest(StringInfo out, Plot *plot, Oid target)
{
	SqlArgs		args = {0};
	Plot		rate = *plot;
	Plot		errors = *plot;

	arg_oid(&args, target);
	arg_time(&args, plot->from);
	arg_time(&args, plot->to);
	spi_catalog("SELECT max(at), max((figures ->> 'p50_ms')::float8), max((figures ->> 'p95_ms')::float8),"
				" max((figures ->> 'p99_ms')::float8), avg((figures ->> 'writes_per_s')::float8),"
				" max((figures ->> 'write_error_rate')::float8) * 100"
				" FROM (SELECT sampled_at AS at, figures, pg_catalog.floor(" POINTS " * extract(epoch FROM sampled_at - $2)"
				"   / nullif(extract(epoch FROM $3 - $2), 0)) AS point"
				"  FROM evmig.kpi_sample WHERE target = $1 AND sampled_at BETWEEN $2 - " MARGIN " AND $3 + " MARGIN ") s"
				" GROUP BY point, CASE WHEN point IS NULL THEN at END ORDER BY 1", &args);
	take_series(plot, "p50", SAMPLE_P50);
	take_series(plot, "p95", SAMPLE_P95);
	take_series(plot, "p99", SAMPLE_P99);
	take_series(&rate, "writes", SAMPLE_RATE);
	take_series(&errors, "errors", SAMPLE_ERRORS);
	if (plot->series[0].n > 0)
	{
		plot->from = rate.from = errors.from = Min(plot->from, plot->series[0].at[0]);
		plot->to = rate.to = errors.to = Max(plot->to, plot->series[0].at[plot->series[0].n - 1]);
	}
	if (!has_values(&rate.series[0]))
	{
		appendStringInfoString(out, "<p>The writers' latency was not measured: evmig_kpi_watch() and evmig in"
							   " shared_preload_libraries do it.</p>\n");
		return;
	}
	if (has_values(&plot->series[0]))
		draw(out, plot, "Latency of writes", "ms");
	draw(out, &rate, "Writes", "per s");
	draw(out, &errors, "Writes that failed", "%");
}

static void
draw_rows_done(StringInfo out, const Plot *around)
{
	Plot		plot = *around;

	plot.nseries = 0;
	take_series(&plot, "rows", 1);
	if (has_values(&plot.series[0]))
		draw(out, &plot, "Rows done", "rows");
}

/*
 * Rows done: of each step's job from its samples, on top of what the jobs
 * before it did, and flat between two steps.
 */
static void
append_rows_done(StringInfo out, const Plot *around, int64 runbook)
{
	SqlArgs		args = {0};

	arg_int8(&args, runbook);
	spi_catalog("WITH s AS (SELECT b.job_id, b.at AS from_at, coalesce(e.at, pg_catalog.clock_timestamp()) AS to_at,"
				"  (e.data ->> 'rows_done')::float8 AS own,"
				"  (SELECT coalesce(sum(d.rows_done), 0) FROM (SELECT max((p.data ->> 'rows_done')::float8) AS rows_done"
				"   FROM evmig.runbook_event p WHERE p.runbook_id = $1 AND p.seq < b.seq"
				"   AND p.job_id IS DISTINCT FROM b.job_id GROUP BY p.job_id) d) AS before"
				"  FROM evmig.runbook_event b LEFT JOIN LATERAL (SELECT l.at, l.data FROM evmig.runbook_event l"
				"   WHERE l.runbook_id = $1 AND l.subject = b.subject AND l.seq > b.seq"
				"   AND l.event IN ('step done', 'step failed', 'step started') ORDER BY l.seq LIMIT 1) e ON true"
				"  WHERE b.runbook_id = $1 AND b.event = 'step started' AND b.job_id IS NOT NULL)"
				" SELECT p.at, p.done FROM s, LATERAL (SELECT s.from_at AS at, s.before AS done"
				"  UNION ALL SELECT j.sampled_at, s.before + j.rows_done FROM evmig.job_sample j"
				"   WHERE j.job_id = s.job_id AND j.sampled_at BETWEEN s.from_at AND s.to_at"
				"  UNION ALL SELECT s.to_at, s.before + s.own WHERE s.own IS NOT NULL) p ORDER BY p.at, p.done", &args);
	draw_rows_done(out, around);
}

void
append_runbook_plots(StringInfo out, Runbook *rb)
{
	Plot		plot = {0};
	SqlArgs		args = {0};
	StringInfoData ingest;

	arg_int8(&args, rb->id);
	spi_catalog("SELECT min(at), max(at) FROM evmig.runbook_event WHERE runbook_id = $1"
				" AND (event LIKE 'step %' OR event LIKE 'execution %' OR event = 'finished')", &args);
	if (spi_nrows() == 0 || spi_isnull(0, 0))
		return;
	plot.from = spi_time(0, 0);
	plot.to = job_lock_is_held(rb->id, JOB_LOCK_RUNBOOK) ? GetCurrentTimestamp() : spi_time(0, 1);
	appendStringInfoString(out, "<section id=\"time-line\"><h2>Time line</h2>\n");
	read_bands(&plot, rb->id);

	/* the steps come first, on the time axis that the samples ask for */
	initStringInfo(&ingest);
	append_ingest(&ingest, &plot, rb->target);
	plot.title = "Steps";
	if (plot.nbands > 0)
		append_bars(out, &plot);
	appendBinaryStringInfo(out, ingest.data, ingest.len);
	append_rows_done(out, &plot, rb->id);
	appendStringInfoString(out, "</section>\n");
}

void
append_job_plots(StringInfo out, int64 id)
{
	SqlArgs		args = {0};
	Plot		plot = {0};
	PlotBand	band = {0};
	Oid			target;

	arg_int8(&args, id);
	spi_catalog("SELECT target, started_at, coalesce(finished_at, pg_catalog.clock_timestamp()), name"
				" FROM evmig.job WHERE job_id = $1", &args);
	if (spi_isnull(0, 1))
		return;
	target = spi_oid(0, 0);
	plot.from = band.from = spi_time(0, 1);
	plot.to = band.to = spi_time(0, 2);
	band.label = spi_text(0, 3);
	plot.nbands = 1;
	plot.bands = &band;
	appendStringInfoString(out, "<section id=\"time-line\"><h2>Time line</h2>\n");
	append_ingest(out, &plot, target);
	spi_catalog("SELECT p.at, p.done FROM (SELECT started_at AS at, 0::float8 AS done FROM evmig.job WHERE job_id = $1"
				" UNION ALL SELECT sampled_at, rows_done FROM evmig.job_sample WHERE job_id = $1"
				" UNION ALL SELECT coalesce(j.finished_at, pg_catalog.clock_timestamp()), c.changed"
				"  FROM evmig.job j, LATERAL (SELECT sum(changed)::float8 AS changed FROM evmig.job_chunk"
				"   WHERE job_id = $1) c WHERE j.job_id = $1 AND c.changed IS NOT NULL) p ORDER BY p.at, p.done", &args);
	if (spi_nrows() > 1)
		draw_rows_done(out, &plot);
	appendStringInfoString(out, "</section>\n");
}
