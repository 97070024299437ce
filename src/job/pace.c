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

#include <math.h>

#define GROWTH 1.5
#define STEER_FIRST 0.2
#define STEER_LEAST 0.01
#define STEER_KNEE 0.7
#define STEER_SHRINK 0.5		/* in a second, as the two below */
#define STEER_FAST 1.3
#define STEER_SLOW 1.05
#define STEER_LONGEST_S 2.0
#define POINT_FIRST_S 2.0
#define POINT_SHARE 0.005		/* of the age */
#define POINT_JITTER_S 0.2		/* of whoever asks every two seconds */
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
	pace->ms = 0;
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

	pace->ms = ms;
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

/* ---- settings that change ---- */

bool
pace_change(Pace *pace, const PaceConfig *before, const PaceConfig *now)
{
	PaceConfig *config = &pace->config;
	bool		changed = false;

#define TAKE(field) \
	if (before->field != now->field) \
	{ \
		config->field = now->field; \
		changed = true; \
	}
	TAKE(batch_size);
	TAKE(sleep_ms);
	TAKE(target_ms);
	TAKE(wal_bytes);
	TAKE(duty_cycle);
	TAKE(adaptive);
#undef TAKE

	/* start from the size as given */
	if (before->batch_size != now->batch_size || (before->adaptive && !now->adaptive))
		pace->rows = clamp(config->batch_size, 1, PACE_MAX_ROWS);
	return changed;
}

/* ---- throttle ---- */

double
pace_factor(double value, double age, double soft, double hard)
{
	if (soft <= 0 && hard <= 0)
		return 1.0;
	if (age < 0 || age > PACE_STALE_S)
		return 0.0;
	if (hard > 0 && value >= hard)
		return 0.0;
	if (soft <= 0 || value <= soft)
		return 1.0;
	if (hard <= 0)
		return soft / value;
	return hard > soft ? (hard - value) / (hard - soft) : 1.0;
}

void
pace_steer(PaceSteer *steer, double value, double limit, double seconds)
{
	bool		over = value > limit;
	double		step;

	if (limit <= 0 || steer->share <= 0)
	{
		steer->share = limit <= 0 ? 1.0 : STEER_FIRST;
		steer->knee = 1.0;
		steer->over = false;
		return;
	}
	if (over && !steer->over)
		steer->knee = steer->share * STEER_KNEE;
	steer->over = over;
	if (over)
		step = clamp(limit / value, STEER_SHRINK, 1.0);
	else
		step = steer->share < steer->knee ? STEER_FAST : STEER_SLOW;
	steer->share = clamp(steer->share * pow(step, clamp(seconds, 0, STEER_LONGEST_S)), STEER_LEAST, 1.0);
}

double
pace_owed(double ms, double rest, double factor)
{
	return rest + ms * (1.0 - factor);
}

double
pace_paid(double owed, double slept, double factor)
{
	return owed - slept * factor;
}

double
pace_slice(double owed, double factor, double longest)
{
	if (factor <= 0 || owed / factor > longest)
		return longest;
	return owed / factor;
}

bool
pace_point_due(double age, double since)
{
	return since < 0 || since + POINT_JITTER_S >= fmax(POINT_FIRST_S, POINT_SHARE * age);
}

void
pace_rate(PaceRate *rate, double amount, double seconds, double half_life)
{
	double		weight;

	if (seconds <= 0)
		return;
	weight = rate->known ? 1.0 - exp2(-seconds / half_life) : 1.0;
	rate->value += (amount / seconds - rate->value) * weight;
	rate->known = true;
}
