/*-------------------------------------------------------------------------
 *
 * readiness.c
 *	  evmig_readiness(): six points of a production check, each measured here
 *	  and now, by a probe that is rolled back or on this database's own jobs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "backfill/batch.h"
#include "backfill/registry.h"
#include "backfill/start.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "deploy/deploy.h"
#include "evmig.h"
#include "guard/guard.h"
#include "guard/rules.h"
#include "job/job.h"

#define PROBE "evmig readiness probe"
#define PASS "pass"
#define FAIL "fail"
#define UNKNOWN "unknown"
#define MAX_BATCH_ROWS 100000

PG_FUNCTION_INFO_V1(evmig_readiness);

/* a point's measure: sets the evidence, returns the result */
typedef struct Point
{
	const char *point;
	const char *(*measure) (StringInfo evidence);
} Point;

/* ---- 1: a backfill that cannot start ---- */

static void
start_broken(void *arg)
{
	bool	   *survived = arg;
	int			nest = NewGUCNestLevel();
	StartSummary summary = {0};
	SqlArgs		args = {0};
	int			n;

	initStringInfo(&summary.failed);
	(void) set_config_option("client_min_messages", "error", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	arg_text(&args, PROBE);
	arg_oid(&args, GetUserId());
	spi_catalog("INSERT INTO evmig.backfill (name, target, owner, set_list, where_clause, search_path,"
				" priority, batch_size, sleep_ms, adaptive, workers, max_failures, undo)"
				" VALUES ($1, 'evmig.job'::regclass, $2::regrole, 'no_such_column = 1', 'true', 'pg_temp',"
				" 'high', 200, 50, true, 1, 0, false)", &args);
	(void) start_all("high", &n, &summary);
	*survived = strstr(summary.failed.data, PROBE) != NULL;
	AtEOXact_GUC(false, nest);
}

/*
 * Register one on a column that does not exist, let the lane start what is due,
 * and roll everything back.  True where the lane came back and named it.
 */
static bool
probe_lane(void)
{
	bool		survived = false;
	ErrorData  *error = subxact_probe(start_broken, &survived);

	if (error && is_cancel(error))
		ReThrowError(error);
	return error == NULL && survived;
}

static const char *
backfills_are_apart(StringInfo evidence)
{
	SqlArgs		none = {0};
	int64		with_failures;
	int64		failed;
	bool		survived;

	spi_catalog("SELECT count(*), count(*) FILTER (WHERE d.state = 'failed'"
				"  AND NOT EXISTS (SELECT FROM evmig.deploy_item i WHERE i.deploy_id = d.deploy_id AND i.status = 'failed'))"
				" FROM evmig.deploy d WHERE EXISTS (SELECT FROM evmig.deploy_item i JOIN evmig.job j ON j.job_id = i.job_id"
				"  WHERE i.deploy_id = d.deploy_id AND i.phase = 'backfills' AND j.state IN ('failed', 'incomplete', 'cancelled'))",
				&none);
	with_failures = spi_int8(0, 0);
	failed = spi_int8(0, 1);
	survived = !RecoveryInProgress() && !XactReadOnly && probe_lane();
	appendStringInfo(evidence, "a backfill that cannot start was given to the lane (and rolled back): %s; "
					 INT64_FORMAT " deployments had a backfill that failed, " INT64_FORMAT " of them failed by it",
					 survived ? "the lane went on with a warning" : "the lane did not go on", with_failures, failed);
	if (RecoveryInProgress() || XactReadOnly)
		return UNKNOWN;
	return survived && failed == 0 ? PASS : FAIL;
}

/* ---- 2: SKIP LOCKED ---- */

static bool
skips_locked(const char *sql)
{
	List	   *statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;

	return list_length(statements) == 1 && IsA(select, SelectStmt) && select->lockingClause != NIL &&
		linitial_node(LockingClause, select->lockingClause)->waitPolicy == LockWaitSkip;
}

/* The statement by which a backfill locks its rows; raises where it can be run no more. */
static char *
lock_statement(const char *name)
{
	Backfill   *b = backfill_load(name);
	BatchSpec	spec = {0};
	Target	   *target = backfill_resolve(b, &spec.definition);

	spec.search_path = b->search_path;
	spec.routine = b->routine;
	spec.tenant_column = b->tenant_column;
	spec.undo = b->undo;
	return batch_lock_statement(target, &spec);
}

typedef struct StatementCall
{
	const char *name;
	char	   *statement;
} StatementCall;

static void
call_lock_statement(void *arg)
{
	StatementCall *call = arg;

	call->statement = lock_statement(call->name);
}

/* NULL for an error, whose message is set. */
static char *
try_lock_statement(const char *name, char **message)
{
	StatementCall call = {name};
	ErrorData  *error = subxact_try(call_lock_statement, &call);

	if (error == NULL)
		return call.statement;
	if (is_cancel(error))
		ReThrowError(error);
	*message = error->message;
	return NULL;
}

static const char *
batches_skip_locked(StringInfo evidence)
{
	SqlArgs		args = {0};
	uint64		n;
	char	  **names;
	bool	   *gone;
	StringInfoData broken;
	char	   *example = NULL;
	int			skipping = 0;

	arg_oid(&args, GetUserId());
	n = spi_catalog("SELECT b.name, c.oid IS NULL FROM evmig.backfill b LEFT JOIN pg_catalog.pg_class c ON c.oid = b.target"
					" WHERE pg_catalog.pg_has_role($1, coalesce(c.relowner, b.owner), 'USAGE') ORDER BY 1", &args);
	names = palloc(sizeof(char *) * (n + 1));
	gone = palloc(n + 1);
	for (uint64 i = 0; i < n; i++)
	{
		names[i] = spi_text(i, 0);
		gone[i] = spi_bool(i, 1);
	}
	initStringInfo(&broken);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *message = "its table does not exist any more";
		char	   *statement = gone[i] ? NULL : try_lock_statement(names[i], &message);

		if (statement == NULL)
			appendStringInfo(&broken, "; backfill \"%s\" can be run no more: %s", names[i], message);
		else
		{
			skipping += skips_locked(statement);
			example = statement;
		}
	}
	appendStringInfo(evidence, "%d of " UINT64_FORMAT " registered backfills of yours lock their rows with SKIP LOCKED, as the server's parser reads it%s%s%s",
					 skipping, n, example ? ": " : "", example ? example : "", broken.data);
	return n == 0 ? UNKNOWN : skipping == n ? PASS : FAIL;
}

