/*-------------------------------------------------------------------------
 *
 * signals.c
 *	  The throttle signals: what the server and its replicas bear just now.
 *
 * Each worker reads them for itself, at most once a second, between two
 * batches and so without any lock.  What a plain role may not see of the
 * server's statistics is read as the extension's owner; the user's own query
 * never is.  What a value leaves of the duty cycle is arithmetic, in pace.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/spi.h"
#include "job/pace.h"
#include "job/signals.h"
#include "job/worker.h"

#define SAMPLE_MS 1000
#define QUERY_TIMEOUT_MS 1000	/* of the user's query */

typedef struct Signal
{
	const char *name;
	const char *what;
	int			unit;			/* flag of a setting */
	const char *suffix;			/* of values that no flag fits */
	double		boot_soft;
	double		boot_hard;
	bool		single;			/* one limit, the soft one, and no suffix */
} Signal;

/* in the order of SignalId; limits of 0 are off */
static const Signal signal_table[SIGNAL_COUNT] = {
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
	{"p95_ms", "95th percentile of what the application's writes on the target take",
	GUC_UNIT_MS, "", 0, 0, true},
	{"p95_ratio", "the same, as a multiple of that of the last KPI sample labelled before, or when the job began",
	0, "", 0, 0, true},
	{"query", "number that evmig.throttle_query returns",
	0, "", 0, 0},
};

static double limit_soft[SIGNAL_COUNT];
static double limit_hard[SIGNAL_COUNT];
static char *throttle_query;

bool		(*table_p95_hook) (Oid relid, double *now, double *before) = NULL;
void		(*table_sample_hook) (Oid relid, const char *label, int64 us) = NULL;

/* ---- settings ---- */

static void
define_limit(const Signal *signal, const char *kind, const char *effect,
			 double *variable, double boot)
{
	DefineCustomRealVariable(psprintf("evmig.throttle_%s%s%s", signal->name,
									  signal->single ? "" : "_", signal->single ? "" : kind),
							 psprintf("Limit from which jobs %s: %s.", effect, signal->what),
							 "0 is no limit.",
							 variable, boot, 0, 1e15, PGC_USERSET, signal->unit,
							 NULL, NULL, NULL);
}

void
signals_settings(void)
{
	/* descriptions are not copied */
	MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

	for (int i = 0; i < SIGNAL_COUNT; i++)
	{
		define_limit(&signal_table[i], "soft", "slow down", &limit_soft[i], signal_table[i].boot_soft);
		if (signal_table[i].single)
			continue;
		define_limit(&signal_table[i], "hard", "pause", &limit_hard[i], signal_table[i].boot_hard);
	}
	MemoryContextSwitchTo(oldcontext);
	DefineCustomStringVariable("evmig.throttle_query",
							   "SQL query whose number is held against evmig.throttle_query_soft and _hard.",
							   "It runs with the job's rights, read-only, for a second at most.",
							   &throttle_query, "", PGC_USERSET, 0, NULL, NULL, NULL);
}

static bool
is_on(SignalId id)
{
	return limit_soft[id] > 0 || limit_hard[id] > 0;
}

/* ---- reading the signals ---- */

static void
set_signal(Signals *signals, SignalId id, double value)
{
	signals->value[id] = value;
	signals->read_at[id] = GetCurrentTimestamp();
}

/* Remember where the WAL stands; when full, forget every second point. */
static void
track_wal(Signals *signals, XLogRecPtr lsn, TimestampTz now)
{
	if (signals->ntrack > 0 && signals->track[signals->ntrack - 1].lsn == lsn)
		return;
	if (signals->ntrack == SIGNAL_TRACK_SIZE)
	{
		for (int i = 0; i < SIGNAL_TRACK_SIZE / 2; i++)
			signals->track[i] = signals->track[2 * i];
		signals->ntrack = SIGNAL_TRACK_SIZE / 2;
	}
	signals->track[signals->ntrack].lsn = lsn;
	signals->track[signals->ntrack++].at = now;
}

