/*-------------------------------------------------------------------------
 *
 * request_id.c
 *	  Fill the NULLs of a key column.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "backfill/engine.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "job/kinds.h"
#include "job/worker.h"

PG_FUNCTION_INFO_V1(evmig_backfill_request_id);

/* ---- the SQL function ---- */

/* Check that each placeholder is a value of the key's type; as a JSON array. */
static char *
placeholders_json(Target *target, ArrayType *array)
{
	SqlArgs		args = {0};
	char	   *json;
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	Oid			input;
	Oid			ioparam;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	getTypeInputInfo(target->key.type, &input, &ioparam);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("treat_as_null must not contain NULL"),
					 errhint("NULL keys are filled anyway.")));
		/* raises what the type's own input raises */
		(void) OidInputFunctionCall(input, TextDatumGetCString(elems[i]), ioparam,
									target->key.typmod);
	}
	arg_datum(&args, TEXTARRAYOID, PointerGetDatum(array), false);
	spi_begin();
	spi_run("SELECT pg_catalog.to_jsonb($1)::pg_catalog.text", &args);
	json = spi_text(0, 0);
	spi_end();
	return json;
}

/*
 * evmig_backfill_request_id(target regclass, key_column name, generator text,
 * workers int, treat_as_null text[]) returns bigint
 *
 * Start a job that gives each row with a NULL key (or one of the placeholders
 * treat_as_null) a new key.  Returns the job's id.  Takes ACCESS SHARE here;
 * the job takes ROW EXCLUSIVE and row locks, a batch at a time.
 */
Datum
evmig_backfill_request_id(PG_FUNCTION_ARGS)
{
	Target	   *target = target_resolve(ARG_RELID(0), ARG_NAME(1), NULL, TARGET_CHANGE);
	char	   *generator = target_generator(target, ARG_TEXT(2));
	int			workers = PG_ARGISNULL(3) ? 1 : PG_GETARG_INT32(3);
	JobRequest	request = {"request_id"};
	SqlArgs		args = {0};
	char	   *placeholders;

	if (workers < 1 || workers > evmig_max_workers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("workers must be between 1 and %d", evmig_max_workers),
				 errhint("Raise evmig.max_workers to allow more.")));
	placeholders = PG_ARGISNULL(4) ? pstrdup("[]") :
		placeholders_json(target, PG_GETARG_ARRAYTYPE_P(4));

	arg_text(&args, generator);
	arg_jsonb(&args, placeholders);
	spi_begin();
	spi_run("SELECT pg_catalog.jsonb_build_object('generator', $1, 'treat_as_null', $2)::pg_catalog.text",
			&args);
	request.spec = spi_text(0, 0);
	spi_end();
	request.workers = workers;
	PG_RETURN_INT64(job_create(target, &request));
}

/* ---- the job ---- */

/* "key IS NULL OR key = placeholder OR ..." */
static char *
missing_predicate(Job *job, Target *target)
{
	StringInfoData buf;
	SqlArgs		args = {0};

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s IS NULL", target->key.quoted);
	arg_int8(&args, job->id);
	spi_catalog("SELECT p FROM evmig.job j, pg_catalog.jsonb_array_elements_text(j.spec -> 'treat_as_null') p"
				" WHERE j.job_id = $1", &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
		appendStringInfo(&buf, " OR %s %s %s::%s", target->key.quoted,
						 quote_operator(target->key.eq_op),
						 quote_literal_cstr(spi_text(i, 0)),
						 quote_type(target->key.type, target->key.typmod));
	return buf.data;
}

/* Is the key in an index (as column, in an expression or predicate), in a unique one? */
static void
key_index_use(Target *target, FillSpec *spec)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_int4(&args, target->key.attno);
	spi_catalog("SELECT coalesce(bool_or(i.indisunique), false),"
				" coalesce(bool_or(true), false) FROM pg_catalog.pg_index i"
				" WHERE i.indrelid = $1 AND ($2 = ANY (i.indkey::int2[])"
				" OR EXISTS (SELECT FROM pg_catalog.pg_depend d"
				"  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indexrelid"
				"  AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1"
				"  AND d.refobjsubid = $2))", &args);
	spec->unique = spi_bool(0, 0);
	spec->hot = !spi_bool(0, 1);
}

static void
request_id_prepare(Job *job)
{
	FillSpec	spec;
	Target	   *target;

	job_begin(job);
	target = target_resolve(job->target, job->key_column, NULL, TARGET_CHANGE);
	spec.predicate = missing_predicate(job, target);
	spec.set_list = psprintf("%s = %s", target->key.quoted, job_spec_text(job, "generator"));
	key_index_use(target, &spec);
	job_commit(job);
	job->state = engine_prepare(job, &spec);
	job_phase(job, "filling", -1);
}

static bool
request_id_batch(Job *job)
{
	return engine_batch(job, job->state);
}

static bool
request_id_verify(Job *job)
{
	int64		remaining;
	char	   *lockers;

	if (engine_sweep(job, job->state, &remaining))
		return true;
	if (remaining == 0)
	{
		job_outcome(job, "succeeded", 0, NULL);
		return false;
	}
	lockers = engine_lockers(job, job->state);
	if (lockers)
		job_outcome(job, "incomplete", remaining,
					INT64_FORMAT " rows still have no key; rows are locked by %s",
					remaining, lockers);
	else
		job_outcome(job, "incomplete", remaining,
					INT64_FORMAT " rows still have no key; without the ingest guard new ones keep coming in",
					remaining);
	return false;
}

const JobKind request_id_kind = {
	.name = "request_id",
	.integrity = true,
	.parallel = true,
	.prepare = request_id_prepare,
	.batch = request_id_batch,
	.verify = request_id_verify,
};
