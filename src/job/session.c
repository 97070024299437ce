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

#include "base/lock.h"
#include "base/spi.h"
#include "job/worker.h"

/* Put the settings of a job's row in force, or those of before again. */
static void
session_settings(int64 job_id, bool restore, List **saved)
{
	SqlArgs		args = {0};
	ListCell   *lc;

	if (restore)
	{
		foreach(lc, *saved)
		{
			char	   *name = linitial(lfirst(lc));
			char	   *value = lsecond(lfirst(lc));
			const char *reset = GetConfigOptionResetString(name);

			(void) set_config_option(name, reset && strcmp(reset, value) == 0 ? NULL : value,
									 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SET, true, 0, false);
		}
		return;
	}
	arg_int8(&args, job_id);
	spi_catalog("SELECT s.key, s.value FROM evmig.job j,"
				" pg_catalog.jsonb_each_text(j.settings) s WHERE j.job_id = $1", &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		char	   *name = spi_text(i, 0);

		*saved = lappend(*saved, list_make2(name, pstrdup(GetConfigOption(name, false, false))));
		SetConfigOption(name, spi_text(i, 1), PGC_USERSET, PGC_S_SESSION);
	}
}

void
run_in_session(int64 job_id)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "evmig job", ALLOCSET_DEFAULT_SIZES);
	List	   *saved = NIL;
	Job		   *job;

	if (!job_lock_try_hard(job_id, JOB_LOCK_LEADER, ExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job " INT64_FORMAT " has a worker", job_id)));
	PG_TRY();
	{
		job = job_load(job_id, context);
		job->leader = true;
		job->in_session = true;
		job->workers = 1;
		job->notice_tenth = -1;
		job_set_state(job_id, "running");
		session_settings(job_id, false, &saved);
		spi_commit();

		lead_to_the_end(job);

		session_settings(job_id, true, &saved);
		spi_commit();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* a subtransaction of ours must not outlive the statement */
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		if (IsSubTransaction())
			RollbackAndReleaseCurrentSubTransaction();
		job_unlock(job_id, JOB_LOCK_LEADER, ExclusiveLock);
		ReThrowError(error);
	}
	PG_END_TRY();
	job_unlock(job_id, JOB_LOCK_LEADER, ExclusiveLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
