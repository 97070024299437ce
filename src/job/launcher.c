/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  Starting background workers, and the launcher that starts interrupted
 *	  jobs again.
 *
 * The launcher, which runs where the library is preloaded, is connected to no
 * database and so holds up none.  For each database that is watched it starts
 * a short-lived process that reads our tables and starts what is missing.  A
 * database is watched from when a worker is started in it, or the launcher
 * itself starts, until that process finds nothing to do; so a database without
 * the extension costs one look.  The list is in shared memory, under a spinlock.
 *
 * A background process that has a worker to start may itself be in its place.
 * It leaves that to the launcher, in a second list under the same spinlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/latch.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/launcher.h"
#include "job/recover.h"
#include "job/worker.h"

#define NAP_MS 3000
#define LOOK_ALL_MS (5 * 60 * 1000)	/* how often every database is looked at */
#define LOOK_MS 5000			/* how long one look may take */
#define RESTART_S 5				/* of the launcher itself */
#define MAX_WATCHED 1024
#define MAX_WANTED 64			/* as evmig.max_workers at most */
#define RECOVERY_LOCK_TIMEOUT "1s"

/* databases in which jobs may be waiting for a worker */
typedef struct Watched
{
	Oid			database;
	uint32		stamp;			/* grows each time it is asked for */
} Watched;

typedef struct WatchList
{
	slock_t		mutex;
	int			n;
	Watched		items[MAX_WATCHED];
	int			nwanted;
	WorkerArgs	wanted[MAX_WANTED];
} WatchList;

static WatchList *watch_list = NULL;	/* NULL: not preloaded */
static char *databases;			/* evmig.databases */
static shmem_request_hook_type next_shmem_request = NULL;
static shmem_startup_hook_type next_shmem_startup = NULL;

/* ---- the list of databases to look at ---- */

static void
watch(Oid database)
{
	int			i;

	if (watch_list == NULL)
		return;
	SpinLockAcquire(&watch_list->mutex);
	for (i = 0; i < watch_list->n; i++)
		if (watch_list->items[i].database == database)
			break;
	if (i < MAX_WATCHED)
	{
		if (i == watch_list->n)
		{
			watch_list->items[i].database = database;
			watch_list->n++;
		}
		watch_list->items[i].stamp++;
	}
	SpinLockRelease(&watch_list->mutex);
}

/* The stamp of a watched database; false if it is not watched. */
static bool
is_watched(Oid database, uint32 *stamp)
{
	bool		found = false;

	SpinLockAcquire(&watch_list->mutex);
	for (int i = 0; i < watch_list->n && !found; i++)
		if (watch_list->items[i].database == database)
		{
			found = true;
			*stamp = watch_list->items[i].stamp;
		}
	SpinLockRelease(&watch_list->mutex);
	return found;
}

/* No longer, unless it was asked for since the stamp was read. */
static void
unwatch(Oid database, uint32 stamp)
{
	SpinLockAcquire(&watch_list->mutex);
	for (int i = 0; i < watch_list->n; i++)
		if (watch_list->items[i].database == database && watch_list->items[i].stamp == stamp)
		{
			watch_list->items[i] = watch_list->items[--watch_list->n];
			break;
		}
	SpinLockRelease(&watch_list->mutex);
}

/* ---- starting a worker ---- */

/* One helper fills the struct. */
static void
describe_worker(BackgroundWorker *worker, const char *type, const char *function)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	snprintf(worker->bgw_name, BGW_MAXLEN, "%s", type);
	snprintf(worker->bgw_type, BGW_MAXLEN, "%s", type);
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "evmig");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "%s", function);
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
}

static bool
register_worker(const WorkerArgs *args)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	describe_worker(&worker, WORKER_TYPE, "evmig_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "evmig worker for job " INT64_FORMAT, args->job_id);
	StaticAssertStmt(sizeof(*args) <= BGW_EXTRALEN, "worker arguments too long");
	memcpy(worker.bgw_extra, args, sizeof(*args));
	return RegisterDynamicBackgroundWorker(&worker, &handle);
}

bool
worker_start(int64 job_id, Oid database, Oid role, int number)
{
	WorkerArgs	args = {job_id, database, role, number};

	watch(database);
	return register_worker(&args);
}

bool
leave_to_launcher(int64 job_id, Oid role)
{
	WorkerArgs	args = {job_id, MyDatabaseId, role, 0};
	int			i;

	if (watch_list == NULL)
		return false;
	SpinLockAcquire(&watch_list->mutex);
	for (i = 0; i < watch_list->nwanted; i++)
		if (watch_list->wanted[i].job_id == job_id && watch_list->wanted[i].database == MyDatabaseId)
			break;
	if (i == watch_list->nwanted && i < MAX_WANTED)
		watch_list->wanted[watch_list->nwanted++] = args;
	SpinLockRelease(&watch_list->mutex);
	return true;
}

/* The launcher's part: start what was left to it, as long as there is room. */
static void
start_wanted(void)
{
	for (;;)
	{
		WorkerArgs	args = {0};

		SpinLockAcquire(&watch_list->mutex);
		if (watch_list->nwanted > 0)
			args = watch_list->wanted[0];
		SpinLockRelease(&watch_list->mutex);
		if (args.job_id == 0 || !register_worker(&args))
			break;

		/* others only append */
		SpinLockAcquire(&watch_list->mutex);
		watch_list->nwanted--;
		memmove(&watch_list->wanted[0], &watch_list->wanted[1],
				sizeof(WorkerArgs) * watch_list->nwanted);
		SpinLockRelease(&watch_list->mutex);
	}
}

