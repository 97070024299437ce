/*-------------------------------------------------------------------------
 *
 * undo.c
 *	  Put back what a backfill has changed.
 *
 * The log (evmig.job_undo) is read with the extension's rights and handed to
 * the job's role as one jsonb a batch.  A row is found by its primary key as
 * it was written, without one by its TID, and restored only where every
 * column still holds what the backfill wrote.  What fails is halved down to
 * the row.
 *
 * The log outlives the row in evmig.job: it is dumped and restored, jobs are
 * not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "backfill/batch.h"
#include "base/privilege.h"
#include "base/row_lock.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "base/subxact.h"
#include "evmig.h"
#include "job/chunk.h"
#include "job/governor.h"
#include "job/kinds.h"
#include "job/worker.h"

PG_FUNCTION_INFO_V1(evmig_backfill_undo);
PG_FUNCTION_INFO_V1(evmig_backfill_undo_purge);

typedef struct UndoState
{
	int64		of;				/* the backfill's job */
	char	   *find;			/* ids of rows that hold what was written */
	char	   *lock;			/* those that could be locked */
	char	   *update;
	char	   *left;			/* TIDs of rows that are not undone */
	Pace		pace;
	int64		cursor;			/* the last undo_id looked at */
	int			passes;
	int64		skipped;		/* in this pass */
} UndoState;

/* whose log it is, and of which table */
typedef struct Log
{
	int64		job;
	char	   *state;			/* of the job; NULL: its row is gone */
	char	   *name;
	Oid			target;
	bool		empty;
	bool		keyless;		/* rows that only a TID tells apart */
} Log;

/* ---- the SQL functions ---- */

/* The log of a job that has ended and that the current user may see. */
static void
read_log(Log *log, int64 job)
{
	SqlArgs		args = {0};

	log->job = job;
	arg_int8(&args, job);
	if (spi_catalog("SELECT j.state, j.name, coalesce(j.target, u.target::oid), coalesce(j.owner, u.owner::oid),"
					" coalesce(j.run_as, u.owner::oid), u.job_id IS NULL, EXISTS"
					"  (SELECT FROM evmig.job_undo k WHERE k.job_id = $1 AND k.row_key IS NULL)"
					" FROM (SELECT * FROM evmig.job WHERE job_id = $1 AND kind = 'backfill') j FULL JOIN"
					" (SELECT * FROM evmig.job_undo WHERE job_id = $1 LIMIT 1) u USING (job_id)", &args) == 0 ||
		(!has_privs_of_role(GetUserId(), spi_oid(0, 3)) &&
		 !has_privs_of_role(GetUserId(), spi_oid(0, 4))))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill job " INT64_FORMAT " does not exist", job),
				 errhint("SELECT * FROM evmig_jobs shows the jobs that you may see.")));
	log->state = spi_text(0, 0);
	log->name = spi_isnull(0, 1) ? psprintf("job " INT64_FORMAT, job) : spi_text(0, 1);
	log->target = spi_oid(0, 2);
	log->empty = spi_bool(0, 5);
	log->keyless = spi_bool(0, 6);
	if (log->state && (strcmp(log->state, "queued") == 0 || strcmp(log->state, "running") == 0 ||
					   strcmp(log->state, "paused") == 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is %s", job, log->state),
				 errhint("Cancel it, or wait until it has ended.")));
}

/*
 * evmig_backfill_undo(job bigint) returns bigint
 *
 * Start a job that restores the rows which still hold what the job wrote.
 */
Datum
evmig_backfill_undo(PG_FUNCTION_ARGS)
{
	int64		of = PG_GETARG_INT64(0);
	JobRequest	request = {"undo"};
	Target	   *target;
	Log			log;

	require_writable();
	spi_begin();
	read_log(&log, of);
	if (log.empty)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing was logged by job " INT64_FORMAT, of),
				 errdetail("It changed no row, or its backfill was not registered with undo, or the log was purged.")));
	if (log.state == NULL && log.keyless)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the rows that job " INT64_FORMAT " changed cannot be found any more", of),
				 errdetail("The log was restored from a dump, and the table had no primary key.")));
	request.name = psprintf("undo of %s", log.name);
	request.spec = psprintf("{\"of\": " INT64_FORMAT "}", of);
	target = target_resolve(log.target, NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY);
	of = job_create(target, &request);
	spi_end();
	PG_RETURN_INT64(of);
}

/*
 * evmig_backfill_undo_purge(job bigint) returns bigint
 *
 * Forget what a job has logged for undo; returns how many rows.
 */
