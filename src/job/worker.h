/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  Starting background workers, and what a job's batches may ask of the
 *	  worker that runs them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_WORKER_H
#define EVMIG_WORKER_H

#include "datatype/timestamp.h"
#include "job/job.h"

/* launcher.c: start a worker now; atcommit.c: when the current transaction commits */
extern bool worker_start(int64 job_id, Oid database, Oid role, int number);
extern void worker_start_at_commit(int64 job_id, Oid role);

/* What somebody asked of the job; new settings are put in force. */
extern char *worker_request(Job *job);

/*
 * Wait in a worker, outside a transaction; wakes early to act on a request,
 * on pg_cancel_backend, pg_terminate_backend and a changed configuration.
 */
extern void worker_sleep(Job *job, double ms);

/*
 * Raise query_canceled if somebody asked for pause or cancel; for long steps
 * between their parts.  Outside a transaction.
 */
extern void worker_check(Job *job);

/*
 * An error of the statement_timeout of a transaction of the job, which has the
 * SQLSTATE of a cancel?  That of a procedure's caller is a cancel.
 */
extern bool is_statement_timeout(Job *job, const ErrorData *error);

/*
 * Run another kind's work under this job: its prepare and its batches until
 * nothing is left, with the job's spec and counters.  Outside a transaction;
 * resets job->batch_context; may raise.
 */
extern void worker_run_kind(Job *job, const char *kind);

/*
 * Begin a transaction (job_begin_untimed) that holds a strong lock on the job's
 * target, without stalling the table's users: tries are short, and pauses are
 * spent outside a transaction.  Raises lock_not_available, which is not
 * retried, after evmig.lock_wait_max.
 */
extern void worker_lock_target(Job *job, LOCKMODE mode);

/* The same on another relation, such as a part of the target. */
extern void worker_lock_relation(Job *job, Oid relid, LOCKMODE mode);

/*
 * All of these or none, in this order; see lock_poll_try_all().  hint: for the
 * error, NULL: to call it again.
 */
extern void worker_lock_relations(Job *job, List *relids, LOCKMODE mode, const char *hint);

/* Lead a loaded job, and write down how it ended. */
extern void lead_to_the_end(Job *job);

/*
 * session.c: do a job's work in a procedure (SPI connected nonatomically) instead of a
 * worker, as the role that the session is logged in as; its end is written to
 * the job's row, and committed.  The caller has checked that this is the
 * job's role.
 */
extern void run_in_session(int64 job_id);
extern PGDLLIMPORT bool job_in_this_session;	/* it is at work */

extern PGDLLEXPORT void evmig_worker_main(Datum main_arg);

/*
 * atcommit.c: make a job's workers read the request in its row when we have
 * committed; cancel interrupts their statements too.  Inside SPI.
 */
extern void tell_workers_at_commit(int64 job_id, Oid role, bool cancel);

/* progress.c: as evmig_job_cancel() */
extern void job_cancel(int64 id);

/* ---- progress.c: for procedures that wait ---- */

/* Raise where a procedure cannot commit: in a transaction block or a function. */
extern void require_nonatomic(FunctionCallInfo fcinfo, const char *procedure);

/*
 * Wait for a job within a procedure (spi_begin_nonatomic); see progress.c.
 * Returns its final state, "paused" or "interrupted".
 */
extern char *wait_for_job(int64 job_id, int64 timeout_ms, bool notices);

/*
 * The same, calling tick(arg, job) some times a second, in a transaction; where
 * it says true the waiting ends with "stopped".  NULL: none.
 */
typedef bool (*WaitTick) (void *arg, int64 job_id);
extern char *wait_for_job_ticking(int64 job_id, int64 timeout_ms, bool notices,
								  WaitTick tick, void *arg);

/* An interval argument in ms; raises invalid_parameter_value if negative. */
extern int64 interval_ms(const Interval *interval, const char *param);

/* A NOTICE to the caller of run_in_session() when another tenth is done. */
extern void notice_job(Job *job);

/* Raise the error that a job ended with. */
compat_noreturn extern void raise_job_error(int64 job_id, const char *state);

#endif							/* EVMIG_WORKER_H */
