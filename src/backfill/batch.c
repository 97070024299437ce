/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  The rows of one batch of a registered backfill.
 *
 * One statement, under the registrant's search_path, computes the new values
 * and says which rows a write would leave as they are.  Another one, under
 * the role's own search_path because triggers expect it, writes the rest: it
 * holds no user expression, and finds a row by TID and xmin, so by the very
 * version that the values were computed from.
 *
 * Both run in one subtransaction, first without waiting for anybody; where
 * somebody holds one of the rows, they are locked with SKIP LOCKED first.
 * What fails for another reason is halved down to the row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "backfill/batch_internal.h"
#include "base/row_lock.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "evmig.h"

#define NO_WAIT_MS "1"
#define CONTENDED_BATCHES 10	/* that lock first, after a clash */

/* the rows that a step works on: TIDs, or a range of them */
typedef struct Selection
{
	const ItemPointerData *tids;	/* NULL: the range */
	int			n;
	ItemPointer from;
	ItemPointer to;
	int			limit;
} Selection;

Batch *
batch_prepare(Job *job, Target *target, const BatchSpec *spec)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(job->context);
	Batch	   *batch = palloc0(sizeof(Batch));

	batch->spec = *spec;
	batch->job = job;
	batch->relid = target->relid;
	batch->changed_before = -1;
	statements_compose(batch, target);
	load_failures(batch);
	MemoryContextSwitchTo(oldcontext);
	return batch;
}

char *
batch_lock_statement(Target *target, const BatchSpec *spec)
{
	Batch	   *batch = palloc0(sizeof(Batch));

	batch->spec = *spec;
	batch->relid = target->relid;
	statements_compose(batch, target);
	return batch->lock;
}

/* ---- working on rows ---- */

