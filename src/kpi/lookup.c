/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  What this session knows of watched and paused tables.
 *
 * Each session keeps what it looked up of a relation, until a shared number
 * says that the set has changed or the relation's own cache entry is
 * invalidated.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "kpi/watch.h"

/* what this session knows, and of which version of the set */
uint32		watch_generation = 0;
bool		watch_here = false;
bool		watch_paused = false;
bool		watch_database_read = false;
WatchEntry *watch_last = NULL;
static bool anything_here = false;
static HTAB *entries = NULL;
static Oid *watched_here = NULL;	/* tables */
static int	nwatched_here = 0;

/* ---- what the session knows ---- */

static bool
is_watched_here(Oid relid)
{
	for (int i = 0; i < nwatched_here; i++)
		if (watched_here[i] == relid)
			return true;
	return false;
}

/*
 * A partitioned table that has changed changes those above it, and so does a
 * watched one.
 */
static void
forget_relation(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	WatchEntry *entry;

	if (entries == NULL)
		return;
	if (OidIsValid(relid))
	{
		entry = hash_search(entries, &relid, HASH_FIND, NULL);
		if (entry)
			entry->valid = false;
		if (!(entry && entry->partitioned) && !is_watched_here(relid))
			return;
	}
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (!OidIsValid(relid) || entry->partitioned)
			entry->valid = false;
}

/* The set has changed: is there anything of this database in it? */
bool
watch_refresh(void)
{
	uint32		generation = pg_atomic_read_u32(&kpi_shared->generation);
	bool		paused = false;
	bool		read = watch_database_read;

	if (!OidIsValid(MyDatabaseId))
		return false;
	if (watched_here == NULL)
		watched_here = MemoryContextAlloc(TopMemoryContext, kpi_shared->ntables * sizeof(Oid));
	nwatched_here = 0;
	LWLockAcquire(kpi_shared->lock, LW_SHARED);
	for (int i = 0; i < kpi_shared->ntables; i++)
	{
		if (kpi_shared->tables[i].state == KPI_WATCHED &&
			kpi_shared->tables[i].database == MyDatabaseId)
			watched_here[nwatched_here++] = kpi_shared->tables[i].relid;
		paused |= kpi_shared->pauses[i].database == MyDatabaseId;
	}
	for (int i = 0; i < kpi_shared->ndatabases && !read; i++)
		read = kpi_shared->databases[i] == MyDatabaseId;
	LWLockRelease(kpi_shared->lock);
	forget_relation((Datum) 0, InvalidOid);
	anything_here = nwatched_here > 0 || paused;
	watch_paused = paused;
	watch_database_read = read;
	watch_generation = generation;
	watch_here = anything_here || !read;
	return watch_here;
}

void
watch_refresh_name(KpiTable *table)
{
	char	   *name = get_rel_name(table->relid);
	Oid			nsp = get_rel_namespace(table->relid);
	char	   *schema = OidIsValid(nsp) ? get_namespace_name(nsp) : NULL;

	if (name == NULL || schema == NULL ||
		(strcmp(name, NameStr(table->name)) == 0 && strcmp(schema, NameStr(table->schema)) == 0))
		return;
	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	namestrcpy(&table->name, name);
	namestrcpy(&table->schema, schema);
	LWLockRelease(kpi_shared->lock);
}

/* Is a table watched that lies below a partitioned one? */
static bool
is_watched_below(Oid relid)
{
	for (int i = 0; i < nwatched_here; i++)
		if (get_rel_relispartition(watched_here[i]) &&
			list_member_oid(get_partition_ancestors(watched_here[i]), relid))
			return true;
	return false;
}

/* What an INSERT into the relation can reach, too. */
static void
fill_below(WatchEntry *entry)
{
	if (entry->leaves)
		pfree(entry->leaves);
	entry->leaves = NULL;
	entry->nleaves = 0;
	entry->partitioned = get_rel_relkind(entry->relid) == RELKIND_PARTITIONED_TABLE;
	entry->routes = entry->partitioned && is_watched_below(entry->relid);
}

/* The partitioned ones have entries, so that we hear when they change. */
void
watch_find_leaves(WatchEntry *entry)
{
	WatchEntry *last = watch_last;
	List	   *relids;
	ListCell   *lc;

	if (entry->leaves)
		return;
	relids = find_all_inheritors(entry->relid, NoLock, NULL);
	entry->leaves = MemoryContextAlloc(TopMemoryContext, list_length(relids) * sizeof(Oid));
	foreach(lc, relids)
	{
		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_PARTITIONED_TABLE)
			entry->leaves[entry->nleaves++] = lfirst_oid(lc);
		else if (lfirst_oid(lc) != entry->relid)
			(void) watch_look_up(lfirst_oid(lc));
	}
	watch_last = last;
	list_free(relids);
}

