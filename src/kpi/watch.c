/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  Which tables are watched: the SQL function, and the slots they take.
 *
 * The truth stands in evmig.kpi_watch and survives the server; shared memory
 * follows it when a transaction commits.  After a start the first session that
 * writes in a database reads the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "evmig.h"
#include "kpi/change.h"
#include "kpi/pause.h"
#include "kpi/watch.h"

PG_FUNCTION_INFO_V1(evmig_kpi_watch);

/* ---- slots; with KpiShared.lock held ---- */

static KpiTable *
find_slot(Oid relid)
{
	for (int i = 0; i < kpi_shared->ntables; i++)
		if (kpi_shared->tables[i].state != KPI_FREE &&
			kpi_shared->tables[i].database == MyDatabaseId && kpi_shared->tables[i].relid == relid)
			return &kpi_shared->tables[i];
	return NULL;
}

static void
zero64(pg_atomic_uint64 *words, Size size)
{
	for (Size i = 0; i < size / sizeof(pg_atomic_uint64); i++)
		pg_atomic_init_u64(&words[i], 0);
}

static void
zero32(pg_atomic_uint32 *words, Size size)
{
	for (Size i = 0; i < size / sizeof(pg_atomic_uint32); i++)
		pg_atomic_init_u32(&words[i], 0);
}

/* A free one, ready for another table; NULL where all are taken. */
static KpiTable *
new_slot(Oid relid)
{
	KpiTable   *table = NULL;

	for (int i = 0; i < kpi_shared->ntables && table == NULL; i++)
		if (kpi_shared->tables[i].state == KPI_FREE)
			table = &kpi_shared->tables[i];
	if (table == NULL)
		return NULL;
	table->state = KPI_RESERVED;
	table->database = MyDatabaseId;
	table->relid = relid;
	for (int i = 0; i < KPI_SECONDS; i++)
	{
		KpiSecond  *second = &table->seconds[i];

		zero64((pg_atomic_uint64 *) second->counters, sizeof(second->counters));
		zero32(second->statements, sizeof(second->statements));
		zero32(second->classes, sizeof(second->classes));
	}
	zero32((pg_atomic_uint32 *) table->commits, sizeof(table->commits));
	zero64(&table->inserted, sizeof(table->inserted));
	zero64(table->guard, sizeof(table->guard));
	return table;
}

static void
open_slot(KpiTable *table)
{
	table->state = KPI_WATCHED;
	table->since = GetCurrentTimestamp();
}

static void
free_slot(KpiTable *table)
{
	table->state = KPI_FREE;
	pg_atomic_fetch_add_u32(&table->incarnation, 1);
}

/*
 * A slot is kept where it is watched again behind this, and one that others have
 * given up meanwhile, as its table is gone, is not ours.
 */
static void
apply(Change *change, bool commit)
{
	KpiTable   *table = change->slot;

	if (change->on && commit)
		open_slot(table);
	else if (change->on ||
			 (commit && change->incarnation == pg_atomic_read_u32(&table->incarnation) &&
			  !change_find(table)->on))
		free_slot(table);
}

/* What was given up is watched again: that the change is there is enough. */
static void
apply_again(Change *change, bool commit)
{
}

/* ---- watching ---- */

/* One of ours stays reserved until the commit, for a savepoint may bring it back. */
static void
unwatch_slot(Oid relid)
{
	Change	   *change = change_new(apply);
	KpiTable   *table;
	Change	   *before;

	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	table = find_slot(relid);
	before = table ? change_find(table) : NULL;
	if (table && (before ? before->on : table->state == KPI_WATCHED))
	{
		change->incarnation = pg_atomic_read_u32(&table->incarnation);
		change_at_commit(change, table, false);
	}
	LWLockRelease(kpi_shared->lock);
}

/* Is it the transaction at hand that has dropped a table which is not there? */
static bool
dropped_by_me(Oid relid)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	return compat_lock_held_by_me(&tag, AccessExclusiveLock);
}

/*
 * Give up slots of tables and databases that are no longer there; with the
 * commit where we have dropped the table ourselves.
 */
static void
prune(void)
{
	bool		gone = false;

	for (int i = 0; i < kpi_shared->ntables; i++)
	{
		KpiTable   *table = &kpi_shared->tables[i];
		Oid			database;
		Oid			relid;

		LWLockAcquire(kpi_shared->lock, LW_SHARED);
		database = table->state == KPI_WATCHED ? table->database : InvalidOid;
		relid = table->relid;
		LWLockRelease(kpi_shared->lock);
		if (!OidIsValid(database) ||
			(database == MyDatabaseId ? SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) :
			 SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database))))
			continue;
		gone = true;
		if (database == MyDatabaseId && dropped_by_me(relid))
		{
			unwatch_slot(relid);
			continue;
		}
		LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
		if (table->state == KPI_WATCHED && table->database == database && table->relid == relid)
			free_slot(table);
		watch_changed();
		LWLockRelease(kpi_shared->lock);
	}
	if (gone)
		spi_catalog("DELETE FROM evmig.kpi_watch w WHERE NOT EXISTS"
					" (SELECT FROM pg_catalog.pg_class c WHERE c.oid = w.target)", NULL);
}

