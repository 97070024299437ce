/*-------------------------------------------------------------------------
 *
 * lock.c
 *	  Strong table locks that never queue for long, session locks that say
 *	  "this job has a live worker", and who is in the way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <signal.h>

#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/latch.h"
#include "base/lock.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "evmig.h"

#define FIRST_QUEUE_MS 10
#define MAX_PAUSE_MS 2000
#define LOCK_TRIES 10
#define LOCK_TRY_MS 10

/*
 * A wait of our own in the lock queue.  lock_timeout would not do: its signal
 * is the one of pg_cancel_backend, and a cancel that comes in the same moment
 * would be taken for the timeout and be lost.
 */
static struct sigaction outer_sigint;
static TimeoutId wait_timeout;
static volatile sig_atomic_t wait_is_over;
static volatile sig_atomic_t cancel_came;

static void
end_wait(void)
{
	wait_is_over = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
note_cancel(int signo)
{
	int			save_errno = errno;

	cancel_came = true;
	outer_sigint.sa_handler(signo);
	errno = save_errno;
}

static void
begin_wait(int wait_ms)
{
	static bool registered = false;
	struct sigaction action;

	if (!registered)
	{
		wait_timeout = RegisterTimeout(USER_TIMEOUT, end_wait);
		registered = true;
	}
	wait_is_over = false;
	cancel_came = false;
	memset(&action, 0, sizeof(action));
	action.sa_handler = note_cancel;
	action.sa_flags = SA_RESTART;
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, &outer_sigint);

	/* one that came a moment before us must not be taken for the timeout */
	if (QueryCancelPending)
		cancel_came = true;
	enable_timeout_after(wait_timeout, wait_ms);
}

static void
finish_wait(void)
{
	disable_timeout(wait_timeout, false);

	/*
	 * The time was up when we had the lock already: nobody cancelled.  Our
	 * handler still tells of a cancel that comes between these lines.
	 */
	if (wait_is_over && !cancel_came)
	{
		QueryCancelPending = false;
		if (cancel_came)
			QueryCancelPending = true;
	}
	sigaction(SIGINT, &outer_sigint, NULL);
}

typedef struct LockCall
{
	const LOCKTAG *tag;
	LOCKMODE	mode;
	int			wait_ms;
	bool		memory_error;
	bool		locked;
} LockCall;

static void
queue(void *arg)
{
	LockCall   *call = arg;
	int			nest = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	begin_wait(call->wait_ms);
	PG_TRY();
	{
		call->locked = compat_LockAcquireExtended(call->tag, call->mode, false, call->memory_error) !=
			LOCKACQUIRE_NOT_AVAIL;
	}
	PG_FINALLY();
	{
		finish_wait();
	}
	PG_END_TRY();
	AtEOXact_GUC(false, nest);
}

/*
 * Queue for a lock for at most wait_ms, in a subtransaction, so that the end
 * of the wait leaves the caller's transaction usable.  memory_error: raise an
 * error where the shared lock table is full, else the lock just is not
 * available.
 */
