/*-------------------------------------------------------------------------
 *
 * governor.c
 *	  Makes a job yield to the application.
 *
 * Each worker reads the signals for itself, at most once a second, between
 * two batches and so without any lock.  The strongest one shrinks the duty
 * cycle; the arithmetic is in pace.c.  What a plain role may not see of the
 * server's statistics is read as the extension's owner; the user's own query
 * never is.
 *
 * The leader alone writes the job's row: what bites, and the time and rates
 * that evmig_progress tells.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/chunk.h"
#include "job/governor.h"
#include "job/worker.h"

#define SAMPLE_MS 1000
#define FLUSH_MS 2000			/* how often the job's row is written */
#define QUERY_TIMEOUT_MS 1000	/* of the user's query */
#define HALF_LIFE_S 30.0		/* of the rates */
#define ERROR_SIZE 200
#define TRACK_SIZE 64			/* positions in the WAL that are remembered */

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
	SIGNAL_QUERY,
	SIGNAL_COUNT
} SignalId;

typedef struct Signal
{
	const char *name;
	const char *what;
	int			unit;			/* flag of a setting */
	const char *suffix;			/* of values that no flag fits */
	double		boot_soft;
	double		boot_hard;
} Signal;

/* in the order of SignalId; limits of 0 are off */
static const Signal signals[SIGNAL_COUNT] = {
	{"replica_lag_bytes", "WAL that the slowest replica or logical slot has not applied",
	GUC_UNIT_KB, "", 64 * 1024, 256 * 1024},
	{"replica_lag", "how far the slowest replica or logical slot is behind",
	GUC_UNIT_MS, "", 5000, 30000},
	{"wal_rate", "WAL that the server writes in a second",
	GUC_UNIT_KB, "/s", 0, 0},
	{"checkpoint", "share of the WAL that forces a checkpoint, in percent",
	0, " %", 0, 0},
	{"active_sessions", "sessions of clients that are running a statement",
	0, "", 0, 0},
	{"dead_rows", "share of the target's rows that is dead, in percent, once autovacuum is due",
	0, " %", 50, 0},
	{"wraparound_vacuum", "autovacuum at work on the target to prevent wraparound",
	0, "", 0, 1},
	{"snapshot_age", "age of the oldest snapshot or transaction of the database",
	GUC_UNIT_S, "", 600, 0},
	{"lock_waiters", "sessions that wait for a lock of the worker",
	0, "", 0, 1},
	{"query", "number that evmig.throttle_query returns",
	0, "", 0, 0},
};

static double limit_soft[SIGNAL_COUNT];
static double limit_hard[SIGNAL_COUNT];
static char *throttle_query;

/* a position in the WAL and when it was reached */
typedef struct TrackPoint
{
	XLogRecPtr	lsn;
	TimestampTz at;
} TrackPoint;

struct Governor
{
	double		value[SIGNAL_COUNT];
	TimestampTz read_at[SIGNAL_COUNT];	/* 0: never */
	TimestampTz sampled;
	double		factor;
	SignalId	biting;			/* where factor < 1 */
	char		query_error[ERROR_SIZE];	/* already logged */
	char		catalog_error[ERROR_SIZE];

	XLogRecPtr	last_lsn;		/* for the WAL rate */
	TimestampTz last_lsn_at;
	TrackPoint	track[TRACK_SIZE];	/* oldest first */
	int			ntrack;

	/* what the leader has not written yet, and what it has */
	TimestampTz flushed;
	double		worked_ms;
	double		throttled_ms;
	char		shown[300];
	bool		have_totals;
	double		rows;
	double		blocks;
	PaceRate	row_rate;
	PaceRate	block_rate;

	PaceConfig	config;			/* the settings as last seen */
};

/* ---- settings ---- */

static void
define_limit(const Signal *signal, const char *kind, const char *effect,
			 double *variable, double boot)
{
	DefineCustomRealVariable(psprintf("evmig.throttle_%s_%s", signal->name, kind),
							 psprintf("Limit from which jobs %s: %s.", effect, signal->what),
							 "0 is no limit.",
							 variable, boot, 0, 1e15, PGC_USERSET, signal->unit,
							 NULL, NULL, NULL);
}

void
governor_settings(void)
{
	/* descriptions are not copied */
	MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

	for (int i = 0; i < SIGNAL_COUNT; i++)
	{
		define_limit(&signals[i], "soft", "slow down", &limit_soft[i], signals[i].boot_soft);
		define_limit(&signals[i], "hard", "pause", &limit_hard[i], signals[i].boot_hard);
	}
	MemoryContextSwitchTo(oldcontext);
	DefineCustomStringVariable("evmig.throttle_query",
							   "SQL query whose number is held against evmig.throttle_query_soft and _hard.",
							   "It runs with the job's rights, read-only, for a second at most.",
							   &throttle_query, "", PGC_USERSET, 0, NULL, NULL, NULL);
}

