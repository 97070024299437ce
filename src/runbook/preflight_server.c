/*-------------------------------------------------------------------------
 *
 * preflight_server.c
 *	  What evmig_preflight measures of the server around the table.
 *
 * Measured as the extension's owner, so that a plain role learns of every
 * session that is in the way; what it gets to see of others is what
 * pg_stat_activity shows to everybody, and their age.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <sys/statvfs.h>

#include "commands/tablespace.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "evmig.h"
#include "guard/enforce.h"
#include "runbook/preflight.h"

#define LAG_BYTES (INT64CONST(64) * 1024 * 1024)
#define LAG_SECONDS 10
#define ARCHIVE_AGE_SECONDS 3600
#define INDEX_TUPLE_BYTES 20	/* header, line pointer, alignment */
#define INDEX_FILL 0.9
#define UNKNOWN_KEY_BYTES 36

void
preflight_server(Preflight *p)
{
	require_writable();
	preflight_row(p, PASS, psprintf("PostgreSQL %s, a primary",
									GetConfigOption("server_version", false, false)), NULL);
}

void
preflight_pgcrypto(Preflight *p)
{
	char	   *version;

	spi_catalog("SELECT max(extversion) FROM pg_catalog.pg_extension WHERE extname = 'pgcrypto'", NULL);
	version = spi_text(0, 0);
	preflight_row(p, PASS, version ?
				  psprintf("version %s is installed; not needed: core gen_random_uuid()", version) :
				  "not needed: core gen_random_uuid()", NULL);
}

/* Slots of max_worker_processes; the server's own processes use none. */
void
preflight_workers(Preflight *p)
{
	int64		used;
	char	   *detail;

	spi_catalog("SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type NOT IN"
				" ('client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer',"
				" 'checkpointer', 'walwriter', 'walsender', 'walreceiver', 'startup', 'archiver',"
				" 'logger', 'walsummarizer', 'slotsync worker', 'io worker', 'standalone backend')", NULL);
	used = spi_int8(0, 0);
	detail = psprintf(INT64_FORMAT " of %d are free; a job needs one, and one for each further worker",
					  Max(max_worker_processes - used, 0), max_worker_processes);
	if (used >= max_worker_processes)
		preflight_row(p, FAIL, detail, "Raise max_worker_processes and restart the server; until then a job stays queued.");
	else if (used + 1 >= max_worker_processes)
		preflight_row(p, WARN, detail, "Raise max_worker_processes and restart the server: parallel queries need some too.");
	else
		preflight_row(p, PASS, detail, NULL);
}

/* ---- who is in the way ---- */

/* What is found, one a line, and what to do; PASS with "none" for no rows. */
static void
report_sessions(Preflight *p, const char *status, const char *none)
{
	StringInfoData detail;
	StringInfoData hint;

	if (spi_nrows() == 0)
	{
		preflight_row(p, PASS, none, NULL);
		return;
	}
	initStringInfo(&detail);
	initStringInfo(&hint);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		appendStringInfo(&detail, "%s%s", i ? "\n" : "", spi_text(i, 0));
		appendStringInfo(&hint, "%s%s", i ? "\n" : "", spi_text(i, 1));
	}
	preflight_row(p, status, detail.data, hint.data);
}

/* A concurrent build waits for each snapshot in the database, but for autovacuum's. */
void
preflight_long_transactions(Preflight *p)
{
	SqlArgs		args = {0};

	arg_int4(&args, evmig_long_transaction);
	spi_catalog("SELECT pg_catalog.format('pid %s, role %s, application %s: %s, in a transaction for %s', pid, usename,"
				" application_name, coalesce(state, backend_type),"
				" pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - xact_start)),"
				" pg_catalog.format('SELECT pg_terminate_backend(%s); (or wait: an index build would)', pid)"
				" FROM pg_catalog.pg_stat_activity WHERE datid ="
				" (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
				" AND pid <> pg_catalog.pg_backend_pid() AND leader_pid IS NULL"
				" AND backend_type <> 'autovacuum worker'"
				" AND xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)"
				" ORDER BY xact_start LIMIT 20", &args);
	report_sessions(p, WARN, psprintf("none is older than %d s (evmig.long_transaction)",
									  evmig_long_transaction));
}

/* Those that have locked the table hold up a build for as long as they exist. */
void
preflight_prepared_transactions(Preflight *p)
{
	SqlArgs		args = {0};
	bool		locks;

	arg_oid(&args, p->table ? p->table->relid : InvalidOid);
	spi_catalog("SELECT pg_catalog.format('%L of role %s, since %s%s', x.gid, x.owner, x.prepared,"
				" CASE WHEN x.locks THEN ', with a lock on the table' ELSE '' END),"
				" pg_catalog.format('COMMIT PREPARED %L; or ROLLBACK PREPARED %L;', x.gid, x.gid), x.locks"
				" FROM (SELECT t.*, EXISTS (SELECT FROM pg_catalog.pg_locks x"
				"  JOIN pg_catalog.pg_locks l ON l.virtualtransaction = x.virtualtransaction AND l.pid IS NULL"
				"  WHERE x.pid IS NULL AND x.locktype = 'transactionid' AND x.transactionid = t.transaction"
				"  AND l.relation = $1) AS locks"
				"  FROM pg_catalog.pg_prepared_xacts t WHERE t.database = pg_catalog.current_database()) x"
				" ORDER BY x.locks DESC, x.prepared LIMIT 20", &args);
	locks = spi_nrows() > 0 && spi_bool(0, 2);
	report_sessions(p, locks ? FAIL : WARN, "there is none in this database");
}

