/*-------------------------------------------------------------------------
 *
 * histogram.h
 *	  Latencies in a fixed number of buckets, and percentiles of them.
 *
 * Pure arithmetic: no server calls, so it is tested on its own.
 *
 * Log-linear: below HISTOGRAM_EXACT microseconds each value has a bucket of its
 * own; from there on each power of two is cut into HISTOGRAM_STEPS buckets of
 * one width.  A bucket [a, b) stands for the value v = 2ab / (a + b), whose
 * relative error is at most (b - a) / (b + a) at either end.  The widest one,
 * at a power of two p, is p / 20 wide:
 *
 *		error <= (1 / 20) / (2 + 1 / 20) = 1 / 41 = 2.44 %
 *
 * from 0 to 2^27 microseconds (134 s).  What took longer is in the last
 * bucket, which stands for the longest that was seen.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_HISTOGRAM_H
#define EVMIG_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_FIRST_POWER 5
#define HISTOGRAM_LAST_POWER 26
#define HISTOGRAM_EXACT (1 << HISTOGRAM_FIRST_POWER)
#define HISTOGRAM_STEPS 20
#define HISTOGRAM_OVERFLOW \
	(HISTOGRAM_EXACT + (HISTOGRAM_LAST_POWER - HISTOGRAM_FIRST_POWER + 1) * HISTOGRAM_STEPS)
#define HISTOGRAM_BUCKETS (HISTOGRAM_OVERFLOW + 1)

/* the bucket of a number of microseconds; a negative one counts as 0 */
extern int	histogram_bucket(int64_t us);

/* first value of a bucket; of the one behind it, its end */
extern double histogram_low(int bucket);

/* the value that a bucket stands for, in microseconds */
extern double histogram_value(int bucket);

/*
 * The value below or at which a fraction (0..1) of all counted lies, by the
 * nearest rank; longest: what was seen at most, which nothing exceeds.
 * Negative where nothing was counted.
 */
extern double histogram_percentile(const uint64_t *counts, double fraction, int64_t longest);

#endif							/* EVMIG_HISTOGRAM_H */