void
governor_pace_config(PaceConfig *config)
{
	config->batch_size = evmig_batch_size;
	config->sleep_ms = evmig_batch_sleep;
	config->target_ms = evmig_batch_target_ms;
	config->wal_bytes = evmig_batch_wal_bytes * 1024.0;
	config->duty_cycle = evmig_duty_cycle;
	config->adaptive = evmig_adaptive;
}

static bool
is_on(SignalId id)
{
	return limit_soft[id] > 0 || limit_hard[id] > 0;
}

static Governor *
governor_of(Job *job)
{
	if (job->governor == NULL)
	{
		Governor   *governor = MemoryContextAllocZero(job->context, sizeof(Governor));

		governor->factor = 1.0;
		governor->flushed = GetCurrentTimestamp();
		governor_pace_config(&governor->config);
		job->governor = governor;
	}
	return job->governor;
}

/* ---- reading the signals ---- */

static void
set_signal(Governor *governor, SignalId id, double value)
{
	governor->value[id] = value;
	governor->read_at[id] = GetCurrentTimestamp();
}

/* Remember where the WAL stands; when full, forget every second point. */
static void
track_wal(Governor *governor, XLogRecPtr lsn, TimestampTz now)
{
	if (governor->ntrack > 0 && governor->track[governor->ntrack - 1].lsn == lsn)
		return;
	if (governor->ntrack == TRACK_SIZE)
	{
		for (int i = 0; i < TRACK_SIZE / 2; i++)
			governor->track[i] = governor->track[2 * i];
		governor->ntrack = TRACK_SIZE / 2;
	}
	governor->track[governor->ntrack].lsn = lsn;
	governor->track[governor->ntrack++].at = now;
}

/* ms since the WAL went past a position, as far as we remember. */
static double
behind_ms(Governor *governor, XLogRecPtr lsn, TimestampTz now)
{
	for (int i = 0; i < governor->ntrack; i++)
		if (governor->track[i].lsn > lsn)
			return (now - governor->track[i].at) / 1000.0;
	return 0;
}

/*
 * Lag of the slowest standby, and of the slowest logical slot, at work or
 * not.  The server's own replay_lag stands still while replay is paused, so
 * the time is also taken from when the WAL went past the replica's position.
 */
static void
read_replicas(Governor *governor)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	SqlArgs		none = {0};
	double		bytes = 0;
	double		ms = 0;

	track_wal(governor, flushed, now);
	spi_catalog("SELECT pg_catalog.pg_wal_lsn_diff(replay_lsn, '0/0')::bigint,"
				" (extract(epoch FROM replay_lag) * 1000)::float8"
				" FROM pg_catalog.pg_stat_replication r WHERE replay_lsn IS NOT NULL"
				" AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s"
				"  WHERE s.active_pid = r.pid AND s.slot_type = 'logical')"
				" UNION ALL SELECT pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint, NULL"
				" FROM pg_catalog.pg_replication_slots"
				" WHERE slot_type = 'logical' AND confirmed_flush_lsn IS NOT NULL"
				" AND wal_status IS DISTINCT FROM 'lost'", &none);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		XLogRecPtr	lsn = (XLogRecPtr) spi_int8(i, 0);

		if (lsn >= flushed)
			continue;
		bytes = Max(bytes, (double) (flushed - lsn));
		ms = Max(ms, Max(spi_float8(i, 1), behind_ms(governor, lsn, now)));
	}
	set_signal(governor, SIGNAL_REPLICA_LAG_BYTES, bytes / 1024);
	set_signal(governor, SIGNAL_REPLICA_LAG, ms);
}

/* What the WAL says: no query needed. */
static void
read_wal(Governor *governor)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	lsn = GetXLogInsertRecPtr();
	double		forced = (double) CheckPointSegments * wal_segment_size;

	if (governor->last_lsn_at != 0 && now > governor->last_lsn_at)
		set_signal(governor, SIGNAL_WAL_RATE,
				   (lsn - governor->last_lsn) / 1024.0 / ((now - governor->last_lsn_at) / 1e6));
	else
		set_signal(governor, SIGNAL_WAL_RATE, 0);
	governor->last_lsn = lsn;
	governor->last_lsn_at = now;
	set_signal(governor, SIGNAL_CHECKPOINT, 100.0 * (lsn - GetRedoRecPtr()) / forced);
}

