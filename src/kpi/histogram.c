/*-------------------------------------------------------------------------
 *
 * histogram.c
 *	  Latencies in a fixed number of buckets, and percentiles of them.
 *
 * See histogram.h for the scale and its error.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "kpi/histogram.h"

/* position of the highest bit of a number that is not 0 */
static int
power_of(uint64_t n)
{
#ifdef __GNUC__
	return 63 - __builtin_clzll(n);
#else
	int			power = 0;

	for (int shift = 32; shift > 0; shift /= 2)
		if (n >> shift)
		{
			n >>= shift;
			power += shift;
		}
	return power;
#endif
}

int
histogram_bucket(int64_t us)
{
	uint64_t	n = us < 0 ? 0 : (uint64_t) us;
	int			power;

	if (n < HISTOGRAM_EXACT)
		return (int) n;
	power = power_of(n);
	if (power > HISTOGRAM_LAST_POWER)
		return HISTOGRAM_OVERFLOW;
	return HISTOGRAM_EXACT + (power - HISTOGRAM_FIRST_POWER) * HISTOGRAM_STEPS +
		(int) (((n - ((uint64_t) 1 << power)) * HISTOGRAM_STEPS) >> power);
}

double
histogram_low(int bucket)
{
	int			power;
	int			step;

	if (bucket < HISTOGRAM_EXACT)
		return bucket;
	power = HISTOGRAM_FIRST_POWER + (bucket - HISTOGRAM_EXACT) / HISTOGRAM_STEPS;
	step = (bucket - HISTOGRAM_EXACT) % HISTOGRAM_STEPS;
	return ldexp(1.0 + (double) step / HISTOGRAM_STEPS, power);
}

double
histogram_value(int bucket)
{
	double		low = histogram_low(bucket);
	double		high = histogram_low(bucket + 1);

	if (bucket < HISTOGRAM_EXACT || bucket >= HISTOGRAM_OVERFLOW)
		return low;
	return 2 * low * high / (low + high);
}

double
histogram_percentile(const uint64_t *counts, double fraction, int64_t longest)
{
	uint64_t	total = 0;
	uint64_t	seen = 0;
	double		rank;

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		total += counts[i];
	if (total == 0)
		return -1;
	rank = ceil(fraction * (double) total);
	if (rank < 1)
		rank = 1;
	for (int i = 0; i < HISTOGRAM_OVERFLOW; i++)
	{
		seen += counts[i];
		if ((double) seen >= rank)
			return histogram_value(i) < (double) longest ? histogram_value(i) : (double) longest;
	}
	return (double) longest;
}
