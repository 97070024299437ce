/*-------------------------------------------------------------------------
 *
 * harden.c
 *	  NOT NULL without a long lock.
 *
 * CHECK (key IS NOT NULL) NOT VALID, VALIDATE, SET NOT NULL, DROP CHECK: four
 * transactions.  The table is read in the second one only, under SHARE UPDATE
 * EXCLUSIVE; the others are short, and poll for ACCESS EXCLUSIVE.  Each batch
 * looks at what there is and takes one step, so a job that was stopped
 * anywhere goes on from there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/htup_details.h"
#include "catalog/pg_constraint.h"
#include "fmgr.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/spi.h"
#include "base/sqltext.h"
#include "base/statement.h"
#include "integrity/index.h"
#include "job/kinds.h"
#include "job/worker.h"

PG_FUNCTION_INFO_V1(evmig_harden);

typedef enum HardenStep
{
	ADD_CHECK,
	VALIDATE_CHECK,
	SET_NOT_NULL,
	DROP_CHECK,
	HARDENED
} HardenStep;

/* our CHECK as it stands */
typedef enum CheckState
{
	CHECK_ABSENT,
	CHECK_NOT_VALID,
	CHECK_VALID,
	CHECK_OTHER					/* the name is taken by something else */
} CheckState;

/* ---- what there is ---- */

/* A table's constraints have names of their own, so the table's is not in it. */
static char *
check_name(Target *target)
{
	return object_name("evmig", target->key.name, "not_null");
}

/* "key IS NOT NULL"; for a row type the one that NOT NULL means */
static char *
check_expression(Target *target)
{
	return psprintf(type_is_rowtype(target->key.type) ? "%s IS DISTINCT FROM NULL" : "%s IS NOT NULL",
					target->key.quoted);
}

static bool
is_key_not_null(HeapTuple constraint, Target *target)
{
	bool		isnull;
	Datum		bin = SysCacheGetAttr(CONSTROID, constraint, Anum_pg_constraint_conbin, &isnull);
	NullTest   *test;

	if (isnull)
		return false;
	test = stringToNode(TextDatumGetCString(bin));
	return IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL && !test->argisrow &&
		IsA(test->arg, Var) && ((Var *) test->arg)->varattno == target->key.attno;
}

static CheckState
find_check(Target *target)
{
	Oid			oid = get_relation_constraint_oid(target->relid, check_name(target), true);
	HeapTuple	tup = OidIsValid(oid) ? SearchSysCache1(CONSTROID, ObjectIdGetDatum(oid)) : NULL;
	Form_pg_constraint form;
	CheckState	state = CHECK_OTHER;

	if (!HeapTupleIsValid(tup))
		return CHECK_ABSENT;
	form = (Form_pg_constraint) GETSTRUCT(tup);
	if (form->contype == CONSTRAINT_CHECK && is_key_not_null(tup, target))
		state = form->convalidated ? CHECK_VALID : CHECK_NOT_VALID;
	ReleaseSysCache(tup);
	return state;
}

static void
check_name_is_taken(Target *target)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("constraint \"%s\" of table \"%s\" already exists",
					check_name(target), target->name),
			 errdetail("It is not CHECK (%s).", check_expression(target)),
			 errhint("Rename it.")));
}

/* Where we are; raises for a constraint that has our name. */
static HardenStep
next_step(Target *target)
{
	switch (find_check(target))
	{
		case CHECK_OTHER:
			if (!target->key.notnull)
				check_name_is_taken(target);
			return HARDENED;
		case CHECK_ABSENT:
			return target->key.notnull ? HARDENED : ADD_CHECK;
		case CHECK_NOT_VALID:
			return target->key.notnull ? DROP_CHECK : VALIDATE_CHECK;
		case CHECK_VALID:
			return target->key.notnull ? DROP_CHECK : SET_NOT_NULL;
	}
	pg_unreachable();
}

static Target *
resolve(Job *job)
{
	return target_resolve(job->target, job->key_column, NULL, TARGET_CHANGE);
}

/* ---- the steps ---- */

/* Fail with the number of NULLs, if there are any; reads the table. */
static void
require_no_nulls(Job *job, Target *target)
{
	SqlArgs		none = {0};
	int64		nulls;

	job_begin_untimed(job);
	spi_run(psprintf("SELECT pg_catalog.count(*) FROM ONLY %s WHERE NOT (%s)",
					 target->quoted, check_expression(target)), &none);
	nulls = spi_int8(0, 0);
	job_commit(job);
	if (nulls > 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("column \"%s\" of table \"%s\" has " INT64_FORMAT " null values",
						target->key.name, target->name, nulls),
				 errhint("Fill them with evmig_backfill_request_id(), and keep new ones out with evmig_ingest_guard().")));
}

