/*-------------------------------------------------------------------------
 *
 * governor.c
 *	  Makes a job yield to the application.
 *
 * Each worker rests as long as the signals (signals.c) and the pace's
 * arithmetic (pace.c) ask for.  The leader alone writes the job's row: what
 * bites, and the time and rates that evmig_progress tells.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "evmig.h"
#include "job/chunk.h"
#include "job/governor.h"
#include "job/signals.h"
#include "job/worker.h"

#define FLUSH_MS 2000			/* how often the job's row is written */
#define HALF_LIFE_S 30.0		/* of the rates */
#define SAMPLE_US INT64CONST(10000000)	/* least time between KPI samples */
#define SHOWN_SIZE 300

struct Governor
{
	Signals		signals;
	PaceConfig	config;			/* the settings as last seen */

	/* what the leader has not written yet, and what it has */
	TimestampTz flushed;
	TimestampTz sampled;		/* the KPIs, or when it began */
	bool		has_sample;
	double		worked_ms;
	double		throttled_ms;
	char		shown[SHOWN_SIZE];
	bool		have_totals;
	double		rows;
	double		blocks;
	PaceRate	row_rate;
	PaceRate	block_rate;
};

void
governor_settings(void)
{
	signals_settings();
}

/* what the settings say now */
static void
read_config(PaceConfig *config)
{
	config->batch_size = evmig_batch_size;
	config->sleep_ms = evmig_batch_sleep;
	config->target_ms = evmig_batch_target_ms;
	config->wal_bytes = evmig_batch_wal_bytes * 1024.0;
	config->duty_cycle = evmig_duty_cycle;
	config->adaptive = evmig_adaptive;
}

void
governor_pace_init(Pace *pace)
{
	PaceConfig	config;

	read_config(&config);
	pace_init(pace, &config);
}

static Governor *
governor_of(Job *job)
{
	if (job->governor == NULL)
	{
		Governor   *governor = MemoryContextAllocZero(job->context, sizeof(Governor));

		governor->signals.factor = 1.0;
		governor->flushed = governor->sampled = GetCurrentTimestamp();
		read_config(&governor->config);
		job->governor = governor;
	}
	return job->governor;
}

void
governor_before_commit(Job *job)
{
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		signals_read_waiters(&governor_of(job)->signals);
}

/* ---- saying it ---- */

/* Rows and blocks since the last time, per second that was not throttled. */
static void
measure_rates(Job *job, Governor *governor)
{
	double		rows;
	double		blocks;
	double		total;

	chunks_done(job, &rows, &blocks, &total);
	if (governor->have_totals && rows >= governor->rows && blocks >= governor->blocks)
	{
		pace_rate(&governor->row_rate, rows - governor->rows,
				  governor->worked_ms / 1000, HALF_LIFE_S);
		pace_rate(&governor->block_rate, blocks - governor->blocks,
				  governor->worked_ms / 1000, HALF_LIFE_S);
	}
	governor->have_totals = true;
	governor->rows = rows;
	governor->blocks = blocks;
}

static void
arg_rate(SqlArgs *args, const PaceRate *rate)
{
	arg_datum(args, FLOAT8OID, Float8GetDatum(rate->value), !rate->known);
}

/*
 * What the application's writes bear meanwhile, for the report: as often as
 * the points of its plot, but one for all of a short job.
 */
static void
sample_kpis(Job *job, Governor *governor, double age, bool last)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		us = now - governor->sampled;

	if (table_sample_hook == NULL || (last && governor->has_sample) ||
		(!last && (us < SAMPLE_US || !pace_point_due(age, us / (double) USECS_PER_SEC))))
		return;
	table_sample_hook(job->target, psprintf("job " INT64_FORMAT, job->id), Max(us, USECS_PER_SEC));
	governor->sampled = now;
	governor->has_sample = true;
}

/* A point of the report's plot, where one is due; a runbook samples the KPIs itself. */
static void
sample(Job *job, Governor *governor, bool last)
{
	double		age;
	double		since;

	SqlArgs		own = {0};
	SqlArgs		args = {0};

	arg_int8(&own, job->id);
	spi_catalog("SELECT extract(epoch FROM n - j.started_at)::float8,"
				" coalesce(extract(epoch FROM n - (SELECT pg_catalog.max(sampled_at) FROM evmig.job_sample s"
				"  WHERE s.job_id = $1))::float8, -1), j.runbook_id IS NULL"
				" FROM evmig.job j, pg_catalog.clock_timestamp() n WHERE j.job_id = $1", &own);
	age = spi_float8(0, 0);
	since = spi_float8(0, 1);
	if (spi_bool(0, 2))
		sample_kpis(job, governor, age, last);
	if (!pace_point_due(age, since))
		return;
	arg_int8(&args, job->id);
	arg_float8(&args, governor->rows);
	spi_catalog("INSERT INTO evmig.job_sample (job_id, rows_done) VALUES ($1, $2::bigint)", &args);
}

