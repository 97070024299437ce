/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  How large the next batch is and how long to rest before it.
 *
 * Pure arithmetic: no server calls, so it is tested on its own.
 *
 * A throttle is a factor between 1 (none) and 0 (stop) on the duty cycle.  A
 * rest is paid for as it passes: at factor 0.5 a second of rest pays for half
 * a second, at factor 0 for nothing, so one loop slows down, stops and goes on
 * as the factor changes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_PACE_H
#define EVMIG_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_MIN_ROWS 10
#define PACE_MAX_ROWS 100000
#define PACE_STALE_S 15.0		/* a signal that is older reads as hard */

typedef struct PaceConfig
{
	int			batch_size;		/* rows, the start */
	double		sleep_ms;		/* the least pause */
	double		target_ms;		/* a batch should take no longer */
	double		wal_bytes;		/* nor write more WAL; 0: no limit */
	double		duty_cycle;		/* share of the time at work, 0..1 */
	bool		adaptive;		/* else both numbers stay as given */
} PaceConfig;

typedef struct Pace
{
	PaceConfig	config;
	double		rows;			/* size of the next batch */
	double		ms;				/* at work in the last one */
} Pace;

/* a rate that forgets: half of its weight is younger than the half-life */
typedef struct PaceRate
{
	double		value;			/* per second */
	bool		known;
} PaceRate;

extern void pace_init(Pace *pace, const PaceConfig *config);
extern int	pace_rows(const Pace *pace);

/*
 * Learn from a batch (rows changed, ms at work, WAL bytes written); returns
 * the ms to rest before the next one.
 */
extern double pace_next(Pace *pace, int64_t rows, double ms, double wal_bytes);

/*
 * Take over what has changed between two versions of the settings; true if
 * anything has.  A number that was given to this pace alone stays.
 */
extern bool pace_change(Pace *pace, const PaceConfig *before, const PaceConfig *now);

/*
 * What a signal leaves of the duty cycle: 1 up to the soft limit, then less in
 * proportion down to 0 at the hard one.  A limit of 0 is off; without a hard
 * limit twice the soft one halves the cycle.  age: seconds since the signal was
 * read, negative if it never was.
 */
extern double pace_factor(double value, double age, double soft, double hard);

/*
 * The same for a signal that answers to what we do, and late: the share of
 * the duty cycle that keeps it at its limit is felt for, from a low one on.
 * From one reading to the next, so many seconds later, the share shrinks in
 * proportion to the excess, at most to a half in a second, or grows again:
 * fast up to a little below where it was too much, then slowly.
 */
typedef struct PaceSteer
{
	double		share;			/* 0: not begun */
	double		knee;			/* from where on it grows slowly */
	bool		over;			/* the last reading was beyond the limit */
} PaceSteer;

extern void pace_steer(PaceSteer *steer, double value, double limit, double seconds);

/* ms of rest that are owed after a batch, at a factor; and after some of them */
extern double pace_owed(double ms, double rest, double factor);
extern double pace_paid(double owed, double slept, double factor);

/* how long to sleep to pay it, at most longest */
extern double pace_slice(double owed, double factor, double longest);

/*
 * Is it time for another point of the plot of a job that is so many seconds
 * old, so many after the last one (negative: there is none)?  Points lie
 * max(2 s, age / 200) apart: some 200 in the first 400 s, and 200 ln(age / 400 s)
 * more after them, which is 1,300 for a day and 1,700 for a week.
 */
extern bool pace_point_due(double age, double since);

/* count more: amount of something in so many seconds */
extern void pace_rate(PaceRate *rate, double amount, double seconds, double half_life);

#endif							/* EVMIG_PACE_H */