/* ---- 3: idempotent and resumable ---- */

static const char *
jobs_are_repeatable(StringInfo evidence)
{
	SqlArgs		none = {0};
	int64		repeated;
	int64		idle;
	int64		resumed;
	int64		lost;
	int64		stranded;

	spi_catalog("SELECT count(*), count(*) FILTER (WHERE changed = 0) FROM"
				" (SELECT (SELECT coalesce(sum(c.changed), 0) FROM evmig.job_chunk c WHERE c.job_id = j.job_id) AS changed,"
				"  pg_catalog.lag(j.state) OVER (PARTITION BY j.name ORDER BY j.job_id) AS before, j.state"
				"  FROM evmig.job j WHERE j.kind = 'backfill') r WHERE state = 'succeeded' AND before = 'succeeded'", &none);
	repeated = spi_int8(0, 0);
	idle = spi_int8(0, 1);
	spi_catalog("SELECT count(*) FILTER (WHERE restarts > 0 AND state = 'succeeded'),"
				" count(*) FILTER (WHERE restarts > 0 AND state = 'failed'),"
				" count(*) FILTER (WHERE " JOB_INTERRUPTED ")"
				" FROM evmig.job j WHERE kind = 'backfill'", &none);
	resumed = spi_int8(0, 0);
	lost = spi_int8(0, 1);
	stranded = spi_int8(0, 2);
	appendStringInfo(evidence, INT64_FORMAT " backfills were run again after they had succeeded, " INT64_FORMAT
					 " of these runs found nothing to write; of those that were interrupted, " INT64_FORMAT
					 " were taken up where they stopped and succeeded, " INT64_FORMAT " failed, and " INT64_FORMAT
					 " wait to be taken up (evmig_jobs_recover() does it)",
					 repeated, idle, resumed, lost, stranded);
	return lost + stranded > 0 ? FAIL : idle > 0 ? PASS : UNKNOWN;
}

