/*-------------------------------------------------------------------------
 *
 * kpi.c
 *	  The KPIs of a table, as SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/worker.h"
#include "kpi/command.h"
#include "kpi/kpi.h"
#include "kpi/measure.h"
#include "kpi/pause.h"
#include "kpi/sample.h"
#include "kpi/shmem.h"
#include "kpi/watch.h"

PG_FUNCTION_INFO_V1(evmig_kpi);
PG_FUNCTION_INFO_V1(evmig_kpi_detail);
PG_FUNCTION_INFO_V1(evmig_kpi_note);

#define DEFAULT_SINCE_MS (5 * 60 * 1000)

const char *const kpi_names[KPI_COLS] = {
	"writes", "rows_written", "writes_per_s", "write_errors", "write_error_rate",
	"p50_ms", "p95_ms", "p99_ms", "max_ms", "commit_p95_ms",
	"valid_request_id_pct", "unique_request_id_pct",
	"replica_lag_bytes", "wal_bytes_per_s", "errors_logged",
};

/* in the order of GuardOutcome */
static const char *const guard_names[GUARD_OUTCOMES] = {
	"guard_filled", "guard_let_null_in", "guard_archived", "guard_rekeyed",
};

/* ---- figures ---- */

static void
set_figure(KpiFigure *figure, double value, const char *source, TimestampTz as_of)
{
	figure->known = true;
	figure->value = value;
	figure->source = source;
	figure->as_of = as_of;
}

static void
set_measured(KpiFigure *figures, KpiId id, double value)
{
	if (value >= 0)
		set_figure(&figures[id], value, "measured", GetCurrentTimestamp());
}

static void
measured_figures(KpiTable *table, int64 us, KpiFigure *figures)
{
	KpiWindow  *window = palloc(sizeof(KpiWindow));
	double		writes;
	double		errors;

	kpi_read(table, us, window);
	writes = window->counter[KPI_WRITES];
	errors = window->counter[KPI_ERRORS];
	set_measured(figures, KPI_COL_WRITES, writes);
	set_measured(figures, KPI_COL_ROWS_WRITTEN, window->counter[KPI_ROWS]);
	set_measured(figures, KPI_COL_WRITES_PER_S, writes / window->seconds);
	set_measured(figures, KPI_COL_WRITE_ERRORS, errors);
	set_measured(figures, KPI_COL_WRITE_ERROR_RATE,
				 writes + errors > 0 ? errors / (writes + errors) : 0);
	set_measured(figures, KPI_COL_P50_MS, kpi_percentile(window, KPI_STATEMENT, 0.50));
	set_measured(figures, KPI_COL_P95_MS, kpi_percentile(window, KPI_STATEMENT, 0.95));
	set_measured(figures, KPI_COL_P99_MS, kpi_percentile(window, KPI_STATEMENT, 0.99));
	if (writes > 0)
		set_measured(figures, KPI_COL_MAX_MS, window->counter[KPI_LONGEST] / 1000.0);
	set_measured(figures, KPI_COL_COMMIT_P95_MS, kpi_percentile(window, KPI_COMMIT, 0.95));
	set_measured(figures, KPI_COL_ERRORS_LOGGED, window->counter[KPI_LOGGED]);
	pfree(window);
}

/* WAL that the slowest physical replica has not replayed; none: unknown. */
static void
replica_figure(KpiFigure *figure)
{
	SqlArgs		none = {0};

	if (RecoveryInProgress())
		return;
	spi_catalog("SELECT max(greatest(0, pg_catalog.pg_wal_lsn_diff("
				"pg_catalog.pg_current_wal_flush_lsn(), replay_lsn)))::float8"
				" FROM pg_catalog.pg_stat_replication", &none);
	if (!spi_isnull(0, 0))
		set_figure(figure, spi_float8(0, 0), "the slowest replica", GetCurrentTimestamp());
}

