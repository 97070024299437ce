/*-------------------------------------------------------------------------
 *
 * pause.c
 *	  Pausing the writers of a table.
 *
 * Where the library is preloaded a pause is a word in shared memory that every
 * statement looks at before it writes: no lock is taken, and what is at work
 * ends as if nothing had happened.  Elsewhere it is a statement trigger.  The
 * truth stands in evmig.ingest_pause and survives the server.  refuse.c is what
 * writers meet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "evmig.h"
#include "kpi/change.h"
#include "kpi/pause.h"

PG_FUNCTION_INFO_V1(evmig_ingest_pause);
PG_FUNCTION_INFO_V1(evmig_ingest_resume);

#define PAUSE_TRIGGER "!evmig_ingest_pause"	/* sorts before any letter */
#define PAUSE_FUNCTION "ingest_pause_refuse"

static int	ingest_pause_max;

/* ---- shared memory ---- */

static void
apply(Change *change, bool commit)
{
	KpiPause   *pause = change->slot;

	if (change->on == commit)
	{
		if (change->on)
			pg_atomic_write_u64(&pause->until, pause->planned);
		return;
	}
	pg_atomic_write_u64(&pause->until, 0);
	pause->database = InvalidOid;
}

/* With KpiShared.lock held; NULL where there is no place. */
static KpiPause *
new_pause(Oid relid, const char *by, TimestampTz since, const char *reason, TimestampTz until)
{
	KpiPause   *pause = NULL;
	TimestampTz now = GetCurrentTimestamp();
	int			length = pg_mbcliplen(reason, strlen(reason), KPI_REASON_SIZE - 1);

	/* one that has ended by itself gives up its place */
	for (int i = 0; i < kpi_shared->ntables && pause == NULL; i++)
		if (kpi_shared->pauses[i].database == InvalidOid ||
			(pg_atomic_read_u64(&kpi_shared->pauses[i].until) == 0 && kpi_shared->pauses[i].planned < now))
			pause = &kpi_shared->pauses[i];
	if (pause == NULL)
		return NULL;
	pause->database = MyDatabaseId;
	pause->relid = relid;
	pause->since = since;
	pause->planned = until;
	namestrcpy(&pause->by, by);
	memcpy(pause->reason, reason, length);
	pause->reason[length] = '\0';
	pg_atomic_write_u64(&pause->until, 0);
	return pause;
}

static void
pause_slot(Oid relid, const char *by, TimestampTz since, const char *reason, TimestampTz until)
{
	Change	   *change = change_new(apply);
	KpiPause   *pause;

	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	pause = new_pause(relid, by, since, reason, until);
	if (pause)
		change_at_commit(change, pause, true);
	LWLockRelease(kpi_shared->lock);
	if (pause == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot pause more than %d tables", kpi_shared->ntables),
				 errhint("Resume another one, or increase evmig.kpi_max_tables and restart the server.")));
}

static void
resume_slots(Oid relid)
{
	Change	   *change = NULL;

	/* in force, or of this transaction, and then a savepoint may bring it back */
	for (int i = 0; i < kpi_shared->ntables; i++)
	{
		KpiPause   *pause = &kpi_shared->pauses[i];
		Change	   *ours;

		if (change == NULL)
			change = change_new(apply);
		LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
		ours = change_find(pause);
		if (pause->database == MyDatabaseId && pause->relid == relid &&
			(ours ? ours->on : pg_atomic_read_u64(&pause->until) != 0))
		{
			change_at_commit(change, pause, false);
			change = NULL;
		}
		LWLockRelease(kpi_shared->lock);
	}
}

void
pause_load(void)
{
	SqlArgs		none = {0};
	uint64		n = spi_catalog("SELECT target::oid, paused_by::text, paused_at, reason, until"
								" FROM evmig.ingest_pause WHERE ended_at IS NULL", &none);

	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	for (uint64 i = 0; i < n; i++)
	{
		KpiPause   *pause = new_pause(spi_oid(i, 0), spi_text(i, 1), spi_time(i, 2), spi_text(i, 3),
									  spi_time(i, 4));

		/* one whose time is over is looked at by the first who meets it */
		if (pause)
			pg_atomic_write_u64(&pause->until, pause->planned);
	}
	LWLockRelease(kpi_shared->lock);
}

/* ---- pausing and resuming ---- */

void
ingest_pause(Oid relid, const char *reason)
{
	SqlArgs		old = {0};
	SqlArgs		args = {0};
	const char *by = GetUserNameFromId(GetSessionUserId(), false);

	arg_oid(&old, relid);
	if (ingest_is_paused(relid))
	{
		spi_catalog("SELECT paused_by::text, paused_at, reason FROM evmig.ingest_pause"
					" WHERE target = $1 AND ended_at IS NULL", &old);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("writes on table \"%s\" are paused already", get_rel_name(relid)),
				 errdetail("Role \"%s\" paused them at %s: %s", spi_text(0, 0),
						   timestamptz_to_str(spi_time(0, 1)), spi_text(0, 2)),
				 errhint("Call evmig_ingest_resume first.")));
	}
	spi_catalog("UPDATE evmig.ingest_pause SET ended_at = until, ended_by = NULL"
				" WHERE target = $1 AND ended_at IS NULL", &old);
	arg_oid(&args, relid);
	arg_text(&args, reason);
	arg_text(&args, by);
	arg_int4(&args, ingest_pause_max);
	spi_catalog("INSERT INTO evmig.ingest_pause (target, reason, paused_by, paused_at, until)"
				" SELECT $1, $2, $3::name, n, n + pg_catalog.make_interval(secs => $4)"
				" FROM pg_catalog.clock_timestamp() n RETURNING paused_at, until", &args);
	if (kpi_shared)
		pause_slot(relid, by, spi_time(0, 0), reason, spi_time(0, 1));
}

