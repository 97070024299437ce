/*-------------------------------------------------------------------------
 *
 * atcommit.c
 *	  Starting and waking a job's workers when the transaction commits.
 *
 * A job's worker must not start before the job's row is visible, and a
 * rolled-back job must start nothing: requests are kept until the transaction
 * commits.  No lock is involved; the list belongs to this backend.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

#include "base/lock.h"
#include "job/launcher.h"
#include "job/worker.h"

typedef struct PendingStart
{
	int64		job_id;
	Oid			role;
	int			pid;			/* not 0: a worker to tell of a request */
	bool		cancel;			/* interrupt its statement too */
	SubTransactionId subid;
} PendingStart;

static List *pending = NIL;
static bool callbacks_registered = false;

/* Make a worker read its request, if the pid is still that worker. */
static void
tell_worker(const PendingStart *start)
{
	PGPROC	   *proc = BackendPidGetProc(start->pid);

	if (proc == NULL || proc->databaseId != MyDatabaseId || proc->roleId != start->role)
		return;
	if (start->cancel)
		(void) kill(start->pid, SIGINT);
	else
		SetLatch(&proc->procLatch);
}

/* Must not raise: the transaction has committed. */
static void
on_xact_event(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT)
	{
		foreach(lc, pending)
		{
			PendingStart *start = lfirst(lc);

			if (start->pid != 0)
				tell_worker(start);
			else if (!worker_start(start->job_id, MyDatabaseId, start->role, 0) &&
					 !(MyBgworkerEntry && leave_to_launcher(start->job_id, start->role)))
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("no background worker is free; job " INT64_FORMAT " stays queued",
								start->job_id),
						 errhint("Raise max_worker_processes, or wait and call evmig_jobs_recover().")));
		}
	}
	list_free_deep(pending);
	pending = NIL;
}

static void
on_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		PendingStart *start = lfirst(lc);

		if (start->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			start->subid = parent;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
			pending = foreach_delete_current(pending, lc);
	}
}

/* Remember something to do when the transaction commits. */
static void
at_commit(int64 job_id, Oid role, int pid, bool cancel)
{
	MemoryContext oldcontext;
	PendingStart *start;

	if (!callbacks_registered)
	{
		RegisterXactCallback(on_xact_event, NULL);
		RegisterSubXactCallback(on_subxact_event, NULL);
		callbacks_registered = true;
	}
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	start = palloc(sizeof(PendingStart));
	start->job_id = job_id;
	start->role = role;
	start->pid = pid;
	start->cancel = cancel;
	start->subid = GetCurrentSubTransactionId();
	pending = lappend(pending, start);
	MemoryContextSwitchTo(oldcontext);
}

void
worker_start_at_commit(int64 job_id, Oid role)
{
	at_commit(job_id, role, 0, false);
}

void
tell_workers_at_commit(int64 job_id, Oid role, bool cancel)
{
	JobLock		kinds[] = {JOB_LOCK_LEADER, JOB_LOCK_HELPER};
	int			pids[64];

	for (int k = 0; k < lengthof(kinds); k++)
	{
		int			n = job_lock_pids(job_id, kinds[k], pids, lengthof(pids));

		for (int i = 0; i < n; i++)
			at_commit(job_id, role, pids[i], cancel);
	}
}