static bool
queue_for_locktag(const LOCKTAG *tag, LOCKMODE mode, int wait_ms, bool memory_error)
{
	LockCall	call = {tag, mode, wait_ms, memory_error};
	ErrorData  *error = subxact_try(queue, &call);
	bool		over;

	if (error == NULL)
		return call.locked;
	over = wait_is_over && !cancel_came && is_cancel(error);
	if (!over && error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* ---- polled relation locks ---- */

static bool
queue_for_lock(Oid relid, LOCKMODE mode, int wait_ms)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	if (!queue_for_locktag(&tag, mode, wait_ms, true))
		return false;
	AcceptInvalidationMessages();
	return true;
}

/*
 * Whose transaction it is; NULL: it has ended, or is prepared, so that somebody
 * else's may be in its place.
 */
static PGPROC *
process_of(const VirtualTransactionId *vxid)
{
	PGPROC	   *proc = compat_vxid_proc(vxid);

	return proc && compat_proc_lxid(proc) == vxid->localTransactionId ? proc : NULL;
}

/* The prepared transaction that it was before; invalid: none. */
static TransactionId
prepared_xid(const VirtualTransactionId *vxid)
{
	bool		more;

	if (VirtualTransactionIdIsRecoveredPreparedXact(*vxid))
		return vxid->localTransactionId;
	return TwoPhaseGetXidByVirtualXID(*vxid, &more);
}

/*
 * Is an ordinary autovacuum at work on the table, and no other session that
 * this lock keeps out?
 */
static bool
only_autovacuum_holds(Oid relid, LOCKMODE mode)
{
	LOCKTAG		tag;
	VirtualTransactionId *vxids;
	int			n;
	bool		only;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	vxids = GetLockConflicts(&tag, mode, &n);
	only = n > 0;
	for (int i = 0; i < n && only; i++)
	{
		PGPROC	   *proc = process_of(&vxids[i]);
		uint8		flags = proc ? proc->statusFlags : 0;

		if (!(flags & PROC_IS_AUTOVACUUM) || (flags & PROC_VACUUM_FOR_WRAPAROUND))
			only = false;
	}
	pfree(vxids);
	return only;
}

bool
autovacuum_prevents_wraparound(Oid relid)
{
	LOCKTAG		tag;
	VirtualTransactionId *vxids;
	int			n;
	bool		found = false;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	vxids = GetLockConflicts(&tag, ShareUpdateExclusiveLock, &n);
	for (int i = 0; i < n && !found; i++)
	{
		PGPROC	   *proc = process_of(&vxids[i]);

		found = proc && (proc->statusFlags & PROC_VACUUM_FOR_WRAPAROUND) != 0;
	}
	pfree(vxids);
	return found;
}

/*
 * Autovacuum yields only to a waiter that has reached deadlock_timeout, longer
 * than anybody should wait behind us.  So wait in a mode that conflicts with
 * it but with no reader or writer; holding that also keeps it from coming back.
 */
static void
dislodge_autovacuum(Oid relid)
{
	if (only_autovacuum_holds(relid, ShareUpdateExclusiveLock))
		(void) queue_for_lock(relid, ShareUpdateExclusiveLock, DeadlockTimeout + 200);
}

void
lock_poll_start(LockPoll *poll, Oid relid, LOCKMODE mode)
{
	poll->relid = relid;
	poll->mode = mode;
	poll->start = GetCurrentTimestamp();
	poll->queue_ms = Min(FIRST_QUEUE_MS, evmig_step_lock_timeout);
	poll->hint = NULL;
}

/* Raise lock_not_available, naming the blockers, once time is up. */
static void
give_up_in_time(LockPoll *poll)
{
	LOCKTAG		tag;
	char	   *blockers;
	char	   *name = get_rel_name(poll->relid);
	char		relkind = get_rel_relkind(poll->relid);

	if (!TimestampDifferenceExceeds(poll->start, GetCurrentTimestamp(), evmig_lock_wait_max))
		return;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, poll->relid);
	blockers = describe_blockers(&tag, poll->mode);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not lock %s \"%s\" within %d ms without stalling its users",
					relkind == RELKIND_INDEX || relkind == RELKIND_PARTITIONED_INDEX ? "index" : "table",
					name ? name : "?", evmig_lock_wait_max),
			 blockers ? errdetail("In the way:\n%s", blockers) : 0,
			 poll->hint ? errhint("%s", poll->hint) :
			 errhint("Wait until long transactions on the table have ended, and call it again; evmig.lock_wait_max says how long to try.")));
}

void
lock_poll_missed(LockPoll *poll, Oid relid, LOCKMODE mode)
{
	poll->relid = relid;
	poll->mode = mode;
	give_up_in_time(poll);
}

bool
lock_poll_try(LockPoll *poll)
{
	CHECK_FOR_INTERRUPTS();

	/* a catalog look-up may have left a snapshot; nobody should wait for it */
	InvalidateCatalogSnapshotConditionally();
	if (ConditionalLockRelationOid(poll->relid, poll->mode))
		return true;
	dislodge_autovacuum(poll->relid);
	if (queue_for_lock(poll->relid, poll->mode, poll->queue_ms))
		return true;
	give_up_in_time(poll);
	InvalidateCatalogSnapshotConditionally();
	return false;
}

bool
lock_poll_try_all(LockPoll *poll, List *relids)
{
	TimestampTz end;
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	InvalidateCatalogSnapshotConditionally();

	if (list_length(relids) == 1 && ConditionalLockRelationOid(linitial_oid(relids), poll->mode))
		return true;

	/* takes its time, and so comes before the first lock that stops anybody */
	foreach(lc, relids)
		dislodge_autovacuum(lfirst_oid(lc));
	end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), poll->queue_ms);
	foreach(lc, relids)
	{
		long		left;

		poll->relid = lfirst_oid(lc);
		if (ConditionalLockRelationOid(poll->relid, poll->mode))
			continue;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
		if (left > 0 && queue_for_lock(poll->relid, poll->mode, (int) left))
			continue;
		give_up_in_time(poll);
		InvalidateCatalogSnapshotConditionally();
		return false;
	}
	return true;
}

/* Others get through for at least as long as they had to wait. */
long
lock_poll_pause(LockPoll *poll)
{
	int			queued = poll->queue_ms;

	poll->queue_ms = Min(queued * 2, evmig_step_lock_timeout);
	return Min(queued * 2, MAX_PAUSE_MS) +
		(long) pg_prng_uint64_range(&pg_global_prng_state, 0, queued);
}

void
lock_relation_polled(Oid relid, LOCKMODE mode)
{
	LockPoll	poll;

	lock_poll_start(&poll, relid, mode);
	while (!lock_poll_try(&poll))
		latch_pause(lock_poll_pause(&poll));
}