/* Of the whole server; where nothing was measured, since the last checkpoint. */
static void
wal_figure(int64 us, KpiFigure *figure)
{
	SqlArgs		none = {0};
	double		rate;
	TimestampTz since;

	if (RecoveryInProgress())
		return;
	if (kpi_shared && kpi_wal_rate(GetCurrentTimestamp() - us, &rate, &since))
	{
		set_figure(figure, rate, "measured, of the whole server", GetCurrentTimestamp());
		return;
	}
	spi_catalog("SELECT (pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), redo_lsn)"
				" / greatest(extract(epoch FROM pg_catalog.clock_timestamp() - checkpoint_time), 1))::float8"
				" FROM pg_catalog.pg_control_checkpoint()", &none);
	set_figure(figure, spi_float8(0, 0), "average since the last checkpoint, of the whole server",
			   GetCurrentTimestamp());
}

void
kpi_figures(Oid relid, int64 us, KpiFigure figures[KPI_COLS])
{
	KpiTable   *table;

	watch_load();
	table = watch_find(relid, NULL);
	memset(figures, 0, sizeof(KpiFigure) * KPI_COLS);
	if (table)
		measured_figures(table, us, figures);
	else
		(void) kpi_from_statements(relid, figures);
	kpi_quality(relid, &figures[KPI_COL_VALID_PCT], &figures[KPI_COL_UNIQUE_PCT]);
	replica_figure(&figures[KPI_COL_REPLICA_LAG]);
	wal_figure(us, &figures[KPI_COL_WAL_RATE]);
}

/* ---- SQL functions ---- */

/* The table of a call that only looks, and the window in microseconds. */
static Oid
read_arguments(FunctionCallInfo fcinfo, int64 *us)
{
	Oid			relid = target_relid(ARG_RELID(0));

	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	watch_require_reader(relid);
	*us = (PG_ARGISNULL(1) ? DEFAULT_SINCE_MS : interval_ms(PG_GETARG_INTERVAL_P(1), "since")) * 1000;
	if (*us <= 0 || *us > (int64) KPI_WINDOW * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("since must be between a millisecond and %d minutes", KPI_WINDOW / 60)));
	return relid;
}

/*
 * Say why the latencies are missing, or what stands in for them.
 */
static void
notice_sources(Oid relid, const KpiFigure *figures)
{
	const char *name = get_rel_name(relid);

	if (watch_find(relid, NULL))
		return;
	if (figures[KPI_COL_P50_MS].known)
		ereport(NOTICE,
				(errmsg("latencies of table \"%s\" come from pg_stat_statements: p50_ms is the mean, p95_ms and p99_ms are the mean plus 1.645 and 2.326 deviations", name),
				 errdetail("They cover what was executed since its statistics were reset, and no time before execution.")));
	if (kpi_shared == NULL)
		ereport(NOTICE,
				(errmsg("writes on table \"%s\" are not measured", name),
				 errhint("Set shared_preload_libraries = 'evmig', restart the server and call evmig_kpi_watch.")));
	else
		ereport(NOTICE,
				(errmsg("table \"%s\" is not watched", name),
				 errhint("Call evmig_kpi_watch.")));
}

/*
 * evmig_kpi(target regclass, since interval) returns record
 *
 * Takes no lock on the table, for who locks it is what people want to see.
 * Raises undefined_table, insufficient_privilege without
 * SELECT on the table or pg_read_all_stats, invalid_parameter_value.
 */
Datum
evmig_kpi(PG_FUNCTION_ARGS)
{
	int64		us;
	Oid			relid = read_arguments(fcinfo, &us);
	KpiFigure	figures[KPI_COLS];
	TupleDesc	desc;
	Datum		values[KPI_COLS] = {0};
	bool		nulls[KPI_COLS];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != KPI_COLS)
		elog(ERROR, "return type must be a row type of %d columns", KPI_COLS);
	spi_begin();
	kpi_figures(relid, us, figures);
	spi_end();
	for (int i = 0; i < KPI_COLS; i++)
	{
		nulls[i] = !figures[i].known;
		if (nulls[i])
			continue;
		values[i] = TupleDescAttr(desc, i)->atttypid == INT8OID ?
			Int64GetDatum((int64) figures[i].value) : Float8GetDatum(figures[i].value);
	}
	notice_sources(relid, figures);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

