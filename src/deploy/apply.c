/*-------------------------------------------------------------------------
 *
 * apply.c
 *	  Apply one schema migration without stalling the application: try, let
 *	  go of everything on a lock timeout or a deadlock, and try again later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/latch.h"
#include "base/spi.h"
#include "deploy/deploy.h"
#include "deploy/lock_time.h"
#include "evmig.h"
#include "job/worker.h"

#define FIRST_PAUSE_MS 100
#define MAX_PAUSE_MS 10000

static bool
worth_another_try(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* Raise the migration's error, with all that it says of itself. */
compat_noreturn static void raise_failure(Attempt *a, int tries);

static void
raise_failure(Attempt *a, int tries)
{
	ErrorData  *e = a->error;

	e->message = psprintf("migration \"%s\" failed: %s", a->version, e->message);
	e->detail = psprintf("%s%s%s", a->where, e->detail ? "\n" : "", e->detail ? e->detail : "");
	if (worth_another_try(e))
		e->hint = psprintf("It was tried %d %s within evmig.ddl_lock_timeout, and rolled back; the deployment can be called again.",
						   tries, tries == 1 ? "time" : "times, each");
	else
		e->hint = psprintf("%s%sWhat was applied before stays applied; mend the migration, register it again, and deploy again.",
						   e->hint ? e->hint : "", e->hint ? " " : "");
	e->cursorpos = 0;			/* of the CALL */
	ReThrowError(e);
}

/* Rest with nothing held; longer each time, and not at the same time as others. */
static void
rest(int attempt)
{
	double		ms = Min(FIRST_PAUSE_MS * (double) (1 << Min(attempt, 10)), MAX_PAUSE_MS);
	TimestampTz end;

	ms *= 0.5 + pg_prng_double(&pg_global_prng_state);
	end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) ms);
	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (left <= 0)
			break;

		/* any signal wakes us, such as the one that ended the try */
		latch_pause_bare(left);
	}
}

/* Say who was in the way; they may be gone by now.  A deadlock says it itself, in its detail. */
static void
note_retry(Attempt *a, int tries, double seconds)
{
	const ErrorData *e = a->error;
	char	   *blockers = lock_time_blockers();
	char	   *cycle = e->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ? e->detail : NULL;
	StringInfoData record;

	initStringInfo(&record);
	appendStringInfoString(&record, e->message);
	if (cycle)
		appendStringInfo(&record, "; %s", cycle);
	if (blockers)
		appendStringInfo(&record, "; in the way: %s", blockers);
	ereport(NOTICE,
			(errmsg("migration \"%s\": try %d of %d: %s", a->version, tries,
					evmig_ddl_retries + 1, e->message),
			 cycle ? errdetail("%s%s%s", cycle, blockers ? "\nIn the way:\n" : "", blockers ? blockers : "") :
			 blockers ? errdetail("In the way:\n%s", blockers) : 0));
	deploy_record(a->deploy, "migrations", a->version, "retry", seconds, 0, record.data);
}

/* Commit what the try did; false where that fails, with a->error. */
static bool
commit_try(Attempt *a)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		spi_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(a->context);
		a->error = CopyErrorData();
		FlushErrorState();
		a->where = pstrdup("at its commit");
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return a->error == NULL;
}

/* One try and its commit; true where there is nothing left to do. */
static bool
try_and_commit(Attempt *a, int tries, TimestampTz start)
{
	const char *status;
	char	   *detail = NULL;
	double		seconds;

	try_migration(a);
	if (a->error)
		return false;
	seconds = (GetCurrentTimestamp() - start) / 1000000.0;
	status = a->applied ? "applied" : "skipped";
	if (!a->applied)
		detail = "it is not pending any more";
	else if (tries > 1)
		detail = psprintf("%d tries", tries);
	deploy_record(a->deploy, "migrations", a->version, status, seconds, 0, detail);
	if (!commit_try(a))
		return false;
	deploy_notice("migrations", a->version, status, detail);
	return true;
}

void
apply_migration(int64 deploy, const char *version)
{
	TimestampTz start = GetCurrentTimestamp();
	Attempt		a = {deploy, version};

	a.context = AllocSetContextCreate(CurrentMemoryContext, "evmig migration", ALLOCSET_DEFAULT_SIZES);
	for (int tries = 1; !try_and_commit(&a, tries, start); tries++)
	{
		double		seconds = (GetCurrentTimestamp() - start) / 1000000.0;

		if (worth_another_try(a.error))
		{
			note_retry(&a, tries, seconds);
			spi_commit();
			if (tries <= evmig_ddl_retries)
			{
				rest(tries - 1);
				MemoryContextReset(a.context);
				continue;
			}
		}
		deploy_record(deploy, "migrations", version, "failed", seconds, 0,
					  psprintf("%s; %s", a.error->message, a.where));
		deploy_failed(deploy);
		spi_commit();
		raise_failure(&a, tries);
	}
	MemoryContextDelete(a.context);
}
