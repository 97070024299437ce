/*-------------------------------------------------------------------------
 *
 * signals.h
 *	  The throttle signals: what the server and its replicas bear just now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_SIGNALS_H
#define EVMIG_SIGNALS_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#include "job/job.h"
#include "job/pace.h"

#define SIGNAL_ERROR_SIZE 200
#define SIGNAL_TRACK_SIZE 64	/* positions in the WAL that are remembered */

typedef enum SignalId
{
	SIGNAL_REPLICA_LAG_BYTES,
	SIGNAL_REPLICA_LAG,
	SIGNAL_WAL_RATE,
	SIGNAL_CHECKPOINT,
	SIGNAL_ACTIVE_SESSIONS,
	SIGNAL_DEAD_ROWS,
	SIGNAL_WRAPAROUND_VACUUM,
	SIGNAL_SNAPSHOT_AGE,
	SIGNAL_LOCK_WAITERS,
	SIGNAL_P95_MS,
	SIGNAL_P95_RATIO,
	SIGNAL_QUERY,
	SIGNAL_COUNT
} SignalId;

/* a position in the WAL and when it was reached */
typedef struct TrackPoint
{
	XLogRecPtr	lsn;
	TimestampTz at;
} TrackPoint;

typedef struct Signals
{
	double		value[SIGNAL_COUNT];
	TimestampTz read_at[SIGNAL_COUNT];	/* 0: never */

	/* of the last reading */
	TimestampTz sampled;
	double		factor;			/* what they leave of the duty cycle */
	SignalId	biting;			/* where factor < 1 */
	char		query_error[SIGNAL_ERROR_SIZE]; /* already logged */
	char		catalog_error[SIGNAL_ERROR_SIZE];
	char		p95_error[SIGNAL_ERROR_SIZE];

	double		p95_before;		/* when the job began; 0: nobody wrote */
	bool		p95_seen;
	PaceSteer	p95_steer[2];	/* of P95_MS and P95_RATIO */

	uint32		query_hash;		/* of the query that the value is from */
	XLogRecPtr	last_lsn;		/* for the WAL rate */
	TimestampTz last_lsn_at;
	int64		standby_xmin;	/* what standbys hold back vacuum by; 0: nothing */
	TimestampTz standby_xmin_since;
	TrackPoint	track[SIGNAL_TRACK_SIZE];	/* oldest first */
	int			ntrack;
} Signals;

/*
 * What the application's writes on a table take, from the KPIs: the 95th
 * percentile of the last seconds, and that of the last sample labelled
 * "before", in ms; negative where there is none.  False: nobody measures the
 * table.  Inside SPI with a snapshot.  NULL where the KPIs are not loaded.
 */
extern PGDLLIMPORT bool (*table_p95_hook) (Oid relid, double *now, double *before);

/*
 * Keep a sample of what the application's writes on a table bore in the last us
 * microseconds, under a label; nothing happens where nobody measures the table.
 * Inside SPI with a snapshot.  NULL as above.
 */
extern PGDLLIMPORT void (*table_sample_hook) (Oid relid, const char *label, int64 us);

/* Define the settings of each signal. */
extern void signals_settings(void);

/* ms until the next reading is due; 0 or less: now */
extern double signals_due(Signals *signals);

/*
 * Read all that are on.  Outside a transaction; resets job->batch_context.  One
 * that cannot be read keeps its age; raises only what asks the worker to end.
 */
extern void signals_read(Job *job, Signals *signals);

/*
 * Count, when that is due, who waits for the locks of the transaction at hand;
 * inside SPI with a snapshot.
 */
extern void signals_read_waiters(Signals *signals);

/* What bites, as "replica_lag_bytes 73 MB > 64 MB"; NULL if nothing does. */
extern char *signals_describe(Signals *signals);

#endif							/* EVMIG_SIGNALS_H */
