/*-------------------------------------------------------------------------
 *
 * purge.c
 *	  Drop archives that are not needed any more.
 *
 * An archive is closed when a later read of the table has counted no
 * duplicates, or a unique index stands; its age counts from then.  The
 * ingest guard's is closed by the first purge that finds it idle.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "integrity/archive.h"
#include "integrity/ingest.h"

PG_FUNCTION_INFO_V1(evmig_archive_purge);

/* an archive that is old enough */
typedef struct Due
{
	int64		archive_id;
	Oid			relation;		/* InvalidOid: dropped by hand */
	char	   *name;
	TimestampTz kept_until;		/* 0: no date */
} Due;

/* Nobody may be adding to an archive, or taking from it. */
static void
refuse_active_job(Target *target)
{
	SqlArgs		args = {0};

	job_lock_xact(target->relid, JOB_LOCK_TARGET);
	arg_oid(&args, target->relid);
	if (spi_catalog("SELECT job_id, kind FROM evmig.job WHERE target = $1 AND integrity"
					" AND state IN ('queued', 'running', 'paused')", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " (%s) is at work on table %s",
						spi_int8(0, 0), spi_text(0, 1), target->quoted),
				 errhint("CALL evmig_wait(" INT64_FORMAT "), or SELECT evmig_job_cancel(" INT64_FORMAT ").",
						 spi_int8(0, 0), spi_int8(0, 0))));
}

/* Note since when the ingest guard does not archive any more. */
static void
close_idle_guard(Target *target)
{
	char	   *duplicates;
	SqlArgs		args = {0};

	if (ingest_guard_get(target->relid, &duplicates) != NULL &&
		strcmp(duplicates, "archive") == 0)
		return;
	arg_oid(&args, target->relid);
	spi_catalog("UPDATE evmig.archive SET closed_at = pg_catalog.clock_timestamp()"
				" WHERE target = $1 AND job_id = 0 AND closed_at IS NULL AND purged_at IS NULL",
				&args);
}

/* The archives that are old enough, kept or not. */
static Due *
find_due(Target *target, Datum older_than, int *n)
{
	SqlArgs		args = {0};
	Due		   *due;

	arg_oid(&args, target->relid);
	arg_datum(&args, INTERVALOID, older_than, false);
	*n = (int) spi_catalog("SELECT a.archive_id, c.oid, a.relation_name,"
						   " greatest(a.kept_until, (SELECT max(r.kept_until) FROM evmig.runbook r WHERE r.target = $1))"
						   " FROM evmig.archive a LEFT JOIN pg_catalog.pg_class c ON c.oid = a.relation"
						   " WHERE a.target = $1 AND a.purged_at IS NULL"
						   " AND coalesce(a.closed_at, (SELECT min(j.finished_at) FROM evmig.job j"
						   "  WHERE j.target = $1 AND a.job_id <> 0 AND j.job_id >= a.job_id"
						   "  AND j.kind IN ('dedupe', 'unique_index') AND j.state = 'succeeded'))"
						   " <= pg_catalog.clock_timestamp() - $2 ORDER BY 1", &args);
	due = palloc(sizeof(Due) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		due[i].archive_id = spi_int8(i, 0);
		due[i].relation = spi_oid(i, 1);
		due[i].name = spi_text(i, 2);
		due[i].kept_until = spi_time(i, 3);
		if (due[i].kept_until > GetCurrentTimestamp())
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("archive %s is to be kept until %s", due[i].name,
							timestamptz_to_str(due[i].kept_until)),
					 errdetail("Somebody attested so in a runbook, or evmig.archive says so."),
					 errhint("Purge it after that time.")));
	}
	return due;
}

/* Drop one archive; returns its rows. */
static int64
drop_archive(Target *target, Due *due)
{
	SqlArgs		none = {0};
	SqlArgs		args = {0};
	int64		rows = 0;
	RunAs		runas;

	if (OidIsValid(due->relation))
	{
		lock_relation_polled(due->relation, AccessExclusiveLock);
		runas_begin(&runas, target->owner, RUNAS_RESTRICTED);
		spi_run(psprintf("SELECT pg_catalog.count(*) FROM ONLY %s", quote_relation(due->relation)),
				&none);
		rows = spi_int8(0, 0);
		spi_run(psprintf("DROP TABLE %s", quote_relation(due->relation)), &none);
		runas_end(&runas);
	}
	arg_int8(&args, due->archive_id);
	arg_int8(&args, rows);
	spi_catalog("UPDATE evmig.archive SET purged_at = pg_catalog.clock_timestamp(),"
				" purged_rows = $2, relation = NULL WHERE archive_id = $1", &args);
	ereport(NOTICE,
			(errmsg("dropped archive %s with " INT64_FORMAT " rows", due->name, rows)));
	return rows;
}

/*
 * evmig_archive_purge(target regclass, older_than interval) returns bigint
 *
 * Drop the archives of verified jobs that are old enough; returns the number
 * of rows in them.  Takes ACCESS EXCLUSIVE on each, polled.  Not inside a
 * transaction block.
 */
Datum
evmig_archive_purge(PG_FUNCTION_ARGS)
{
	Target	   *target;
	Interval   *older_than;
	Due		   *due;
	int			n;
	int64		rows = 0;

	require_own_transaction(fcinfo, "evmig_archive_purge");
	target = target_resolve(ARG_RELID(0), NULL, NULL, TARGET_CHANGE | TARGET_NO_KEY);
	if (PG_ARGISNULL(1))
	{
		older_than = palloc0(sizeof(Interval));
		older_than->time = 48 * USECS_PER_HOUR;
	}
	else
		older_than = PG_GETARG_INTERVAL_P(1);
	if (older_than->time < 0 || older_than->day < 0 || older_than->month < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("older_than must not be negative")));

	spi_begin();
	refuse_active_job(target);
	close_idle_guard(target);
	due = find_due(target, IntervalPGetDatum(older_than), &n);
	for (int i = 0; i < n; i++)
		rows += drop_archive(target, &due[i]);
	spi_end();
	PG_RETURN_INT64(rows);
}