Datum
evmig_backfill_undo_purge(PG_FUNCTION_ARGS)
{
	int64		of = PG_GETARG_INT64(0);
	SqlArgs		args = {0};
	int64		purged;
	Log			log;

	require_writable();
	spi_begin();
	read_log(&log, of);
	arg_int8(&args, of);
	if (spi_catalog("SELECT job_id FROM evmig.job WHERE kind = 'undo' AND (spec ->> 'of')::bigint = $1"
					" AND state IN ('queued', 'running', 'paused') LIMIT 1", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " is undoing job " INT64_FORMAT, spi_int8(0, 0), of),
				 errhint("Cancel it, or wait until it has ended.")));
	purged = (int64) spi_catalog("DELETE FROM evmig.job_undo WHERE job_id = $1", &args);
	spi_end();
	PG_RETURN_INT64(purged);
}

/* ---- the job ---- */

/*
 * " AND column still holds new".  The text is read and printed again: it may
 * have been written under another TimeZone or bytea_output.
 */
static void
append_holds(StringInfo buf, const char *column, const char *type)
{
	char	   *now = value_as_text("o", column);
	char	   *then = psprintf("(u.r OPERATOR(pg_catalog.->) 'new' OPERATOR(pg_catalog.->>) %s)",
								quote_literal_cstr(column));

	appendStringInfo(buf, " AND CASE WHEN (%s) IS NULL THEN %s IS NULL ELSE %s IS NOT NULL"
					 " AND (%s) OPERATOR(pg_catalog.=) pg_catalog.format('%%s', (%s)::%s) END",
					 now, then, then, now, then, type);
}

/* How a logged row finds its row in the table. */
static void
append_match(StringInfo buf, Target *target, char **key, int nkey)
{
	if (nkey == 0)
		appendStringInfoString(buf, "o.ctid OPERATOR(pg_catalog.=) (u.r OPERATOR(pg_catalog.->>) 'tid')::pg_catalog.tid");
	for (int i = 0; i < nkey; i++)
	{
		Oid			type = get_atttype(target->relid, get_attnum(target->relid, key[i]));

		appendStringInfo(buf, "%so.%s %s (u.r OPERATOR(pg_catalog.->) 'key' OPERATOR(pg_catalog.->>) %s)::%s",
						 i ? " AND " : "", quote_identifier(key[i]),
						 quote_operator(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr),
						 quote_literal_cstr(key[i]), quote_type(type, -1));
	}
}

static void
compose_undo(UndoState *state, Target *target, char **columns, int ncolumns)
{
	StringInfoData match;
	StringInfoData set;
	char	  **key;
	int			nkey = primary_key_columns(target->relid, &key);

	initStringInfo(&match);
	initStringInfo(&set);
	append_match(&match, target, key, nkey);
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber	attno = get_attnum(target->relid, columns[i]);
		Oid			type;
		int32		typmod;
		Oid			collation;

		if (attno == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist", columns[i], target->name)));
		get_atttypetypmodcoll(target->relid, attno, &type, &typmod, &collation);
		append_holds(&match, columns[i], quote_type(type, typmod));
		appendStringInfo(&set, "%s%s = (u.r OPERATOR(pg_catalog.->) 'old' OPERATOR(pg_catalog.->>) %s)::%s",
						 i ? ", " : "", quote_identifier(columns[i]),
						 quote_literal_cstr(columns[i]), quote_type(type, typmod));
	}
	state->find = psprintf("SELECT (u.r OPERATOR(pg_catalog.->>) 'id')::pg_catalog.int8 FROM pg_catalog.jsonb_array_elements($1) AS u(r)"
						   " JOIN ONLY %s AS o ON %s", target->quoted, match.data);
	state->lock = psprintf("%s FOR UPDATE OF o SKIP LOCKED", state->find);
	state->left = psprintf("SELECT o.ctid FROM pg_catalog.jsonb_array_elements($1) AS u(r)"
						   " JOIN ONLY %s AS o ON %s", target->quoted, match.data);
	state->update = psprintf("UPDATE ONLY %s AS o SET %s FROM pg_catalog.jsonb_array_elements($1) AS u(r)"
							 " WHERE (u.r OPERATOR(pg_catalog.->>) 'id')::pg_catalog.int8 OPERATOR(pg_catalog.=) ANY ($2)"
							 " AND %s", target->quoted, set.data, match.data);
}

