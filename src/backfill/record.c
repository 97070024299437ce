/*-------------------------------------------------------------------------
 *
 * record.c
 *	  What a batch writes down in its own transaction: failed rows, old
 *	  values, counters by tenant.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "backfill/batch_internal.h"
#include "base/spi.h"

void
note_tenant(Batch *batch, char *tenant, Fate fate)
{
	static char *const fates[] = {"changed", "unchanged", "failed"};

	if (batch->spec.tenant_column == NULL)
		return;
	if (batch->ntenants == batch->max_tenants)
	{
		batch->max_tenants = Max(256, batch->max_tenants * 2);
		batch->tenants = batch->tenants ?
			repalloc_huge(batch->tenants, sizeof(char *) * batch->max_tenants) :
			palloc(sizeof(char *) * batch->max_tenants);
		batch->fates = batch->fates ?
			repalloc_huge(batch->fates, sizeof(char *) * batch->max_tenants) :
			palloc(sizeof(char *) * batch->max_tenants);
	}
	batch->tenants[batch->ntenants] = tenant;
	batch->fates[batch->ntenants++] = fates[fate];
}

/* Add the batch's rows to its tenants' counters. */
void
write_tenants(Batch *batch)
{
	SqlArgs		args = {0};

	if (batch->ntenants == 0)
		return;
	arg_int8(&args, batch->job->id);
	arg_int4(&args, batch->chunk->number);
	arg_texts(&args, batch->tenants, batch->ntenants);
	arg_texts(&args, batch->fates, batch->ntenants);
	spi_catalog("INSERT INTO evmig.job_tenant AS t (job_id, chunk, tenant, changed, unchanged, failed)"
				" SELECT $1, $2, u.tenant, count(*) FILTER (WHERE u.fate = 'changed'),"
				" count(*) FILTER (WHERE u.fate = 'unchanged'), count(*) FILTER (WHERE u.fate = 'failed')"
				" FROM unnest($3, $4) AS u(tenant, fate) GROUP BY u.tenant"
				" ON CONFLICT (job_id, chunk, tenant) DO UPDATE SET changed = t.changed + excluded.changed,"
				" unchanged = t.unchanged + excluded.unchanged, failed = t.failed + excluded.failed",
				&args);
}

/* The values before and after, of the rows that the last UPDATE returned. */
void
log_undo(Batch *batch, const ItemPointerData *tids, char **key, char **old, char **new, int n)
{
	SqlArgs		args = {0};

	arg_int8(&args, batch->job->id);
	arg_tids(&args, tids, n);
	arg_texts(&args, key, n);
	arg_texts(&args, old, n);
	arg_texts(&args, new, n);
	arg_oid(&args, batch->job->target);
	arg_oid(&args, batch->job->owner);
	spi_catalog("INSERT INTO evmig.job_undo (job_id, target, owner, row_tid, row_key, old_values, new_values)"
				" SELECT $1, $6::regclass, $7::regrole, u.tid, u.key::jsonb, u.old::jsonb, u.new::jsonb"
				" FROM unnest($2, $3, $4, $5) AS u(tid, key, old, new)", &args);
}

void
load_failures(Batch *batch)
{
	SqlArgs		args = {0};

	arg_int8(&args, batch->job->id);
	spi_catalog("SELECT count(*) FROM evmig.job_failure WHERE job_id = $1", &args);
	batch->nfailures = spi_int8(0, 0);
}

bool
too_many_failures(Batch *batch)
{
	return batch->nfailures > batch->spec.max_failures;
}

/* A row that cannot be changed; counted once in a job. */
void
record_failure(Batch *batch, const ItemPointerData *tid, const ErrorData *error)
{
	SqlArgs		find = {0};
	SqlArgs		args = {0};
	char	   *key = NULL;
	char	   *tenant = NULL;

	arg_datum(&find, TIDOID, PointerGetDatum(tid), false);
	if (spi_run_cached(batch->identify, &find) > 0)
	{
		key = spi_text(0, 0);
		tenant = spi_text(0, 1);
	}
	arg_int8(&args, batch->job->id);
	arg_datum(&args, TIDOID, PointerGetDatum(tid), false);
	arg_text(&args, key);
	arg_text(&args, unpack_sql_state(error->sqlerrcode));
	arg_text(&args, error->message);
	if (spi_catalog("INSERT INTO evmig.job_failure (job_id, row_tid, row_key, sqlstate, message)"
					" SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT FROM evmig.job_failure"
					"  WHERE job_id = $1 AND CASE WHEN $3 IS NULL THEN row_tid = $2 ELSE row_key = $3 END)"
					" RETURNING 1", &args) == 0)
		return;
	batch->counts->failed++;
	note_tenant(batch, tenant, FATE_FAILED);

	load_failures(batch);
}

void
batch_check_failures(Job *job, Batch *batch)
{
	SqlArgs		args = {0};
	char	   *sqlstate;
	char	   *message;
	char	   *tid;

	if (!too_many_failures(batch))
		return;
	job_begin(job);
	arg_int8(&args, job->id);
	spi_catalog("SELECT sqlstate, message, row_tid::text FROM evmig.job_failure WHERE job_id = $1"
				" ORDER BY failed_at DESC LIMIT 1", &args);
	sqlstate = spi_text(0, 0);
	message = spi_text(0, 1);
	tid = spi_text(0, 2);
	job_commit(job);
	job->no_retry = true;
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4])),
			 errmsg("row %s failed: %s", tid, message),
			 errdetail("%s rows failed, and max_failures is %s.",
					   psprintf(INT64_FORMAT, batch->nfailures),
					   psprintf(INT64_FORMAT, batch->spec.max_failures)),
			 errhint("SELECT * FROM evmig_failures WHERE job_id = %s shows them.",
					 psprintf(INT64_FORMAT, job->id))));
}

/* Make the counters of rows left as they are those of the last sweep. */
void
set_unchanged(Batch *batch, char **tenants, char **numbers, int n, int64 total)
{
	Job		   *job = batch->job;
	ChunkCounts counts = {0};
	SqlArgs		args = {0};

	counts.unchanged = total - chunks_total(job, "unchanged");
	if (counts.unchanged != 0)
		chunk_count(job, &counts);
	if (batch->spec.tenant_column == NULL)
		return;
	arg_int8(&args, job->id);
	arg_texts(&args, tenants, n);
	arg_texts(&args, numbers, n);
	spi_catalog("INSERT INTO evmig.job_tenant AS t (job_id, chunk, tenant, unchanged)"
				" SELECT $1, 0, u.tenant, sum(u.n) FROM"
				" (SELECT f.tenant, f.n::numeric FROM unnest($2, $3) AS f(tenant, n)"
				"  UNION ALL SELECT tenant, -sum(unchanged) FROM evmig.job_tenant WHERE job_id = $1 GROUP BY tenant)"
				" AS u(tenant, n) GROUP BY u.tenant HAVING sum(u.n) <> 0"
				" ON CONFLICT (job_id, chunk, tenant) DO UPDATE SET unchanged = t.unchanged + excluded.unchanged",
				&args);
}