static void
set_no_wait(void)
{
	(void) set_config_option("lock_timeout", NO_WAIT_MS, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Rows of the last result as an array of TIDs. */
static ItemPointerData *
result_tids(int *n)
{
	ItemPointerData *tids;

	*n = (int) spi_nrows();
	tids = palloc_extended(sizeof(ItemPointerData) * Max(*n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < *n; i++)
		spi_tid(i, COL_TID, &tids[i]);
	return tids;
}

/* Run a statement that holds the user's expressions. */
static void
run_user(Batch *batch, const char *sql, const Selection *rows)
{
	SqlArgs		args = {0};
	int			nest_level = definition_path_begin(batch->spec.search_path);

	if (rows->tids)
		arg_tids(&args, rows->tids, rows->n);
	else if (rows->from)
	{
		arg_datum(&args, TIDOID, PointerGetDatum(rows->from), false);
		arg_datum(&args, TIDOID, PointerGetDatum(rows->to), false);
		arg_int8(&args, rows->limit);
	}
	spi_run_cached(sql, &args);
	definition_path_end(nest_level);
}

/* Lock what can be locked without waiting; count the rest as skipped. */
static ItemPointerData *
lock_rows(Batch *batch, const Selection *rows, int *nlocked)
{
	ItemPointerData *locked;
	SqlArgs		args = {0};
	int			j = 0;

	arg_tids(&args, rows->tids, rows->n);
	spi_run_cached(batch->lock, &args);
	locked = result_tids(nlocked);

	/* both lists are in TID order, as a TID scan returns them */
	for (int i = 0; i < rows->n; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumberNoCheck(&rows->tids[i]);

		if (j < *nlocked && ItemPointerEquals(unconstify(ItemPointerData *, &rows->tids[i]), &locked[j]))
		{
			j++;
			continue;
		}
		if (batch->counts->skipped++ == 0)
			batch->counts->skip_from = batch->counts->skip_to = block;
		batch->counts->skip_from = Min(batch->counts->skip_from, block);
		batch->counts->skip_to = Max(batch->counts->skip_to, block);
	}
	return locked;
}

/* What a trigger left as it was found would be found again for ever. */
static void
check_written(Batch *batch, const ItemPointerData *tids, int n)
{
	Relation	rel = relation_open(batch->relid, AccessShareLock);
	bool		triggers = rel->trigdesc && rel->trigdesc->trig_update_before_row;
	Selection	written = {tids, n};

	relation_close(rel, NoLock);
	if (!triggers)
		return;
	run_user(batch, batch->still, &written);
	if (spi_nrows() > 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("a row still satisfies the predicate after it was written"),
				 errdetail("A trigger put back what the backfill had set.")));
}

/* Write the rows that the last result says are to be written. */
static void
write_rows(Batch *batch)
{
	int			n = (int) spi_nrows();
	SpiRows    *rows = spi_rows_begin(ROWS_NAME);
	int			nwrite = 0;
	SqlArgs		none = {0};
	char	  **columns[3];
	ItemPointerData *tids;

	for (int i = 0; i < n; i++)
	{
		if (!spi_bool(i, COL_UNCHANGED))
		{
			spi_rows_add(rows, i);
			nwrite++;
		}
		else if (batch->count_unchanged)
		{
			batch->counts->unchanged++;
			note_tenant(batch, spi_text(i, COL_TENANT), FATE_UNCHANGED);
		}
	}
	spi_rows_publish(rows);
	if (nwrite > 0)
	{
		spi_run_cached(batch->update, &none);
		tids = result_tids(&n);
		for (int c = 0; c < 3; c++)
			columns[c] = batch->spec.undo ? palloc(sizeof(char *) * Max(n, 1)) : NULL;
		for (int i = 0; i < n; i++)
		{
			if (batch->spec.tenant_column)
				note_tenant(batch, spi_text(i, RET_TENANT), FATE_CHANGED);
			for (int c = 0; batch->spec.undo && c < 3; c++)
				columns[c][i] = spi_text(i, RET_KEY + c);
		}
		batch->counts->changed += n;
		if (batch->spec.undo && n > 0)
			log_undo(batch, tids, columns[0], columns[1], columns[2], n);

		/* a deferred constraint must fail here, where it can be told */
		spi_run_cached("SET CONSTRAINTS ALL IMMEDIATE", &none);
		if (n > 0)
			check_written(batch, tids, n);
	}
	spi_rows_end(rows);
}

/* Let the routine work on locked rows, which satisfy the predicate. */
static void
call_routine(Batch *batch)
{
	int			n;
	ItemPointerData *tids = result_tids(&n);
	char	  **tenants = palloc(sizeof(char *) * Max(n, 1));
	SqlArgs		args = {0};
	SqlArgs		none = {0};
	int64		changed;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		tenants[i] = spi_text(i, COL_TENANT);
	arg_oid(&args, batch->relid);
	arg_tids(&args, tids, n);
	spi_run_cached(batch->call, &args);
	changed = spi_int8(0, 0);
	if (spi_isnull(0, 0) || changed < 0 || changed > n)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("routine %s did not return how many of %d rows it changed",
						batch->spec.routine, n)));
	spi_run_cached("SET CONSTRAINTS ALL IMMEDIATE", &none);
	batch->counts->changed += changed;
	if (batch->count_unchanged)
		batch->counts->unchanged += n - changed;

	/* whose rows it changed is known only where it was all or none */
	for (int i = 0; i < n; i++)
		if (changed == n || (changed == 0 && batch->count_unchanged))
			note_tenant(batch, tenants[i], changed == n ? FATE_CHANGED : FATE_UNCHANGED);
}