/* ---- the launcher ---- */

static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		ok = SplitIdentifierString(copy, ',', &names);

	if (!ok)
		GUC_check_errdetail("It must be a comma-separated list of database names, or *.");
	pfree(copy);
	return ok;
}

/* Does evmig.databases name this one? */
static bool
is_chosen(const char *database)
{
	char	   *copy = pstrdup(databases);
	List	   *names;
	ListCell   *lc;

	if (!SplitIdentifierString(copy, ',', &names))
		return false;
	foreach(lc, names)
	{
		char	   *name = lfirst(lc);

		if (strcmp(name, "*") == 0 || strcmp(name, database) == 0)
			return true;
	}
	return false;
}

/* OIDs of the databases that evmig.databases names and that let us in. */
static List *
list_databases(MemoryContext context)
{
	List	   *list = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tup;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tup = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tup);
		MemoryContext oldcontext;

		/* -2: half dropped */
		if (!form->datallowconn || form->datistemplate || form->datconnlimit == -2 ||
			!is_chosen(NameStr(form->datname)))
			continue;
		oldcontext = MemoryContextSwitchTo(context);
		list = lappend_oid(list, form->oid);
		MemoryContextSwitchTo(oldcontext);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return list;
}

/*
 * Have a process look into a database, and wait until it has; not for ever, as
 * one whose database is just being copied does not get in.
 */
static void
look_into(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_MS);
	pid_t		pid;

	describe_worker(&worker, "evmig recovery", "evmig_recovery_main");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return;					/* none is free: at the next round */
	while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (left <= 0)
		{
			TerminateBackgroundWorker(handle);
			break;
		}
		latch_pause(left);
	}
	pfree(handle);
}

static void
nap(bool *reloaded)
{
	latch_pause(NAP_MS);
	*reloaded = ConfigReloadPending;
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
evmig_launcher_main(Datum main_arg)
{
	MemoryContext context;
	TimestampTz looked_at_all = 0;
	bool		reloaded = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	context = AllocSetContextCreate(TopMemoryContext, "evmig launcher", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool		all = reloaded || TimestampDifferenceExceeds(looked_at_all, now, LOOK_ALL_MS);
		ListCell   *lc;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		start_wanted();
		if (all)
			looked_at_all = now;
		if (all || watch_list->n > 0)
			foreach(lc, list_databases(context))
			{
				uint32		stamp;

				if (all)
					watch(lfirst_oid(lc));
				if (is_watched(lfirst_oid(lc), &stamp))
				{
					look_into(lfirst_oid(lc));
					start_wanted();
				}
			}
		nap(&reloaded);
	}
}

/* Is evmig.job a table of our extension, and of nobody else? */
static bool
extension_is_here(void)
{
	Oid			extension = get_extension_oid("evmig", true);
	Oid			schema = get_namespace_oid(EVMIG_SCHEMA, true);
	Oid			relid = OidIsValid(schema) ? get_relname_relid("job", schema) : InvalidOid;

	return OidIsValid(extension) && OidIsValid(relid) &&
		get_rel_relkind(relid) == RELKIND_RELATION &&
		getExtensionOfObject(RelationRelationId, relid) == extension;
}

/*
 * Start the jobs of one database that should be at work.  Connected as the
 * bootstrap superuser: runs our own statements on our own tables only.
 */
void
evmig_recovery_main(Datum main_arg)
{
	Oid			database = DatumGetObjectId(main_arg);
	uint32		stamp = 0;
	int			unfinished = 0;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	(void) is_watched(database, &stamp);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetConfigOption("lock_timeout", RECOVERY_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);

	StartTransactionCommand();
	spi_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "evmig: looking for interrupted jobs");
	if (extension_is_here())
		(void) jobs_recover(RECOVER_ALL, &unfinished);
	PopActiveSnapshot();
	spi_end();
	CommitTransactionCommand();
	if (unfinished == 0)
		unwatch(database, stamp);
}

static void
request_shmem(void)
{
	if (next_shmem_request)
		next_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(WatchList)));
}

static void
start_shmem(void)
{
	bool		found;

	if (next_shmem_startup)
		next_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	watch_list = ShmemInitStruct("evmig watched databases", sizeof(WatchList), &found);
	if (!found)
	{
		memset(watch_list, 0, sizeof(WatchList));
		SpinLockInit(&watch_list->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
launcher_init(void)
{
	BackgroundWorker worker;

	DefineCustomStringVariable("evmig.databases",
							   "Databases in which the launcher starts interrupted jobs again; * is all.",
							   "Needs evmig in shared_preload_libraries.",
							   &databases, "*", PGC_SIGHUP, GUC_LIST_INPUT,
							   check_databases, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	next_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	next_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_shmem;

	describe_worker(&worker, "evmig launcher", "evmig_launcher_main");
	worker.bgw_restart_time = RESTART_S;
	RegisterBackgroundWorker(&worker);
}
