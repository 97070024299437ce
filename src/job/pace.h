/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  How large the next batch is and how long to rest before it.
 *
 * Pure arithmetic: no server calls, so it is tested on its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_PACE_H
#define EVMIG_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_MIN_ROWS 10
#define PACE_MAX_ROWS 100000

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
} Pace;

extern void pace_init(Pace *pace, const PaceConfig *config);
extern int	pace_rows(const Pace *pace);

/*
 * Learn from a batch (rows changed, ms at work, WAL bytes written); returns
 * the ms to rest before the next one.
 */
extern double pace_next(Pace *pace, int64_t rows, double ms, double wal_bytes);

#endif							/* EVMIG_PACE_H */