/* ---- replicas ---- */

/* A slot that nobody reads keeps the WAL that a job writes. */
void
preflight_slots(Preflight *p)
{
	spi_catalog("SELECT pg_catalog.format('%s slot %s is %s, keeps %s of WAL%s', slot_type, slot_name,"
				" CASE WHEN active THEN 'active' ELSE 'not active' END,"
				" coalesce(pg_catalog.pg_size_pretty(pg_catalog.pg_wal_lsn_diff("
				"  CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
				"  ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)), 'none'),"
				" CASE WHEN wal_status IN ('unreserved', 'lost') THEN ' (' || wal_status || ')' ELSE '' END),"
				" pg_catalog.format('Start its consumer, or SELECT pg_drop_replication_slot(%L);', slot_name)"
				" FROM pg_catalog.pg_replication_slots"
				" WHERE NOT active OR wal_status IN ('unreserved', 'lost') ORDER BY slot_name", NULL);
	report_sessions(p, WARN, "no slot keeps WAL for a consumer that is away");
}

void
preflight_replicas(Preflight *p)
{
	SqlArgs		args = {0};
	int64		synchronous;
	int64		replicas;

	spi_catalog("SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum'))"
				" FROM pg_catalog.pg_stat_replication", NULL);
	replicas = spi_int8(0, 0);
	synchronous = spi_int8(0, 1);
	if (synchronous == 0 && GetConfigOption("synchronous_standby_names", false, false)[0] != '\0')
	{
		preflight_row(p, FAIL, "synchronous_standby_names is set and no synchronous replica is connected: each commit waits",
					  "Bring the replica back, or ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();");
		return;
	}

	arg_int8(&args, LAG_BYTES);
	arg_int4(&args, LAG_SECONDS);
	spi_catalog("SELECT pg_catalog.format('%s (%s) is %s and %s s behind', application_name, state,"
				" pg_catalog.pg_size_pretty(bytes), pg_catalog.round(seconds::numeric, 1)),"
				" 'Let it catch up first: the jobs write more WAL.'"
				" FROM (SELECT *, coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()"
				"  THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, replay_lsn), 0) AS bytes,"
				"  coalesce(pg_catalog.date_part('epoch', replay_lag), 0) AS seconds"
				"  FROM pg_catalog.pg_stat_replication) r"
				" WHERE bytes > $1 OR seconds > $2 ORDER BY 1", &args);
	report_sessions(p, WARN, replicas == 0 ? "no replica is connected" :
					psprintf(INT64_FORMAT " replicas are connected, none is more than %d MB or %d s behind",
							 replicas, (int) (LAG_BYTES / (1024 * 1024)), LAG_SECONDS));
}

/* ---- room ---- */

/* Bytes that the jobs may need, from the audit's figures. */
static double
bytes_needed(Preflight *p)
{
	SqlArgs		args = {0};
	double		rows = (double) p->figures.total_events;
	double		row_bytes;
	double		key_bytes;

	if (rows == 0)
		return 0;
	arg_oid(&args, p->target->relid);
	arg_int4(&args, p->target->key.attno);
	spi_catalog("SELECT pg_catalog.pg_table_size($1),"
				" coalesce((SELECT nullif(a.attlen, -1) FROM pg_catalog.pg_attribute a"
				"  WHERE a.attrelid = $1 AND a.attnum = $2)::int,"
				"  (SELECT max(s.stawidth) FROM pg_catalog.pg_statistic s"
				"  WHERE s.starelid = $1 AND s.staattnum = $2))", &args);
	row_bytes = spi_int8(0, 0) / rows;
	key_bytes = spi_isnull(0, 1) ? UNKNOWN_KEY_BYTES : spi_int8(0, 1);

	/* the archive, a new version of each row filled, two indexes on the key */
	return (p->figures.duplicate_rows + p->figures.null_request_ids) * row_bytes +
		2 * rows * (key_bytes + INDEX_TUPLE_BYTES) / INDEX_FILL;
}

static char *
pretty(double bytes)
{
	return psprintf("%.1f MB", bytes / (1024 * 1024));
}

/*
 * Free space where the table lies.  WAL may lie there too and comes to about
 * as much again until checkpoints and archiving remove it.
 */
