/*-------------------------------------------------------------------------
 *
 * session.c
 *	  A job's work in the session of a procedure, instead of a worker.
 *
 * Each of the job's transactions is a subtransaction, so that an error can be
 * caught whatever the user's code has left open; the transaction around it is
 * committed by SPI.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "base/lock.h"
#include "base/spi.h"
#include "job/worker.h"

bool		job_in_this_session = false;

/*
 * Whose statement_timeout is it?  What role, database or server have set for
 * the application does not end a CALL of many batches: each of these has its
 * own.  What the caller has set in this session does.
 */
static void
take_over_timeout(Job *job)
{
	SqlArgs		none = {0};

	if (get_timeout_active(STATEMENT_TIMEOUT) &&
		spi_catalog("SELECT 1 FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'"
					" AND source IN ('session', 'client', 'override', 'interactive')", &none) > 0)
		job->deadline = get_timeout_finish_time(STATEMENT_TIMEOUT);
	job_arm_timeout(job, 0);
}

/* Keep what would end the session between two batches at bay; from 17 on. */
static void
suspend_transaction_timeout(Job *job)
{
	const char *name = "transaction_timeout";
	const char *value = GetConfigOption(name, true, false);

	if (value != NULL && strcmp(value, "0") != 0)
		job_set_setting(job, name, "0");
}

void
run_in_session(int64 job_id)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "evmig job", ALLOCSET_DEFAULT_SIZES);
	Job		   *volatile job = NULL;

	if (!job_lock_try_hard(job_id, JOB_LOCK_LEADER, ExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " has a worker", job_id)));
	job_in_this_session = true;
	PG_TRY();
	{
		job = job_load(job_id, context);
		job->leader = true;
		job->in_session = true;
		job->workers = 1;
		job->notice_tenth = -1;
		job_set_state(job_id, "running");
		take_over_timeout(job);
		suspend_transaction_timeout(job);
		job_apply_settings(job);
		spi_commit();

		lead_to_the_end(job);

		job_restore_settings(job);
		spi_commit();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		job_in_this_session = false;

		/* a subtransaction of ours must not outlive the statement */
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		if (IsSubTransaction())
			RollbackAndReleaseCurrentSubTransaction();
		job_unlock(job_id, JOB_LOCK_LEADER, ExclusiveLock);

		/* nor the job's settings */
		if (job != NULL && job->caller_settings != NIL)
		{
			spi_rollback();
			job_restore_settings(job);
			spi_commit();
		}
		ReThrowError(error);
	}
	PG_END_TRY();
	job_in_this_session = false;
	job_unlock(job_id, JOB_LOCK_LEADER, ExclusiveLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
