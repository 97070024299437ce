/*-------------------------------------------------------------------------
 *
 * spi.c
 *	  The one way to run SQL from C in this extension.
 *
 * The only file that includes executor/spi.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/privilege.h"
#include "base/spi.h"

/* one kept plan; the text is the key, so a plan is never used for another */
typedef struct PlanEntry
{
	uint32		hash;			/* key: of text and argument types */
	char	   *sql;
	SPIPlanPtr	plan;
} PlanEntry;

struct SpiCursor
{
	Portal		portal;
};

struct SpiRows
{
	EphemeralNamedRelationData enr;
	Tuplestorestate *store;
};

static HTAB *plans = NULL;

int			spi_own_depth = 0;

compat_noreturn static void spi_fail(const char *what, int rc);

static void
spi_fail(const char *what, int rc)
{
	elog(ERROR, "%s failed: %s", what, SPI_result_code_string(rc));
}

/* ---- arguments ---- */

void
arg_datum(SqlArgs *args, Oid type, Datum value, bool isnull)
{
	Assert(args->n < SQL_MAX_ARGS);
	args->types[args->n] = type;
	args->values[args->n] = value;
	args->nulls[args->n] = isnull ? 'n' : ' ';
	args->n++;
}

void
arg_int8(SqlArgs *args, int64 value)
{
	arg_datum(args, INT8OID, Int64GetDatum(value), false);
}

void
arg_int4(SqlArgs *args, int32 value)
{
	arg_datum(args, INT4OID, Int32GetDatum(value), false);
}

void
arg_float8(SqlArgs *args, double value)
{
	arg_datum(args, FLOAT8OID, Float8GetDatum(value), false);
}

void
arg_bool(SqlArgs *args, bool value)
{
	arg_datum(args, BOOLOID, BoolGetDatum(value), false);
}

void
arg_oid(SqlArgs *args, Oid value)
{
	arg_datum(args, OIDOID, ObjectIdGetDatum(value), !OidIsValid(value));
}

void
arg_text(SqlArgs *args, const char *value)
{
	arg_datum(args, TEXTOID, value ? CStringGetTextDatum(value) : (Datum) 0,
			  value == NULL);
}

void
arg_jsonb(SqlArgs *args, const char *json)
{
	arg_datum(args, JSONBOID,
			  json ? DirectFunctionCall1(jsonb_in, CStringGetDatum(json)) : (Datum) 0,
			  json == NULL);
}

void
arg_time(SqlArgs *args, TimestampTz value)
{
	arg_datum(args, TIMESTAMPTZOID, TimestampTzGetDatum(value), value == 0);
}

void
arg_texts(SqlArgs *args, char *const *values, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(n, 1));
	int			lower = 1;

	for (int i = 0; i < n; i++)
	{
		nulls[i] = values[i] == NULL;
		elems[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(values[i]);
	}
	arg_datum(args, TEXTARRAYOID,
			  n == 0 ? PointerGetDatum(construct_empty_array(TEXTOID)) :
			  PointerGetDatum(construct_md_array(elems, nulls, 1, &n, &lower, TEXTOID,
												 -1, false, TYPALIGN_INT)), false);
}

void
arg_tids(SqlArgs *args, const ItemPointerData *tids, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));
	ArrayType  *array;

	for (int i = 0; i < n; i++)
		elems[i] = PointerGetDatum(&tids[i]);
	array = construct_array(elems, n, TIDOID, sizeof(ItemPointerData), false,
							TYPALIGN_SHORT);
	pfree(elems);
	arg_datum(args, TIDARRAYOID, PointerGetDatum(array), false);
}

/* ---- connection ---- */

/* What the caller allocates next shall outlive spi_end(): stay in its context. */
static void
connect_spi(int options)
{
	MemoryContext context = CurrentMemoryContext;
	int			rc = SPI_connect_ext(options);

	if (rc != SPI_OK_CONNECT)
		spi_fail("SPI_connect", rc);
	MemoryContextSwitchTo(context);
}

void
spi_begin(void)
{
	connect_spi(0);
}

void
spi_begin_nonatomic(void)
{
	connect_spi(SPI_OPT_NONATOMIC);
}

void
spi_end(void)
{
	int			rc = SPI_finish();

	if (rc != SPI_OK_FINISH)
		spi_fail("SPI_finish", rc);
}

void
spi_commit(void)
{
	SPI_commit();
}

void
spi_rollback(void)
{
	SPI_rollback();
}

/* ---- running ---- */

/* Run a call of SPI's, counted by spi_own_depth however it ends. */
#define OWN_STATEMENT(call) \
	do { \
		spi_own_depth++; \
		PG_TRY(); \
		{ \
			call; \
		} \
		PG_FINALLY(); \
		{ \
			spi_own_depth--; \
		} \
		PG_END_TRY(); \
	} while (0)