/* ms since the WAL went past a position, as far as we remember. */
static double
behind_ms(Signals *signals, XLogRecPtr lsn, TimestampTz now)
{
	for (int i = 0; i < signals->ntrack; i++)
		if (signals->track[i].lsn > lsn)
			return (now - signals->track[i].at) / 1000.0;
	return 0;
}

/*
 * Lag of the slowest standby, and of the slowest logical slot, at work or
 * not; a standby that lost its connection is known by its slot.  The server's
 * own replay_lag stands still while replay is paused, so the time is also taken
 * from when the WAL went past the replica's position.
 */
static void
read_replicas(Signals *signals)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	SqlArgs		none = {0};
	double		bytes = 0;
	double		ms = 0;

	track_wal(signals, flushed, now);
	spi_catalog("SELECT pg_catalog.pg_wal_lsn_diff(replay_lsn, '0/0')::bigint,"
				" (extract(epoch FROM replay_lag) * 1000)::float8"
				" FROM pg_catalog.pg_stat_replication r WHERE replay_lsn IS NOT NULL"
				" AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s"
				"  WHERE s.active_pid = r.pid AND s.slot_type = 'logical')"
				" UNION ALL SELECT pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint, NULL"
				" FROM pg_catalog.pg_replication_slots"
				" WHERE slot_type = 'logical' AND confirmed_flush_lsn IS NOT NULL"
				" AND wal_status IS DISTINCT FROM 'lost'"
				" UNION ALL SELECT pg_catalog.pg_wal_lsn_diff(restart_lsn, '0/0')::bigint, NULL"
				" FROM pg_catalog.pg_replication_slots"
				" WHERE slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL"
				" AND wal_status IS DISTINCT FROM 'lost'", &none);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		XLogRecPtr	lsn = (XLogRecPtr) spi_int8(i, 0);

		if (lsn >= flushed)
			continue;
		bytes = Max(bytes, (double) (flushed - lsn));
		ms = Max(ms, Max(spi_float8(i, 1), behind_ms(signals, lsn, now)));
	}
	set_signal(signals, SIGNAL_REPLICA_LAG_BYTES, bytes / 1024);
	set_signal(signals, SIGNAL_REPLICA_LAG, ms);
}

/* What the WAL says: no query needed. */
static void
read_wal(Signals *signals)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	lsn = GetXLogInsertRecPtr();
	double		forced = (double) CheckPointSegments * wal_segment_size;

	if (signals->last_lsn_at != 0 && now > signals->last_lsn_at)
		set_signal(signals, SIGNAL_WAL_RATE,
				   (lsn - signals->last_lsn) / 1024.0 / ((now - signals->last_lsn_at) / 1e6));
	else
		set_signal(signals, SIGNAL_WAL_RATE, 0);
	signals->last_lsn = lsn;
	signals->last_lsn_at = now;
	set_signal(signals, SIGNAL_CHECKPOINT, 100.0 * (lsn - GetRedoRecPtr()) / forced);
}

static void
read_active_sessions(Signals *signals)
{
	SqlArgs		none = {0};

	spi_catalog("SELECT count(*) FROM pg_catalog.pg_stat_activity"
				" WHERE backend_type = 'client backend' AND state = 'active'"
				" AND pid <> pg_catalog.pg_backend_pid()", &none);
	set_signal(signals, SIGNAL_ACTIVE_SESSIONS, spi_int8(0, 0));
}

/*
 * Dead rows count only beyond the number at which autovacuum is due: below,
 * nobody wants them removed yet.  While no live row has been counted, as right
 * after a load, the share is unknown.
 */
