/*-------------------------------------------------------------------------
 *
 * statements.c
 *	  Latencies of the writes on a table as pg_stat_statements has them, for
 *	  tables that are not measured.
 *
 * Which of its entries write the table is asked of the server's own parser.
 * There are no percentiles in there: of n_i executions with mean m_i and
 * deviation s_i,
 *
 *		mean m = sum(n_i m_i) / n,  deviation s = sqrt(sum(n_i (s_i^2 + m_i^2)) / n - m^2)
 *
 * and the 95th and 99th percentile are taken as m + 1.645 s and m + 2.326 s, as
 * if they were normally distributed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <math.h>

#include "parser/parser.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "base/subxact.h"
#include "kpi/kpi.h"

/* The relation that a statement writes at its top level; NULL for none. */
static RangeVar *
written_name(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_InsertStmt:
			return ((InsertStmt *) stmt)->relation;
		case T_UpdateStmt:
			return ((UpdateStmt *) stmt)->relation;
		case T_DeleteStmt:
			return ((DeleteStmt *) stmt)->relation;
		case T_MergeStmt:
			return ((MergeStmt *) stmt)->relation;
		case T_CopyStmt:
			return ((CopyStmt *) stmt)->is_from ? ((CopyStmt *) stmt)->relation : NULL;
		default:
			return NULL;
	}
}

typedef struct ParseCall
{
	const char *text;
	List	   *stmts;
} ParseCall;

static void
call_parser(void *arg)
{
	ParseCall  *call = arg;

	call->stmts = raw_parser(call->text, RAW_PARSE_DEFAULT);
}

/* What somebody's text holds must not fail us. */
static List *
parse(const char *text)
{
	ParseCall	call = {text};
	ErrorData  *error = subxact_try(call_parser, &call);

	if (error && is_cancel(error))
		ReThrowError(error);
	return call.stmts;
}

static bool
writes_table(const char *text, const char *schema, const char *name)
{
	List	   *stmts = parse(text);
	RangeVar   *written = list_length(stmts) == 1 ?
		written_name(linitial_node(RawStmt, stmts)->stmt) : NULL;

	return written && strcmp(written->relname, name) == 0 &&
		(written->schemaname == NULL || strcmp(written->schemaname, schema) == 0);
}

/* The extension's view, quoted; NULL where it is not there or not loaded. */
static char *
statements_view(void)
{
	SqlArgs		none = {0};

	if (GetConfigOption("pg_stat_statements.track", true, false) == NULL ||
		spi_catalog("SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)"
					" FROM pg_catalog.pg_extension e"
					" JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass"
					"  AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass"
					" JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relname = 'pg_stat_statements'"
					" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
					" WHERE e.extname = 'pg_stat_statements'", &none) == 0)
		return NULL;
	return spi_text(0, 0);
}

static void
set_latency(KpiFigure *figure, double ms, const char *source)
{
	figure->known = true;
	figure->value = ms;
	figure->source = source;
	figure->as_of = GetCurrentTimestamp();
}

bool
kpi_from_statements(Oid relid, KpiFigure figures[KPI_COLS])
{
	char	   *view = statements_view();
	char	   *name = get_rel_name(relid);
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	SqlArgs		args = {0};
	double		n = 0;
	double		sum = 0;
	double		squares = 0;
	double		longest = 0;
	double		mean;
	double		deviation;

	if (view == NULL || name == NULL || schema == NULL)
		return false;
	arg_text(&args, name);

	/* the name may be folded, and quotes in it are doubled */
	spi_catalog(psprintf("SELECT query, calls, mean_exec_time, stddev_exec_time, max_exec_time FROM %s"
						 " WHERE dbid = (SELECT oid FROM pg_catalog.pg_database"
						 "  WHERE datname = pg_catalog.current_database())"
						 " AND calls > 0 AND toplevel AND pg_catalog.strpos("
						 "  pg_catalog.lower(pg_catalog.replace(query, '\"\"', '\"')), pg_catalog.lower($1)) > 0",
						 view), &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		double		calls = (double) spi_int8(i, 1);
		double		m = spi_float8(i, 2);
		double		s = spi_float8(i, 3);

		if (!writes_table(spi_text(i, 0), schema, name))
			continue;
		n += calls;
		sum += calls * m;
		squares += calls * (s * s + m * m);
		longest = Max(longest, spi_float8(i, 4));
	}
	if (n == 0)
		return false;
	mean = sum / n;
	deviation = sqrt(Max(squares / n - mean * mean, 0));
	set_latency(&figures[KPI_COL_P50_MS], mean, "pg_stat_statements: the mean");
	set_latency(&figures[KPI_COL_P95_MS], mean + 1.645 * deviation,
				"pg_stat_statements: the mean plus 1.645 deviations");
	set_latency(&figures[KPI_COL_P99_MS], mean + 2.326 * deviation,
				"pg_stat_statements: the mean plus 2.326 deviations");
	set_latency(&figures[KPI_COL_MAX_MS], longest, "pg_stat_statements");
	return true;
}
