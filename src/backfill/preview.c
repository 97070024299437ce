/*-------------------------------------------------------------------------
 *
 * preview.c
 *	  What a registered backfill would do.
 *
 * The user's expressions run with the rights of the role that the job would
 * run as, restricted so that they change no session state, in a subtransaction
 * that is rolled back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "backfill/batch.h"
#include "backfill/registry.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "evmig.h"

#define POSITIONS 5				/* start, quarters, middle, end */
#define WINDOW_BLOCKS 64		/* read at each of them */
#define TUPLE_OVERHEAD 60		/* WAL bytes of an update beside the row, roughly */
#define INDEX_WAL 90			/* of one index entry */

PG_FUNCTION_INFO_V1(evmig_backfill_preview);

/* one row of the result */
typedef struct Line
{
	const char *topic;
	const char *item;
	const char *old_values;		/* text of a jsonb */
	const char *new_values;
	const char *detail;
} Line;

typedef struct Preview
{
	Backfill   *backfill;
	BatchSpec	spec;
	Target	   *target;
	int			limit;			/* rows to show */
	List	   *lines;
	BlockNumber blocks;
	int64		sampled_blocks;
	int64		matches;		/* rows that satisfy the predicate, in them */
	int64		unchanged;
	double		ms;
} Preview;

static void
add_line(Preview *preview, const char *topic, const char *item, const char *detail)
{
	Line	   *line = palloc0(sizeof(Line));

	line->topic = topic;
	line->item = item;
	line->detail = detail;
	preview->lines = lappend(preview->lines, line);
}

/* ---- rows ---- */

static char *
compose_sample(Preview *preview)
{
	const Definition *definition = preview->spec.definition;
	char	   *predicate = compose_predicate(&preview->spec, preview->target);
	char	  **key;
	int			nkey = primary_key_columns(preview->target->relid, &key);
	const char *range = ALIAS_OLD ".ctid OPERATOR(pg_catalog.>=) $1 AND "
		ALIAS_OLD ".ctid OPERATOR(pg_catalog.<) $2";

	if (preview->spec.routine)
		return psprintf("SELECT " ALIAS_OLD ".ctid, false, NULL, NULL, %s FROM ONLY %s AS " ALIAS_OLD
						" WHERE %s AND %s",
						values_as_jsonb(ALIAS_OLD, key, nkey), preview->target->quoted, range, predicate);
	return psprintf("SELECT " ALIAS_OLD ".ctid, %s, %s, %s, %s FROM %s WHERE %s AND %s",
					compose_unchanged(definition),
					values_as_jsonb(ALIAS_OLD, definition->columns, definition->ncolumns),
					values_as_jsonb(ALIAS_NEW, definition->columns, definition->ncolumns),
					values_as_jsonb(ALIAS_OLD, key, nkey),
					compose_from(preview->target, definition), range, predicate);
}

/* Read one window of the table; at most show of its rows become lines. */
static void
sample_window(Preview *preview, const char *sql, BlockNumber from, BlockNumber to, int show)
{
	SqlArgs		args = {0};
	ItemPointerData first;
	ItemPointerData last;
	uint64		n;
	int			nest_level;
	instr_time	start;
	instr_time	end;

	ItemPointerSet(&first, from, 0);
	ItemPointerSet(&last, to, 0);
	arg_datum(&args, TIDOID, PointerGetDatum(&first), false);
	arg_datum(&args, TIDOID, PointerGetDatum(&last), false);
	INSTR_TIME_SET_CURRENT(start);
	nest_level = definition_path_begin(preview->spec.search_path);
	n = spi_read(sql, &args, 0);
	definition_path_end(nest_level);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	preview->ms += INSTR_TIME_GET_MILLISEC(end);
	preview->sampled_blocks += to - from;
	preview->matches += n;
	for (uint64 i = 0; i < n; i++)
	{
		bool		unchanged = spi_bool(i, 1);
		Line	   *line;
		char	   *key;

		preview->unchanged += unchanged;
		if (i >= (uint64) show)
			continue;
		key = spi_text(i, 4);
		line = palloc0(sizeof(Line));
		line->topic = "row";
		line->item = spi_text(i, 0);
		line->old_values = spi_text(i, 2);
		line->new_values = spi_text(i, 3);
		line->detail = psprintf("%s%s", key ? psprintf("primary key %s", key) : "",
								unchanged ? psprintf("%sleft as it is", key ? ", " : "") : "");
		preview->lines = lappend(preview->lines, line);
	}
}