/*
 * Write time, rates and what bites to the job's row.  Whoever has that row
 * locked (a pause that is not committed) makes it wait for the next time.
 */
static void
flush(Job *job, Governor *governor, const char *throttle, bool last)
{
	SqlArgs		own = {0};
	SqlArgs		args = {0};
	TimestampTz now = GetCurrentTimestamp();

	governor->worked_ms = (now - governor->flushed) / 1000.0 - governor->throttled_ms;
	job_begin(job);
	arg_int8(&own, job->id);
	if (spi_catalog("SELECT 1 FROM evmig.job WHERE job_id = $1 FOR NO KEY UPDATE SKIP LOCKED",
					&own) == 0)
	{
		job_commit(job);
		return;
	}
	measure_rates(job, governor);
	sample(job, governor, last);
	arg_int8(&args, job->id);
	arg_text(&args, throttle);
	arg_float8(&args, governor->throttled_ms);
	arg_float8(&args, Max(governor->worked_ms, 0));
	arg_rate(&args, &governor->row_rate);
	arg_rate(&args, &governor->block_rate);
	spi_catalog("UPDATE evmig.job SET throttle = $2, throttled_ms = throttled_ms + $3,"
				" worked_ms = worked_ms + $4, rate_rows = $5, rate_blocks = $6"
				" WHERE job_id = $1", &args);
	job_commit(job);
	governor->flushed = now;
	governor->throttled_ms = 0;
	strlcpy(governor->shown, throttle ? throttle : "", sizeof(governor->shown));
}

static void
tell(Job *job, Governor *governor)
{
	char	   *throttle;

	if (!job->leader)
		return;
	throttle = signals_describe(&governor->signals);
	if (strncmp(throttle ? throttle : "", governor->shown, SHOWN_SIZE - 1) != 0 ||
		TimestampDifferenceExceeds(governor->flushed, GetCurrentTimestamp(), FLUSH_MS))
		flush(job, governor, throttle, false);
}

/* ---- resting ---- */

static bool
refresh_pace(Governor *governor, Pace *pace)
{
	PaceConfig	now;
	bool		changed;

	read_config(&now);
	changed = pace_change(pace, &governor->config, &now);
	governor->config = now;
	return changed;
}

/*
 * Sleep until what is owed is paid for, and as long as a signal says stop.
 * pace is NULL where there has been no batch yet.
 */
static void
pay(Job *job, Governor *governor, Pace *pace, double owed)
{
	Signals    *signals = &governor->signals;

	for (;;)
	{
		TimestampTz start = GetCurrentTimestamp();
		double		slept;
		double		slice = 0;

		tell(job, governor);
		if (owed > 0 || signals->factor <= 0)
			slice = pace_slice(owed, signals->factor, Max(signals_due(signals), 1));
		worker_sleep(job, slice);
		slept = (GetCurrentTimestamp() - start) / 1000.0;
		governor->throttled_ms += slept * (1.0 - signals->factor);
		owed = pace_paid(owed, slept, signals->factor);

		/* a new pace counts from now on, also for a long rest under the old one */
		if (pace && refresh_pace(governor, pace))
			owed = Min(owed, pace->config.sleep_ms);
		if (owed <= 0.5 && signals->factor > 0)
			break;
		if (signals_due(signals) <= 0)
			signals_read(job, signals);
	}
}

void
governor_wait(Job *job)
{
	Governor   *governor = governor_of(job);

	if (governor->signals.sampled != 0)
		return;
	signals_read(job, &governor->signals);
	pay(job, governor, NULL, 0);
}

void
governor_rest(Job *job, Pace *pace, double rest)
{
	Governor   *governor = governor_of(job);
	Signals    *signals = &governor->signals;

	(void) refresh_pace(governor, pace);
	if (signals_due(signals) <= 0)
		signals_read(job, signals);
	governor->throttled_ms += pace->ms * (1.0 - signals->factor);
	pay(job, governor, pace, pace_owed(pace->ms, rest, signals->factor));
}

void
governor_end(Job *job)
{
	Governor   *governor = job->governor;

	if (governor == NULL || !job->leader)
		return;
	MemoryContextReset(job->batch_context);
	flush(job, governor, NULL, true);
}