/* ---- 4: small batches ---- */

static const char *
batches_are_small(StringInfo evidence)
{
	SqlArgs		none = {0};
	int64		batches;
	int64		rows;
	int64		largest;
	double		ms;
	double		longest;

	spi_catalog("SELECT coalesce(sum(c.batches), 0)::bigint, coalesce(sum(c.changed + c.unchanged + c.failed), 0)::bigint,"
				" coalesce(max(c.last_rows), 0)::bigint, coalesce(sum(c.busy_ms), 0), coalesce(max(c.last_ms), 0)"
				" FROM evmig.job_chunk c JOIN evmig.job j USING (job_id)"
				" WHERE j.kind = 'backfill'", &none);
	batches = spi_int8(0, 0);
	rows = spi_int8(0, 1);
	largest = spi_int8(0, 2);
	ms = spi_float8(0, 3);
	longest = spi_float8(0, 4);
	appendStringInfo(evidence, INT64_FORMAT " rows in " INT64_FORMAT " batches, each a transaction of its own that was committed: "
					 INT64_FORMAT " rows and %.1f ms a batch on average, " INT64_FORMAT
					 " rows and %.1f ms at most in those last seen; wanted are %d ms, allowed %d rows and %d ms",
					 rows, batches, batches > 0 ? rows / batches : 0, batches > 0 ? ms / batches : 0.0,
					 largest, longest, evmig_batch_target_ms, MAX_BATCH_ROWS, evmig_data_statement_timeout);
	if (batches == 0)
		return UNKNOWN;
	return rows / batches <= MAX_BATCH_ROWS && largest <= MAX_BATCH_ROWS &&
		(evmig_data_statement_timeout == 0 || longest <= evmig_data_statement_timeout) ? PASS : FAIL;
}

/* ---- 5: timeouts ---- */

static const char *
timeouts_are_apart(StringInfo evidence)
{
	appendStringInfo(evidence, "data: lock_timeout %d ms, statement_timeout %d ms; migrations: lock_timeout %d ms;"
					 " strong locks elsewhere: %d ms", evmig_data_lock_timeout, evmig_data_statement_timeout,
					 evmig_ddl_lock_timeout, evmig_step_lock_timeout);
	return evmig_data_lock_timeout > 0 && evmig_data_statement_timeout > 0 &&
		evmig_ddl_lock_timeout < evmig_data_lock_timeout && evmig_step_lock_timeout <= evmig_ddl_lock_timeout
		? PASS : FAIL;
}

/* ---- 6: the guard ---- */

/* for each data rule a source that must be found, by tables that do not exist */
static const char *const guard_cases[][2] = {
	{"data-update", "UPDATE evmig_probe_t SET a = 1 WHERE b = 2"},
	{"data-update", "WITH x AS (UPDATE evmig_probe_t SET a = 1 WHERE b = 2 RETURNING a) SELECT * FROM x"},
	{"data-update", "DO $x$ BEGIN IF true THEN EXECUTE 'UPDATE evmig_probe_t ' || 'SET a = 1 WHERE b = 2'; END IF; END $x$"},
	{"data-delete", "DELETE FROM evmig_probe_t WHERE a = 1"},
	{"data-insert-select", "INSERT INTO evmig_probe_t SELECT * FROM evmig_probe_u"},
	{"data-insert-values", "INSERT INTO evmig_probe_t VALUES (1)"},
	{"data-merge", "MERGE INTO evmig_probe_t t USING evmig_probe_u u ON t.a = u.a WHEN MATCHED THEN DELETE"},
	{"data-copy", "COPY evmig_probe_t FROM STDIN"},
	{"data-truncate", "TRUNCATE evmig_probe_t"},
	{"data-select-into", "SELECT * INTO evmig_probe_v FROM evmig_probe_t"},
	{"data-create-table-as", "CREATE TABLE evmig_probe_v AS SELECT * FROM evmig_probe_t"},
	{"data-refresh", "REFRESH MATERIALIZED VIEW evmig_probe_m"},
	{"data-setval", "SELECT setval('evmig_probe_s', 7)"},
	{"data-helper", "SELECT exec_dml('anything')"},
	{NULL, "CREATE TABLE evmig_probe_n (a int, updated_at timestamptz); COMMENT ON TABLE evmig_probe_n IS 'DELETE FROM t';"
		" GRANT UPDATE ON evmig_probe_n TO PUBLIC; INSERT INTO evmig_probe_n VALUES (1, now())"},
};