static void
sample_windows(Preview *preview, const char *sql)
{
	int			positions = Min(POSITIONS, preview->blocks);
	BlockNumber window = Min(WINDOW_BLOCKS, (preview->blocks + POSITIONS - 1) / POSITIONS);
	BlockNumber next = 0;
	int			shown = 0;

	for (int i = 0; i < positions; i++)
	{
		BlockNumber at = (BlockNumber) ((uint64) (preview->blocks - window) * i / Max(positions - 1, 1));
		BlockNumber from = Max(next, at);
		BlockNumber to = Min(preview->blocks, from + window);

		if (from >= to)
			continue;
		sample_window(preview, sql, from, to,
					  (preview->limit - shown + positions - i - 1) / (positions - i));
		shown = list_length(preview->lines);
		next = to;
	}
}

typedef struct SampleCall
{
	Preview    *preview;
	Oid			role;
} SampleCall;

static void
call_sample(void *arg)
{
	SampleCall *call = arg;
	char	   *sql = compose_sample(call->preview);
	RunAs		runas;

	runas_begin(&runas, call->role, RUNAS_RESTRICTED);
	sample_windows(call->preview, sql);
	runas_end(&runas);
}

/* Sample the table, with the job's rights, and undo whatever that did. */
static void
sample_rows(Preview *preview, Oid role)
{
	SampleCall	call = {preview, role};
	ErrorData  *error = subxact_probe(call_sample, &call);

	if (error)
		ReThrowError(error);
}

/* ---- what else ---- */

static void
describe_indexes(Preview *preview, int *touched)
{
	const Definition *definition = preview->spec.definition;
	SqlArgs		args = {0};

	arg_oid(&args, preview->target->relid);
	arg_texts(&args, definition->columns, definition->ncolumns);
	*touched = (int) spi_catalog("SELECT DISTINCT i.indexrelid::regclass::text, i.indisunique FROM pg_catalog.pg_index i"
								 " JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attname::text = ANY ($2)"
								 " WHERE i.indrelid = $1 AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS"
								 " (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass"
								 "  AND d.objid = i.indexrelid AND d.refclassid = 'pg_catalog.pg_class'::regclass"
								 "  AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)) ORDER BY 1", &args);
	for (int i = 0; i < *touched; i++)
		add_line(preview, "index", spi_text(i, 0),
				 spi_bool(i, 1) ? "touched; unique, so rows are locked FOR UPDATE" : "touched");
	if (preview->spec.routine)
		add_line(preview, "index", NULL, "what the routine changes is not known");
	else if (*touched == 0)
		add_line(preview, "index", NULL, "none is touched: HOT updates where pages have room");
}

static void
describe_triggers(Preview *preview)
{
	const Definition *definition = preview->spec.definition;
	SqlArgs		args = {0};
	uint64		n;

	arg_oid(&args, preview->target->relid);
	arg_texts(&args, definition->columns, definition->ncolumns);
	n = spi_catalog("SELECT t.tgname::text, pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger t"
					" WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')"
					" AND t.tgtype & 16 <> 0 AND (pg_catalog.array_length(t.tgattr::int2[], 1) IS NULL"
					"  OR pg_catalog.cardinality($2) = 0 OR EXISTS (SELECT FROM pg_catalog.pg_attribute a"
					"  WHERE a.attrelid = $1 AND a.attname::text = ANY ($2) AND a.attnum = ANY (t.tgattr::int2[])))"
					" ORDER BY 1", &args);
	for (uint64 i = 0; i < n; i++)
		add_line(preview, "trigger", spi_text(i, 0), spi_text(i, 1));
}

/* Bytes of an average row, from the planner's statistics. */
static double
row_width(Oid relid)
{
	SqlArgs		args = {0};

	arg_oid(&args, relid);
	spi_catalog("SELECT CASE WHEN reltuples > 0 AND relpages > 0 THEN relpages * 8192.0 / reltuples"
				" ELSE 100 END::float8 FROM pg_catalog.pg_class WHERE oid = $1", &args);
	return spi_float8(0, 0);
}

