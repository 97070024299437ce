/*-------------------------------------------------------------------------
 *
 * quality.c
 *	  The shares of rows with a valid and with a unique key: the last audit,
 *	  carried on by what has come in through the ingest guard since.
 *
 * Let an audit have found n rows, z of them without a key and d beyond the
 * first of theirs; since then i rows came in, a of them let in without a key:
 *
 *		valid = 100 (n - z + i - a) / (n + i)
 *		unique = 100 (n - z - d + i - a) / (n + i)
 *
 * A fill or a dedupe that succeeded since then has verified that z or d is 0.
 * Without a guard, or for d with one that lets duplicates pass, or where nobody
 * counts rows, nothing is known of what came in, and the figures are those of
 * the audit's time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "integrity/audit.h"
#include "integrity/ingest.h"
#include "kpi/kpi.h"
#include "kpi/watch.h"

/* ---- what comes in ---- */

static void
count_guarded(Oid relid, GuardOutcome outcome)
{
	WatchEntry *entry = watch_lookup(relid);

	for (int i = 0; entry && i < entry->ntargets; i++)
		pg_atomic_fetch_add_u64(&entry->target[i].table->guard[outcome], 1);
}

/* Rows inserted, and those let in without a key; false: nobody counts. */
static bool
came_in(Oid relid, int64 *inserted, int64 *let_in)
{
	KpiTable   *table = watch_find(relid, NULL);

	*inserted = table ? (int64) pg_atomic_read_u64(&table->inserted) : 0;
	*let_in = table ? (int64) pg_atomic_read_u64(&table->guard[GUARD_LET_NULL_IN]) : 0;
	return table != NULL;
}

/* Since the counter was so high; it begins anew when the server does. */
static double
since(int64 counter, int64 before)
{
	return counter >= before ? counter - before : counter;
}

/* ---- audits ---- */

/* Remember what evmig_audit found in a watched table; inside SPI. */
static void
remember_audit(Target *target, const AuditFigures *figures)
{
	SqlArgs		args = {0};
	int64		inserted;
	int64		let_in;

	if (XactReadOnly || RecoveryInProgress())
		return;
	(void) came_in(target->relid, &inserted, &let_in);
	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	arg_int8(&args, figures->total_events);
	arg_int8(&args, figures->null_request_ids);
	arg_int8(&args, figures->duplicate_rows);
	arg_int8(&args, inserted);
	arg_int8(&args, let_in);
	spi_catalog("INSERT INTO evmig.kpi_audit"
				" (target, key_column, total_rows, null_keys, duplicate_rows, inserted, let_in)"
				" SELECT w.target, $2::name, $3, $4, $5, $6, $7"
				" FROM evmig.kpi_watch w WHERE w.target = $1", &args);
}

/* The guard's arguments; empty where there is none. */
#define GUARD_ARGS \
	" LATERAL (SELECT coalesce(max(pg_catalog.encode(t.tgargs, 'escape')), '') AS args" \
	"  FROM pg_catalog.pg_trigger t WHERE t.tgrelid = a.target AND t.tgenabled <> 'D'" \
	"  AND t.tgname = '" GUARD_TRIGGER_NAME "') g"

static void
set_share(KpiFigure *figure, double part, double total, bool carried_on, TimestampTz audited)
{
	if (total <= 0)
		return;
	figure->known = true;
	figure->value = 100.0 * part / total;
	figure->source = carried_on ? "the last audit, and the ingest guard since" : "the last audit";
	figure->as_of = carried_on ? GetCurrentTimestamp() : audited;
}

void
kpi_quality(Oid relid, KpiFigure *valid, KpiFigure *unique)
{
	SqlArgs		args = {0};
	TimestampTz audited;
	double		total;
	double		nulls;
	double		losers;
	double		came;
	double		let_in;
	int64		inserted_now;
	int64		let_in_now;
	bool		counted = came_in(relid, &inserted_now, &let_in_now);
	bool		no_nulls;
	bool		no_losers;

	arg_oid(&args, relid);
	if (spi_catalog("SELECT a.at, a.total_rows::float8, a.null_keys::float8, a.duplicate_rows::float8,"
					" a.inserted, a.let_in, g.args <> '',"
					" g.args <> '' AND pg_catalog.split_part(g.args, '\\000', 2) <> 'pass',"
					" coalesce(j.filled, false), coalesce(j.deduped, false)"
					" FROM evmig.kpi_audit a, " GUARD_ARGS ","
					" LATERAL (SELECT bool_or(kind = 'request_id') AS filled, bool_or(kind = 'dedupe') AS deduped"
					"  FROM evmig.job WHERE target = a.target AND state = 'succeeded' AND started_at > a.at) j"
					" WHERE a.target = $1 ORDER BY a.at DESC LIMIT 1", &args) == 0)
		return;
	audited = spi_time(0, 0);
	total = spi_float8(0, 1);
	nulls = spi_bool(0, 8) ? 0 : spi_float8(0, 2);
	losers = spi_bool(0, 9) ? 0 : spi_float8(0, 3);
	came = since(inserted_now, spi_int8(0, 4));
	let_in = Min(since(let_in_now, spi_int8(0, 5)), came);
	no_nulls = counted && spi_bool(0, 6);
	no_losers = counted && spi_bool(0, 7);

	if (no_nulls)
		set_share(valid, total - nulls + came - let_in, total + came, true, audited);
	else
		set_share(valid, total - nulls, total, false, audited);
	if (no_losers)
		set_share(unique, total - nulls - losers + came - let_in, total + came, true, audited);
	else
		set_share(unique, total - nulls - losers, total, false, audited);
}

void
quality_init(void)
{
	audit_done_hook = remember_audit;
	if (process_shared_preload_libraries_in_progress)
		guard_outcome_hook = count_guarded;
}
