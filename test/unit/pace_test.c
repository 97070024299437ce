/*-------------------------------------------------------------------------
 *
 * pace_test.c
 *	  The pace's arithmetic against recorded batches, without a server.
 *
 * Compiled with src/job/pace.c by test/t/004_pace.pl; says its results as TAP.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "job/pace.h"

#define MB (1024.0 * 1024.0)
#define LENGTH(a) ((int) (sizeof(a) / sizeof((a)[0])))

static int	count = 0;
static int	failed = 0;

static void
ok(bool good, const char *name)
{
	count++;
	if (!good)
		failed++;
	printf("%sok %d - %s\n", good ? "" : "not ", count, name);
}

static void
is(double got, double expected, const char *name)
{
	bool		good = fabs(got - expected) < 0.01;

	ok(good, name);
	if (!good)
		printf("# got %g, expected %g\n", got, expected);
}

/* a batch as it was measured, and what must come of it */
typedef struct Batch
{
	const char *what;
	int64_t		rows;
	double		ms;
	double		wal;
	int			next_rows;
	double		rest;
} Batch;

static void
replay(const PaceConfig *config, const Batch *batches, int n)
{
	Pace		pace;
	char		name[200];

	pace_init(&pace, config);
	for (int i = 0; i < n; i++)
	{
		double		rest = pace_next(&pace, batches[i].rows, batches[i].ms, batches[i].wal);

		snprintf(name, sizeof(name), "%s: rows", batches[i].what);
		is(pace_rows(&pace), batches[i].next_rows, name);
		snprintf(name, sizeof(name), "%s: rest", batches[i].what);
		is(rest, batches[i].rest, name);
	}
}

static void
test_adaptive(void)
{
	static const PaceConfig config = {200, 50, 100, 4 * MB, 0.5, true};
	static const Batch batches[] = {
		{"a fast batch grows by half", 200, 5, 0.06 * MB, 300, 50},
		{"and again", 300, 7, 0.08 * MB, 450, 50},
		{"over the target shrinks to it", 450, 130, 0.1 * MB, 346, 130},
		{"five times over shrinks ten-fold", 346, 900, 0.1 * MB, 34, 900},
		{"a batch that was not full says nothing", 10, 3, 0.01 * MB, 34, 50},
		{"close to the target grows to it only", 34, 90, 2 * MB, 38, 90},
		{"the WAL budget counts too", 38, 20, 8 * MB, 19, 50},
		{"ten rows are the least", 19, 2000, 0.1 * MB, 10, 2000},
	};
	Pace		pace;
	PaceConfig	large = config;

	replay(&config, batches, LENGTH(batches));

	large.batch_size = 90000;
	pace_init(&pace, &large);
	(void) pace_next(&pace, 90000, 1, 0);
	is(pace_rows(&pace), PACE_MAX_ROWS, "a hundred thousand rows are the most");
}

static void
test_fixed(void)
{
	static const PaceConfig config = {200, 50, 100, 4 * MB, 0.5, false};
	static const Batch batches[] = {
		{"as given: fast", 200, 1, 0, 200, 50},
		{"as given: slow", 200, 5000, 100 * MB, 200, 50},
	};
	static const PaceConfig unthrottled = {200, 0, 100, 0, 1.0, true};
	Pace		pace;

	replay(&config, batches, LENGTH(batches));
	pace_init(&pace, &unthrottled);
	is(pace_next(&pace, 200, 40, 50 * MB), 0, "no sleep and duty cycle 1: no rest");
}

/* A table whose rows cost 0.05 ms, later ten times that: the pace finds both. */
static void
test_converges(void)
{
	static const PaceConfig config = {200, 0, 100, 0, 0.5, true};
	Pace		pace;
	int			worst = 0;

	pace_init(&pace, &config);
	for (int i = 0; i < 40; i++)
		(void) pace_next(&pace, pace_rows(&pace), pace_rows(&pace) * 0.05, 0);
	ok(pace_rows(&pace) >= 1900 && pace_rows(&pace) <= 2000, "finds the size of the target time");
	for (int i = 0; i < 40; i++)
	{
		double		ms = pace_rows(&pace) * 0.5;

		if (ms > 101)
			worst++;
		(void) pace_next(&pace, pace_rows(&pace), ms, 0);
	}
	ok(pace_rows(&pace) >= 190 && pace_rows(&pace) <= 200, "finds it again when rows cost more");
	ok(worst <= 2, "within two batches");
}