static void
read_dead_rows(Job *job, Signals *signals)
{
	SqlArgs		args = {0};

	arg_oid(&args, job->target);
	spi_catalog("SELECT CASE WHEN d.live > 0 AND d.dead > least(o.base + o.scale * greatest(c.reltuples, 0),"
				"  nullif(o.most, -1)) THEN 100.0 * d.dead / (d.dead + d.live) ELSE 0 END::float8"
				" FROM pg_catalog.pg_class c,"
				" LATERAL (SELECT pg_catalog.pg_stat_get_dead_tuples(c.oid)::float8 AS dead,"
				"  greatest(pg_catalog.pg_stat_get_live_tuples(c.oid), c.reltuples)::float8 AS live) d,"
				" LATERAL (SELECT"
				"  coalesce(max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold'),"
				"   pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8) AS base,"
				"  coalesce(max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor'),"
				"   pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8) AS scale,"
				/* since 18; NULL before, which least() leaves out */
				"  coalesce(max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_max_threshold'),"
				"   pg_catalog.current_setting('autovacuum_vacuum_max_threshold', true)::float8) AS most"
				"  FROM pg_catalog.pg_options_to_table(c.reloptions)) o"
				" WHERE c.oid = $1", &args);
	set_signal(signals, SIGNAL_DEAD_ROWS, spi_nrows() > 0 ? spi_float8(0, 0) : 0);
}

/*
 * A standby's queries, where it sends feedback, hold back vacuum by a
 * transaction id that has no time: for as long as we see it stand still.
 */
static double
standby_snapshot_age(Signals *signals)
{
	TimestampTz now = GetCurrentTimestamp();
	SqlArgs		none = {0};
	int64		xmin = 0;

	if (spi_catalog("SELECT xmin::text::bigint FROM (SELECT backend_xmin AS xmin FROM pg_catalog.pg_stat_replication"
					" UNION ALL SELECT xmin FROM pg_catalog.pg_replication_slots) s"
					" WHERE xmin IS NOT NULL ORDER BY pg_catalog.age(xmin) DESC LIMIT 1", &none) > 0)
		xmin = spi_int8(0, 0);
	if (xmin != signals->standby_xmin || now < signals->standby_xmin_since)
	{
		signals->standby_xmin = xmin;
		signals->standby_xmin_since = now;
	}
	return xmin == 0 ? 0 : (now - signals->standby_xmin_since) / 1e6;
}

/*
 * Whose snapshot or transaction holds back vacuum in this database.  Vacuum's
 * own transactions hold back nobody.
 */
static void
read_snapshot_age(Signals *signals)
{
	SqlArgs		none = {0};
	double		age;

	spi_catalog("SELECT coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - min(since)), 0)::float8"
				" FROM (SELECT a.xact_start AS since FROM pg_catalog.pg_stat_activity a"
				"  WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)"
				"  AND a.datname = pg_catalog.current_database()"
				"  AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type <> 'autovacuum worker'"
				"  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)"
				"  UNION ALL SELECT prepared FROM pg_catalog.pg_prepared_xacts"
				"  WHERE database = pg_catalog.current_database()) s", &none);
	age = Max(spi_float8(0, 0), 0);
	set_signal(signals, SIGNAL_SNAPSHOT_AGE, Max(age, standby_snapshot_age(signals)));
}

/* The target's TOAST table is vacuumed on its own. */
static void
read_wraparound_vacuum(Job *job, Signals *signals)
{
	SqlArgs		args = {0};
	bool		found = autovacuum_prevents_wraparound(job->target);

	arg_oid(&args, job->target);
	if (!found &&
		spi_catalog("SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = $1 AND reltoastrelid <> 0",
					&args) > 0)
		found = autovacuum_prevents_wraparound(spi_oid(0, 0));
	set_signal(signals, SIGNAL_WRAPAROUND_VACUUM, found ? 1 : 0);
}

static void
read_catalogs(Job *job, Signals *signals)
{
	job_begin(job);
	if (is_on(SIGNAL_REPLICA_LAG_BYTES) || is_on(SIGNAL_REPLICA_LAG))
		read_replicas(signals);
	read_wal(signals);
	if (is_on(SIGNAL_ACTIVE_SESSIONS))
		read_active_sessions(signals);
	if (is_on(SIGNAL_DEAD_ROWS))
		read_dead_rows(job, signals);
	if (is_on(SIGNAL_WRAPAROUND_VACUUM))
		read_wraparound_vacuum(job, signals);
	if (is_on(SIGNAL_SNAPSHOT_AGE))
		read_snapshot_age(signals);
	job_commit(job);
}