static void
describe_estimates(Preview *preview, int indexes)
{
	const Backfill *b = preview->backfill;
	double		scale = preview->sampled_blocks > 0 ?
		(double) preview->blocks / preview->sampled_blocks : 0;
	double		rows = (preview->matches - preview->unchanged) * scale;
	double		pages = Min(rows, (double) preview->blocks);
	double		wal = rows * (row_width(preview->target->relid) + TUPLE_OVERHEAD + indexes * INDEX_WAL) +
		pages * BLCKSZ;
	double		row_ms = preview->matches > 0 ? 0.02 + preview->ms / preview->matches : 0;
	double		batch_rows = b->adaptive && row_ms > 0 ?
		Min(100000.0, evmig_batch_target_ms / row_ms) : b->batch_size;
	double		batch_ms = batch_rows * row_ms;
	double		rest = b->adaptive ?
		Max(b->sleep_ms, batch_ms * (1 - evmig_duty_cycle) / evmig_duty_cycle) : b->sleep_ms;
	double		seconds = rows / Max(batch_rows, 1) * (batch_ms + rest) / 1000 / b->workers;

	add_line(preview, "estimate", "rows",
			 psprintf("%.0f to change, %.0f to be left as they are, by " INT64_FORMAT " of %u blocks",
					  rows, preview->unchanged * scale, preview->sampled_blocks, preview->blocks));
	add_line(preview, "estimate", "wal",
			 psprintf("%.0f bytes, of which %.0f are whole pages after a checkpoint", wal, pages * BLCKSZ));
	add_line(preview, "estimate", "duration",
			 psprintf("%.0f s with %d worker%s", seconds, b->workers, b->workers == 1 ? "" : "s"));
}

/* The settings that its jobs have of their own; put in force for the estimate. */
static void
describe_settings(Preview *preview)
{
	SqlArgs		args = {0};
	uint64		n;

	arg_jsonb(&args, preview->backfill->settings);
	n = spi_catalog("SELECT key, value FROM pg_catalog.jsonb_each_text($1) ORDER BY key", &args);
	for (uint64 i = 0; i < n; i++)
	{
		(void) set_config_option(spi_text(i, 0), spi_text(i, 1), PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, WARNING, false);
		add_line(preview, "setting", spi_text(i, 0), spi_text(i, 1));
	}
}

static void
describe_rest(Preview *preview)
{
	add_line(preview, "lock", "ROW EXCLUSIVE", psprintf("on table %s, for each batch", preview->target->quoted));
	add_line(preview, "lock", "row", "of the rows of one batch; rows that somebody holds are skipped and visited again");
	if (preview->unchanged > 0)
		add_line(preview, "warning", NULL,
				 psprintf("the predicate stays true, or nothing changes, for " INT64_FORMAT " of " INT64_FORMAT
						  " sampled rows: they are left as they are",
						  preview->unchanged, preview->matches));
}

/* ---- the SQL function ---- */

static Datum
line_jsonb(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? DirectFunctionCall1(jsonb_in, CStringGetDatum(text)) : (Datum) 0;
}

static void
return_lines(ReturnSetInfo *rsinfo, List *lines)
{
	ListCell   *lc;

	foreach(lc, lines)
	{
		Line	   *line = lfirst(lc);
		Datum		values[5];
		bool		nulls[5] = {false};

		values[0] = CStringGetTextDatum(line->topic);
		nulls[1] = line->item == NULL;
		values[1] = line->item ? CStringGetTextDatum(line->item) : (Datum) 0;
		values[2] = line_jsonb(line->old_values, &nulls[2]);
		values[3] = line_jsonb(line->new_values, &nulls[3]);
		nulls[4] = line->detail == NULL || line->detail[0] == '\0';
		values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(line->detail);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/*
 * evmig_backfill_preview(name text, rows int DEFAULT 10)
 *
 * What the backfill would do, from a sample of the table; changes nothing.
 */
Datum
evmig_backfill_preview(PG_FUNCTION_ARGS)
{
	Preview		preview = {0};
	Definition *definition;
	Relation	rel;
	Oid			role;
	int			indexes;
	int			nest_level;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(0) ? "name" : "rows")));
	preview.limit = PG_GETARG_INT32(1);
	if (preview.limit < 0 || preview.limit > 1000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rows must be between 0 and 1000")));
	InitMaterializedSRF(fcinfo, 0);

	spi_begin();
	preview.backfill = backfill_load(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	preview.target = backfill_resolve(preview.backfill, &definition);
	role = job_role(preview.target->relid);
	preview.spec.definition = definition;
	preview.spec.search_path = preview.backfill->search_path;
	preview.spec.routine = preview.backfill->routine;
	preview.spec.tenant_column = preview.backfill->tenant_column;
	rel = relation_open(preview.target->relid, AccessShareLock);
	preview.blocks = RelationGetNumberOfBlocks(rel);
	relation_close(rel, NoLock);

	sample_rows(&preview, role);
	describe_indexes(&preview, &indexes);
	nest_level = NewGUCNestLevel();
	describe_settings(&preview);
	describe_estimates(&preview, indexes);
	AtEOXact_GUC(false, nest_level);
	describe_rest(&preview);
	describe_triggers(&preview);
	spi_end();
	return_lines((ReturnSetInfo *) fcinfo->resultinfo, preview.lines);
	return (Datum) 0;
}