static void
undo_prepare(Job *job)
{
	UndoState  *state = MemoryContextAllocZero(job->context, sizeof(UndoState));
	MemoryContext oldcontext;
	Target	   *target;
	SqlArgs		args = {0};
	char	  **columns;
	int			n;

	governor_pace_init(&state->pace);
	job_begin(job);
	(void) job_check_target(job);
	oldcontext = MemoryContextSwitchTo(job->context);
	target = target_resolve(job->target, NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY);
	state->of = job_spec_int8(job, "of", 0);
	arg_int8(&args, state->of);
	n = (int) spi_catalog("SELECT k FROM (SELECT new_values FROM evmig.job_undo WHERE job_id = $1 LIMIT 1) u,"
						  " pg_catalog.jsonb_object_keys(u.new_values) k", &args);
	columns = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		columns[i] = spi_text(i, 0);
	if (n > 0)
		compose_undo(state, target, columns, n);
	MemoryContextSwitchTo(oldcontext);
	job_commit(job);
	job->state = state;
	job_phase(job, "restoring", -1);
}

/* Ids as an argument, and those of the last result. */
static void
arg_ids(SqlArgs *args, const int64 *ids, int n)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(ids[i]);
	arg_datum(args, INT8ARRAYOID,
			  PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)), false);
}

static int64 *
result_ids(int *n)
{
	int64	   *ids;

	*n = (int) spi_nrows();
	ids = palloc(sizeof(int64) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		ids[i] = spi_int8(i, 0);
	return ids;
}

/* Rows of the log, as the composed statements take them. */
static char *
log_rows(UndoState *state, const int64 *ids, int n)
{
	SqlArgs		args = {0};

	arg_int8(&args, state->of);
	arg_ids(&args, ids, n);
	spi_catalog("SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', undo_id, 'tid', row_tid::text,"
				" 'key', row_key, 'old', old_values, 'new', new_values)), '[]')::text"
				" FROM evmig.job_undo WHERE job_id = $1 AND undo_id = ANY ($2)", &args);
	return spi_text(0, 0);
}

/* Restore some rows of the log. */
static void
restore_rows(UndoState *state, const int64 *ids, int n, ChunkCounts *counts)
{
	SqlArgs		find = {0};
	SqlArgs		update = {0};
	SqlArgs		mark = {0};
	SqlArgs		none = {0};
	char	   *rows = log_rows(state, ids, n);
	int64	   *holding;
	int64	   *locked;
	int			nholding;
	int			nlocked;

	arg_jsonb(&find, rows);
	spi_run_cached(state->find, &find);
	holding = result_ids(&nholding);
	spi_run_cached(state->lock, &find);
	locked = result_ids(&nlocked);
	if (nlocked > 0)
	{
		arg_jsonb(&update, rows);
		arg_ids(&update, locked, nlocked);
		counts->changed += spi_run_cached(state->update, &update);
		spi_run_cached("SET CONSTRAINTS ALL IMMEDIATE", &none);
	}
	counts->unchanged += n - nholding;
	counts->skipped += nholding - nlocked;
	arg_int8(&mark, state->of);
	arg_ids(&mark, ids, n);
	arg_ids(&mark, holding, nholding);
	arg_ids(&mark, locked, nlocked);
	spi_catalog("UPDATE evmig.job_undo SET undone = CASE WHEN undo_id = ANY ($4) THEN 'restored' ELSE 'kept' END"
				" WHERE job_id = $1 AND undo_id = ANY ($2) AND undone IS NULL"
				" AND (undo_id = ANY ($4) OR undo_id <> ALL ($3))", &mark);
}

typedef struct RestoreCall
{
	UndoState  *state;
	const int64 *ids;
	int			n;
	ChunkCounts *counts;
} RestoreCall;

static void
call_restore(void *arg)
{
	RestoreCall *call = arg;

	spi_begin();
	restore_rows(call->state, call->ids, call->n, call->counts);
	spi_end();
}

/* NULL, or the error with everything undone. */
static ErrorData *
try_restore(UndoState *state, const int64 *ids, int n, ChunkCounts *counts)
{
	RestoreCall call = {state, ids, n, counts};
	ChunkCounts before = *counts;
	ErrorData  *error = subxact_try(call_restore, &call);

	if (error)
		*counts = before;
	return error;
}

/* Write down a row that cannot be restored, once in a job; it stays in the log. */
static void
record_undo_failure(Job *job, UndoState *state, int64 id, const ErrorData *error, ChunkCounts *counts)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_int8(&args, state->of);
	arg_int8(&args, id);
	arg_text(&args, unpack_sql_state(error->sqlerrcode));
	arg_text(&args, error->message);
	counts->failed += spi_catalog("INSERT INTO evmig.job_failure (job_id, row_tid, row_key, sqlstate, message)"
								  " SELECT $1, u.row_tid, u.row_key::text, $4, $5 FROM evmig.job_undo u"
								  " WHERE u.job_id = $2 AND u.undo_id = $3 AND NOT EXISTS"
								  "  (SELECT FROM evmig.job_failure f WHERE f.job_id = $1 AND CASE WHEN u.row_key IS NULL"
								  "   THEN f.row_tid = u.row_tid ELSE f.row_key = u.row_key::text END)", &args);
}

