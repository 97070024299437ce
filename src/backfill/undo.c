/*-------------------------------------------------------------------------
 *
 * undo.c
 *	  Put back what a backfill has changed.
 *
 * The log (evmig.job_undo) is read with the extension's rights and handed to
 * the job's role as one jsonb a batch.  A row is found by its primary key as
 * it was written, without one by its TID, and restored only where every
 * column still holds what the backfill wrote.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "backfill/batch.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "job/chunk.h"
#include "job/kinds.h"
#include "job/worker.h"

PG_FUNCTION_INFO_V1(evmig_backfill_undo);

typedef struct UndoState
{
	int64		of;				/* the backfill's job */
	char	   *find;			/* ids of rows that hold what was written */
	char	   *lock;			/* those that could be locked */
	char	   *update;
	int64		cursor;			/* the last undo_id looked at */
	int			passes;
	int64		skipped;		/* in this pass */
} UndoState;

/* ---- the SQL function ---- */

/*
 * evmig_backfill_undo(job bigint) returns bigint
 *
 * Start a job that restores the rows which still hold what the job wrote.
 */
Datum
evmig_backfill_undo(PG_FUNCTION_ARGS)
{
	int64		of = PG_GETARG_INT64(0);
	SqlArgs		args = {0};
	JobRequest	request = {"undo"};
	Target	   *target;
	Oid			relid;
	char	   *state;

	require_writable();
	spi_begin();
	arg_int8(&args, of);
	if (spi_catalog("SELECT state, target, owner, run_as, name, EXISTS (SELECT FROM evmig.job_undo u WHERE u.job_id = $1)"
					" FROM evmig.job WHERE job_id = $1 AND kind = 'backfill' FOR UPDATE", &args) == 0 ||
		(!has_privs_of_role(GetUserId(), spi_oid(0, 2)) &&
		 !has_privs_of_role(GetUserId(), spi_oid(0, 3))))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill job " INT64_FORMAT " does not exist", of),
				 errhint("SELECT * FROM evmig_jobs shows the jobs that you may see.")));
	state = spi_text(0, 0);
	relid = spi_oid(0, 1);
	if (strcmp(state, "queued") == 0 || strcmp(state, "running") == 0 || strcmp(state, "paused") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " is %s", of, state),
				 errhint("Cancel it, or wait until it has ended.")));
	if (!spi_bool(0, 5))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing was logged by job " INT64_FORMAT, of),
				 errdetail("It changed no row, or its backfill was not registered with undo.")));
	request.name = psprintf("undo of %s", spi_text(0, 4));
	request.spec = psprintf("{\"of\": " INT64_FORMAT "}", of);
	target = target_resolve(relid, NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY);
	of = job_create(target, &request);
	spi_end();
	PG_RETURN_INT64(of);
}

/* ---- the job ---- */

/* " AND column still holds new" */
static void
append_holds(StringInfo buf, const char *column)
{
	char	   *now = value_as_text("o", column);
	char	   *then = psprintf("(u.r OPERATOR(pg_catalog.->) 'new' OPERATOR(pg_catalog.->>) %s)",
								quote_literal_cstr(column));

	appendStringInfo(buf, " AND CASE WHEN (%s) IS NULL THEN %s IS NULL ELSE %s IS NOT NULL"
					 " AND (%s) OPERATOR(pg_catalog.=) %s END", now, then, then, now, then);
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
		append_holds(&match, columns[i]);
		appendStringInfo(&set, "%s%s = (u.r OPERATOR(pg_catalog.->) 'old' OPERATOR(pg_catalog.->>) %s)::%s",
						 i ? ", " : "", quote_identifier(columns[i]),
						 quote_literal_cstr(columns[i]), quote_type(type, typmod));
	}
	state->find = psprintf("SELECT (u.r OPERATOR(pg_catalog.->>) 'id')::pg_catalog.int8 FROM pg_catalog.jsonb_array_elements($1) AS u(r)"
						   " JOIN ONLY %s AS o ON %s", target->quoted, match.data);
	state->lock = psprintf("%s FOR UPDATE OF o SKIP LOCKED", state->find);
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