static void
work_on(Batch *batch, const Selection *rows, bool lock_first)
{
	int			nest_level = NewGUCNestLevel();
	Selection	locked = {0};

	/* nested, so that an error takes everything along */
	spi_begin();
	if (!lock_first)
		set_no_wait();
	if (lock_first)
	{
		locked.tids = lock_rows(batch, rows, &locked.n);
		rows = &locked;
	}
	run_user(batch, rows->tids ? batch->by_tid : batch->range, rows);
	batch->found = result_tids(&batch->nfound);
	if (batch->spec.routine)
		call_routine(batch);
	else if (batch->nfound > 0)
		write_rows(batch);
	spi_end();
	AtEOXact_GUC(false, nest_level);
}

typedef struct RowsCall
{
	Batch	   *batch;
	const Selection *rows;
	bool		lock_first;
} RowsCall;

static void
call_work_on(void *arg)
{
	RowsCall   *call = arg;

	work_on(call->batch, call->rows, call->lock_first);
}

/*
 * work_on() in a subtransaction: NULL, or the error with everything undone but
 * batch->found, the TIDs that were read.
 */
static ErrorData *
try_rows(Batch *batch, const Selection *rows, bool lock_first)
{
	RowsCall	call = {batch, rows, lock_first};
	ChunkCounts counts = *batch->counts;
	int			ntenants = batch->ntenants;
	ErrorData  *error;

	batch->nfound = -1;
	error = subxact_try(call_work_on, &call);
	if (error)
	{
		*batch->counts = counts;
		batch->ntenants = ntenants;
	}
	return error;
}

bool
is_row_error(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_INVALID_TRANSACTION_STATE:
			return false;
		default:
			return true;
	}
}