static void
put_row(ReturnSetInfo *rsinfo, const char *kpi, double value, const char *source, TimestampTz as_of)
{
	Datum		values[4];
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(kpi);
	values[1] = Float8GetDatum(value);
	values[2] = CStringGetTextDatum(source);
	values[3] = TimestampTzGetDatum(as_of);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Errors by class, and what else has no column of evmig_kpi. */
static void
put_measured(ReturnSetInfo *rsinfo, KpiTable *table, int64 us)
{
	KpiWindow  *window = palloc(sizeof(KpiWindow));
	TimestampTz now = GetCurrentTimestamp();

	kpi_read(table, us, window);
	put_row(rsinfo, "window_s", window->seconds, "measured", now);
	put_row(rsinfo, "commits", window->counter[KPI_COMMITS], "measured", now);
	put_row(rsinfo, "writes_refused", window->counter[KPI_REFUSED], "measured, by a pause of ingest", now);
	for (int i = 0; i < GUARD_OUTCOMES; i++)
		put_row(rsinfo, guard_names[i], pg_atomic_read_u64(&table->guard[i]),
				psprintf("the ingest guard, since %s", timestamptz_to_str(table->since)), now);
	for (int i = 0; i < KPI_CLASSES; i++)
		if (window->classes[i] > 0)
			put_row(rsinfo, psprintf("errors_class_%s", kpi_class_name(i)),
					window->classes[i], "measured", now);
	pfree(window);
}

static void
put_notes(ReturnSetInfo *rsinfo, Oid relid)
{
	SqlArgs		args = {0};

	arg_oid(&args, relid);
	spi_catalog("SELECT DISTINCT ON (kpi, source) kpi, value, source, at FROM evmig.kpi_note"
				" WHERE target = $1 ORDER BY kpi, source, at DESC", &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
		put_row(rsinfo, spi_text(i, 0), spi_float8(i, 1), spi_text(i, 2), spi_time(i, 3));
}

/*
 * evmig_kpi_detail(target regclass, since interval) returns setof record
 *
 * As evmig_kpi, one row a figure, with its source and as of when it is.
 */
Datum
evmig_kpi_detail(PG_FUNCTION_ARGS)
{
	int64		us;
	Oid			relid = read_arguments(fcinfo, &us);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	KpiFigure	figures[KPI_COLS];
	KpiTable   *table;

	InitMaterializedSRF(fcinfo, 0);
	spi_begin();
	kpi_figures(relid, us, figures);
	for (int i = 0; i < KPI_COLS; i++)
		if (figures[i].known)
			put_row(rsinfo, kpi_names[i], figures[i].value, figures[i].source, figures[i].as_of);
	table = watch_find(relid, NULL);
	if (table)
		put_measured(rsinfo, table, us);
	put_notes(rsinfo, relid);
	spi_end();
	return (Datum) 0;
}

/*
 * evmig_kpi_note(target regclass, kpi text, value float8, source text) returns void
 *
 * Raises insufficient_privilege without the privileges of the table's owner.
 */
Datum
evmig_kpi_note(PG_FUNCTION_ARGS)
{
	Oid			relid = target_relid(ARG_RELID(0));
	char	   *kpi = ARG_TEXT(1);
	char	   *source = ARG_TEXT(3);
	SqlArgs		args = {0};

	require_owner(relid);
	require_writable();
	if (kpi == NULL || kpi[0] == '\0' || PG_ARGISNULL(2) || source == NULL || source[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("kpi, value and source must be given")));
	spi_begin();
	arg_oid(&args, relid);
	arg_text(&args, kpi);
	arg_float8(&args, PG_GETARG_FLOAT8(2));
	arg_text(&args, source);
	arg_text(&args, GetUserNameFromId(GetSessionUserId(), false));
	spi_catalog("INSERT INTO evmig.kpi_note (target, kpi, value, source, noted_by)"
				" VALUES ($1, $2, $3, $4, $5::name)", &args);
	spi_end();
	PG_RETURN_VOID();
}

void
kpi_init(void)
{
	kpi_shmem_init();
	pause_init();
	command_init();
	measure_init();
	failure_init();
	quality_init();
	sample_init();
}