/* Restore rows; what fails is halved down to the row. */
static void
settle_undo(Job *job, UndoState *state, const int64 *ids, int n, ChunkCounts *counts)
{
	ErrorData  *error;

	CHECK_FOR_INTERRUPTS();
	error = try_restore(state, ids, n, counts);
	if (error == NULL)
		return;
	if (!is_row_error(error))
		ReThrowError(error);
	if (n == 1)
	{
		record_undo_failure(job, state, ids[0], error, counts);
		return;
	}
	FreeErrorData(error);
	settle_undo(job, state, ids, n / 2, counts);
	settle_undo(job, state, ids + n / 2, n - n / 2, counts);
}

static bool
undo_batch(Job *job)
{
	UndoState  *state = job->state;
	ChunkCounts counts = {0};
	uint64		wal = pgWalUsage.wal_bytes;
	TimestampTz start = GetCurrentTimestamp();
	SqlArgs		args = {0};
	int64	   *ids;
	int			n;

	if (state->find == NULL)
		return false;
	job_begin(job);
	(void) job_check_target(job);
	job_wait_for_rows(job, NIL);
	arg_int8(&args, state->of);
	arg_int8(&args, state->cursor);
	arg_int4(&args, pace_rows(&state->pace));
	spi_catalog("SELECT undo_id FROM evmig.job_undo WHERE job_id = $1 AND undone IS NULL AND undo_id > $2"
				" ORDER BY undo_id LIMIT $3", &args);
	ids = result_ids(&n);
	if (n > 0)
	{
		settle_undo(job, state, ids, n, &counts);
		state->skipped += counts.skipped;
		counts.skipped = 0;		/* they come again */
		counts.ms = (GetCurrentTimestamp() - start) / 1000.0;
		chunk_count(job, &counts);
	}
	job_commit(job);
	if (n > 0)
	{
		state->cursor = ids[n - 1];
		governor_rest(job, &state->pace,
					  pace_next(&state->pace, n, (GetCurrentTimestamp() - start) / 1000.0,
								pgWalUsage.wal_bytes - wal));
	}
	else if (state->skipped > 0 && ++state->passes < evmig_max_passes)
	{
		/* what was locked is likely to be locked still */
		state->skipped = 0;
		state->cursor = 0;
		worker_sleep(job, 100.0 * (1 << Min(state->passes, 5)));
		return true;
	}
	return n > 0;
}

static char *
undo_lockers(Job *job, UndoState *state)
{
	SqlArgs		args = {0};
	SqlArgs		find = {0};
	int64	   *ids;
	int			n;

	arg_int8(&args, state->of);
	spi_catalog("SELECT undo_id FROM evmig.job_undo WHERE job_id = $1 AND undone IS NULL LIMIT 1000", &args);
	ids = result_ids(&n);
	arg_jsonb(&find, log_rows(state, ids, n));
	return row_lockers(job->target, LockTupleExclusive, state->left, &find, NULL);
}

static bool
undo_verify(Job *job)
{
	UndoState  *state = job->state;
	SqlArgs		args = {0};
	SqlArgs		own = {0};
	int64		left;
	int64		failed;
	char	   *lockers = NULL;

	job_begin(job);
	arg_int8(&args, state->of);
	spi_catalog("SELECT count(*) FROM evmig.job_undo WHERE job_id = $1 AND undone IS NULL", &args);
	left = spi_int8(0, 0);
	arg_int8(&own, job->id);
	spi_catalog("SELECT count(*) FROM evmig.job_failure WHERE job_id = $1", &own);
	failed = spi_int8(0, 0);
	if (left > failed)
		lockers = undo_lockers(job, state);
	if (left == 0)
		job_outcome(job, "succeeded", 0, NULL);
	else if (left <= failed)
		job_outcome(job, "incomplete", left,
					INT64_FORMAT " rows could not be restored; evmig_failures says why", left);
	else
		job_outcome(job, "incomplete", left, INT64_FORMAT " rows are left; rows are locked by %s",
					left, lockers ? lockers : "sessions that are gone by now");
	job_commit(job);
	return false;
}

const JobKind undo_kind = {
	.name = "undo",
	.prepare = undo_prepare,
	.batch = undo_batch,
	.verify = undo_verify,
};