/* False where there is no place. */
static bool
watch_slot(Oid relid)
{
	Change	   *change = change_new(apply);
	KpiTable   *table;
	Change	   *before;

	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	table = find_slot(relid);
	before = table ? change_find(table) : NULL;
	if (before && !before->on)
	{
		change->apply = apply_again;
		change_at_commit(change, table, true);
	}
	else if (table == NULL)
	{
		table = new_slot(relid);
		if (table)
			change_at_commit(change, table, true);
	}
	LWLockRelease(kpi_shared->lock);
	if (table)
		watch_refresh_name(table);
	return table != NULL;
}

static void
add_row(Oid relid)
{
	SqlArgs		args = {0};

	arg_oid(&args, relid);
	spi_catalog("INSERT INTO evmig.kpi_watch (target) VALUES ($1) ON CONFLICT DO NOTHING", &args);
}

void
watch_if_possible(Oid relid)
{
	if (kpi_shared == NULL)
		return;
	watch_load();
	prune();
	if (watch_slot(relid))
		add_row(relid);
}

/*
 * evmig_kpi_watch(target regclass, enabled boolean) returns void
 *
 * Takes effect with the commit, in all sessions.  Takes no lock on the table.
 */
Datum
evmig_kpi_watch(PG_FUNCTION_ARGS)
{
	Oid			relid = target_relid(ARG_RELID(0));
	bool		enabled = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	SqlArgs		args = {0};
	char		relkind;

	relkind = get_rel_relkind(relid);
	require_owner(relid);
	require_writable();
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", get_rel_name(relid))));
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("temporary table \"%s\" cannot be watched", get_rel_name(relid))));

	spi_begin();
	watch_load();				/* before there is a row that may be rolled back */
	if (kpi_shared)
		prune();
	arg_oid(&args, relid);
	if (enabled)
		add_row(relid);
	else
		spi_catalog("DELETE FROM evmig.kpi_watch WHERE target = $1", &args);
	if (kpi_shared == NULL)
		ereport(NOTICE,
				(errmsg("evmig is not preloaded, so nothing is measured"),
				 errhint("Add evmig to shared_preload_libraries and restart the server.")));
	else
	{
		if (!enabled)
			unwatch_slot(relid);
		else if (!watch_slot(relid))
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("cannot watch more than %d tables", kpi_shared->ntables),
					 errhint("Unwatch another one (SELECT * FROM evmig.kpi_watch), or increase evmig.kpi_max_tables and restart the server.")));
	}
	spi_end();
	PG_RETURN_VOID();
}

/* ---- after the server's start ---- */

/* The tables that evmig.kpi_watch names; those that find no place are left out. */
static void
load_tables(void)
{
	SqlArgs		none = {0};
	uint64		left_out = 0;

	spi_catalog("SELECT w.target::oid, n.nspname::text, c.relname::text FROM evmig.kpi_watch w"
				" JOIN pg_catalog.pg_class c ON c.oid = w.target"
				" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace", &none);
	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		Oid			relid = spi_oid(i, 0);
		KpiTable   *table = find_slot(relid) ? NULL : new_slot(relid);

		if (table)
		{
			open_slot(table);
			namestrcpy(&table->schema, spi_text(i, 1));
			namestrcpy(&table->name, spi_text(i, 2));
		}
		else if (find_slot(relid) == NULL)
			left_out++;
	}
	LWLockRelease(kpi_shared->lock);
	if (left_out > 0)
		ereport(LOG,
				(errmsg("evmig.kpi_max_tables leaves out " UINT64_FORMAT " watched tables of database \"%s\"",
						left_out, get_database_name(MyDatabaseId))));
}

/*
 * Our tables, where the extension is here.  Nobody's statement waits for a
 * lock on them: then the next one tries.
 */
static bool
load(void)
{
	Oid			nsp = get_namespace_oid(EVMIG_SCHEMA, true);
	Oid			watch = OidIsValid(nsp) ? get_relname_relid("kpi_watch", nsp) : InvalidOid;
	Oid			pause = OidIsValid(nsp) ? get_relname_relid("ingest_pause", nsp) : InvalidOid;

	if (!OidIsValid(watch) || !OidIsValid(pause) || !OidIsValid(get_extension_oid("evmig", true)))
		return true;
	if (!ConditionalLockRelationOid(watch, AccessShareLock) ||
		!ConditionalLockRelationOid(pause, AccessShareLock))
		return false;
	spi_begin();
	load_tables();
	pause_load();
	spi_end();
	return true;
}

void
watch_load(void)
{
	if (!watch_any() || watch_database_read || !load())
		return;
	watch_database_read = true;
	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	if (kpi_shared->ndatabases < KPI_DATABASES)
		kpi_shared->databases[kpi_shared->ndatabases++] = MyDatabaseId;
	watch_changed();
	LWLockRelease(kpi_shared->lock);
}