/* Find or make the kept plan of a statement. */
static SPIPlanPtr
kept_plan(const char *sql, SqlArgs *args)
{
	uint32		hash;
	PlanEntry  *entry;
	bool		found;
	SPIPlanPtr	plan;
	MemoryContext oldcontext = CurrentMemoryContext;

	if (plans == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(uint32);
		ctl.entrysize = sizeof(PlanEntry);
		plans = hash_create("evmig plans", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}

	hash = hash_bytes((const unsigned char *) sql, strlen(sql));
	for (int i = 0; args && i < args->n; i++)
		hash = hash * 31 + args->types[i];

	entry = hash_search(plans, &hash, HASH_FIND, NULL);
	if (entry && strcmp(entry->sql, sql) == 0)
		return entry->plan;

	/* generic: a custom plan would turn wide TID ranges into a hash join */
	plan = SPI_prepare_cursor(sql, args ? args->n : 0, args ? args->types : NULL,
							  CURSOR_OPT_GENERIC_PLAN);
	MemoryContextSwitchTo(oldcontext);
	if (plan == NULL)
		spi_fail("SPI_prepare", SPI_result);

	/* two texts of one hash: the later one is not kept */
	if (entry)
		return plan;

	{
		char	   *copy = MemoryContextStrdup(TopMemoryContext, sql);

		SPI_keepplan(plan);
		entry = hash_search(plans, &hash, HASH_ENTER, &found);
		entry->sql = copy;
		entry->plan = plan;
	}
	return plan;
}

static uint64
run_plan(SPIPlanPtr plan, SqlArgs *args, long limit)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	volatile int rc = 0;

	OWN_STATEMENT(rc = SPI_execute_plan(plan, args ? args->values : NULL,
										args ? args->nulls : NULL, false, limit));
	MemoryContextSwitchTo(oldcontext);
	if (rc < 0)
		spi_fail("SPI_execute_plan", rc);
	return SPI_processed;
}

uint64
spi_read(const char *sql, SqlArgs *args, long limit)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	volatile int rc = 0;

	if (args && args->n > 0)
		OWN_STATEMENT(rc = SPI_execute_with_args(sql, args->n, args->types, args->values,
												 args->nulls, false, limit));
	else
		OWN_STATEMENT(rc = SPI_execute(sql, false, limit));
	MemoryContextSwitchTo(oldcontext);
	if (rc < 0)
		spi_fail("SPI_execute", rc);
	return SPI_processed;
}

uint64
spi_run(const char *sql, SqlArgs *args)
{
	return spi_read(sql, args, 0);
}

uint64
spi_run_cached(const char *sql, SqlArgs *args)
{
	return run_plan(kept_plan(sql, args), args, 0);
}

void
spi_run_text(const char *sql)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	int			depth = spi_own_depth;
	SPIExecuteOptions options = {0};
	volatile int rc = 0;

	options.dest = None_Receiver;
	spi_own_depth = 0;
	PG_TRY();
	{
		rc = SPI_execute_extended(sql, &options);
	}
	PG_FINALLY();
	{
		spi_own_depth = depth;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	if (rc < 0)
		spi_fail("SPI_execute_extended", rc);
}

uint64
spi_catalog(const char *sql, SqlArgs *args)
{
	RunAs		runas;
	uint64		n;

	runas_begin(&runas, extension_owner(), RUNAS_LOCAL);
	n = run_plan(kept_plan(sql, args), args, 0);
	runas_end(&runas);
	return n;
}

void
spi_check(const char *sql, SqlArgs *args)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	SPIPlanPtr	plan;

	plan = SPI_prepare(sql, args ? args->n : 0, args ? args->types : NULL);
	MemoryContextSwitchTo(oldcontext);
	if (plan == NULL)
		spi_fail("SPI_prepare", SPI_result);
	SPI_freeplan(plan);
}

/* ---- results ---- */

uint64
spi_nrows(void)
{
	return SPI_processed;
}

static Datum
value_at(uint64 row, int col, bool *isnull)
{
	Assert(SPI_tuptable != NULL && row < SPI_tuptable->numvals);
	Assert(col < SPI_tuptable->tupdesc->natts);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 col + 1, isnull);
}

bool
spi_isnull(uint64 row, int col)
{
	bool		isnull;

	(void) value_at(row, col, &isnull);
	return isnull;
}

bool
spi_is_number(int col)
{
	if (SPI_tuptable == NULL || SPI_tuptable->tupdesc->natts <= col)
		return false;
	switch (SPI_gettypeid(SPI_tuptable->tupdesc, col + 1))
	{
		case INT8OID:
		case INT4OID:
		case INT2OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			return true;
		default:
			return false;
	}
}