void
preflight_disk_space(Preflight *p)
{
	Oid			tablespace = get_rel_tablespace(p->target->relid);
	char	   *path = GetDatabasePath(MyDatabaseId, OidIsValid(tablespace) ? tablespace : MyDatabaseTableSpace);
	struct statvfs fs;
	double		avail;
	double		need;
	char	   *detail;

	if (!p->audited)
	{
		preflight_row(p, WARN, "not measured: the table could not be read", NULL);
		return;
	}
	if (statvfs(path, &fs) != 0)
	{
		preflight_row(p, WARN, psprintf("not measured: could not look at file system of \"%s\": %m", path), NULL);
		return;
	}
	avail = (double) fs.f_bavail * fs.f_frsize;
	need = bytes_needed(p);
	detail = psprintf("archive, filled rows and indexes take about %s, WAL as much again; %s are free",
					  pretty(need), pretty(avail));
	preflight_row(p, need > avail ? FAIL : need * 2 > avail ? WARN : PASS, detail,
				  need * 2 > avail ? "Make room, or move WAL or the table to another file system." : NULL);
}

void
preflight_archiving(Preflight *p)
{
	char	   *last;
	double		age;
	bool		failing;

	if (strcmp(GetConfigOption("archive_mode", false, false), "off") == 0)
	{
		preflight_row(p, WARN, "archive_mode is off: there is no way back to a point in time",
					  "Take a backup (pg_basebackup, pg_dump) and attest it as restore_point.");
		return;
	}
	spi_catalog("SELECT pg_catalog.date_trunc('second', last_archived_time)::text,"
				" pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - last_archived_time),"
				" coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL)"
				" FROM pg_catalog.pg_stat_archiver", NULL);
	last = spi_text(0, 0);
	age = spi_float8(0, 1);
	failing = spi_bool(0, 2);
	if (failing)
		preflight_row(p, FAIL, psprintf("archiving WAL fails; last success: %s", last ? last : "never"),
					  "See the server log and archive_command: what is not archived cannot be restored, and fills the disk.");
	else if (last == NULL)
		preflight_row(p, WARN, "no WAL segment was archived since statistics were reset",
					  "SELECT pg_switch_wal(); and look again.");
	else if (age > ARCHIVE_AGE_SECONDS)
		preflight_row(p, WARN, psprintf("the last WAL segment was archived %.0f min ago (%s)", age / 60, last),
					  "SELECT pg_switch_wal(); and look again, or set archive_timeout.");
	else
		preflight_row(p, PASS, psprintf("the last WAL segment was archived %.0f s ago", age), NULL);
}

/*
 * In the session's time zone.  A warning, because who approves by day what is
 * to run at night must not be stopped.
 */
void
preflight_change_window(Preflight *p)
{
	int			from;
	int			to;
	int			now;
	bool		inside;

	(void) change_window_parse(evmig_change_window, &from, &to);
	if (from == to)
	{
		preflight_row(p, PASS, "evmig.change_window allows any hour", NULL);
		return;
	}
	spi_catalog("SELECT (pg_catalog.date_part('hour', t) * 60 + pg_catalog.date_part('minute', t))::int,"
				" pg_catalog.to_char(t, 'HH24:MI TZ') FROM pg_catalog.clock_timestamp() t", NULL);
	now = (int) spi_int8(0, 0);
	inside = from < to ? now >= from && now < to : now >= from || now < to;
	preflight_row(p, inside ? PASS : WARN,
				  psprintf("it is %s, %s evmig.change_window (%s)", spi_text(0, 1),
						   inside ? "inside" : "outside", evmig_change_window),
				  inside ? NULL : "Wait for the window, or SET evmig.change_window.");
}

/* A superuser's setting of a library that is not loaded protects nothing. */
void
preflight_guard(Preflight *p)
{
	StringInfoData where;

	initStringInfo(&where);
	if (!enforce_preloaded())
	{
		spi_catalog("SELECT pg_catalog.format('%s%s', coalesce('role ' || pg_catalog.quote_ident(r.rolname), 'all roles'),"
					" ' in database ' || pg_catalog.quote_ident(d.datname)) FROM pg_catalog.pg_db_role_setting s"
					" CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) c"
					" LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole"
					" LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase"
					" WHERE pg_catalog.lower(c) LIKE 'evmig.guard=%' AND pg_catalog.lower(c) <> 'evmig.guard=off'"
					" ORDER BY 1 LIMIT 20", NULL);
		for (uint64 i = 0; i < spi_nrows(); i++)
			appendStringInfo(&where, "%s%s", i ? ", " : "", spi_text(i, 0));
		if (enforce_wanted() && where.len == 0)
			appendStringInfoString(&where, "the server or this session");
	}
	if (where.len > 0)
		preflight_row(p, FAIL, psprintf("the guard is set for %s, and the library is not preloaded: sessions go unjudged",
										where.data),
					  "Add evmig to shared_preload_libraries and restart the server.");
	else
		preflight_row(p, PASS, "no role relies on a guard that is not loaded", NULL);
}