/*
 * A step that is short but keeps everybody out: the statement of this step, if
 * it is still the one to take once the lock is ours.
 */
static void
alter_table(Job *job, HardenStep step)
{
	Target	   *target;
	char	   *name;
	char	   *what = NULL;
	SqlArgs		none = {0};

	worker_lock_target(job, AccessExclusiveLock);
	(void) job_check_target(job);
	target = resolve(job);
	name = pstrdup(quote_identifier(check_name(target)));
	if (step == ADD_CHECK)
		what = psprintf("ADD CONSTRAINT %s CHECK (%s) NOT VALID", name, check_expression(target));
	else if (step == SET_NOT_NULL)
		what = psprintf("ALTER COLUMN %s SET NOT NULL", target->key.quoted);
	else
		what = psprintf("DROP CONSTRAINT %s", name);
	if (next_step(target) == step)
		spi_run(psprintf("ALTER TABLE %s %s", target->quoted, what), &none);
	job_commit(job);
}

/* A CHECK that cannot be validated would only stand in the application's way. */
static void
withdraw_check(Job *job)
{
	Target	   *target;
	SqlArgs		none = {0};

	worker_lock_target(job, AccessExclusiveLock);
	target = resolve(job);
	if (find_check(target) == CHECK_NOT_VALID)
		spi_run(psprintf("ALTER TABLE %s DROP CONSTRAINT %s", target->quoted,
						 quote_identifier(check_name(target))), &none);
	job_commit(job);
}

/* Read the table under SHARE UPDATE EXCLUSIVE. */
static void
validate_check(Job *job, Target *target)
{
	ErrorData  *error;

	error = run_toplevel(psprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", target->quoted,
								  quote_identifier(check_name(target))));
	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_CHECK_VIOLATION)
	{
		job_phase(job, "withdrawing the check", -1);
		withdraw_check(job);
		require_no_nulls(job, target);
	}
	ReThrowError(error);
}

/* ---- the job ---- */

static void
harden_prepare(Job *job)
{
	job_begin(job);
	(void) job_check_target(job);
	job_commit(job);
}

static Target *
look(Job *job, HardenStep *step)
{
	Target	   *target;

	job_begin(job);
	(void) job_check_target(job);
	target = resolve(job);
	*step = next_step(target);
	job_commit(job);
	return target;
}

static bool
harden_batch(Job *job)
{
	HardenStep	step;
	Target	   *target = look(job, &step);

	switch (step)
	{
		case ADD_CHECK:
			job_phase(job, "looking for nulls", 0);
			require_no_nulls(job, target);
			job_phase(job, "adding a check", 0.3);
			alter_table(job, step);
			return true;
		case VALIDATE_CHECK:
			job_phase(job, "validating the check", 0.4);
			validate_check(job, target);
			return true;
		case SET_NOT_NULL:
			job_phase(job, "setting not null", 0.8);
			alter_table(job, step);
			return true;
		case DROP_CHECK:
			job_phase(job, "dropping the check", 0.9);
			alter_table(job, step);
			return true;
		case HARDENED:
			return false;
	}
	pg_unreachable();
}

static bool
harden_verify(Job *job)
{
	HardenStep	step;

	(void) look(job, &step);
	if (step != HARDENED)
		return true;
	job_outcome(job, "succeeded", 0, NULL);
	return false;
}

const JobKind harden_kind = {
	.name = "harden",
	.integrity = true,
	.prepare = harden_prepare,
	.batch = harden_batch,
	.verify = harden_verify,
};

/* ---- the SQL function ---- */

int64
harden_start(Target *target)
{
	JobRequest	request = {"harden"};

	(void) next_step(target);
	return job_create(target, &request);
}

/*
 * evmig_harden(target regclass, key_column name) returns bigint
 *
 * Start a job that sets the key column NOT NULL without a long lock; returns
 * its id.  Takes ACCESS SHARE here; the job reads the table under SHARE UPDATE
 * EXCLUSIVE and polls for ACCESS EXCLUSIVE three times.
 */
Datum
evmig_harden(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(harden_start(target_resolve(ARG_RELID(0), ARG_NAME(1), NULL,
												TARGET_CHANGE)));
}
