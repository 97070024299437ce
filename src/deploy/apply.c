/*-------------------------------------------------------------------------
 *
 * apply.c
 *	  Apply one schema migration without stalling the application.
 *
 * All its statements run in one transaction, that is a subtransaction which
 * an error can be caught around.  Its first strong lock starts a deadline of
 * evmig.ddl_lock_timeout for all its waits for locks together; on a lock
 * timeout or a deadlock it lets go of everything and tries again later.
 *
 * The text runs as the role that registered it: plainly in a session of that
 * role, else as a security-restricted operation, so that nothing of it, not
 * even a trigger deferred to the commit, ever runs with the session's rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "commands/variable.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "deploy/deploy.h"
#include "evmig.h"
#include "job/worker.h"

#define LOOK_MS 50				/* how often a wait is noted */
#define FIRST_PAUSE_MS 100
#define MAX_PAUSE_MS 10000
#define SHOWN_STATEMENT 500

/* one try; lives in a context of its own */
typedef struct Attempt
{
	int64		deploy;
	Migration  *migration;
	MemoryContext context;
	int			own_lock_timeout;	/* ms, that the text itself has set; 0: none */
	TimestampTz deadline;		/* of all waits; 0: no strong lock yet */
	RawStmt    *statement;		/* at hand */
	ErrorData  *error;			/* NULL: it is applied */
} Attempt;

/* ---- who is waited for ---- */

/* the lock that this backend was last seen waiting for; set in a signal handler */
static volatile bool wait_noted;
static LOCKTAG noted_tag;
static LOCKMODE noted_mode;

static void
note_wait(void)
{
	LOCK	   *lock = MyProc ? MyProc->waitLock : NULL;

	if (lock == NULL)
		return;
	noted_tag = lock->tag;
	noted_mode = MyProc->waitLockMode;
	wait_noted = true;
}

static TimeoutId
look_timeout(void)
{
	static TimeoutId id = MAX_TIMEOUTS;

	if (id == MAX_TIMEOUTS)
		id = RegisterTimeout(USER_TIMEOUT, note_wait);
	return id;
}

/* ---- one statement ---- */

/* Does this transaction hold a lock that keeps out writers, or more? */
static bool
holds_strong_lock(void)
{
	SqlArgs		none = {0};

	spi_catalog("SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid()"
				" AND locktype = 'relation' AND granted AND mode IN"
				" ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') LIMIT 1",
				&none);
	return spi_nrows() > 0;
}

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

/* What is left to wait for locks, in ms. */
static void
set_lock_timeout(Attempt *a)
{
	long		left = evmig_ddl_lock_timeout;

	if (a->deadline != 0)
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), a->deadline);
	if (a->own_lock_timeout > 0)
		left = Min(left, a->own_lock_timeout);
	set_local("lock_timeout", psprintf("%ld", Max(left, 1)));
}

/* SET in a migration lasts for this migration, whether it says LOCAL or not. */
static void
run_set(Attempt *a, VariableSetStmt *stmt)
{
	VariableSetStmt *local = copyObject(stmt);
	int			before;

	set_local("lock_timeout", "0");
	before = LockTimeout;
	local->is_local = true;
	ExecSetVariableStmt(local, true);
	if (LockTimeout != before)
		a->own_lock_timeout = LockTimeout;
}

static void
run_statement(Attempt *a, RawStmt *raw)
{
	int			len = raw->stmt_len > 0 ? raw->stmt_len
		: (int) strlen(a->migration->sql + raw->stmt_location);
	TimestampTz start = GetCurrentTimestamp();

	CHECK_FOR_INTERRUPTS();
	a->statement = raw;
	if (IsA(raw->stmt, VariableSetStmt))
	{
		run_set(a, (VariableSetStmt *) raw->stmt);
		return;
	}
	set_lock_timeout(a);
	(void) spi_run(pnstrdup(a->migration->sql + raw->stmt_location, len), NULL);
	if (a->deadline == 0 && holds_strong_lock())
		a->deadline = TimestampTzPlusMilliseconds(start, evmig_ddl_lock_timeout);
}

/* ---- one try ---- */

