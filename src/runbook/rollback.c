/*-------------------------------------------------------------------------
 *
 * rollback.c
 *	  The way back: what a runbook made is taken away, and what it archived or
 *	  re-keyed is restored.
 *
 * Filled keys stay, and so do rows that came in later: neither was there to be
 * put back.  What was there before the runbook (an index, NOT NULL) stays too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "integrity/archive.h"
#include "integrity/index.h"
#include "integrity/ingest.h"
#include "job/worker.h"
#include "runbook/event.h"
#include "runbook/limits.h"
#include "runbook/step.h"

PG_FUNCTION_INFO_V1(evmig_runbook_rollback);

/* Did this runbook make it, rather than find it? */
static bool
made_here(Runbook *rb, const char *step)
{
	SqlArgs		args = {0};

	arg_int8(&args, rb->id);
	arg_text(&args, step);
	return spi_catalog("SELECT 1 FROM evmig.runbook_event WHERE runbook_id = $1 AND subject = $2"
					   " AND event = 'step started' AND (job_id IS NOT NULL OR EXISTS"
					   "  (SELECT FROM evmig.runbook_event d WHERE d.runbook_id = $1 AND d.subject = $2"
					   "   AND d.event = 'step done' AND NOT d.data ? 'existed'))", &args) > 0;
}

static int64
nothing(StringInfo data, const char *why)
{
	json_text(data, "nothing to do", why);
	return 0;
}

static int64
unique_index_back(Runbook *rb, Target *target, StringInfo data)
{
	Oid			index = key_index_find(target, true);

	if (!OidIsValid(index))
		return nothing(data, "there is no unique index");
	if (!made_here(rb, rb->path == 'B' ? "index and not null" : "unique index"))
		return nothing(data, "it was there before the runbook");
	json_text(data, "index", quote_relation(index));
	return drop_index_start(target, index);
}

static int64
helper_index_back(Runbook *rb, Target *target, StringInfo data)
{
	Oid			index = helper_index_find(target);

	if (!OidIsValid(index))
		return nothing(data, "there is no helper index");
	json_text(data, "index", quote_relation(index));
	return drop_index_start(target, index);
}

static int64
not_null_back(Runbook *rb, Target *target, StringInfo data)
{
	char	   *sql;

	if (!target->key.notnull)
		return nothing(data, "the key is not NOT NULL");
	if (!made_here(rb, rb->path == 'B' ? "index and not null" : "harden"))
		return nothing(data, "it was there before the runbook");
	lock_relation_polled(target->relid, AccessExclusiveLock);
	sql = psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", target->quoted, target->key.quoted);
	spi_run(sql, NULL);
	json_text(data, "statement", sql);
	return 0;
}

static int64
guard_back(Runbook *rb, Target *target, StringInfo data)
{
	char	   *duplicates;
	char	   *mode = ingest_guard_get(target->relid, &duplicates);

	if (mode == NULL)
		return nothing(data, "there is no ingest guard");
	if (!made_here(rb, "ingest guard (fill)"))
		return nothing(data, "it was there before the runbook");
	ingest_guard_set(target, "off", NULL, NULL);
	json_text(data, "was", mode);
	return 0;
}

/*
 * Restore what one job archived or re-keyed, the last one first; 0 when all
 * of this runbook's jobs are done.
 */
static int64
restore_next(Runbook *rb, Target *target, StringInfo data)
{
	SqlArgs		args = {0};
	SqlArgs		restore = {0};
	int64		job;

	/* with it there, this runbook found no duplicate to remove */
	if (OidIsValid(key_index_find(target, true)))
		return nothing(data, "the unique index was there before the runbook");

	arg_int8(&args, rb->id);
	arg_oid(&args, target->relid);
	/* which jobs were this runbook's, the events know also after a dump and restore */
	if (spi_catalog("WITH removed(job_id) AS (SELECT a.job_id FROM evmig.archive a"
					"  JOIN pg_catalog.pg_class c ON c.oid = a.relation"
					"  WHERE a.target = $2 AND a.purged_at IS NULL"
					"  UNION SELECT coalesce(k.job_id, 0) FROM evmig.rekey k"
					"  WHERE k.target = $2 AND k.restored_at IS NULL)"
					" SELECT r.job_id FROM removed r"
					" WHERE (r.job_id = 0 OR EXISTS (SELECT FROM evmig.runbook_event e"
					"  WHERE e.runbook_id = $1 AND e.job_id = r.job_id))"
					" AND NOT EXISTS (SELECT FROM evmig.runbook_event s JOIN evmig.runbook_event d"
					"   ON d.runbook_id = s.runbook_id AND d.job_id = s.job_id AND d.event = 'step done'"
					"  WHERE s.runbook_id = $1 AND s.event = 'step started' AND s.data ->> 'of_job' = r.job_id::text)"
					" ORDER BY 1 DESC LIMIT 1", &args) == 0)
	{
		json_text(data, "kept", "filled keys, and rows that came in later");
		return 0;
	}
	job = spi_int8(0, 0);
	json_int8(data, "of_job", job);
	arg_oid(&restore, target->relid);
	arg_int8(&restore, job);
	spi_run(psprintf("SELECT %sevmig_restore($1::pg_catalog.regclass, $2)",
					 extension_schema_prefix()), &restore);
	return spi_int8(0, 0);
}

