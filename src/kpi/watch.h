/*-------------------------------------------------------------------------
 *
 * watch.h
 *	  Which tables are watched or paused, as this session knows it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_WATCH_H
#define EVMIG_KPI_WATCH_H

#include "kpi/shmem.h"

/* a table that is watched and its ancestors, as many as are of interest */
#define WATCH_MAX_TARGETS 8

/* where samples go */
typedef struct WatchTarget
{
	KpiTable   *table;
	uint32		incarnation;
} WatchTarget;

/* what is known of a relation */
typedef struct WatchEntry
{
	Oid			relid;			/* hash key */
	bool		valid;
	bool		routes;			/* rows into watched tables below it */
	bool		partitioned;
	int			ntargets;		/* itself, and those that it is a partition of */
	int			nleaves;
	Oid		   *leaves;			/* NULL: nobody has asked for them */
	KpiPause   *pause;			/* of one of its targets; NULL for none */
	WatchTarget target[WATCH_MAX_TARGETS];
} WatchEntry;

/* of lookup.c, for the functions below */
extern uint32 watch_generation; /* of the set, as this session knows it */
extern bool watch_here;			/* something is in it, or may be */
extern WatchEntry *watch_last;	/* that was looked up; NULL for none */
extern bool watch_refresh(void);
extern WatchEntry *watch_look_up(Oid relid);

/* Is anything paused in this database, as of the last watch_any()? */
extern bool watch_paused;

/*
 * Is anything watched or paused in this database, or may it be?  The answer
 * costs next to nothing.  Takes a lightweight lock when the set has changed.
 */
static inline bool
watch_any(void)
{
	if (kpi_shared == NULL)
		return false;
	if (unlikely(pg_atomic_read_u32(&kpi_shared->generation) != watch_generation))
		return watch_refresh();
	return watch_here;
}

/*
 * What is known of a relation, valid until the next call; NULL for nothing.
 * Looks up its ancestors in the catalogs the first time.  A statement asks some
 * times for one relation.
 */
static inline WatchEntry *
watch_lookup(Oid relid)
{
	WatchEntry *entry = watch_last;

	if (unlikely(entry == NULL || entry->relid != relid || !entry->valid))
		entry = watch_look_up(relid);
	return entry && (entry->ntargets > 0 || entry->pause || entry->routes) ? entry : NULL;
}

/*
 * What this session knows of a relation that counts for a watched table; NULL for
 * nothing.  Looks nothing up, so that it may be called in an error.
 */
extern const WatchEntry *watch_known(Oid relid);

/*
 * Find the leaves that an INSERT into a partitioned table can reach.  Valid
 * until the next transaction; entry stays what it is.
 */
extern void watch_find_leaves(WatchEntry *entry);

/*
 * Read from our tables what was watched and paused when the server started;
 * the first session that writes in a database does so.  In a transaction with
 * an active snapshot.
 */
extern void watch_load(void);

/* Were our tables read in this database since the start? */
extern bool watch_database_read;

/* Keep the names that watch_find_name() looks for up to date. */
extern void watch_refresh_name(KpiTable *table);

/* The watched table of this database; NULL for none.  Takes the lightweight lock. */
extern KpiTable *watch_find(Oid relid, uint32 *incarnation);

/*
 * A watched table by its name, which may be its name of yesterday; schema NULL
 * is that of search_path.  Touches neither catalogs nor locks, so that it may be
 * called while an error is reported.  Leaves some memory behind.
 */
extern bool watch_find_name(const char *schema, const char *name, WatchTarget *target);
extern bool watch_find_relid(Oid relid, WatchTarget *target);

/* Tell all sessions that something has changed; with KpiShared.lock held. */
extern void watch_changed(void);

/*
 * Watch a table from the commit on, where the library is preloaded and there
 * is a place for it; inside SPI.
 */
extern void watch_if_possible(Oid relid);

/* Raise where the caller may neither read the table nor all statistics. */
extern void watch_require_reader(Oid relid);

#endif							/* EVMIG_KPI_WATCH_H */
