/*-------------------------------------------------------------------------
 *
 * sample.c
 *	  Samples of the KPIs: taken, and compared by their labels.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "job/signals.h"
#include "kpi/sample.h"
#include "kpi/watch.h"

PG_FUNCTION_INFO_V1(evmig_kpi_sample);
PG_FUNCTION_INFO_V1(evmig_kpi_compare);

#define LIVE_US INT64CONST(10000000)	/* what counts as just now, */
#define LIVE_SHORT_US INT64CONST(3000000)	/* or this, where it says enough: */
#define LIVE_WRITES 100
#define SAME_PCT 10.0			/* a change up to here is none */

/* which way a figure should go */
typedef enum Good
{
	GOOD_LESS,
	GOOD_MORE,					/* a share: any change counts */
	GOOD_EITHER					/* how much there was to do */
} Good;

static const Good good[KPI_COLS] = {
	[KPI_COL_WRITES] = GOOD_EITHER,
	[KPI_COL_ROWS_WRITTEN] = GOOD_EITHER,
	[KPI_COL_WRITES_PER_S] = GOOD_EITHER,
	[KPI_COL_VALID_PCT] = GOOD_MORE,
	[KPI_COL_UNIQUE_PCT] = GOOD_MORE,
};

/* ---- taking ---- */

static char *
figures_json(const KpiFigure *figures, bool from_statements)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < KPI_COLS; i++)
	{
		appendStringInfo(&buf, "%c\"%s\": ", i == 0 ? '{' : ',', kpi_names[i]);
		if (figures[i].known)
			appendStringInfo(&buf, "%.17g", figures[i].value);
		else
			appendStringInfoString(&buf, "null");
	}
	if (from_statements)
		appendStringInfoString(&buf, ",\"" LATENCY_SOURCE "\": \"pg_stat_statements\"");
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

int64
kpi_sample_take(Oid relid, const char *label, int64 runbook, int64 us,
				KpiFigure out[KPI_COLS])
{
	KpiFigure	mine[KPI_COLS];
	KpiFigure  *figures = out ? out : mine;
	SqlArgs		args = {0};

	kpi_figures(relid, us, figures);
	arg_oid(&args, relid);
	arg_text(&args, label);
	arg_datum(&args, INT8OID, Int64GetDatum(runbook), runbook == 0);
	arg_text(&args, GetUserNameFromId(GetSessionUserId(), false));
	arg_jsonb(&args, figures_json(figures, figures[KPI_COL_P50_MS].known && watch_find(relid, NULL) == NULL));

	/* with what was noted from outside since the last sample */
	spi_catalog("INSERT INTO evmig.kpi_sample (target, label, runbook_id, sampled_by, figures)"
				" SELECT $1, $2, $3, $4::name, $5 || coalesce((SELECT"
				"  pg_catalog.jsonb_build_object('notes', pg_catalog.jsonb_object_agg(n.kpi || ' (' || n.source || ')', n.value))"
				"  FROM (SELECT DISTINCT ON (kpi, source) kpi, source, value FROM evmig.kpi_note"
				"   WHERE target = $1 ORDER BY kpi, source, at DESC) n HAVING pg_catalog.count(*) > 0), '{}')"
				" RETURNING sample_id", &args);
	return spi_int8(0, 0);
}

static char *
label_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	char	   *label = ARG_TEXT(n);

	if (label == NULL || label[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be given", name)));
	return label;
}

/*
 * evmig_kpi_sample(target regclass, label text) returns bigint
 *
 * Raises insufficient_privilege without the privileges of the table's owner,
 * invalid_parameter_value without a label.
 */
Datum
evmig_kpi_sample(PG_FUNCTION_ARGS)
{
	Oid			relid = target_relid(ARG_RELID(0));
	char	   *label = label_argument(fcinfo, 1, "label");
	int64		id;

	require_owner(relid);
	require_writable();
	spi_begin();
	id = kpi_sample_take(relid, label, 0, SAMPLE_US, NULL);
	spi_end();
	PG_RETURN_INT64(id);
}

/* ---- for jobs ---- */

/* See signals.h: what writers bear just now, and what they bore before. */
static bool
live_p95(Oid relid, double *now, double *before)
{
	KpiWindow  *window;
	KpiTable   *table;
	SqlArgs		args = {0};

	watch_load();
	table = watch_find(relid, NULL);
	if (table == NULL)
		return false;
	window = palloc(sizeof(KpiWindow));
	kpi_read(table, LIVE_SHORT_US, window);
	if (window->counter[KPI_WRITES] < LIVE_WRITES)
		kpi_read(table, LIVE_US, window);
	*now = kpi_percentile(window, KPI_STATEMENT, 0.95);
	pfree(window);

	arg_oid(&args, relid);
	*before = -1;
	if (spi_catalog("SELECT (figures ->> 'p95_ms')::float8 FROM evmig.kpi_sample"
					" WHERE target = $1 AND label = 'before' AND figures ->> 'p95_ms' IS NOT NULL"
					" AND figures ->> '" LATENCY_SOURCE "' IS NULL"
					" ORDER BY sampled_at DESC LIMIT 1", &args) > 0)
		*before = spi_float8(0, 0);
	return true;
}

/* See signals.h. */
static void
sample_for_job(Oid relid, const char *label, int64 us)
{
	watch_load();
	if (watch_find(relid, NULL))
		(void) kpi_sample_take(relid, label, 0, Min(us, (int64) KPI_WINDOW * USECS_PER_SEC), NULL);
}

void
sample_init(void)
{
	table_p95_hook = live_p95;
	table_sample_hook = sample_for_job;
}

/* ---- comparing ---- */

static void
require_sample(Oid relid, const char *label)
{
	SqlArgs		args = {0};

	arg_oid(&args, relid);
	arg_text(&args, label);
	if (spi_catalog("SELECT 1 FROM evmig.kpi_sample WHERE target = $1 AND label = $2 LIMIT 1", &args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has no sample labelled \"%s\"", get_rel_name(relid), label),
				 errhint("SELECT evmig_kpi_sample(target, label) takes one.")));
}