static const Step back[] = {
	{"rollback: unique index", NULL, NULL, unique_index_back},
	{"rollback: helper index", NULL, NULL, helper_index_back},
	{"rollback: not null", NULL, NULL, not_null_back},
	{"rollback: ingest guard", NULL, NULL, guard_back},
	{"rollback: restore", NULL, NULL, restore_next, true},
};

const StepList rollback_steps = {"evmig_runbook_rollback", lengthof(back), back};

/* ---- the procedure ---- */

/* Cancel what is still at work for the runbook, and wait for its end. */
static void
stop_jobs(Runbook *rb)
{
	SqlArgs		args = {0};
	uint64		n;
	int64	   *jobs;

	/* what the way back itself started goes on */
	arg_int8(&args, rb->id);
	n = spi_catalog("SELECT j.job_id FROM evmig.job j WHERE j.runbook_id = $1"
					" AND j.state IN ('queued', 'running', 'paused')"
					" AND NOT EXISTS (SELECT FROM evmig.runbook_event e WHERE e.runbook_id = $1"
					"  AND e.job_id = j.job_id AND e.subject LIKE 'rollback:%')", &args);
	jobs = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
		jobs[i] = spi_int8(i, 0);
	for (uint64 i = 0; i < n; i++)
	{
		SqlArgs		cancel = {0};

		EnsurePortalSnapshotExists();
		arg_int8(&cancel, jobs[i]);
		spi_run(psprintf("SELECT %sevmig_job_cancel($1)", extension_schema_prefix()), &cancel);
		spi_commit();
		ereport(NOTICE,
				(errmsg("job " INT64_FORMAT " of the runbook was cancelled", jobs[i])));
		(void) wait_for_job(jobs[i], -1, false);
	}
}

static void
rollback_runbook(int64 id)
{
	Runbook    *rb;

	EnsurePortalSnapshotExists();
	rb = runbook_load(id, true);
	if (strcmp(rb->state, RUNBOOK_ROLLED_BACK) == 0)
	{
		ereport(NOTICE,
				(errmsg("runbook " INT64_FORMAT " was rolled back already", id)));
		return;
	}
	if (strcmp(rb->state, RUNBOOK_OPEN) == 0 || strcmp(rb->state, RUNBOOK_APPROVED) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " is %s: there is nothing to roll back", id, rb->state)));
	(void) runbook_target(rb, TARGET_CHANGE | TARGET_ORDER);
	if (strcmp(rb->state, RUNBOOK_ROLLING_BACK) != 0)
	{
		runbook_set_state(rb, RUNBOOK_ROLLING_BACK);
		runbook_event(id, EVENT_ROLLBACK, NULL, 0, NULL);
	}
	limits_resume_ingest(rb);
	stop_jobs(rb);
	spi_commit();
	run_steps(rb, &rollback_steps);

	EnsurePortalSnapshotExists();
	runbook_event(id, EVENT_ROLLED_BACK, NULL, 0,
				  "{\"kept\": \"filled keys, and rows that came in later\"}");
	runbook_set_state(rb, RUNBOOK_ROLLED_BACK);
	spi_commit();
	ereport(NOTICE,
			(errmsg("runbook " INT64_FORMAT " was rolled back", id),
			 errdetail("Keys that were filled and rows that came in later stay as they are.")));
}

/*
 * CALL evmig_runbook_rollback(id bigint)
 *
 * Take back what the runbook did: its indexes (concurrently), NOT NULL and
 * ingest guard (locks polled), archived rows and old keys.  Goes on where it
 * was when called again.
 */
Datum
evmig_runbook_rollback(PG_FUNCTION_ARGS)
{
	require_nonatomic(fcinfo, "evmig_runbook_rollback");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id must not be null")));
	require_writable();
	spi_begin_nonatomic();
	with_runbook_locked(PG_GETARG_INT64(0), rollback_runbook);
	spi_end();
	PG_RETURN_VOID();
}
