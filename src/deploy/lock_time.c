/*-------------------------------------------------------------------------
 *
 * lock_time.c
 *	  How long a migration may wait for locks: one deadline for all of it.
 *
 * What counts is how long the application is held up: from the moment on in
 * which the migration asks for a lock that keeps writers out.  Until then each
 * wait may take evmig.ddl_lock_timeout.  A utility statement at any depth, in
 * a DO block too, may ask for such a lock at its start, so its waits, however
 * many, share one deadline that is counted from there; it stays for the rest
 * of the migration once such a lock was waited for, or is held when the
 * statement ends.
 *
 * The waits themselves are ended by the server's lock_timeout.  A statement
 * may wait for many locks one after the other, so a tick lowers it as the time
 * goes by: it is what is left, to a tick, when the next wait begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/lock.h"
#include "deploy/lock_time.h"
#include "evmig.h"

#define TICK_MS 10
#define LAST_MS 15				/* past the deadline: one tick sees who is waited for */

#define STRONG_LOCKS (LOCKBIT_ON(ShareLock) | LOCKBIT_ON(ShareRowExclusiveLock) | \
					  LOCKBIT_ON(ExclusiveLock) | LOCKBIT_ON(AccessExclusiveLock))

static ProcessUtility_hook_type next_utility_hook;

/*
 * The tick, a signal handler, leaves it alone unless ticking is set, which is
 * off while the rest changes it.  It writes about a wait only while this
 * backend waits.
 */
static volatile struct
{
	bool		ticking;
	int			total;			/* ms: evmig.ddl_lock_timeout at the start */
	TimestampTz deadline;		/* of all waits; 0: no strong lock yet */
	TimestampTz statement;		/* start of the outermost statement at hand that
								 * may take one; 0: none */
	int			own;			/* lock_timeout that the session or the text has set */
	int			imposed;		/* what we made of it */
	bool		noted;
	LOCKTAG		tag;			/* the last wait */
	LOCKMODE	mode;
}			budget;

static bool active = false;		/* a migration is at work in this session */

/* ---- how much is left ---- */

static int
time_left(void)
{
	TimestampTz end = budget.deadline;

	if (end == 0 && budget.statement == 0)
		return budget.total;
	if (end == 0)
		end = TimestampTzPlusMilliseconds(budget.statement, budget.total);
	return Max((int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end), LAST_MS);
}

void
lock_time_impose(void)
{
	int			left;

	budget.ticking = false;
	left = time_left();
	if (LockTimeout != budget.imposed)
		budget.own = LockTimeout;
	LockTimeout = budget.own > 0 ? Min(budget.own, left) : left;
	budget.imposed = LockTimeout;
	budget.ticking = true;
}

static void
start_deadline(TimestampTz start)
{
	if (budget.deadline == 0)
		budget.deadline = TimestampTzPlusMilliseconds(start, budget.total);
}

static void
note_wait(LOCK *lock, LOCKMODE mode)
{
	*(LOCKTAG *) &budget.tag = lock->tag;
	budget.mode = mode;
	budget.noted = true;
	if (lock->tag.locktag_type == LOCKTAG_RELATION && mode >= ShareLock)
		start_deadline(budget.statement != 0 ? budget.statement : GetCurrentTimestamp());
}

static void
tick(void)
{
	LOCK	   *lock = MyProc ? MyProc->waitLock : NULL;
	int			left;

	if (!budget.ticking)
		return;
	if (lock != NULL)
		note_wait(lock, MyProc->waitLockMode);

	/* the wait at hand has its timeout; this is for the next one */
	left = time_left();
	if (LockTimeout == 0 || LockTimeout > left)
		budget.imposed = LockTimeout = left;
}

static TimeoutId
tick_timeout(void)
{
	static TimeoutId id = MAX_TIMEOUTS;

	if (id == MAX_TIMEOUTS)
		id = RegisterTimeout(USER_TIMEOUT, tick);
	return id;
}

/* ---- what is held ---- */

/* Nobody else can know of a relation that this transaction made. */
static bool
made_here(Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);
	bool		made;

	if (!RelationIsValid(rel))
		return false;			/* dropped */
	made = rel->rd_createSubid != InvalidSubTransactionId;
	RelationClose(rel);
	return made;
}

static bool
keeps_writers_out(void)
{
	LockData   *data = GetLockStatusData();

	for (int i = 0; i < data->nelements; i++)
	{
		LockInstanceData *held = &data->locks[i];

		if (held->pid == MyProcPid && (held->holdMask & STRONG_LOCKS) &&
			held->locktag.locktag_type == LOCKTAG_RELATION &&
			held->locktag.locktag_field1 == MyDatabaseId &&
			!made_here(held->locktag.locktag_field2))
			return true;
	}
	return false;
}

void
lock_time_statement_done(TimestampTz start)
{
	if (budget.deadline == 0 && keeps_writers_out())
		start_deadline(start);
}

/* ---- statements at any depth ---- */

/* What only runs others, which are seen themselves, or works on what is new. */
static bool
takes_no_lock(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DoStmt:
		case T_CallStmt:
		case T_ExecuteStmt:
		case T_ExplainStmt:
		case T_CreateTableAsStmt:
		case T_VariableSetStmt:
			return true;
		default:
			return false;
	}
}

static void
timed_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type run = next_utility_hook ? next_utility_hook : standard_ProcessUtility;
	bool		outermost = active && budget.statement == 0 && !takes_no_lock(pstmt->utilityStmt);

	if (!outermost)
	{
		run(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		if (active)
			lock_time_impose();	/* it may have been SET lock_timeout */
		return;
	}
	budget.statement = GetCurrentTimestamp();
	lock_time_impose();
	PG_TRY();
	{
		run(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		lock_time_statement_done(budget.statement);
	}
	PG_FINALLY();
	{
		/* the text may catch the error, and go on */
		budget.statement = 0;
		lock_time_impose();
	}
	PG_END_TRY();
}

void
lock_time_init(void)
{
	next_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = timed_utility;
}

/* ---- a migration ---- */

void
lock_time_begin(void)
{
	budget.ticking = false;
	budget.total = evmig_ddl_lock_timeout;
	budget.deadline = 0;
	budget.statement = 0;
	budget.noted = false;
	budget.own = LockTimeout;

	/* saved here; from now on only the variable is changed */
	(void) set_config_option("lock_timeout", psprintf("%d", budget.total), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	budget.imposed = LockTimeout;
	active = true;
	lock_time_impose();
	enable_timeout_every(tick_timeout(),
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TICK_MS), TICK_MS);
}

void
lock_time_end(void)
{
	budget.ticking = false;
	active = false;
	disable_timeout(tick_timeout(), false);
}

char *
lock_time_blockers(void)
{
	LOCKTAG		tag = *(LOCKTAG *) &budget.tag;

	return budget.noted ? describe_blockers(&tag, budget.mode) : NULL;
}