/*
 * Lock the migration's row: the text is still the one that was read, and
 * nobody has applied it meanwhile.
 */
static bool
claim(Attempt *a)
{
	SqlArgs		args = {0};

	arg_text(&args, a->migration->version);
	arg_text(&args, a->migration->sql);
	arg_oid(&args, a->migration->owner);
	return spi_catalog("SELECT FROM evmig.migration WHERE version = $1 AND state = 'pending'"
					   " AND sql = $2 AND owner = $3::regrole FOR UPDATE", &args) > 0;
}

static void
mark_applied(Attempt *a, TimestampTz start)
{
	SqlArgs		args = {0};

	arg_text(&args, a->migration->version);
	arg_text(&args, GetUserNameFromId(GetUserId(), false));
	arg_float8(&args, (GetCurrentTimestamp() - start) / 1000000.0);
	arg_int8(&args, a->deploy);
	spi_catalog("UPDATE evmig.migration SET state = 'applied', applied_at = pg_catalog.clock_timestamp(),"
				" applied_by = $2, seconds = $3, deploy_id = $4 WHERE version = $1", &args);
}

/* All statements of the text, as the role that registered it. */
static void
run_text(Attempt *a)
{
	bool		own = a->migration->owner == GetUserId() && a->migration->owner == GetSessionUserId();
	List	   *statements = raw_parser(a->migration->sql, RAW_PARSE_DEFAULT);
	ListCell   *lc;
	RunAs		runas;
	int			nest = 0;

	if (own)
	{
		nest = NewGUCNestLevel();
		set_local("search_path", a->migration->search_path);
	}
	else
		runas_begin_path(&runas, a->migration->owner, RUNAS_RESTRICTED, a->migration->search_path);
	foreach(lc, statements)
		run_statement(a, lfirst_node(RawStmt, lc));
	a->statement = NULL;
	set_lock_timeout(a);
	spi_run("SET CONSTRAINTS ALL IMMEDIATE", NULL);
	if (own)
		AtEOXact_GUC(false, nest);
	else
		runas_end(&runas);
}

/* In a subtransaction; returns false where somebody else has applied it. */
static bool
try_migration(Attempt *a)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz start = GetCurrentTimestamp();
	volatile bool ours = false;

	wait_noted = false;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(a->context);
	enable_timeout_every(look_timeout(), TimestampTzPlusMilliseconds(start, LOOK_MS), LOOK_MS);
	PG_TRY();
	{
		ours = claim(a);
		if (ours)
		{
			run_text(a);
			mark_applied(a, start);
		}
		disable_timeout(look_timeout(), false);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		disable_timeout(look_timeout(), false);
		MemoryContextSwitchTo(a->context);
		a->error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		ours = true;
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(caller);
	return ours;
}

/* ---- what became of it ---- */