/* Look a relation up: itself, and the tables that it is a partition of. */
static void
fill_entry(WatchEntry *entry)
{
	List	   *relids = list_make1_oid(entry->relid);

	fill_below(entry);
	if (get_rel_relispartition(entry->relid))
		relids = list_concat(relids, get_partition_ancestors(entry->relid));
	entry->ntargets = 0;
	entry->pause = NULL;

	/* an invalidation that comes in from here on must not be lost */
	entry->valid = true;
	LWLockAcquire(kpi_shared->lock, LW_SHARED);
	for (int i = 0; i < kpi_shared->ntables; i++)
	{
		KpiTable   *table = &kpi_shared->tables[i];
		KpiPause   *pause = &kpi_shared->pauses[i];

		if (table->state == KPI_WATCHED && table->database == MyDatabaseId &&
			entry->ntargets < WATCH_MAX_TARGETS && list_member_oid(relids, table->relid))
		{
			entry->target[entry->ntargets].table = table;
			entry->target[entry->ntargets++].incarnation = pg_atomic_read_u32(&table->incarnation);
		}
		if (pause->database == MyDatabaseId && pg_atomic_read_u64(&pause->until) != 0 &&
			list_member_oid(relids, pause->relid))
			entry->pause = pause;
	}
	LWLockRelease(kpi_shared->lock);
	for (int i = 0; i < entry->ntargets; i++)
		watch_refresh_name(entry->target[i].table);
	list_free(relids);
}

WatchEntry *
watch_look_up(Oid relid)
{
	WatchEntry *entry;
	bool		found;

	if (!watch_any() || !anything_here)
		return NULL;
	if (entries == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(WatchEntry);
		entries = hash_create("evmig kpi relations", 64, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
	}
	entry = hash_search(entries, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(entry, 0, sizeof(WatchEntry));
		entry->relid = relid;
	}
	if (!entry->valid)
		fill_entry(entry);
	watch_last = entry;
	return entry;
}

const WatchEntry *
watch_known(Oid relid)
{
	const WatchEntry *entry = entries ? hash_search(entries, &relid, HASH_FIND, NULL) : NULL;

	return entry && entry->valid && entry->ntargets > 0 ? entry : NULL;
}

KpiTable *
watch_find(Oid relid, uint32 *incarnation)
{
	KpiTable   *found = NULL;

	if (kpi_shared == NULL)
		return NULL;
	LWLockAcquire(kpi_shared->lock, LW_SHARED);
	for (int i = 0; i < kpi_shared->ntables && found == NULL; i++)
		if (kpi_shared->tables[i].state == KPI_WATCHED &&
			kpi_shared->tables[i].database == MyDatabaseId && kpi_shared->tables[i].relid == relid)
			found = &kpi_shared->tables[i];
	if (found && incarnation)
		*incarnation = pg_atomic_read_u32(&found->incarnation);
	LWLockRelease(kpi_shared->lock);
	return found;
}

static bool
find_in_schema(const char *schema, const char *name, WatchTarget *target)
{
	for (int i = 0; i < kpi_shared->ntables; i++)
	{
		KpiTable   *table = &kpi_shared->tables[i];

		target->table = table;
		target->incarnation = pg_atomic_read_u32(&table->incarnation);
		if (table->state == KPI_WATCHED && table->database == MyDatabaseId &&
			strncmp(NameStr(table->name), name, NAMEDATALEN) == 0 &&
			strncmp(NameStr(table->schema), schema, NAMEDATALEN) == 0)
			return true;
	}
	return false;
}

/* The schema of search_path that is called like the user. */
static const char *
schema_of_user(void)
{
	const char *role = GetConfigOption("role", true, false);

	if (role == NULL || strcmp(role, "none") == 0)
		role = GetConfigOption("session_authorization", true, false);
	return role ? role : "";
}

/*
 * An unqualified name is taken for that of the first watched table in
 * search_path, whatever else is there: that could not be looked up here.
 */
bool
watch_find_name(const char *schema, const char *name, WatchTarget *target)
{
	List	   *schemas;
	ListCell   *lc;

	if (kpi_shared == NULL)
		return false;
	if (schema)
		return find_in_schema(schema, name, target);
	if (!SplitIdentifierString(pstrdup(namespace_search_path), ',', &schemas))
		return false;
	foreach(lc, schemas)
	{
		schema = lfirst(lc);
		if (strcmp(schema, "$user") == 0)
			schema = schema_of_user();
		if (find_in_schema(schema, name, target))
			return true;
	}
	return false;
}

bool
watch_find_relid(Oid relid, WatchTarget *target)
{
	for (int i = 0; kpi_shared && i < kpi_shared->ntables; i++)
	{
		KpiTable   *table = &kpi_shared->tables[i];

		target->table = table;
		target->incarnation = pg_atomic_read_u32(&table->incarnation);
		if (table->state == KPI_WATCHED && table->database == MyDatabaseId && table->relid == relid)
			return true;
	}
	return false;
}

void
watch_changed(void)
{
	int			active = 0;

	for (int i = 0; i < kpi_shared->ntables; i++)
		active += (kpi_shared->tables[i].state == KPI_WATCHED) +
			OidIsValid(kpi_shared->pauses[i].database);
	pg_atomic_write_u32(&kpi_shared->active, active);
	pg_atomic_fetch_add_u32(&kpi_shared->generation, 1);
}

/* ---- privileges ---- */

void
watch_require_reader(Oid relid)
{
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
}