/* Take the latency's new value, and feel for what it allows. */
static void
steer(Signals *signals, SignalId id, double value)
{
	TimestampTz before = signals->read_at[id];

	set_signal(signals, id, value);
	pace_steer(&signals->p95_steer[id - SIGNAL_P95_MS], value, limit_soft[id],
			   before == 0 ? 0 : (signals->read_at[id] - before) / 1e6);
}

/* How the application's writes fare; while nobody writes, they fare well. */
static void
read_p95(Job *job, Signals *signals)
{
	double		now;
	double		before;

	job_begin(job);
	if (table_p95_hook == NULL || !table_p95_hook(job->target, &now, &before))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("evmig_kpi_watch does not watch the table, or evmig is not preloaded")));
	if (!signals->p95_seen)
		signals->p95_before = Max(now, 0);
	signals->p95_seen = true;
	if (before < 0)
		before = signals->p95_before;
	steer(signals, SIGNAL_P95_MS, Max(now, 0));
	steer(signals, SIGNAL_P95_RATIO, now > 0 && before > 0 ? now / before : 0);
	job_commit(job);
}

/*
 * The user's query, with the job's rights: read-only, short, and whatever it
 * sets is undone.  A value that comes from the database's settings does not
 * count: its owner could run statements as any role that starts a job.
 */
static void
read_query(Job *job, Signals *signals)
{
	SqlArgs		none = {0};
	char	   *query = NULL;
	uint32		hash;
	int			nest;

	job_begin_untimed(job);
	XactReadOnly = true;
	job_arm_timeout(job, QUERY_TIMEOUT_MS);
	if (spi_catalog("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'evmig.throttle_query'"
					" AND setting <> '' AND source NOT IN ('database', 'user', 'database user')",
					&none) > 0)
		query = spi_text(0, 0);
	if (query == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("evmig.throttle_query is empty")));
	hash = hash_bytes((const unsigned char *) query, strlen(query));
	if (hash != signals->query_hash)
		signals->read_at[SIGNAL_QUERY] = 0; /* the value of another query */
	signals->query_hash = hash;

	nest = NewGUCNestLevel();
	if (spi_read(query, &none, 1) == 0 || !spi_is_number(0) || spi_isnull(0, 0))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("evmig.throttle_query did not return a number")));
	set_signal(signals, SIGNAL_QUERY, spi_float8(0, 0));
	AtEOXact_GUC(false, nest);
	job_commit(job);
}

/*
 * Read some signals; NULL, or the error, after which they are as old as they
 * were.  A request to end is not an error of the reading.
 */
static ErrorData *
try_read(Job *job, Signals *signals, void (*read) (Job *job, Signals *signals))
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		read(job, signals);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(job->batch_context);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !is_statement_timeout(job, error))
			PG_RE_THROW();
		FlushErrorState();
		job_abort(job);
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
	char		message[SIGNAL_ERROR_SIZE] = "";

	if (error)
		clip(message, error->message, sizeof(message));
	if (error && strcmp(last, message) != 0)
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT ": %s: %s", job->id, what, message)));
	strcpy(last, message);
}