char *
describe_blockers(const LOCKTAG *tag, LOCKMODE mode)
{
	int			n;
	VirtualTransactionId *vxids = GetLockConflicts(tag, mode, &n);
	StringInfoData pids;
	StringInfoData xids;
	StringInfoData out;
	SqlArgs		args = {0};
	bool		snapshot = !ActiveSnapshotSet();

	initStringInfo(&pids);
	initStringInfo(&xids);
	initStringInfo(&out);
	for (int i = 0; i < n; i++)
	{
		PGPROC	   *proc = process_of(&vxids[i]);

		TransactionId xid = proc ? InvalidTransactionId : prepared_xid(&vxids[i]);

		if (proc)
			appendStringInfo(&pids, "%s%d", pids.len ? "," : "", proc->pid);
		else if (TransactionIdIsValid(xid))
			appendStringInfo(&xids, "%s%u", xids.len ? "," : "", xid);
	}
	if (pids.len == 0 && xids.len == 0)
		return NULL;

	/* as the current user: what it may not see of others stays hidden */
	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	spi_begin();
	arg_text(&args, pids.data);
	arg_text(&args, xids.data);
	spi_run("SELECT pg_catalog.format('pid %s, application %s, role %s, %s since %s: %s',"
			" pid, application_name, usename,"
			" coalesce(state, backend_type), coalesce(xact_start, backend_start),"
			" pg_catalog.left(query, 200))"
			" FROM pg_catalog.pg_stat_activity"
			" WHERE pid OPERATOR(pg_catalog.=) ANY"
			" (pg_catalog.string_to_array($1, ',')::pg_catalog.int4[])"
			" UNION ALL SELECT pg_catalog.format('prepared transaction %L of role %s, since %s', gid, owner, prepared)"
			" FROM pg_catalog.pg_prepared_xacts"
			" WHERE transaction OPERATOR(pg_catalog.=) ANY"
			" (pg_catalog.string_to_array($2, ',')::pg_catalog.xid[])", &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
		appendStringInfo(&out, "%s%s", out.len ? "\n" : "", spi_text(i, 0));
	spi_end();
	if (snapshot)
		PopActiveSnapshot();
	return out.len ? out.data : NULL;
}

void
require_own_transaction(FunctionCallInfo fcinfo, const char *function)
{
	(void) fcinfo;
	if (IsTransactionBlock() || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block", function),
				 errdetail("Its locks would last until that transaction ends."),
				 errhint("Call it on its own, with autocommit on.")));
}

/* ---- session locks of jobs ---- */

/*
 * In the lock space of advisory locks, apart from what users can name there:
 * their fourth field is 1 or 2.
 */
void
job_locktag(LOCKTAG *tag, int64 id, JobLock kind)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (id >> 32), (uint32) id, kind);
}

bool
job_lock_try(int64 id, JobLock kind, LOCKMODE mode)
{
	LOCKTAG		tag;

	job_locktag(&tag, id, kind);
	return LockAcquire(&tag, mode, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
job_unlock(int64 id, JobLock kind, LOCKMODE mode)
{
	LOCKTAG		tag;

	job_locktag(&tag, id, kind);
	(void) LockRelease(&tag, mode, true);
}

void
job_lock_xact(int64 id, JobLock kind)
{
	LOCKTAG		tag;

	job_locktag(&tag, id, kind);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Asked by trying: GetLockConflicts() does not tell of holders between two
 * transactions.  Whoever takes the lock in earnest tries more than once, so a
 * probe does no harm.
 */
bool
job_lock_is_held(int64 id, JobLock kind)
{
	LOCKTAG		tag;

	job_locktag(&tag, id, kind);
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, ShareLock, false);
	return false;
}

bool
job_lock_try_hard(int64 id, JobLock kind, LOCKMODE mode)
{
	for (int i = 0; i < LOCK_TRIES; i++)
	{
		if (job_lock_try(id, kind, mode))
			return true;
		latch_pause(LOCK_TRY_MS);
	}
	return false;
}

/* pids of the sessions that hold a job's lock; inside SPI */
int
job_lock_pids(int64 id, JobLock kind, int *pids, int max)
{
	SqlArgs		args = {0};
	int			n;

	arg_int8(&args, id);
	arg_int4(&args, kind);
	spi_catalog("SELECT l.pid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d"
				" ON d.oid = l.database AND d.datname = pg_catalog.current_database()"
				" WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = $2"
				" AND l.classid::bigint = $1 >> 32 AND l.objid::bigint = $1 & 4294967295", &args);
	n = (int) Min(spi_nrows(), max);
	for (int i = 0; i < n; i++)
		pids[i] = (int) spi_int8(i, 0);
	return n;
}

/* ---- locks on keys ---- */

KeyLock
key_lock_xact(Oid relid, uint32 hash, int wait_ms)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, relid, hash, KEY_LOCK);
	switch (compat_LockAcquireExtended(&tag, ExclusiveLock, true, false))
	{
		case LOCKACQUIRE_OK:
			return KEY_LOCKED;
		case LOCKACQUIRE_NOT_AVAIL:
			if (wait_ms > 0 && queue_for_locktag(&tag, ExclusiveLock, wait_ms, false))
				return KEY_LOCKED;
			return KEY_BUSY;
		default:
			return KEY_HELD;
	}
}
