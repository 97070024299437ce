/*-------------------------------------------------------------------------
 *
 * log.c
 *	  A job's progress in the server log, now and then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <math.h>

#include "utils/timestamp.h"

#include "base/spi.h"
#include "evmig.h"
#include "job/chunk.h"
#include "job/job.h"

/* what one line says */
typedef struct Figures
{
	double		rows;
	double		rows_per_s;
	double		percent;
	double		least_s;		/* time left; negative: not known */
	double		most_s;
} Figures;

/*
 * One worker of the job logs at a time, and none before its interval is over.
 * Who has the job's row locked, for a pause that is not committed, delays the
 * line to the next time.
 */
static bool
is_due(Job *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_float8(&args, evmig_log_min_interval / 1000.0);
	return spi_catalog("WITH due AS MATERIALIZED (SELECT job_id FROM evmig.job WHERE job_id = $1"
					   "  AND (logged_at IS NULL OR logged_at <= pg_catalog.clock_timestamp()"
					   "   - pg_catalog.make_interval(secs => $2)) FOR NO KEY UPDATE SKIP LOCKED)"
					   " UPDATE evmig.job j SET logged_at = pg_catalog.clock_timestamp()"
					   " FROM due WHERE j.job_id = due.job_id RETURNING 1", &args) > 0;
}

/* As evmig_progress shows them. */
static void
read_figures(Job *job, Figures *figures)
{
	SqlArgs		args = {0};
	double		blocks;
	double		total;
	double		seconds;
	double		overall;
	double		recent;

	chunks_done(job, &figures->rows, &blocks, &total);
	arg_int8(&args, job->id);
	spi_catalog("SELECT coalesce(nullif(worked_ms, 0) / 1000,"
				"  extract(epoch FROM pg_catalog.clock_timestamp() - started_at))::float8, rate_rows, rate_blocks"
				" FROM evmig.job WHERE job_id = $1", &args);
	seconds = Max(spi_float8(0, 0), 0.001);
	figures->rows_per_s = spi_isnull(0, 1) ? figures->rows / seconds : spi_float8(0, 1);
	figures->percent = total > 0 ? 100.0 * blocks / total : 0;
	figures->least_s = figures->most_s = -1;
	if (blocks <= 0)
		return;
	overall = seconds * (total - blocks) / blocks;
	recent = spi_float8(0, 2) > 0 ? (total - blocks) / spi_float8(0, 2) : overall;
	figures->least_s = Min(overall, recent) * 0.9;
	figures->most_s = Max(overall, recent) * 1.1;
}

static char *
format_time(double seconds)
{
	int64		s = (int64) Min(rint(seconds), 1e9);

	return psprintf("%d:%02d:%02d", (int) (s / SECS_PER_HOUR),
					(int) (s / SECS_PER_MINUTE % MINS_PER_HOUR), (int) (s % SECS_PER_MINUTE));
}

void
job_log_progress(Job *job)
{
	Figures		figures;
	bool		due;

	job_begin(job);
	due = is_due(job);
	if (due)
		read_figures(job, &figures);
	job_commit(job);
	if (due)
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT " (%s): %.0f rows, %.0f rows/s, %.1f %%, ETA %s",
						job->id, job->name, figures.rows, figures.rows_per_s, figures.percent,
						figures.least_s < 0 ? "not known" :
						psprintf("%s to %s", format_time(figures.least_s), format_time(figures.most_s)))));
}