static bool
finds(const char *rule, const char *sql)
{
	Guard	   *guard = guard_inspect(sql, strlen(sql), PROBE, "sql");
	ListCell   *lc;

	foreach(lc, guard->findings)
	{
		GuardFinding *f = lfirst(lc);

		if (rule ? strcmp(f->rule->id, rule) == 0 : f->rule->data)
			return true;
	}
	return false;
}

/* Is there a case for every data rule? */
static int
rules_without_case(StringInfo missing)
{
	int			n = 0;

	for (int i = 0; i < guard_data_rules.n; i++)
	{
		const GuardRule *rule = &guard_data_rules.rules[i];
		bool		covered = strncmp(rule->id, "data-", 5) != 0;

		for (int c = 0; c < lengthof(guard_cases) && !covered; c++)
			covered = guard_cases[c][0] && strcmp(guard_cases[c][0], rule->id) == 0;
		if (!covered)
			appendStringInfo(missing, "%s%s", n++ > 0 ? ", " : "", rule->id);
	}
	return n;
}

static const char *
guard_finds_all(StringInfo evidence)
{
	StringInfoData missed;
	StringInfoData missing;
	int			found = 0;
	int			uncovered;
	int			nest = NewGUCNestLevel();

	initStringInfo(&missed);
	initStringInfo(&missing);
	/* not the caller's to set, but for our own cases */
	(void) set_config_option("evmig.guard_insert_values", "warning", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("evmig.guard_dml_functions", "exec_dml", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	for (int c = 0; c < lengthof(guard_cases); c++)
		if (finds(guard_cases[c][0], guard_cases[c][1]) == (guard_cases[c][0] != NULL))
			found++;
		else
			appendStringInfo(&missed, "%s%s", missed.len > 0 ? "; " : ": wrong: ", guard_cases[c][1]);
	AtEOXact_GUC(false, nest);
	uncovered = rules_without_case(&missing);
	appendStringInfo(evidence, "%d of %d cases judged right, schema changes that only look like data changes among them%s%s%s",
					 found, (int) lengthof(guard_cases), missed.data,
					 uncovered > 0 ? "; rules without a case: " : "", missing.data);
	return found == lengthof(guard_cases) && uncovered == 0 ? PASS : FAIL;
}

/* ---- the function ---- */

static const Point points[] = {
	{"backfills cannot fail a deployment", backfills_are_apart},
	{"batches skip what is locked", batches_skip_locked},
	{"backfills are idempotent and resumable", jobs_are_repeatable},
	{"small batches, each committed", batches_are_small},
	{"timeouts for data and for DDL apart", timeouts_are_apart},
	{"the guard catches every data rule", guard_finds_all},
};

/*
 * evmig_readiness() returns rows (point, evidence, result)
 */
Datum
evmig_readiness(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	require_deployer();
	InitMaterializedSRF(fcinfo, 0);
	spi_begin();
	for (int i = 0; i < lengthof(points); i++)
	{
		StringInfoData evidence;
		Datum		values[3];
		bool		nulls[3] = {0};

		initStringInfo(&evidence);
		values[2] = CStringGetTextDatum(points[i].measure(&evidence));
		values[0] = CStringGetTextDatum(points[i].point);
		values[1] = CStringGetTextDatum(evidence.data);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	spi_end();
	return (Datum) 0;
}
