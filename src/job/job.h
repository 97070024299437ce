/*-------------------------------------------------------------------------
 *
 * job.h
 *	  A job's catalog rows and its legal state transitions.
 *
 * A job is one run of something long, done by background workers in batches
 * that commit.  The row in evmig.job says what is to be done and how it
 * stands; counters live in evmig.job_chunk, one row for each worker's range,
 * so that workers never wait for each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_JOB_H
#define EVMIG_JOB_H

#include "base/compat.h"
#include "base/relation.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

typedef struct Job Job;

/* what a kind of job does; one row of the table in jobkind.c for each */
typedef struct JobKind
{
	const char *name;
	bool		integrity;		/* at most one of these on a table */
	bool		parallel;		/* further workers may call batch too */
	bool		indexes;		/* of a materialized view or a partitioned table too */
	bool		in_turn;		/* one at a time on a table and its partitions:
								 * the others stay queued, without a worker */
	bool		first;			/* before other kinds that are queued */

	/*
	 * Each is called outside a transaction and makes its own, with
	 * job_begin() and job_commit().  What they keep between calls belongs
	 * into job->state, allocated in job->context.
	 */
	void		(*prepare) (Job *job);	/* after a resume too, and in each worker */
	bool		(*batch) (Job *job);	/* false when nothing is left */
	bool		(*verify) (Job *job);	/* true: there is work again; else it
									 * has called job_outcome() */
} JobKind;

/* a worker's view of its job; lives in job->context */
struct Job
{
	int64		id;
	const JobKind *kind;
	MemoryContext context;		/* as long as the worker */
	MemoryContext batch_context;	/* reset before each batch */
	char	   *name;
	Oid			target;
	char	   *target_name;
	Oid			filenumber;		/* when the job was created */
	char	   *key_column;
	Oid			owner;			/* who started it */
	Oid			run_as;
	int64		runbook_id;		/* 0 if none */
	Jsonb	   *spec;
	int			workers;
	bool		leader;
	bool		in_session;		/* a procedure does the work, not a worker */
	void	   *session_owner;	/* resource owner outside of its subtransaction */
	List	   *caller_settings;	/* name and value, before the job's own */
	TimestampTz deadline;		/* of the caller's statement; 0: none */
	int			notice_tenth;	/* the last progress that the caller was told */
	void	   *state;			/* the kind's own */
	double		backoff_ms;		/* the worker's, between retries */
	bool		no_retry;		/* an error of this step is final */
	struct Governor *governor;	/* its own, made when first needed */
	int			settings_version;	/* of the settings that are in force */

	/* set by job_outcome(), written by the worker when it ends */
	const char *outcome;
	int64		remaining;
	char	   *message;
	char	   *result;			/* text of a jsonb */
};

/* phase of a job of a kind that takes turns */
#define WAITS_FOR_TURN "waiting for another index of the table"

/* ---- for SQL functions that start a job ---- */

typedef struct JobRequest
{
	const char *kind;
	const char *spec;			/* text of a jsonb object, or NULL */
	int			workers;		/* 0: one */
	const char *name;			/* NULL: kind and table */
	const char *settings;		/* text of a jsonb object that goes before the
								 * session's, or NULL */
	bool		in_session;		/* the caller does the work: start no worker */
	bool		queued;			/* nor here: it is started when its turn comes,
								 * after a job that the caller has just created */
} JobRequest;

/*
 * Create a job on the target as the current user and start it when the
 * transaction commits.  Returns its id.  Raises object_in_use where another
 * integrity job is at work on the table, insufficient_privilege where there
 * is no role to run it as, or where evmig.require_runbook forbids it.
 */
extern int64 job_create(Target *target, const JobRequest *request);

/*
 * The full name of a setting that a job may have for itself, given with or
 * without "evmig."; raises undefined_object, and what SET would raise.
 */
extern char *job_check_setting(const char *setting, const char *value);

/* Raise where evmig.require_runbook is on and no approved runbook is at work. */
extern void require_runbook(const char *step);

