/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  Shared memory of the KPIs: which tables are watched or paused, and what
 *	  was measured of them.
 *
 * Only there when the library is preloaded.  Writers of a sample take no
 * lock.  Every counter carries the number of the round of its ring that it
 * belongs to, so a counter of an older round reads as zero and is begun anew by
 * whoever comes first; nothing is ever cleared.
 *
 * A table has, for the last ten minutes,
 *		counters		each second, in KPI_SHARDS shards
 *		statements		a histogram each second
 *		commits			a histogram each ten seconds
 *		classes			errors by class of SQLSTATE, each second
 * about 1.7 MB; pages of tables that nobody watches are never touched.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_SHMEM_H
#define EVMIG_KPI_SHMEM_H

#include "base/compat.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "integrity/ingest.h"
#include "kpi/histogram.h"

#define KPI_WINDOW 600			/* seconds that are remembered */
#define KPI_SECONDS 640			/* rings of seconds */
#define KPI_TENS 64				/* ring of ten seconds */
#define KPI_SHARDS 4
#define KPI_CLASSES 55			/* classes of SQLSTATE, the last is any other */

typedef enum KpiCounter
{
	KPI_WRITES,					/* statements that ended without an error; not
								 * counted, their histogram tells */
	KPI_ROWS,
	KPI_ERRORS,					/* statements that ended with one */
	KPI_LOGGED,					/* errors of sessions that wrote the table */
	KPI_REFUSED,				/* statements that met a pause of ingest */
	KPI_COMMITS,
	KPI_LONGEST,				/* microseconds: of a statement */
	KPI_COMMIT_LONGEST,
	KPI_COUNTERS				/* 8: a line of the processor's cache */
} KpiCounter;

typedef enum KpiHistogram
{
	KPI_STATEMENT,
	KPI_COMMIT,
	KPI_HISTOGRAMS
} KpiHistogram;

typedef enum KpiState
{
	KPI_FREE,
	KPI_RESERVED,				/* by a transaction that has not committed */
	KPI_WATCHED
} KpiState;

/* what a writer touches at the end of a statement lies close together */
typedef struct KpiSecond
{
	pg_atomic_uint64 counters[KPI_SHARDS][KPI_COUNTERS];
	pg_atomic_uint32 statements[HISTOGRAM_BUCKETS];
	pg_atomic_uint32 classes[KPI_CLASSES];
} KpiSecond;

StaticAssertDecl(sizeof(KpiSecond) % 64 == 0, "counters must begin at a line of the cache");

typedef struct KpiTable
{
	KpiSecond	seconds[KPI_SECONDS];

	/* these, too, in a line of the cache of their own */
	pg_atomic_uint32 incarnation;	/* changes with whose table it is */
	pg_atomic_uint64 inserted;	/* rows, by INSERT and COPY, since it is watched */
	pg_atomic_uint64 guard[GUARD_OUTCOMES]; /* the same */

	/* guarded by KpiShared.lock; read without it where incarnation stands still */
	KpiState	state;
	Oid			database;
	Oid			relid;
	TimestampTz since;
	NameData	schema;			/* as of when it was looked up last */
	NameData	name;

	pg_atomic_uint32 commits[KPI_TENS][HISTOGRAM_BUCKETS];
} KpiTable;

#define KPI_REASON_SIZE 200

typedef struct KpiPause
{
	/* guarded by KpiShared.lock */
	Oid			database;		/* InvalidOid: free */
	Oid			relid;
	TimestampTz since;
	TimestampTz planned;		/* end, as people were told */
	NameData	by;
	char		reason[KPI_REASON_SIZE];

	pg_atomic_uint64 until;		/* TimestampTz; 0: not in force */
} KpiPause;

#define KPI_DATABASES 512		/* whose tables were read since the start */

typedef struct KpiShared
{
	LWLock	   *lock;			/* who is watched or paused */
	pg_atomic_uint32 generation;	/* changes when that changes */
	pg_atomic_uint32 active;	/* tables watched or paused, in all databases */
	int			ntables;		/* of both arrays */
	int			ndatabases;
	Oid			databases[KPI_DATABASES];
	pg_atomic_uint64 wal_second[KPI_SECONDS];	/* where the WAL stood when, as of */
	pg_atomic_uint64 wal_lsn[KPI_SECONDS];	/* the first write of a second */
	KpiPause   *pauses;
	KpiTable   *tables;
} KpiShared;

/* NULL where the library is not preloaded */
extern KpiShared *kpi_shared;
extern int	evmig_kpi_max_tables;

/* Settings and hooks for shared memory; from _PG_init. */
extern void kpi_shmem_init(void);

/* ---- measuring; a sample of another incarnation is dropped ---- */

extern void kpi_count(KpiTable *table, uint32 incarnation, TimestampTz now,
					  KpiCounter counter, uint64 n);

/* Rows of a statement that was counted before; inserted: of them. */
extern void kpi_rows(KpiTable *table, uint32 incarnation, TimestampTz now, uint64 rows,
					 uint64 inserted);

typedef struct KpiStatement
{
	TimestampTz start;
	TimestampTz end;			/* of its execution */
	uint64		rows;
	uint64		inserted;		/* of them, by INSERT and COPY */
} KpiStatement;

/*
 * Count a statement, NULL for none, and a commit of so many microseconds,
 * KPI_NONE for none.
 */
#define KPI_NONE INT64CONST(-1)
extern void kpi_time(KpiTable *table, uint32 incarnation, TimestampTz now,
					 const KpiStatement *statement, int64 commit);
extern void kpi_error(KpiTable *table, uint32 incarnation, TimestampTz now, int sqlstate);

/* ---- reading ---- */

/* the first two characters of the class of an SQLSTATE; "??" for any other */
extern const char *kpi_class_name(int class);

typedef struct KpiWindow
{
	double		seconds;		/* that it covers */
	TimestampTz from;
	uint64		counter[KPI_COUNTERS];
	uint64		histogram[KPI_HISTOGRAMS][HISTOGRAM_BUCKETS];
	uint64		classes[KPI_CLASSES];
} KpiWindow;

/*
 * What was measured in the last us microseconds, at most KPI_WINDOW seconds
 * and not from before it was watched.  Begins at a full second; the histogram
 * of commits at ten.
 */
extern void kpi_read(KpiTable *table, int64 us, KpiWindow *window);

/* Bytes of WAL in a second since from, and since when; false if unknown. */
extern bool kpi_wal_rate(TimestampTz from, double *rate, TimestampTz *since);

/* ms at a fraction of a histogram; negative where nothing was measured */
extern double kpi_percentile(const KpiWindow *window, KpiHistogram which, double fraction);

#endif							/* EVMIG_KPI_SHMEM_H */