static void
read_active_sessions(Governor *governor)
{
	SqlArgs		none = {0};

	spi_catalog("SELECT count(*) FROM pg_catalog.pg_stat_activity"
				" WHERE backend_type = 'client backend' AND state = 'active'"
				" AND pid <> pg_catalog.pg_backend_pid()", &none);
	set_signal(governor, SIGNAL_ACTIVE_SESSIONS, spi_int8(0, 0));
}

/*
 * Dead rows count only beyond the number at which autovacuum is due: below,
 * nobody wants them removed yet.  While no live row has been counted, as right
 * after a load, the share is unknown.
 */
static void
read_dead_rows(Job *job, Governor *governor)
{
	SqlArgs		args = {0};

	arg_oid(&args, job->target);
	spi_catalog("SELECT CASE WHEN d.dead > o.base + o.scale * greatest(c.reltuples, 0)"
				" AND d.live > 0 THEN 100.0 * d.dead / (d.dead + d.live) ELSE 0 END::float8"
				" FROM pg_catalog.pg_class c,"
				" LATERAL (SELECT pg_catalog.pg_stat_get_dead_tuples(c.oid)::float8 AS dead,"
				"  greatest(pg_catalog.pg_stat_get_live_tuples(c.oid), c.reltuples)::float8 AS live) d,"
				" LATERAL (SELECT"
				"  coalesce(max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold'),"
				"   pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8) AS base,"
				"  coalesce(max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor'),"
				"   pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8) AS scale"
				"  FROM pg_catalog.pg_options_to_table(c.reloptions)) o"
				" WHERE c.oid = $1", &args);
	set_signal(governor, SIGNAL_DEAD_ROWS, spi_nrows() > 0 ? spi_float8(0, 0) : 0);
}

/*
 * Whose snapshot or transaction holds back vacuum in this database.  Vacuum's
 * own transactions hold back nobody.
 */
static void
read_snapshot_age(Governor *governor)
{
	SqlArgs		none = {0};

	spi_catalog("SELECT coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - min(since)), 0)::float8"
				" FROM (SELECT a.xact_start AS since FROM pg_catalog.pg_stat_activity a"
				"  WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)"
				"  AND a.datname = pg_catalog.current_database()"
				"  AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type <> 'autovacuum worker'"
				"  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)"
				"  UNION ALL SELECT prepared FROM pg_catalog.pg_prepared_xacts"
				"  WHERE database = pg_catalog.current_database()) s", &none);
	set_signal(governor, SIGNAL_SNAPSHOT_AGE, Max(spi_float8(0, 0), 0));
}

static bool
read_catalogs(Job *job)
{
	Governor   *governor = job->governor;

	job_begin(job);
	if (is_on(SIGNAL_REPLICA_LAG_BYTES) || is_on(SIGNAL_REPLICA_LAG))
		read_replicas(governor);
	read_wal(governor);
	if (is_on(SIGNAL_ACTIVE_SESSIONS))
		read_active_sessions(governor);
	if (is_on(SIGNAL_DEAD_ROWS))
		read_dead_rows(job, governor);
	if (is_on(SIGNAL_WRAPAROUND_VACUUM))
		set_signal(governor, SIGNAL_WRAPAROUND_VACUUM,
				   autovacuum_prevents_wraparound(job->target) ? 1 : 0);
	if (is_on(SIGNAL_SNAPSHOT_AGE))
		read_snapshot_age(governor);
	job_commit(job);
	return true;
}

/*
 * The user's query, with the job's rights: read-only, short, and whatever it
 * sets is undone.  A value that comes from the database's settings does not
 * count: its owner could run statements as any role that starts a job.
 */
static bool
read_query(Job *job)
{
	SqlArgs		none = {0};
	char	   *query = NULL;
	int			nest;

	job_begin_untimed(job);
	XactReadOnly = true;
	enable_timeout_after(STATEMENT_TIMEOUT, QUERY_TIMEOUT_MS);
	if (spi_catalog("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'evmig.throttle_query'"
					" AND setting <> '' AND source NOT IN ('database', 'user', 'database user')",
					&none) > 0)
		query = spi_text(0, 0);
	if (query == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("evmig.throttle_query is empty")));

	nest = NewGUCNestLevel();
	if (spi_read(query, &none, 1) == 0 || !spi_is_number(0) || spi_isnull(0, 0))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("evmig.throttle_query did not return a number")));
	set_signal(job->governor, SIGNAL_QUERY, spi_float8(0, 0));
	AtEOXact_GUC(false, nest);
	job_commit(job);
	return true;
}