static bool
worth_another_try(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* The statement's first byte that is neither space nor comment. */
static const char *
skip_comments(const char *s)
{
	for (;;)
	{
		s += strspn(s, " \t\r\n\f");
		if (s[0] == '-' && s[1] == '-')
			s += strcspn(s, "\n");
		else if (s[0] == '/' && s[1] == '*')
		{
			int			depth = 0;

			do
			{
				bool		opens = s[0] == '/' && s[1] == '*';
				bool		closes = s[0] == '*' && s[1] == '/';

				depth += opens - closes;
				s += opens || closes ? 2 : 1;
			} while (depth > 0 && *s);
		}
		else
			return s;
	}
}

/* "line 3: ALTER TABLE ..." of the statement that failed */
static char *
where_it_failed(Attempt *a)
{
	const char *sql = a->migration->sql;
	const char *start;
	int			offset;
	int			line = 1;

	if (a->statement == NULL)
		return pstrdup("at its end, when deferred constraints were checked");
	offset = a->statement->stmt_location;
	start = skip_comments(sql + offset);

	/* the error's own position, in characters of the statement */
	if (a->error->internalpos > 0 && a->error->internalquery)
		offset += pg_mbcharcliplen(sql + offset, strlen(sql + offset), a->error->internalpos - 1);
	else
		offset = start - sql;
	for (const char *s = sql; s < sql + offset; s++)
		line += *s == '\n';
	return psprintf("line %d: %s", line,
					pnstrdup(start, pg_mbcliplen(start, a->statement->stmt_len > 0
												 ? sql + a->statement->stmt_location + a->statement->stmt_len - start
												 : (int) strlen(start), SHOWN_STATEMENT)));
}

compat_noreturn static void raise_failure(Attempt *a, const char *where, int tries);

static void
raise_failure(Attempt *a, const char *where, int tries)
{
	ErrorData  *e = a->error;

	ereport(ERROR,
			(errcode(e->sqlerrcode),
			 errmsg("migration \"%s\" failed: %s", a->migration->version, e->message),
			 errdetail_internal("%s%s%s", where, e->detail ? "\n" : "", e->detail ? e->detail : ""),
			 worth_another_try(e) ?
			 errhint("It was tried %d times within evmig.ddl_lock_timeout and rolled back each time; the deployment can be called again.", tries) :
			 errhint("%s%sWhat was applied before stays applied; mend the migration, register it again, and deploy again.",
					 e->hint ? e->hint : "", e->hint ? " " : "")));
}

/* Rest outside of a transaction; longer each time, and not at the same time as others. */
static void
rest(int attempt)
{
	double		ms = Min(FIRST_PAUSE_MS * (double) (1 << Min(attempt, 10)), MAX_PAUSE_MS);

	ms *= 0.5 + pg_prng_double(&pg_global_prng_state);
	InvalidateCatalogSnapshotConditionally();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, (long) ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	notice_lost_client();
	CHECK_FOR_INTERRUPTS();
}

/* Say who was in the way; they may be gone by now. */
static char *
say_retry(Attempt *a, int tries)
{
	char	   *blockers = wait_noted ? describe_blockers(&noted_tag, noted_mode) : NULL;

	ereport(NOTICE,
			(errmsg("migration \"%s\": try %d of %d: %s", a->migration->version, tries,
					evmig_ddl_retries + 1, a->error->message),
			 blockers ? errdetail("In the way:\n%s", blockers) : 0));
	return blockers;
}

/* Nobody's text runs for somebody who may not act as that role. */
static void
require_trust(Migration *m)
{
	if (!has_privs_of_role(GetUserId(), m->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("migration \"%s\" was registered by role \"%s\"", m->version,
						GetUserNameFromId(m->owner, false)),
				 errdetail("It runs with the rights of that role, which \"%s\" is not a member of.",
						   GetUserNameFromId(GetUserId(), false)),
				 errhint("Deploy as a member of that role.")));
}

void
apply_migration(int64 deploy, Migration *migration)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz start = GetCurrentTimestamp();
	Attempt		a = {deploy, migration};

	require_trust(migration);
	a.context = AllocSetContextCreate(caller, "evmig migration", ALLOCSET_DEFAULT_SIZES);
	for (int tries = 1;; tries++)
	{
		char	   *blockers;
		char	   *where;
		bool		ours;

		a.error = NULL;
		a.deadline = 0;
		a.own_lock_timeout = 0;
		MemoryContextReset(a.context);
		ours = try_migration(&a);
		if (a.error == NULL)
		{
			if (ours)
				deploy_item(deploy, "migrations", migration->version, "applied",
							(GetCurrentTimestamp() - start) / 1000000.0, 0,
							tries == 1 ? NULL : "%d tries", tries);
			spi_commit();
			break;
		}
		where = where_it_failed(&a);
		if (worth_another_try(a.error))
		{
			blockers = say_retry(&a, tries);
			deploy_item(deploy, "migrations", migration->version, "retry",
						(GetCurrentTimestamp() - start) / 1000000.0, 0, "%s%s%s", a.error->message,
						blockers ? "; in the way: " : "", blockers ? blockers : "");
			spi_commit();
			if (tries <= evmig_ddl_retries)
			{
				rest(tries - 1);
				continue;
			}
		}
		deploy_item(deploy, "migrations", migration->version, "failed",
					(GetCurrentTimestamp() - start) / 1000000.0, 0, "%s; %s", a.error->message, where);
		deploy_failed(deploy);
		spi_commit();
		raise_failure(&a, where, tries);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(a.context);
}