bool
ingest_resume(Oid relid)
{
	SqlArgs		args = {0};
	bool		paused = ingest_is_paused(relid);

	arg_oid(&args, relid);
	arg_text(&args, GetUserNameFromId(GetSessionUserId(), false));
	arg_bool(&args, paused);
	spi_catalog("UPDATE evmig.ingest_pause SET"
				" ended_at = CASE WHEN $3 THEN pg_catalog.clock_timestamp() ELSE until END,"
				" ended_by = CASE WHEN $3 THEN $2::name END"
				" WHERE target = $1 AND ended_at IS NULL", &args);
	if (kpi_shared)
		resume_slots(relid);
	return paused;
}

/* ---- the trigger ---- */

static Oid
pause_function(void)
{
	return LookupFuncName(list_make2(makeString(EVMIG_SCHEMA), makeString(PAUSE_FUNCTION)),
						  0, NULL, false);
}

static Oid
find_trigger(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TriggerDesc *desc = rel->trigdesc;
	Oid			function = pause_function();
	Oid			trigger = InvalidOid;

	for (int i = 0; desc && i < desc->numtriggers; i++)
		if (desc->triggers[i].tgfoid == function && strcmp(desc->triggers[i].tgname, PAUSE_TRIGGER) == 0)
			trigger = desc->triggers[i].tgoid;
	table_close(rel, NoLock);
	return trigger;
}

/* Nobody but us may make such a trigger; table and function go by OID. */
static void
create_trigger(Oid relid)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	RunAs		runas;

	lock_relation_polled(relid, ShareRowExclusiveLock);
	if (OidIsValid(find_trigger(relid)))
		return;
	stmt->trigname = PAUSE_TRIGGER;
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), -1);
	stmt->funcname = list_make2(makeString(EVMIG_SCHEMA), makeString(PAUSE_FUNCTION));
	stmt->timing = TRIGGER_TYPE_BEFORE;
	stmt->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_TRUNCATE;
	runas_begin(&runas, extension_owner(), RUNAS_LOCAL);
	(void) CreateTriggerFiringOn(stmt, NULL, relid, InvalidOid, InvalidOid, InvalidOid,
								 pause_function(), InvalidOid, NULL, false, false,
								 TRIGGER_FIRES_ON_ORIGIN);
	runas_end(&runas);
	CommandCounterIncrement();
}

static void
drop_trigger(FunctionCallInfo fcinfo, Oid relid)
{
	ObjectAddress address;

	ObjectAddressSet(address, TriggerRelationId, find_trigger(relid));
	if (!OidIsValid(address.objectId))
		return;
	require_own_transaction(fcinfo, "evmig_ingest_resume");
	lock_relation_polled(relid, AccessExclusiveLock);
	performDeletion(&address, DROP_RESTRICT, 0);
	CommandCounterIncrement();
}

/* ---- SQL functions ---- */

static Oid
pause_target(FunctionCallInfo fcinfo)
{
	Oid			relid = target_relid(ARG_RELID(0));
	char		relkind = get_rel_relkind(relid);

	require_owner(relid);
	require_writable();
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", get_rel_name(relid))));
	return relid;
}

/*
 * evmig_ingest_pause(target regclass, reason text) returns void
 *
 * Takes effect with the commit.  Without hooks it takes SHARE ROW EXCLUSIVE on
 * the table, polled.
 */
Datum
evmig_ingest_pause(PG_FUNCTION_ARGS)
{
	Oid			relid = pause_target(fcinfo);
	char	   *reason = ARG_TEXT(1);

	if (reason == NULL || reason[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason must be given"),
				 errhint("Writers are told it.")));
	if (kpi_shared == NULL)
		require_own_transaction(fcinfo, "evmig_ingest_pause");
	spi_begin();
	watch_load();
	ingest_pause(relid, reason);
	spi_end();
	if (kpi_shared == NULL)
		create_trigger(relid);
	PG_RETURN_VOID();
}

/*
 * evmig_ingest_resume(target regclass) returns void
 *
 * Takes effect with the commit.  A trigger is dropped under ACCESS EXCLUSIVE,
 * polled.
 */
Datum
evmig_ingest_resume(PG_FUNCTION_ARGS)
{
	Oid			relid = pause_target(fcinfo);
	bool		paused;

	spi_begin();
	watch_load();
	paused = ingest_resume(relid);
	spi_end();
	drop_trigger(fcinfo, relid);
	if (!paused)
		ereport(NOTICE,
				(errmsg("writes on table \"%s\" are not paused", get_rel_name(relid))));
	PG_RETURN_VOID();
}

void
pause_init(void)
{
	DefineCustomIntVariable("evmig.ingest_pause_max",
							"Time after which a pause of a table's writers ends by itself.",
							"Not while a runbook is at work on the table.",
							&ingest_pause_max, 900, 1, 7 * 86400, PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
}
