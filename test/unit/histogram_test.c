/*-------------------------------------------------------------------------
 *
 * histogram_test.c
 *	  The scale of latencies, without a server: TAP on stdout.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kpi/histogram.h"

#define BOUND 0.03				/* what is promised from 10 us to 100 s */

static int	count = 0;
static int	failed = 0;

static void
ok(int good, const char *name)
{
	count++;
	if (!good)
		failed++;
	printf("%sok %d - %s\n", good ? "" : "not ", count, name);
}

/* every value of the range, by steps much smaller than a bucket */
static void
test_error(void)
{
	double		worst = 0;
	int64_t		worst_at = 0;
	int			last = -1;
	int			backwards = 0;

	for (int64_t us = 10; us <= 100000000; us += 1 + us / 5000)
	{
		int			bucket = histogram_bucket(us);
		double		error = fabs(histogram_value(bucket) - (double) us) / (double) us;

		if (error > worst)
		{
			worst = error;
			worst_at = us;
		}
		if (bucket < last)
			backwards++;
		last = bucket;
	}
	printf("# worst error %.4f at %lld us\n", worst, (long long) worst_at);
	ok(worst <= BOUND, "no value from 10 us to 100 s is off by more than 3 %");
	ok(worst <= 1.0 / 41 + 1e-9, "nor by more than the formula says");
	ok(backwards == 0, "longer latencies are never in earlier buckets");
}

static void
test_edges(void)
{
	int			outside = 0;

	for (int i = 0; i < HISTOGRAM_OVERFLOW; i++)
	{
		int64_t		low = (int64_t) ceil(histogram_low(i));

		if ((double) low < histogram_low(i + 1) && histogram_bucket(low) != i)
			outside++;
	}
	ok(outside == 0, "each bucket holds its first value");
	ok(histogram_bucket(-5) == 0, "a clock that went back counts as 0");
	ok(histogram_bucket(0) == 0 && histogram_bucket(31) == 31, "exact below 32 us");
	ok(histogram_bucket(((int64_t) 1 << 27) - 1) == HISTOGRAM_OVERFLOW - 1, "the last value of the scale");
	ok(histogram_bucket((int64_t) 1 << 27) == HISTOGRAM_OVERFLOW, "the first beyond it");
	ok(histogram_bucket(INT64_MAX) == HISTOGRAM_OVERFLOW, "as long as it gets");
}

static void
test_percentile(void)
{
	static uint64_t counts[HISTOGRAM_BUCKETS];

	ok(histogram_percentile(counts, 0.5, 0) < 0, "nothing counted, no percentile");
	for (int us = 1; us <= 20; us++)
		counts[histogram_bucket(us)]++;
	ok(histogram_percentile(counts, 0.5, 20) == 10, "median of 1..20 by nearest rank");
	ok(histogram_percentile(counts, 0.95, 20) == 19, "p95");
	ok(histogram_percentile(counts, 1, 20) == 20, "p100");
	ok(histogram_percentile(counts, 0, 20) == 1, "p0 is the least");

	memset(counts, 0, sizeof(counts));
	counts[histogram_bucket(1000)] = 3;
	ok(histogram_percentile(counts, 0.99, 1000) <= 1000, "nothing exceeds the longest that was seen");
	counts[histogram_bucket(200000000)] = 97;
	ok(histogram_percentile(counts, 0.5, 200000000) == 200000000, "beyond the scale: the longest that was seen");
	ok(fabs(histogram_percentile(counts, 0.02, 200000000) - 1000) <= 30, "and the rest as ever");
}

int
main(void)
{
	test_error();
	test_edges();
	test_percentile();
	printf("1..%d\n", count);
	return failed > 0;
}