static void
test_factor(void)
{
	is(pace_factor(5, 0, 0, 0), 1, "no limit: no throttle");
	is(pace_factor(10, 0, 10, 20), 1, "at the soft limit: none");
	is(pace_factor(12.5, 0, 10, 20), 0.75, "between the limits: in proportion");
	is(pace_factor(20, 0, 10, 20), 0, "at the hard limit: stop");
	is(pace_factor(1000, 0, 10, 20), 0, "beyond: stop");
	is(pace_factor(20, 0, 10, 0), 0.5, "soft only: half at twice the limit");
	is(pace_factor(19, 0, 0, 20), 1, "hard only: none below");
	is(pace_factor(20, 0, 0, 20), 0, "hard only: stop at it");
	is(pace_factor(60, 0, 100, 50), 0, "a hard limit below the soft one is obeyed");
	is(pace_factor(0, PACE_STALE_S, 10, 20), 1, "15 s old still counts");
	is(pace_factor(0, PACE_STALE_S + 0.1, 10, 20), 0, "older reads as hard");
	is(pace_factor(0, -1, 10, 20), 0, "never read reads as hard");
	is(pace_factor(0, -1, 0, 0), 1, "unless it is off");
}

static double
steered(double share, double knee, double value, double seconds)
{
	PaceSteer	steer = {share, knee, false};

	pace_steer(&steer, value, 10, seconds);
	return steer.share;
}

static void
test_steer(void)
{
	PaceSteer	steer = {0, 0, false};
	double		worst = 0;

	pace_steer(&steer, 5, 10, 1);
	is(steer.share, 0.2, "begins low");
	is(steered(1, 1, 12.5, 1), 0.8, "too slow: less, in proportion");
	is(steered(0.5, 1, 1000, 1), 0.25, "much too slow: half");
	is(steered(0.5, 1, 1000, 2), 0.125, "and half again in another second");
	is(steered(0.5, 1, 1000, 3600), 0.125, "one reading shrinks it by two seconds' worth at most");
	is(steered(0.5, 1, 1000, 0), 0.5, "two readings at once count as one");
	is(steered(0.02, 1, 1000, 2), 0.01, "something is left");
	is(steered(0.5, 1, 10, 1), 0.65, "at the limit: more");
	is(steered(0.5, 0.4, 10, 1), 0.525, "slowly, near to where it was too much");
	is(steered(0.9, 1, 1, 1), 1, "up to all of it");

	/* writes that take 40 ms times the share, with a limit of 10 */
	for (int i = 0; i < 200; i++)
	{
		pace_steer(&steer, 40 * steer.share, 10, 1);
		if (i > 20 && steer.share > worst)
			worst = steer.share;
	}
	ok(steer.share > 0.15 && worst < 0.28, "it finds the share that keeps the limit, and stays near it");
	pace_steer(&steer, 1000, 0, 1);
	is(steer.share, 1, "no limit: all of it");
}

/* Rest as governor_rest() does it, slices of at most a second; returns the ms. */
static double
rest(double ms, double rest_ms, const double *factors, int n)
{
	double		owed = pace_owed(ms, rest_ms, factors[0]);
	double		slept = 0;

	for (int i = 0; owed > 0.001 || factors[i < n ? i : n - 1] <= 0; i++)
	{
		double		factor = factors[i < n ? i : n - 1];
		double		slice = pace_slice(owed, factor, 1000);

		slept += slice;
		owed = pace_paid(owed, slice, factor);
	}
	return slept;
}