/* Read everything that is on, and find the signal that bites hardest. */
void
signals_read(Job *job, Signals *signals)
{
	TimestampTz now;

	MemoryContextReset(job->batch_context);
	log_once(job, "could not read the throttle signals", try_read(job, signals, read_catalogs),
			 signals->catalog_error);
	if (is_on(SIGNAL_P95_MS) || is_on(SIGNAL_P95_RATIO))
		log_once(job, "could not read the latency of writes", try_read(job, signals, read_p95),
				 signals->p95_error);
	if (is_on(SIGNAL_QUERY))
		log_once(job, "throttle query failed", try_read(job, signals, read_query),
				 signals->query_error);
	if (!job->in_session)		/* a session reports when it idles */
		pgstat_report_stat(false);	/* or autovacuum hears of us when we end */

	signals->sampled = now = GetCurrentTimestamp();
	signals->factor = 1.0;
	for (int i = 0; i < SIGNAL_COUNT; i++)
	{
		double		age = signals->read_at[i] == 0 ? -1.0 :
			Max(now - signals->read_at[i], 0) / 1e6;
		double		factor;

		/* no lock of ours is held any more, so none is waited for */
		if (i == SIGNAL_LOCK_WAITERS)
		{
			if (age < 0 || age > SAMPLE_MS / 1000.0)
				signals->value[i] = 0;
			age = 0;
		}
		factor = pace_factor(signals->value[i], age, limit_soft[i], limit_hard[i]);
		if (signal_table[i].single && factor > 0 && is_on(i))
			factor = signals->p95_steer[i - SIGNAL_P95_MS].share;
		if (factor < signals->factor)
		{
			signals->factor = factor;
			signals->biting = i;
		}
	}
}

/* Those who wait for us can be counted only while we hold what they want. */
void
signals_read_waiters(Signals *signals)
{
	SqlArgs		none = {0};

	if (!is_on(SIGNAL_LOCK_WAITERS) ||
		!TimestampDifferenceExceeds(signals->read_at[SIGNAL_LOCK_WAITERS],
									GetCurrentTimestamp(), SAMPLE_MS))
		return;
	spi_catalog("SELECT count(*) FROM pg_catalog.pg_stat_activity a"
				" WHERE a.wait_event_type = 'Lock' AND a.backend_type = 'client backend'"
				" AND pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(a.pid))",
				&none);
	set_signal(signals, SIGNAL_LOCK_WAITERS, spi_int8(0, 0));
}

double
signals_due(Signals *signals)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		met = signals->value[SIGNAL_LOCK_WAITERS] > 0 &&
		signals->read_at[SIGNAL_LOCK_WAITERS] > signals->sampled;

	/* a clock that was set back says nothing */
	return met || now < signals->sampled ? 0 :
		TimestampDifferenceMilliseconds(now, TimestampTzPlusMilliseconds(signals->sampled, SAMPLE_MS));
}

/* ---- saying it ---- */

static char *
format_value(SignalId id, double value)
{
	if (id == SIGNAL_P95_MS)
		return psprintf("%.4g ms", value);
	switch (signal_table[id].unit)
	{
		case GUC_UNIT_KB:
			return psprintf("%s%s",
							TextDatumGetCString(DirectFunctionCall1(pg_size_pretty,
																	Int64GetDatum((int64) (value * 1024)))),
							signal_table[id].suffix);
		case GUC_UNIT_MS:
			return psprintf("%.1f s", value / 1000);
		case GUC_UNIT_S:
			return psprintf("%.0f s", value);
		default:
			return psprintf("%.6g%s", value, signal_table[id].suffix);
	}
}

/* What bites, as "replica_lag_bytes 73 MB > 64 MB"; NULL if nothing does. */
char *
signals_describe(Signals *signals)
{
	SignalId	id = signals->biting;
	const char *name = id == SIGNAL_QUERY ? "throttle_query" : signal_table[id].name;
	double		value = signals->value[id];
	bool		hard = signals->factor <= 0;
	double		limit = hard ? limit_hard[id] : limit_soft[id];

	if (signals->factor >= 1.0)
		return NULL;
	if (hard && (limit <= 0 || value < limit ||
				 signals->read_at[id] == 0))
	{
		const char *error = id == SIGNAL_QUERY ? signals->query_error :
			signal_table[id].single ? signals->p95_error : signals->catalog_error;

		return psprintf("%s could not be read%s%s, paused", name,
						error[0] ? ": " : "", error);
	}
	if (signal_table[id].single && value <= limit)
		return psprintf("%s %s, below %s: speeding up", name, format_value(id, value), format_value(id, limit));
	return psprintf("%s %s %s %s%s", name, format_value(id, value),
					value > limit ? ">" : ">=", format_value(id, limit),
					hard ? ", paused" : "");
}