static const char *
verdict(Good way, double before, double after, double change)
{
	bool		same = way == GOOD_MORE ? fabs(after - before) < 1e-9 :
		before == after || (before != 0 && fabs(change) <= SAME_PCT);

	if (same)
		return "same";
	if (way == GOOD_EITHER)
		return after > before ? "more" : "less";
	return (after < before) == (way == GOOD_LESS) ? "better" : "worse";
}

static Good
good_of(const char *kpi)
{
	for (int i = 0; i < KPI_COLS; i++)
		if (strcmp(kpi_names[i], kpi) == 0)
			return good[i];
	return GOOD_EITHER;			/* from outside: nobody told us */
}

/*
 * evmig_kpi_compare(target regclass, before_label text, after_label text)
 * returns setof record
 *
 * Raises undefined_object where a label has no sample.
 */
Datum
evmig_kpi_compare(PG_FUNCTION_ARGS)
{
	Oid			relid = target_relid(ARG_RELID(0));
	char	   *labels[2] = {label_argument(fcinfo, 1, "before_label"),
	label_argument(fcinfo, 2, "after_label")};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SqlArgs		args = {0};

	watch_require_reader(relid);
	InitMaterializedSRF(fcinfo, 0);
	spi_begin();
	require_sample(relid, labels[0]);
	require_sample(relid, labels[1]);
	arg_oid(&args, relid);
	arg_text(&args, labels[0]);
	arg_text(&args, labels[1]);
	arg_texts(&args, (char *const *) kpi_names, KPI_COLS);

	/* our figures in their order, then those from outside */
	spi_catalog("WITH s AS (SELECT (SELECT figures FROM evmig.kpi_sample WHERE target = $1 AND label = $2"
				"   ORDER BY sampled_at DESC, sample_id DESC LIMIT 1) AS b,"
				"  (SELECT figures FROM evmig.kpi_sample WHERE target = $1 AND label = $3"
				"   ORDER BY sampled_at DESC, sample_id DESC LIMIT 1) AS a)"
				" SELECT kpi, before, after, unlike FROM (SELECT k.kpi, (s.b ->> k.kpi)::float8 AS before,"
				"  (s.a ->> k.kpi)::float8 AS after, k.n, k.kpi LIKE '%\\_ms' AND"
				"  s.b ->> '" LATENCY_SOURCE "' IS DISTINCT FROM s.a ->> '" LATENCY_SOURCE "' AS unlike FROM s, pg_catalog.unnest($4) WITH ORDINALITY k(kpi, n)"
				" UNION ALL SELECT k.kpi, (s.b #>> ARRAY['notes', k.kpi])::float8,"
				"  (s.a #>> ARRAY['notes', k.kpi])::float8, 1000 + pg_catalog.row_number() OVER (ORDER BY k.kpi), false"
				"  FROM s, pg_catalog.jsonb_object_keys(coalesce(s.b -> 'notes', '{}') || coalesce(s.a -> 'notes', '{}')) k(kpi)) r"
				" ORDER BY n", &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		char	   *kpi = spi_text(i, 0);
		double		before = spi_float8(i, 1);
		double		after = spi_float8(i, 2);
		double		change = before != 0 ? 100.0 * (after - before) / before : 0;
		bool		unknown = spi_isnull(i, 1) || spi_isnull(i, 2) || spi_bool(i, 3) ||
			!isfinite(before) || !isfinite(after);
		Datum		values[5];
		bool		nulls[5] = {false};

		values[0] = CStringGetTextDatum(kpi);
		values[1] = Float8GetDatum(before);
		nulls[1] = spi_isnull(i, 1);
		values[2] = Float8GetDatum(after);
		nulls[2] = spi_isnull(i, 2);
		values[3] = Float8GetDatum(change);
		nulls[3] = unknown || (before == 0 && after != 0);
		values[4] = CStringGetTextDatum(unknown ? "unknown" :
										verdict(good_of(kpi), before, after, change));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	spi_end();
	return (Datum) 0;
}
