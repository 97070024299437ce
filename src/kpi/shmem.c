/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Shared memory of the KPIs: counters and histograms without locks.
 *
 * A counter is one atomic word: the low bits count, the high ones say which
 * round of its ring the count belongs to.  Adding to a word of this round is
 * one fetch-and-add; a word of an older round is replaced by compare-and-swap.
 * Nobody waits for anybody, and a process that dies between two words leaves
 * each of them whole.
 *
 * The number of the round wraps: a word of a second that nobody touched since
 * would count again after 2^12 rounds (30 days), one of ten seconds after 2^10
 * (7.6 days).  A word that is full stays as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "kpi/shmem.h"

#define TRANCHE "evmig_kpi"

/* bits that count; the others say the round */
#define COUNTER_BITS 40
#define SECOND_BITS 20
#define TENS_BITS 22

/* more than the processes that could be adding to a word at one moment */
#define HEADROOM 4096

KpiShared  *kpi_shared = NULL;
int			evmig_kpi_max_tables;

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/* ---- words ---- */

static pg_attribute_hot void
add64(pg_atomic_uint64 *word, uint64 round, uint64 n)
{
	const uint64 mask = (UINT64CONST(1) << COUNTER_BITS) - 1;
	uint64		tag = round << COUNTER_BITS;
	uint64		old = pg_atomic_read_u64(word);

	while (unlikely((old & ~mask) != tag))
		if (pg_atomic_compare_exchange_u64(word, &old, tag | Min(n, mask / 2)))
			return;
	if ((old & mask) + n < mask - HEADROOM)
		pg_atomic_fetch_add_u64(word, n);
}

static pg_attribute_hot void
max64(pg_atomic_uint64 *word, uint64 round, uint64 n)
{
	const uint64 mask = (UINT64CONST(1) << COUNTER_BITS) - 1;
	uint64		new = round << COUNTER_BITS | Min(n, mask);
	uint64		old = pg_atomic_read_u64(word);

	while (unlikely((old & ~mask) != (new & ~mask) || old < new))
		if (pg_atomic_compare_exchange_u64(word, &old, new))
			return;
}

static uint64
read64(pg_atomic_uint64 *word, uint64 round)
{
	uint64		value = pg_atomic_read_u64(word);
	uint64		tag = round << COUNTER_BITS;

	return value >> COUNTER_BITS == tag >> COUNTER_BITS ?
		value & ((UINT64CONST(1) << COUNTER_BITS) - 1) : 0;
}

static pg_attribute_hot void
add32(pg_atomic_uint32 *word, int bits, uint64 round)
{
	const uint32 mask = ((uint32) 1 << bits) - 1;
	uint32		tag = (uint32) round << bits;
	uint32		old = pg_atomic_read_u32(word);

	while (unlikely((old & ~mask) != tag))
		if (pg_atomic_compare_exchange_u32(word, &old, tag | 1))
			return;
	if ((old & mask) < mask - HEADROOM)
		pg_atomic_fetch_add_u32(word, 1);
}

static uint32
read32(pg_atomic_uint32 *word, int bits, uint64 round)
{
	const uint32 mask = ((uint32) 1 << bits) - 1;
	uint32		value = pg_atomic_read_u32(word);

	return (value & ~mask) == (uint32) round << bits ? value & mask : 0;
}

/* ---- measuring ---- */

static bool
is_current(KpiTable *table, uint32 incarnation)
{
	return pg_atomic_read_u32(&table->incarnation) == incarnation;
}

void
kpi_count(KpiTable *table, uint32 incarnation, TimestampTz now, KpiCounter counter, uint64 n)
{
	uint64		second = (uint64) now / USECS_PER_SEC;

	if (is_current(table, incarnation))
		add64(&table->seconds[second % KPI_SECONDS].counters[MyProcPid % KPI_SHARDS][counter],
			  second / KPI_SECONDS, n);
}

void
kpi_rows(KpiTable *table, uint32 incarnation, TimestampTz now, uint64 rows, uint64 inserted)
{
	kpi_count(table, incarnation, now, KPI_ROWS, rows);
	if (is_current(table, incarnation))
		pg_atomic_fetch_add_u64(&table->inserted, inserted);
}

/* Remember where the WAL stands; the first of a second does. */
static void
note_wal(uint64 second)
{
	pg_atomic_uint64 *at = &kpi_shared->wal_second[second % KPI_SECONDS];

	if (pg_atomic_read_u64(at) == second)
		return;
	pg_atomic_write_u64(&kpi_shared->wal_lsn[second % KPI_SECONDS], GetXLogInsertRecPtr());
	pg_write_barrier();
	pg_atomic_write_u64(at, second);
}

