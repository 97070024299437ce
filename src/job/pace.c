/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  How large the next batch is and how long to rest before it.
 *
 * The size follows the WAL budget (the servo) under the time target (the
 * ceiling).  A batch over five times its target shrinks the next ten-fold at
 * once; growth is at most 1.5 times a step.
 *
 *-------------------------------------------------------------------------
 */
#include "job/pace.h"

#define GROWTH 1.5
#define OVERSHOOT 5.0
#define SHRINK 10.0

static double
clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

void
pace_init(Pace *pace, const PaceConfig *config)
{
	pace->config = *config;
	pace->rows = clamp(config->batch_size, 1, PACE_MAX_ROWS);
}

int
pace_rows(const Pace *pace)
{
	return (int) pace->rows;
}

double
pace_next(Pace *pace, int64_t rows, double ms, double wal_bytes)
{
	const PaceConfig *config = &pace->config;
	double		rest = config->sleep_ms;
	double		load;

	if (!config->adaptive)
		return rest;

	/* share of the budget that this batch used up; the larger one counts */
	load = ms / config->target_ms;
	if (config->wal_bytes > 0 && wal_bytes / config->wal_bytes > load)
		load = wal_bytes / config->wal_bytes;

	if (load > OVERSHOOT)
		pace->rows = pace->rows / SHRINK;
	else if (load > 1.0)
		pace->rows = pace->rows / load;
	else if (rows >= (int64_t) pace->rows)
	{
		/* a batch that was not full says nothing about larger ones */
		pace->rows *= load * GROWTH > 1.0 ? 1.0 / load : GROWTH;
	}
	pace->rows = clamp(pace->rows, PACE_MIN_ROWS, PACE_MAX_ROWS);

	/* work d of the time: rest (1 - d) / d of the time at work */
	if (config->duty_cycle > 0 && config->duty_cycle < 1)
	{
		double		duty_rest = ms * (1.0 - config->duty_cycle) / config->duty_cycle;

		if (duty_rest > rest)
			rest = duty_rest;
	}
	return rest;
}