char *
spi_text(uint64 row, int col)
{
	char	   *value;
	char	   *copy;

	Assert(SPI_tuptable != NULL && row < SPI_tuptable->numvals);
	value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col + 1);
	if (value == NULL)
		return NULL;
	copy = SPI_palloc(strlen(value) + 1);
	strcpy(copy, value);
	return copy;
}

int64
spi_int8(uint64 row, int col)
{
	bool		isnull;
	Datum		d = value_at(row, col, &isnull);

	if (isnull)
		return 0;
	switch (SPI_gettypeid(SPI_tuptable->tupdesc, col + 1))
	{
		case INT8OID:
			return DatumGetInt64(d);
		case INT4OID:
			return DatumGetInt32(d);
		case INT2OID:
			return DatumGetInt16(d);
		case OIDOID:
			return DatumGetObjectId(d);
		default:
			elog(ERROR, "column %d is not an integer", col + 1);
	}
}

double
spi_float8(uint64 row, int col)
{
	bool		isnull;
	Datum		d = value_at(row, col, &isnull);

	if (isnull)
		return 0;
	switch (SPI_gettypeid(SPI_tuptable->tupdesc, col + 1))
	{
		case FLOAT4OID:
			return DatumGetFloat4(d);
		case FLOAT8OID:
			return DatumGetFloat8(d);
		case NUMERICOID:
			return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, d));
		default:
			return (double) spi_int8(row, col);
	}
}

bool
spi_bool(uint64 row, int col)
{
	bool		isnull;
	Datum		d = value_at(row, col, &isnull);

	return !isnull && DatumGetBool(d);
}

Oid
spi_oid(uint64 row, int col)
{
	bool		isnull;
	Datum		d = value_at(row, col, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(d);
}

TimestampTz
spi_time(uint64 row, int col)
{
	bool		isnull;
	Datum		d = value_at(row, col, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(d);
}

void
spi_tid(uint64 row, int col, ItemPointer tid)
{
	bool		isnull;
	Datum		d = value_at(row, col, &isnull);

	if (isnull)
		ItemPointerSetInvalid(tid);
	else
		ItemPointerCopy((ItemPointer) DatumGetPointer(d), tid);
}

/* ---- results as relations ---- */

SpiRows *
spi_rows_begin(const char *name)
{
	SpiRows    *rows = palloc0(sizeof(SpiRows));

	Assert(SPI_tuptable != NULL);
	rows->store = tuplestore_begin_heap(false, false, work_mem);
	rows->enr.md.name = pstrdup(name);
	rows->enr.md.tupdesc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
	rows->enr.md.enrtype = ENR_NAMED_TUPLESTORE;

	/* kept plans: look into the table by TID for each row, however many */
	rows->enr.md.enrtuples = 1;
	rows->enr.reldata = rows->store;
	return rows;
}

void
spi_rows_add(SpiRows *rows, uint64 row)
{
	Assert(row < SPI_tuptable->numvals);
	tuplestore_puttuple(rows->store, SPI_tuptable->vals[row]);
}

void
spi_rows_publish(SpiRows *rows)
{
	int			rc = SPI_register_relation(&rows->enr);

	if (rc != SPI_OK_REL_REGISTER)
		spi_fail("SPI_register_relation", rc);
}

void
spi_rows_end(SpiRows *rows)
{
	(void) SPI_unregister_relation(rows->enr.md.name);
	tuplestore_end(rows->store);
	pfree(rows);
}

/* ---- cursors ---- */

SpiCursor *
spi_cursor_open(const char *sql, SqlArgs *args)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	SpiCursor  *cursor = palloc(sizeof(SpiCursor));

	cursor->portal = SPI_cursor_open_with_args(NULL, sql,
											   args ? args->n : 0,
											   args ? args->types : NULL,
											   args ? args->values : NULL,
											   args ? args->nulls : NULL,
											   true, CURSOR_OPT_NO_SCROLL);
	MemoryContextSwitchTo(oldcontext);
	if (cursor->portal == NULL)
		spi_fail("SPI_cursor_open", SPI_result);
	return cursor;
}

uint64
spi_cursor_fetch(SpiCursor *cursor, long n)
{
	MemoryContext oldcontext = CurrentMemoryContext;

	SPI_freetuptable(SPI_tuptable);
	SPI_cursor_fetch(cursor->portal, true, n);
	MemoryContextSwitchTo(oldcontext);
	return SPI_processed;
}

void
spi_cursor_close(SpiCursor *cursor)
{
	SPI_cursor_close(cursor->portal);
	pfree(cursor);
}