/* A clock that was put back makes no time negative. */
static int64
elapsed(const KpiStatement *statement)
{
	return statement ? Max(statement->end - statement->start, 0) : 0;
}

/* Where the rings stand, for a session that measures many times in a second. */
typedef struct Rings
{
	TimestampTz from;			/* the second */
	int			second;			/* places in the rings */
	int			ten;
	uint64		round;			/* of theirs */
	uint64		ten_round;
} Rings;

static void
turn(Rings *rings, TimestampTz now)
{
	uint64		second = (uint64) now / USECS_PER_SEC;
	uint64		ten = second / 10;

	rings->from = (TimestampTz) (second * USECS_PER_SEC);
	rings->second = second % KPI_SECONDS;
	rings->round = second / KPI_SECONDS;
	rings->ten = ten % KPI_TENS;
	rings->ten_round = ten / KPI_TENS;
	note_wal(second);
}

pg_attribute_hot void
kpi_time(KpiTable *table, uint32 incarnation, TimestampTz now, const KpiStatement *statement,
		 int64 commit)
{
	static Rings rings;
	int64		us = elapsed(statement);
	KpiSecond  *slot;
	pg_atomic_uint64 *counters;
	pg_atomic_uint32 *statements;
	pg_atomic_uint32 *commits;

	if (unlikely(now < rings.from || now >= rings.from + USECS_PER_SEC))
		turn(&rings, now);
	slot = &table->seconds[rings.second];
	counters = slot->counters[(unsigned) MyProcPid % KPI_SHARDS];
	statements = &slot->statements[histogram_bucket(us)];
	commits = &table->commits[rings.ten][histogram_bucket(commit)];

	/* after a commit all of it may be far away: fetched at once, not one by one */
	compat_prefetch(counters);
	compat_prefetch(statements);
	compat_prefetch(commits);
	if (!is_current(table, incarnation))
		return;
	if (statement)
	{
		max64(&counters[KPI_LONGEST], rings.round, us);
		if (statement->rows > 0)
			add64(&counters[KPI_ROWS], rings.round, statement->rows);
		if (statement->inserted > 0)
			pg_atomic_fetch_add_u64(&table->inserted, statement->inserted);
		add32(statements, SECOND_BITS, rings.round);
	}
	if (commit != KPI_NONE)
	{
		add64(&counters[KPI_COMMITS], rings.round, 1);
		max64(&counters[KPI_COMMIT_LONGEST], rings.round, commit);
		add32(commits, TENS_BITS, rings.ten_round);
	}
}

/* ---- classes of SQLSTATE ---- */

static const char class_names[][3] = {
	"00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z",
	"20", "21", "22", "23", "24", "25", "26", "27", "28", "2B", "2D", "2F",
	"34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55",
	"57", "58", "72", "F0", "HV", "P0", "XX",
};

StaticAssertDecl(lengthof(class_names) < KPI_CLASSES, "too many classes of SQLSTATE");

const char *
kpi_class_name(int class)
{
	return class < lengthof(class_names) ? class_names[class] : "??";
}

void
kpi_error(KpiTable *table, uint32 incarnation, TimestampTz now, int sqlstate)
{
	uint64		second = (uint64) now / USECS_PER_SEC;
	const char *state = unpack_sql_state(sqlstate);
	int			class = 0;

	if (!is_current(table, incarnation))
		return;
	while (class < lengthof(class_names) && sqlstate != 0 && strncmp(class_names[class], state, 2) != 0)
		class++;
	if (sqlstate == 0 || class == lengthof(class_names))
		class = KPI_CLASSES - 1;
	kpi_count(table, incarnation, now, KPI_ERRORS, 1);
	add32(&table->seconds[second % KPI_SECONDS].classes[class], SECOND_BITS, second / KPI_SECONDS);
}

/* ---- reading ---- */

static void
read_second(KpiTable *table, uint64 second, KpiWindow *window)
{
	KpiSecond  *slot = &table->seconds[second % KPI_SECONDS];
	uint64		round = second / KPI_SECONDS;

	for (int shard = 0; shard < KPI_SHARDS; shard++)
		for (int i = 0; i < KPI_COUNTERS; i++)
		{
			uint64		value = read64(&slot->counters[shard][i], round);

			if (i == KPI_LONGEST || i == KPI_COMMIT_LONGEST)
				window->counter[i] = Max(window->counter[i], value);
			else
				window->counter[i] += value;
		}
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		uint32		statements = read32(&slot->statements[i], SECOND_BITS, round);

		window->histogram[KPI_STATEMENT][i] += statements;
		window->counter[KPI_WRITES] += statements;
	}
	for (int i = 0; i < KPI_CLASSES; i++)
		window->classes[i] += read32(&slot->classes[i], SECOND_BITS, round);
}