/*
 * Read some signals; NULL, or the error, after which they are as old as they
 * were.  A request to end is not an error of the reading.
 */
static ErrorData *
try_read(Job *job, bool (*read) (Job *job))
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		(void) read(job);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(job->batch_context);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !is_statement_timeout(error))
			PG_RE_THROW();
		FlushErrorState();
		AbortCurrentTransaction();
		disable_timeout(STATEMENT_TIMEOUT, false);
		MemoryContextSwitchTo(job->batch_context);
	}
	PG_END_TRY();
	return error;
}

/* Copy a text, cut at a character. */
static void
clip(char *to, const char *from, size_t size)
{
	size_t		length = pg_mbcliplen(from, strlen(from), size - 1);

	memcpy(to, from, length);
	to[length] = '\0';
}

/* Log an error when it is another one than last time. */
static void
log_once(Job *job, const char *what, const ErrorData *error, char *last)
{
	char		message[ERROR_SIZE] = "";

	if (error)
		clip(message, error->message, sizeof(message));
	if (error && strcmp(last, message) != 0)
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT ": %s: %s", job->id, what, message)));
	strcpy(last, message);
}

/* Read everything that is on, and find the signal that bites hardest. */
static void
sample(Job *job, Governor *governor)
{
	TimestampTz now;

	MemoryContextReset(job->batch_context);
	log_once(job, "could not read the throttle signals", try_read(job, read_catalogs),
			 governor->catalog_error);
	if (is_on(SIGNAL_QUERY))
		log_once(job, "throttle query failed", try_read(job, read_query),
				 governor->query_error);
	pgstat_report_stat(false);	/* or autovacuum hears of us when we end */

	governor->sampled = now = GetCurrentTimestamp();
	governor->factor = 1.0;
	for (int i = 0; i < SIGNAL_COUNT; i++)
	{
		double		age = governor->read_at[i] == 0 ? -1.0 :
			(now - governor->read_at[i]) / 1e6;
		double		factor;

		/* no lock of ours is held any more, so none is waited for */
		if (i == SIGNAL_LOCK_WAITERS)
		{
			if (age < 0 || age > SAMPLE_MS / 1000.0)
				governor->value[i] = 0;
			age = 0;
		}
		factor = pace_factor(governor->value[i], age, limit_soft[i], limit_hard[i]);
		if (factor < governor->factor)
		{
			governor->factor = factor;
			governor->biting = i;
		}
	}
}

