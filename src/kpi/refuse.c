/*-------------------------------------------------------------------------
 *
 * refuse.c
 *	  Refusing writes on a table that is paused.
 *
 * The error is lock_not_available (55P03): what a writer gets under
 * lock_timeout while somebody holds the table, so clients and frameworks know
 * it as one to be tried again later; serialization_failure is tried again at
 * once and a few times only, and cannot_connect_now closes connections.
 *
 * A pause ends by itself after evmig.ingest_pause_max, but not while a session
 * executes a runbook on the table: whoever comes then puts its end off by
 * EXTEND_S.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/spi.h"
#include "job/launcher.h"
#include "job/worker.h"
#include "kpi/pause.h"

PG_FUNCTION_INFO_V1(evmig_ingest_paused);
PG_FUNCTION_INFO_V1(evmig_ingest_pause_trigger);

#define EXTEND_S 5

bool		pause_refused = false;

compat_noreturn static void refuse(Oid relid, const char *by, TimestampTz since,
								   const char *reason, TimestampTz until);

/* ---- whom, and how long ---- */

/* Our own workers pass, and jobs that a session does for itself. */
static bool
is_ours(void)
{
	return job_in_this_session ||
		(MyBgworkerEntry && strcmp(MyBgworkerEntry->bgw_type, WORKER_TYPE) == 0);
}

static void
refuse(Oid relid, const char *by, TimestampTz since, const char *reason, TimestampTz until)
{
	char	   *from = pstrdup(timestamptz_to_str(since));

	pause_refused = true;
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("writes on table \"%s\" are paused", get_rel_name(relid)),
			 errdetail("Role \"%s\" paused them at %s: %s", by, from, reason),
			 errhint("Nothing was written. Try the transaction again later; the pause ends at %s at the latest, unless a runbook is at work.",
					 timestamptz_to_str(until))));
}

/* Is a session executing a runbook on the table?  Inside SPI. */
static bool
runbook_at_work(Oid relid)
{
	SqlArgs		args = {0};
	bool		found = false;

	arg_oid(&args, relid);
	spi_catalog("SELECT runbook_id FROM evmig.runbook"
				" WHERE target = $1 AND state IN ('executing', 'rolling back')", &args);
	for (uint64 i = 0; i < spi_nrows() && !found; i++)
		found = job_lock_is_held(spi_int8(i, 0), JOB_LOCK_RUNBOOK);
	return found;
}

/* Its time is over: end it, or put that off. */
static bool
has_expired(KpiPause *pause, Oid relid, uint64 until)
{
	bool		expired;

	spi_begin();
	expired = !runbook_at_work(relid);
	spi_end();
	(void) pg_atomic_compare_exchange_u64(&pause->until, &until, expired ? 0 :
										  GetCurrentTimestamp() + EXTEND_S * USECS_PER_SEC);
	return expired;
}

void
pause_check(WatchEntry *entry)
{
	KpiPause   *pause = entry->pause;
	uint64		until = pg_atomic_read_u64(&pause->until);
	KpiPause	copy;

	if (until == 0 || is_ours())
		return;
	LWLockAcquire(kpi_shared->lock, LW_SHARED);
	memcpy(&copy, pause, sizeof(KpiPause));
	LWLockRelease(kpi_shared->lock);
	if (copy.database != MyDatabaseId ||
		((TimestampTz) until <= GetCurrentTimestamp() && has_expired(pause, copy.relid, until)))
		return;
	refuse(copy.relid, NameStr(copy.by), copy.since, copy.reason, copy.planned);
}

static bool
may_truncate(Oid relid)
{
	return pg_class_aclcheck(relid, GetUserId(), ACL_TRUNCATE) == ACLCHECK_OK;
}

/*
 * The relations that a TRUNCATE reaches: those that it names, their partitions
 * and children, and with CASCADE what references them.  NIL where the server
 * is going to refuse it.
 */
static List *
truncated_relations(TruncateStmt *stmt)
{
	List	   *relids = NIL;
	List	   *more;
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		RangeVar   *name = lfirst_node(RangeVar, lc);
		Oid			relid = RangeVarGetRelid(name, NoLock, true);

		if (!OidIsValid(relid) || !may_truncate(relid))
			return NIL;
		relids = list_concat_unique_oid(relids, name->inh ? find_all_inheritors(relid, NoLock, NULL) :
										list_make1_oid(relid));
	}
	while (stmt->behavior == DROP_CASCADE && (more = heap_truncate_find_FKs(relids)) != NIL)
	{
		foreach(lc, more)
			if (!may_truncate(lfirst_oid(lc)))
				return NIL;
		relids = list_concat(relids, more);
	}
	return relids;
}

/* The relations that a COPY FROM into this one may write; NIL as above. */
static List *
loaded_relations(Oid relid)
{
	/* the privilege for a column is enough, its server says which */
	if (pg_class_aclcheck(relid, GetUserId(), ACL_INSERT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_INSERT, ACLMASK_ANY) != ACLCHECK_OK)
		return NIL;
	return get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ?
		find_all_inheritors(relid, NoLock, NULL) : list_make1_oid(relid);
}

void
pause_check_utility(Node *stmt, Oid loads)
{
	ListCell   *lc;

	if ((!OidIsValid(loads) && !IsA(stmt, TruncateStmt)) || !watch_any() || is_ours())
		return;
	if (!watch_database_read && ActiveSnapshotSet())
		watch_load();
	if (!watch_any() || !watch_paused)
		return;
	foreach(lc, OidIsValid(loads) ? loaded_relations(loads) : truncated_relations((TruncateStmt *) stmt))
	{
		WatchEntry *entry = watch_lookup(lfirst_oid(lc));

		if (entry && entry->pause)
			pause_check(entry);
	}
}

bool
ingest_is_paused(Oid relid)
{
	SqlArgs		args = {0};

	arg_oid(&args, relid);
	if (spi_catalog("SELECT until > pg_catalog.clock_timestamp() FROM evmig.ingest_pause"
					" WHERE target = $1 AND ended_at IS NULL", &args) == 0)
		return false;
	return spi_bool(0, 0) || runbook_at_work(relid);
}

/*
 * evmig.ingest_paused(target oid) returns boolean
 */
Datum
evmig_ingest_paused(PG_FUNCTION_ARGS)
{
	bool		paused;

	spi_begin();
	paused = ingest_is_paused(PG_GETARG_OID(0));
	spi_end();
	PG_RETURN_BOOL(paused);
}

/*
 * evmig.ingest_pause_refuse() returns trigger
 *
 * BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE FOR EACH STATEMENT, where the
 * hooks are not there.
 */
Datum
evmig_ingest_pause_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	SqlArgs		args = {0};
	Oid			relid;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by the trigger manager")));
	if (is_ours())
		PG_RETURN_POINTER(NULL);
	relid = RelationGetRelid(trigdata->tg_relation);
	spi_begin();
	if (ingest_is_paused(relid))
	{
		arg_oid(&args, relid);
		if (spi_catalog("SELECT paused_by::text, paused_at, reason, until FROM evmig.ingest_pause"
						" WHERE target = $1 AND ended_at IS NULL", &args) > 0)
			refuse(relid, spi_text(0, 0), spi_time(0, 1), spi_text(0, 2), spi_time(0, 3));
	}
	spi_end();
	PG_RETURN_POINTER(NULL);
}