/* Work on rows given by TID; what fails is halved down to the row. */
static void
settle(Batch *batch, const Selection *rows)
{
	ErrorData  *error = NULL;
	Selection	half;

	CHECK_FOR_INTERRUPTS();
	if (rows->n == 0 || too_many_failures(batch))
		return;
	if (batch->contended == 0 && batch->spec.routine == NULL)
	{
		error = try_rows(batch, rows, false);
		if (error == NULL)
			return;
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			batch->contended = CONTENDED_BATCHES;
	}
	if (error == NULL || error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		error = try_rows(batch, rows, true);
	if (error == NULL)
		return;
	if (!is_row_error(error))
		ReThrowError(error);
	if (rows->n == 1)
	{
		record_failure(batch, &rows->tids[0], error);
		return;
	}
	FreeErrorData(error);
	half = *rows;
	half.n = rows->n / 2;
	settle(batch, &half);
	half.tids = rows->tids + half.n;
	half.n = rows->n - half.n;
	settle(batch, &half);
}

typedef struct UserCall
{
	Batch	   *batch;
	const char *sql;
	const Selection *rows;
} UserCall;

static void
call_run_user(void *arg)
{
	UserCall   *call = arg;

	(void) run_user(call->batch, call->sql, call->rows);
}

/* Run a user's statement; false where a row makes it fail. */
static bool
run_guarded(Batch *batch, const char *sql, const Selection *rows)
{
	UserCall	call = {batch, sql, rows};
	ErrorData  *error = subxact_try(call_run_user, &call);

	if (error && !is_row_error(error))
		ReThrowError(error);
	return error == NULL;
}

/*
 * Change the rows of a batch: those of the chunk from its cursor to *upto, at
 * most limit, which then lowers *upto.
 */
static void
batch_change(Job *job, void *arg, Chunk *chunk, ItemPointer upto, int limit,
			 ChunkCounts *counts)
{
	Batch	   *batch = arg;
	Selection	range = {NULL, 0, &chunk->cursor, upto, limit};
	Selection	rows = {0};
	ErrorData  *error = NULL;

	batch->chunk = chunk;
	batch->counts = counts;
	batch->count_unchanged = chunk->pass == 1;
	batch->tenants = batch->fates = NULL;
	batch->ntenants = batch->max_tenants = 0;

	job_wait_for_rows(job, batch->spec.definition->relations);
	if (batch->contended == 0 && batch->spec.routine == NULL)
		error = try_rows(batch, &range, false);
	else
	{
		batch->contended = Max(batch->contended - 1, 0);
		batch->nfound = -1;
	}
	if (error && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		batch->contended = CONTENDED_BATCHES;
	else if (error && !is_row_error(error))
		ReThrowError(error);
	if (error || batch->nfound < 0)
	{
		if (batch->nfound < 0)
		{
			if (!run_guarded(batch, batch->find, &range))
				run_user(batch, batch->every, &range);
			batch->found = result_tids(&batch->nfound);
		}
		rows.tids = batch->found;
		rows.n = batch->nfound;
		settle(batch, &rows);
		batch->found = unconstify(ItemPointerData *, rows.tids);
		batch->nfound = rows.n;
	}
	if (batch->nfound == limit)
	{
		*upto = batch->found[limit - 1];
		ItemPointerSetOffsetNumber(upto, ItemPointerGetOffsetNumberNoCheck(upto) + 1);
	}
	write_tenants(batch);
}

/* ---- the last sweep ---- */

/* TIDs of the rows that failed in this job. */
static ItemPointerData *
failed_tids(Batch *batch, int *n)
{
	SqlArgs		args = {0};

	arg_int8(&args, batch->job->id);
	spi_catalog("SELECT row_tid FROM evmig.job_failure WHERE job_id = $1", &args);
	return result_tids(n);
}

/*
 * A routine's rows that are left: as they are, if a whole walk over them has
 * changed none.
 */
static bool
routine_is_done(Batch *batch, int64 left)
{
	int64		changed = chunks_total(batch->job, "changed");
	bool		done = chunks_total(batch->job, "skipped") == 0 &&
		(left == chunks_total(batch->job, "unchanged") || changed == batch->changed_before);

	batch->changed_before = changed;
	return done;
}

/* Count what is left; false where a row fails before it can be counted. */
static bool
batch_count(Job *job, void *arg, SweepCount *sweep)
{
	Batch	   *batch = arg;
	Selection	failed = {0};
	char	  **tenants;
	char	  **numbers;
	int64		unchanged = 0;
	int			n;

	load_failures(batch);
	failed.tids = failed_tids(batch, &failed.n);
	if (!run_guarded(batch, failed.n > 0 ? batch->count_but : batch->count, &failed))
		return false;
	n = (int) spi_nrows();
	tenants = palloc(sizeof(char *) * Max(n, 1));
	numbers = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		ItemPointerData tid;

		tenants[i] = spi_text(i, 0);
		numbers[i] = spi_text(i, 1);
		unchanged += spi_int8(i, 1);
		if (spi_int8(i, 2) == 0)
			continue;
		spi_tid(i, 3, &tid);
		if (sweep->todo == 0 || ItemPointerCompare(&tid, &sweep->first) < 0)
			sweep->first = tid;
		spi_tid(i, 4, &tid);
		if (sweep->todo == 0 || ItemPointerCompare(&tid, &sweep->last) > 0)
			sweep->last = tid;
		sweep->todo += spi_int8(i, 2);
		if (batch->spec.routine)
			numbers[i] = spi_text(i, 2);
	}
	if (batch->spec.routine && sweep->todo > 0 && routine_is_done(batch, sweep->todo))
	{
		unchanged = sweep->todo;
		sweep->todo = 0;
	}
	if (sweep->todo == 0)
		set_unchanged(batch, tenants, numbers, n, unchanged);
	sweep->left = unchanged + batch->nfailures;
	return true;
}

char *
batch_lockers(Job *job, Batch *batch, int64 *nrows)
{
	char	   *lockers;
	int			nest_level;

	job_begin(job);
	nest_level = definition_path_begin(batch->spec.search_path);
	lockers = row_lockers(batch->relid, batch->lock_mode, batch->left, NULL, nrows);
	definition_path_end(nest_level);
	job_commit(job);
	return lockers;
}

const RowWork batch_work = {
	.change = batch_change,
	.count = batch_count,
};