/* the ids of the last result as an argument */
static int
arg_ids(SqlArgs *args)
{
	int			n = (int) spi_nrows();
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(spi_int8(i, 0));
	arg_datum(args, INT8ARRAYOID,
			  PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)), false);
	return n;
}

/* Restore the rows of one batch of the log. */
static void
restore_rows(Job *job, UndoState *state, const char *rows, int64 first, int64 last, int nrows)
{
	ChunkCounts counts = {0};
	SqlArgs		find = {0};
	SqlArgs		mark = {0};
	SqlArgs		update = {0};
	SqlArgs		none = {0};
	TimestampTz start = GetCurrentTimestamp();
	int			holding;
	int			locked;

	arg_jsonb(&find, rows);
	arg_int8(&mark, state->of);
	arg_int8(&mark, first);
	arg_int8(&mark, last);
	spi_run_cached(state->find, &find);
	holding = arg_ids(&mark);
	arg_jsonb(&update, rows);
	spi_run_cached(state->lock, &find);
	locked = arg_ids(&update);
	mark.types[mark.n] = update.types[1];
	mark.values[mark.n] = update.values[1];
	mark.nulls[mark.n++] = ' ';

	counts.changed = locked > 0 ? spi_run_cached(state->update, &update) : 0;
	spi_run_cached("SET CONSTRAINTS ALL IMMEDIATE", &none);
	counts.unchanged = nrows - holding;
	counts.skipped = holding - locked;
	spi_catalog("UPDATE evmig.job_undo SET undone = CASE WHEN undo_id = ANY ($5) THEN 'restored' ELSE 'kept' END"
				" WHERE job_id = $1 AND undo_id BETWEEN $2 AND $3 AND undone IS NULL"
				" AND (undo_id = ANY ($5) OR undo_id <> ALL ($4))", &mark);
	state->skipped += counts.skipped;
	counts.skipped = 0;			/* they come again */
	counts.ms = (GetCurrentTimestamp() - start) / 1000.0;
	chunk_count(job, &counts);
}

static bool
undo_batch(Job *job)
{
	UndoState  *state = job->state;
	SqlArgs		args = {0};
	int			n;

	if (state->find == NULL)
		return false;
	job_begin(job);
	(void) job_check_target(job);
	arg_int8(&args, state->of);
	arg_int8(&args, state->cursor);
	arg_int4(&args, evmig_batch_size);
	spi_catalog("SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', undo_id, 'tid', row_tid::text,"
				" 'key', row_key, 'old', old_values, 'new', new_values))::text, count(*), min(undo_id), max(undo_id)"
				" FROM (SELECT * FROM evmig.job_undo WHERE job_id = $1 AND undone IS NULL AND undo_id > $2"
				"  ORDER BY undo_id LIMIT $3) u", &args);
	n = (int) spi_int8(0, 1);
	if (n > 0)
	{
		int64		last = spi_int8(0, 3);

		restore_rows(job, state, spi_text(0, 0), spi_int8(0, 2), last, n);
		state->cursor = last;
	}
	job_commit(job);
	if (n > 0)
		worker_sleep(job, evmig_batch_sleep);
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

static bool
undo_verify(Job *job)
{
	UndoState  *state = job->state;
	SqlArgs		args = {0};
	int64		left;

	job_begin(job);
	arg_int8(&args, state->of);
	spi_catalog("SELECT count(*) FROM evmig.job_undo WHERE job_id = $1 AND undone IS NULL", &args);
	left = spi_int8(0, 0);
	job_commit(job);
	if (left == 0)
		job_outcome(job, "succeeded", 0, NULL);
	else
		job_outcome(job, "incomplete", left, INT64_FORMAT " rows are locked by somebody", left);
	return false;
}

const JobKind undo_kind = {
	.name = "undo",
	.prepare = undo_prepare,
	.batch = undo_batch,
	.verify = undo_verify,
};
