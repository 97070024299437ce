/*-------------------------------------------------------------------------
 *
 * lock.h
 *	  Strong table locks that never queue for long, session locks that say
 *	  "this job has a live worker", and who is in the way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_LOCK_H
#define EVMIG_LOCK_H

#include "base/compat.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"

/*
 * Lock a relation without stalling its users: tried without waiting, then
 * queued for at most evmig.step_lock_timeout a try, with growing pauses in
 * which others get through.  Gives up after evmig.lock_wait_max with
 * lock_not_available; the detail names the blockers.  The lock is held until
 * the transaction ends.  Needs a transaction; sleeps, so hold nothing that
 * the application waits for.
 */
extern void lock_relation_polled(Oid relid, LOCKMODE mode);

/*
 * The same one try at a time, for who can pause outside a transaction: false
 * means end this transaction, rest for lock_poll_pause() ms, and try in the
 * next one.  A waiting transaction may have an xid, which holds back vacuum.
 */
typedef struct LockPoll
{
	Oid			relid;
	LOCKMODE	mode;
	TimestampTz start;
	int			queue_ms;		/* how long the next try may queue */
	const char *hint;			/* where it gives up; NULL: call it again */
} LockPoll;

extern void lock_poll_start(LockPoll *poll, Oid relid, LOCKMODE mode);
extern bool lock_poll_try(LockPoll *poll);
extern long lock_poll_pause(LockPoll *poll);

/*
 * For who tries by himself, and could not get this lock at once: gives up as
 * above once the poll's time is over.  In a transaction with a snapshot.
 */
extern void lock_poll_missed(LockPoll *poll, Oid relid, LOCKMODE mode);

/*
 * All of these relations or none, in this order: one try queues for them no
 * longer than for a single one, because it holds up who waits for the first of
 * them meanwhile.  After false, which may have locked some of them, the
 * transaction must end at once.
 */
extern bool lock_poll_try_all(LockPoll *poll, List *relids);

/* Is autovacuum at work on the table that must not be put off? */
extern bool autovacuum_prevents_wraparound(Oid relid);

/* one line for each session or prepared transaction that holds up this lock, NULL for none */
extern char *describe_blockers(const LOCKTAG *tag, LOCKMODE mode);

/*
 * Raise active_sql_transaction unless the calling statement is a transaction
 * of its own: a strong lock would last until somebody's COMMIT.
 */
extern void require_own_transaction(FunctionCallInfo fcinfo, const char *function);

/* session-level locks on a job's number; released when the process ends */
typedef enum JobLock
{
	JOB_LOCK_LEADER = 0xE1,		/* exclusive: the job's leading worker */
	JOB_LOCK_HELPER = 0xE2,		/* shared: each further worker */
	JOB_LOCK_TARGET = 0xE3,		/* transaction level, on a table's OID:
								 * creation of a job */
	JOB_LOCK_DEPLOY = 0xE5,		/* exclusive, on 0: the session that deploys */
	JOB_LOCK_TURN = 0xE7,		/* exclusive, on the OID of a table or of its
								 * topmost parent: the job whose turn it is,
								 * among those of kinds that take turns */
	JOB_LOCK_RUNBOOK = 0xEF		/* exclusive, on a runbook's number: the
								 * session that executes it */
} JobLock;

extern void job_locktag(LOCKTAG *tag, int64 id, JobLock kind);
extern bool job_lock_try(int64 id, JobLock kind, LOCKMODE mode);	/* session level */
extern bool job_lock_try_hard(int64 id, JobLock kind, LOCKMODE mode);	/* for 0.1 s */
extern void job_unlock(int64 id, JobLock kind, LOCKMODE mode);
extern void job_lock_xact(int64 id, JobLock kind);	/* exclusive, waits */
extern bool job_lock_is_held(int64 id, JobLock kind);	/* by anybody else */
extern int	job_lock_pids(int64 id, JobLock kind, int *pids, int max);

/*
 * Transaction-level lock on one key of a table, by the key's hash; waited for
 * at most wait_ms (0: not at all).  Raises no error of its own, not even where
 * the shared lock table is full: that is KEY_BUSY too.
 */
typedef enum KeyLock
{
	KEY_LOCKED,					/* newly */
	KEY_HELD,					/* we had it */
	KEY_BUSY					/* somebody else has it */
} KeyLock;

#define KEY_LOCK 0xE4			/* apart from JobLock */
extern KeyLock key_lock_xact(Oid relid, uint32 hash, int wait_ms);

#endif							/* EVMIG_LOCK_H */