/* Those who wait for us can be counted only while we hold what they want. */
void
governor_before_commit(Job *job)
{
	Governor   *governor;
	SqlArgs		none = {0};

	if (!is_on(SIGNAL_LOCK_WAITERS) || !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	governor = governor_of(job);
	if (!TimestampDifferenceExceeds(governor->read_at[SIGNAL_LOCK_WAITERS],
									GetCurrentTimestamp(), SAMPLE_MS))
		return;
	spi_catalog("SELECT count(*) FROM pg_catalog.pg_stat_activity a"
				" WHERE a.wait_event_type = 'Lock' AND a.backend_type = 'client backend'"
				" AND pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(a.pid))",
				&none);
	set_signal(governor, SIGNAL_LOCK_WAITERS, spi_int8(0, 0));
}

/* ---- saying it ---- */

static char *
format_value(SignalId id, double value)
{
	switch (signals[id].unit)
	{
		case GUC_UNIT_KB:
			return psprintf("%s%s",
							TextDatumGetCString(DirectFunctionCall1(pg_size_pretty,
																	Int64GetDatum((int64) (value * 1024)))),
							signals[id].suffix);
		case GUC_UNIT_MS:
			return psprintf("%.1f s", value / 1000);
		case GUC_UNIT_S:
			return psprintf("%.0f s", value);
		default:
			return psprintf("%.6g%s", value, signals[id].suffix);
	}
}

/* What bites, as "replica_lag_bytes 73 MB > 64 MB"; NULL if nothing does. */
static char *
describe_throttle(Governor *governor)
{
	SignalId	id = governor->biting;
	const char *name = id == SIGNAL_QUERY ? "throttle_query" : signals[id].name;
	double		value = governor->value[id];
	bool		hard = governor->factor <= 0;
	double		limit = hard ? limit_hard[id] : limit_soft[id];

	if (governor->factor >= 1.0)
		return NULL;
	if (hard && (limit <= 0 || value < limit || governor->read_at[id] == 0))
	{
		const char *error = id == SIGNAL_QUERY ? governor->query_error : governor->catalog_error;

		return psprintf("%s could not be read%s%s, paused", name,
						error[0] ? ": " : "", error);
	}
	return psprintf("%s %s %s %s%s", name, format_value(id, value),
					value > limit ? ">" : ">=", format_value(id, limit),
					hard ? ", paused" : "");
}

/* Rows and blocks since the last time, per second that was not throttled. */
static void
measure_rates(Job *job, Governor *governor)
{
	double		rows;
	double		blocks;

	chunks_done(job, &rows, &blocks);
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
 * Write time, rates and what bites to the job's row.  Whoever has that row
 * locked (a pause that is not committed) makes it wait for the next time.
 */
static void
flush(Job *job, Governor *governor, const char *throttle)
{
	SqlArgs		args = {0};
	TimestampTz now = GetCurrentTimestamp();
	bool		written;

	governor->worked_ms = (now - governor->flushed) / 1000.0 - governor->throttled_ms;
	job_begin(job);
	measure_rates(job, governor);
	arg_int8(&args, job->id);
	arg_text(&args, throttle);
	arg_float8(&args, governor->throttled_ms);
	arg_float8(&args, Max(governor->worked_ms, 0));
	arg_rate(&args, &governor->row_rate);
	arg_rate(&args, &governor->block_rate);
	written = spi_catalog("UPDATE evmig.job SET throttle = $2, throttled_ms = throttled_ms + $3,"
						  " worked_ms = worked_ms + $4, rate_rows = $5, rate_blocks = $6"
						  " WHERE job_id = (SELECT job_id FROM evmig.job WHERE job_id = $1"
						  "  FOR NO KEY UPDATE SKIP LOCKED)", &args) > 0;
	job_commit(job);
	if (!written)
		return;
	governor->flushed = now;
	governor->throttled_ms = 0;
	clip(governor->shown, throttle ? throttle : "", sizeof(governor->shown));
}

static void
tell(Job *job, Governor *governor)
{
	char	   *throttle;
	char		now_shown[sizeof(governor->shown)];

	if (!job->leader)
		return;
	throttle = describe_throttle(governor);
	clip(now_shown, throttle ? throttle : "", sizeof(now_shown));
	if (strcmp(now_shown, governor->shown) != 0 ||
		TimestampDifferenceExceeds(governor->flushed, GetCurrentTimestamp(), FLUSH_MS))
		flush(job, governor, throttle);
}

/* ---- resting ---- */

static bool
refresh_pace(Governor *governor, Pace *pace)
{
	PaceConfig	now;
	bool		changed;

	governor_pace_config(&now);
	changed = pace_change(pace, &governor->config, &now);
	governor->config = now;
	return changed;
}

/* ms until the next sample is due; 0: now */
static double
sample_due(Governor *governor)
{
	bool		met = governor->value[SIGNAL_LOCK_WAITERS] > 0 &&
		governor->read_at[SIGNAL_LOCK_WAITERS] > governor->sampled;

	return met ? 0 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													 TimestampTzPlusMilliseconds(governor->sampled, SAMPLE_MS));
}

void
governor_rest(Job *job, Pace *pace, double rest)
{
	Governor   *governor = governor_of(job);
	double		owed;

	(void) refresh_pace(governor, pace);
	if (sample_due(governor) <= 0)
		sample(job, governor);
	owed = pace_owed(pace->ms, rest, governor->factor);
	governor->throttled_ms += pace->ms * (1.0 - governor->factor);
	for (;;)
	{
		TimestampTz start = GetCurrentTimestamp();
		double		slept;
		double		slice = 0;

		tell(job, governor);
		if (owed > 0 || governor->factor <= 0)
			slice = pace_slice(owed, governor->factor, Max(sample_due(governor), 1));
		worker_sleep(job, slice);
		slept = (GetCurrentTimestamp() - start) / 1000.0;
		governor->throttled_ms += slept * (1.0 - governor->factor);
		owed = pace_paid(owed, slept, governor->factor);

		/* a new pace counts from now on, also for a long rest under the old one */
		if (refresh_pace(governor, pace))
			owed = Min(owed, pace->config.sleep_ms);
		if (owed <= 0.5 && governor->factor > 0)
			break;
		if (sample_due(governor) <= 0)
			sample(job, governor);
	}
}

void
governor_end(Job *job)
{
	Governor   *governor = job->governor;

	if (governor == NULL || !job->leader)
		return;
	MemoryContextReset(job->batch_context);
	flush(job, governor, NULL);
}