static void
read_commits(KpiTable *table, uint64 ten, KpiWindow *window)
{
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		window->histogram[KPI_COMMIT][i] += read32(&table->commits[ten % KPI_TENS][i], TENS_BITS,
												   ten / KPI_TENS);
}

void
kpi_read(KpiTable *table, int64 us, KpiWindow *window)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz from = now - Min(us, (int64) KPI_WINDOW * USECS_PER_SEC);
	uint64		last = (uint64) now / USECS_PER_SEC;
	uint64		first = (uint64) from / USECS_PER_SEC;

	memset(window, 0, sizeof(KpiWindow));
	for (uint64 second = first; second <= last; second++)
		read_second(table, second, window);
	for (uint64 ten = first / 10; ten <= last / 10; ten++)
		read_commits(table, ten, window);
	window->from = Max((TimestampTz) (first * USECS_PER_SEC), table->since);
	window->seconds = Max((now - window->from) / (double) USECS_PER_SEC, 0.001);
}

bool
kpi_wal_rate(TimestampTz from, double *rate, TimestampTz *since)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64		last = (uint64) now / USECS_PER_SEC;

	for (uint64 second = (uint64) from / USECS_PER_SEC; second < last; second++)
	{
		uint64		lsn;

		if (pg_atomic_read_u64(&kpi_shared->wal_second[second % KPI_SECONDS]) != second)
			continue;
		pg_read_barrier();
		lsn = pg_atomic_read_u64(&kpi_shared->wal_lsn[second % KPI_SECONDS]);
		*since = (TimestampTz) (second * USECS_PER_SEC);
		*rate = (GetXLogInsertRecPtr() - lsn) / ((now - *since) / (double) USECS_PER_SEC);
		return true;
	}
	return false;
}

double
kpi_percentile(const KpiWindow *window, KpiHistogram which, double fraction)
{
	double		us = histogram_percentile(window->histogram[which], fraction,
										  (int64) window->counter[which == KPI_STATEMENT ?
																  KPI_LONGEST : KPI_COMMIT_LONGEST]);

	return us < 0 ? -1 : us / 1000.0;
}

/* ---- at the server's start ---- */

static Size
shared_size(void)
{
	Size		size = CACHELINEALIGN(sizeof(KpiShared));

	size = add_size(size, CACHELINEALIGN(mul_size(sizeof(KpiPause), evmig_kpi_max_tables)));
	return add_size(size, mul_size(CACHELINEALIGN(sizeof(KpiTable)), evmig_kpi_max_tables));
}

static void
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
startup(void)
{
	bool		found;
	char	   *memory;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memory = ShmemInitStruct("evmig kpi", shared_size(), &found);
	kpi_shared = (KpiShared *) memory;
	if (!found)
	{
		memset(kpi_shared, 0, sizeof(KpiShared));
		kpi_shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		kpi_shared->ntables = evmig_kpi_max_tables;
		pg_atomic_init_u32(&kpi_shared->generation, 1);
		pg_atomic_init_u32(&kpi_shared->active, 0);
		for (int i = 0; i < KPI_SECONDS; i++)
		{
			pg_atomic_init_u64(&kpi_shared->wal_second[i], 0);
			pg_atomic_init_u64(&kpi_shared->wal_lsn[i], 0);
		}
		memory += CACHELINEALIGN(sizeof(KpiShared));
		kpi_shared->pauses = (KpiPause *) memory;
		memory += CACHELINEALIGN(sizeof(KpiPause) * evmig_kpi_max_tables);
		kpi_shared->tables = (KpiTable *) memory;

		/* the rest of a table is prepared when somebody watches it */
		for (int i = 0; i < kpi_shared->ntables; i++)
		{
			kpi_shared->pauses[i].database = InvalidOid;
			pg_atomic_init_u64(&kpi_shared->pauses[i].until, 0);
			kpi_shared->tables[i].state = KPI_FREE;
			pg_atomic_init_u32(&kpi_shared->tables[i].incarnation, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
kpi_shmem_init(void)
{
	DefineCustomIntVariable("evmig.kpi_max_tables",
							"Tables that can be watched, and that can be paused, in the whole cluster.",
							"Each takes about 1.7 MB of shared memory, once it is watched.",
							&evmig_kpi_max_tables, 64, 1, 10000,
							/* without preload it is known, and has no effect */
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
							0, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}