/* The runbook whose steps are being executed, 0 for none; callers reset it. */
extern PGDLLIMPORT int64 current_runbook;

/* ---- for workers ---- */

extern Job *job_load(int64 id, MemoryContext context);	/* NULL: no such job */
extern char *job_spec_text(Job *job, const char *field);	/* NULL if absent or null */
extern int64 job_spec_int8(Job *job, const char *field, int64 missing);
extern bool job_spec_bool(Job *job, const char *field, bool missing);

/*
 * settings.c: pin what role, database and triggers must not change, in a worker
 * outside a transaction, in a procedure's session inside one.
 */
extern void job_pin_worker(void);
extern void job_pin_session(void);

/* Put the job's own settings in force; give a procedure's caller back its own. */
extern void job_apply_settings(Job *job);	/* inside SPI */
extern void job_set_setting(Job *job, const char *name, const char *value);
extern void job_restore_settings(Job *job);

/*
 * Lock the target, ROW EXCLUSIVE, and relations that are read, before a batch
 * locks its first row: that wait may be long, those while rows are held last
 * evmig.ddl_lock_timeout at most from here on.  Inside a transaction of the job.
 */
extern void job_wait_for_rows(Job *job, List *relations);

/* lock_timeout of what is left of this transaction of the job */
extern void job_limit_waits(int ms);

/*
 * A transaction of the job: READ COMMITTED, SPI connected, an active snapshot,
 * statement and lock timeouts as the settings for data say.  The statement
 * timeout is that of the whole transaction.  Errors are left to the worker,
 * which aborts and decides.  In a procedure (in_session, SPI
 * connected nonatomically) it is a subtransaction, which job_abort() can roll
 * back, and job_commit() ends the transaction around it.  What is allocated in it lives in
 * job->batch_context, so until the batch ends.
 */
extern void job_begin(Job *job);
extern void job_begin_untimed(Job *job);	/* for one long read: no statement timeout */
extern void job_begin_bare(Job *job);	/* no snapshot either: to wait for a lock */
extern void job_arm_timeout(Job *job, int ms);	/* for this transaction; 0: none */
extern void job_commit(Job *job);
extern void job_abort(Job *job);	/* after an error was caught */

/*
 * Say in the job's row what is being done now; progress 0..1, negative:
 * unknown.  Only the leader says it.
 */
extern void job_phase(Job *job, const char *phase, double progress);

/*
 * log.c: a line in the server log, unless the job had one less than
 * evmig.log_min_interval ago.  Outside a transaction.
 */
extern void job_log_progress(Job *job);

/* Merge an object (text of a jsonb) into the job's spec; inside a transaction. */
extern void job_spec_merge(Job *job, const char *json);

/*
 * Raise unless the target is still the table that the job was created for:
 * it exists, belongs to the same owner, the key column is there.  Returns true
 * if it was rewritten or truncated since (filenumber changed; the new one is
 * remembered).  Inside a transaction; takes AccessShareLock.
 */
extern bool job_check_target(Job *job);

/* How the job ended: "succeeded", "incomplete" or "failed". */
extern void job_outcome(Job *job, const char *outcome, int64 remaining,
						const char *message_format,...) pg_attribute_printf(4, 5);
extern void job_result(Job *job, const char *json);

/* ---- states ---- */

/*
 * SQL about a row j of evmig.job: should it be at work, and nobody is; and its
 * state as people see it, as in the view evmig_jobs.
 */
#define JOB_INTERRUPTED "(j.state = 'running' AND evmig.job_interrupted(j.job_id))"
#define JOB_STATE "CASE WHEN " JOB_INTERRUPTED " THEN 'interrupted' ELSE j.state END"

/* Legal transitions only; raises object_not_in_prerequisite_state otherwise. */
extern void job_set_state(int64 id, const char *state);

/*
 * 'pause', 'cancel' or NULL: what somebody asked of a job at work; and the
 * version of its settings, which evmig_job_set() raises.
 */
extern char *job_requested(int64 id, int *settings_version);

#endif							/* EVMIG_JOB_H */