static void
test_rest(void)
{
	static const double none[] = {1};
	static const double half[] = {0.5};
	static const double tenth[] = {0.1};
	static const double pause_then_none[] = {0, 0, 0, 1};
	static const double easing[] = {0.1, 0.5, 1};

	is(rest(100, 100, none, 1), 100, "not throttled: the rest as it is");
	is(rest(100, 100, half, 1), 300, "half the factor: a quarter of the time at work");
	is(rest(100, 100, tenth, 1), 1900, "a tenth of the factor");
	is(rest(100, 0, half, 1), 100, "no rest of its own: half the time at work");
	is(rest(0, 0, half, 1), 0, "nothing done, nothing owed");
	is(rest(100, 100, pause_then_none, 4), 3200, "paused for three looks, then the rest");
	/* owed 190; a second at 0.1 pays 100, the other 90 take 180 ms at 0.5 */
	is(rest(100, 100, easing, 3), 1180, "goes on as the signal eases");
}

static void
test_change(void)
{
	static const PaceConfig server = {200, 50, 100, 4 * MB, 0.5, true};
	PaceConfig	own = server;
	PaceConfig	now = server;
	Pace		pace;

	own.batch_size = 1000;		/* given to this pace alone */
	pace_init(&pace, &own);
	ok(!pace_change(&pace, &server, &server), "nothing changed");
	now.sleep_ms = 5;
	now.duty_cycle = 1;
	ok(pace_change(&pace, &server, &now), "a change is taken over");
	is(pace.config.sleep_ms, 5, "the pause");
	is(pace.config.duty_cycle, 1, "the duty cycle");
	is(pace_rows(&pace), 1000, "its own size stays");
	own = now;
	now.batch_size = 300;
	ok(pace_change(&pace, &own, &now), "a new size");
	is(pace_rows(&pace), 300, "counts at once");
	(void) pace_next(&pace, 300, 1, 0);
	own = now;
	now.adaptive = false;
	ok(pace_change(&pace, &own, &now), "no longer adaptive");
	is(pace_rows(&pace), 300, "back to the size as given");
}

static void
test_rate(void)
{
	PaceRate	rate = {0, false};

	pace_rate(&rate, 100, 0, 30);
	ok(!rate.known, "no time, no rate");
	pace_rate(&rate, 200, 2, 30);
	is(rate.value, 100, "the first counts fully");
	pace_rate(&rate, 30 * 300, 30, 30);
	is(rate.value, 200, "a half-life later it counts half");
	for (int i = 0; i < 300; i++)
		pace_rate(&rate, 20, 2, 30);
	is(rate.value, 10, "what is long ago is forgotten");
}

/* points of a job's plot up to an age, asked every so many seconds */
static int
points(double age, double every, double *longest)
{
	double		last = -1;
	int			n = 0;

	*longest = 0;
	for (int i = 0; i * every <= age; i++)
	{
		double		now = i * every;
		double		since = last < 0 ? -1 : now - last;

		if (!pace_point_due(now, since))
			continue;
		if (n > 0 && since / fmax(now, 400) > *longest)
			*longest = since / fmax(now, 400);
		last = now;
		n++;
	}
	return n;
}

static void
test_points(void)
{
	const double day = 86400;
	double		longest;
	int			n;

	ok(pace_point_due(0, -1), "the first point is due at once");
	ok(!pace_point_due(10, 1), "not one a second");
	ok(pace_point_due(10, 1.9), "one every two, give or take");
	ok(!pace_point_due(1000, 4.7) && pace_point_due(1000, 4.9), "later one every 0.5 % of the age");
	ok(pace_point_due(day, 1e9), "one that is late is due");

	n = points(400, 2, &longest);
	ok(n >= 195 && n <= 205, "some 200 in 400 s");
	n = points(day, 2.01, &longest);
	ok(n >= 1150 && n <= 1350, "some 1,300 in a day");
	ok(longest < 0.011, "none is far from the next");
	n = points(7 * day, 2.01, &longest);
	ok(n >= 1550 && n <= 1750, "some 1,700 in a week");
	ok(abs(points(28 * day, 2.01, &longest) - points(14 * day, 2.01, &longest) - 139) < 5, "139 each time the age doubles");
	ok(points(60, 0.01, &longest) <= 34, "no more where somebody asks more often");
}

int
main(void)
{
	test_adaptive();
	test_fixed();
	test_converges();
	test_factor();
	test_steer();
	test_rest();
	test_change();
	test_rate();
	test_points();
	printf("1..%d\n", count);
	return failed > 0;
}
