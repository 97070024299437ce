/*-------------------------------------------------------------------------
 *
 * backfill.c
 *	  The job that runs a registered backfill.
 *
 * The definition travels in the job's spec, as it was when the job started.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

#include "backfill/batch.h"
#include "backfill/engine.h"
#include "backfill/registry.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/chunk.h"
#include "job/kinds.h"
#include "job/worker.h"

#define CANARY_PAUSED "paused"
#define CANARY_PASSED "passed"

typedef struct BackfillState
{
	Batch	   *batch;
	Engine	   *engine;
	List	   *relations;		/* OIDs of what the definition reads */
	char	   *search_path;
	bool		canary;			/* is still to come */
} BackfillState;

/* ---- canary ---- */

/* Pause as if somebody had asked for it; does not return. */
static void
pause_job(Job *job, const char *phase)
{
	SqlArgs		args = {0};

	job_begin(job);
	arg_int8(&args, job->id);
	arg_text(&args, phase);
	spi_catalog("UPDATE evmig.job SET request = 'pause', phase = $2, progress = NULL"
				" WHERE job_id = $1 AND request IS NULL", &args);
	job_commit(job);
	worker_check(job);
}

/* The user's query, with the job's rights, in a transaction that cannot write. */
static bool
canary_is_well(Job *job, BackfillState *state)
{
	SqlArgs		none = {0};
	bool		well;

	if (evmig_canary_check == NULL || evmig_canary_check[0] == '\0')
		return true;
	job_begin(job);
	(void) set_config_option("search_path", state->search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	XactReadOnly = true;
	well = spi_read(evmig_canary_check, &none, 2) == 1 &&
		!spi_isnull(0, 0) && strcmp(spi_text(0, 0), "t") == 0;
	job_commit(job);
	return well;
}

/* Resumed behind the canary: go on, or pause again. */
static void
check_canary(Job *job, BackfillState *state)
{
	char	   *canary = job_spec_text(job, "canary");

	state->canary = canary == NULL;
	if (canary == NULL || strcmp(canary, CANARY_PAUSED) != 0 || !job->leader)
		return;
	if (!canary_is_well(job, state))
		pause_job(job, "canary: evmig.canary_check did not return true");
	job_begin(job);
	job_spec_merge(job, "{\"canary\": \"" CANARY_PASSED "\"}");
	job_commit(job);
}

/* Pause once the canary's share of the chunks is done. */
static void
stop_at_canary(Job *job, BackfillState *state)
{
	SqlArgs		args = {0};
	double		share;

	if (!state->canary || evmig_canary_pct <= 0)
		return;
	job_begin(job);
	arg_int8(&args, job->id);
	spi_catalog("SELECT 100.0 * count(*) FILTER (WHERE state = 'done' OR pass > 1) / greatest(count(*), 1)"
				" FROM evmig.job_chunk WHERE job_id = $1 AND block_to > block_from", &args);
	share = spi_float8(0, 0);
	if (share >= evmig_canary_pct)
		job_spec_merge(job, "{\"canary\": \"" CANARY_PAUSED "\"}");
	job_commit(job);
	if (share < evmig_canary_pct)
		return;
	state->canary = false;
	pause_job(job, "canary");
}

/* ---- the job ---- */

/* Is the last job of this name one that succeeded?  Then little is to be done. */
static bool
succeeded_before(Job *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	return spi_catalog("SELECT 1 FROM evmig.job j, (SELECT p.state FROM evmig.job p JOIN evmig.job j USING (kind, name)"
					   "  WHERE j.job_id = $1 AND p.job_id < j.job_id ORDER BY p.job_id DESC LIMIT 1) l"
					   " WHERE l.state = 'succeeded' LIMIT 1", &args) > 0;
}

/*
 * Writes to what the definition reads, as the statistics count them, from
 * before the last sweep: what comes later is a reason to look again.
 */
static void
remember_writes(Job *job, BackfillState *state)
{
	if (!job->in_session)
		(void) pgstat_report_stat(true);
	job_begin(job);
	job_result(job, psprintf("{\"writes\": " INT64_FORMAT "}",
							 count_writes(state->relations)));
	job_commit(job);
}

static void
backfill_prepare(Job *job)
{
	MemoryContext oldcontext;
	BackfillState *state = MemoryContextAllocZero(job->context, sizeof(BackfillState));
	BatchSpec	spec = {0};
	Target	   *target;
	bool		look;

	job_begin(job);
	oldcontext = MemoryContextSwitchTo(job->context);
	target = target_resolve(job->target, NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY);
	spec.search_path = state->search_path = job_spec_text(job, "search_path");
	spec.definition = definition_analyze(target, job_spec_text(job, "set_list"),
										 job_spec_text(job, "where_clause"), spec.search_path);
	spec.routine = job_spec_text(job, "routine");
	if (spec.routine)
		(void) routine_resolve(spec.routine);
	spec.tenant_column = job_spec_text(job, "tenant_column");
	spec.tenants = job_spec_text(job, "tenants");
	spec.max_failures = job_spec_int8(job, "max_failures", 0);
	spec.undo = job_spec_bool(job, "undo", false);
	state->relations = spec.definition->relations;
	state->batch = batch_prepare(job, target, &spec);
	look = job->leader && succeeded_before(job);
	MemoryContextSwitchTo(oldcontext);
	job_commit(job);

	job->state = state;
	check_canary(job, state);
	if (look)
	{
		job_phase(job, "looking", -1);
		remember_writes(job, state);
	}
	state->engine = engine_prepare_work(job, &batch_work, state->batch, look);
	job_phase(job, "filling", -1);
}

static bool
backfill_batch(Job *job)
{
	BackfillState *state = job->state;

	batch_check_failures(job, state->batch);
	stop_at_canary(job, state);
	return engine_batch(job, state->engine);
}

static bool
backfill_verify(Job *job)
{
	BackfillState *state = job->state;
	SweepCount	sweep;
	int64		locked;
	int64		skipped;
	int64		failed;
	char	   *lockers;

	batch_check_failures(job, state->batch);
	if (!engine_has_nothing_to_do(state->engine))
		remember_writes(job, state);
	if (engine_sweep_work(job, state->engine, &sweep))
		return true;
	job_begin(job);
	skipped = chunks_total(job, "skipped");
	failed = chunks_total(job, "failed");
	job_commit(job);
	if (sweep.todo == 0)
	{
		/* rows that failed are not done, however many are put up with */
		if (failed > 0)
			job_outcome(job, "incomplete", sweep.left,
						failed == 1 ? INT64_FORMAT " row failed, see evmig_failures; all others are done"
						: INT64_FORMAT " rows failed, see evmig_failures; all others are done", failed);
		else
			job_outcome(job, "succeeded", sweep.left, NULL);
		return false;
	}
	lockers = batch_lockers(job, state->batch, &locked);
	if (lockers)
		job_outcome(job, "incomplete", sweep.todo + sweep.left,
					INT64_FORMAT " rows are left; " INT64_FORMAT " of them are locked by %s",
					sweep.todo, locked, lockers);
	else if (skipped > 0)
		job_outcome(job, "incomplete", sweep.todo + sweep.left,
					INT64_FORMAT " rows are left; they were locked whenever they were tried", sweep.todo);
	else
		job_outcome(job, "incomplete", sweep.todo + sweep.left,
					INT64_FORMAT " rows are left; new ones keep coming in, or a trigger suppresses their update",
					sweep.todo);
	return false;
}

const JobKind backfill_kind = {
	.name = "backfill",
	.parallel = true,
	.prepare = backfill_prepare,
	.batch = backfill_batch,
	.verify = backfill_verify,
};
