/*-------------------------------------------------------------------------
 *
 * recover.c
 *	  Starting jobs again that should be at work, under the limit on workers.
 *
 * The limit needs no lock: the workers that started first have the places,
 * a worker that finds itself behind them leaves, and its job stays queued.
 * So does one whose job takes turns with another that is at work on the same
 * table.  A worker that ends starts the job that waits longest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "catalog/partition.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/latch.h"
#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "evmig.h"
#include "job/kinds.h"
#include "job/launcher.h"
#include "job/recover.h"
#include "job/worker.h"

#define PLACE_TRIES 10
#define PLACE_MS 100
#define MAX_RESTARTS 10			/* without a batch in between */

PG_FUNCTION_INFO_V1(evmig_jobs_recover);

/* a job that should be at work */
typedef struct Waiting
{
	int64		id;
	Oid			role;
	bool		can_login;
	bool		interrupted;
	Oid			turn;
	bool		first;
} Waiting;

/* Workers other than this process. */
static int
other_workers(void)
{
	SqlArgs		args = {0};

	arg_text(&args, WORKER_TYPE);
	spi_catalog("SELECT count(*) FROM pg_catalog.pg_stat_activity"
				" WHERE backend_type = $1 AND pid <> pg_catalog.pg_backend_pid()", &args);
	return (int) spi_int8(0, 0);
}

int
free_workers(void)
{
	return evmig_max_workers - other_workers();
}

/* ---- turns ---- */

/* NULL for a kind that this library does not know */
static const JobKind *
find_kind(const char *name)
{
	int			i = 0;

	while (job_kinds[i] != NULL && strcmp(job_kinds[i]->name, name) != 0)
		i++;
	return job_kinds[i];
}

Oid
turn_of(const char *kind, Oid target)
{
	const JobKind *k = find_kind(kind);
	List	   *ancestors = NIL;

	if (k == NULL || !k->in_turn)
		return InvalidOid;

	/* a partition that is being detached has none */
	if (get_rel_relispartition(target))
		ancestors = get_partition_ancestors(target);
	return ancestors ? llast_oid(ancestors) : target;
}

Oid
job_turn(int64 job_id)
{
	SqlArgs		args = {0};

	arg_int8(&args, job_id);
	if (spi_catalog("SELECT kind, target FROM evmig.job WHERE job_id = $1", &args) == 0)
		return InvalidOid;
	return turn_of(spi_text(0, 0), spi_oid(0, 1));
}

bool
turn_is_taken(Oid turn)
{
	return OidIsValid(turn) && job_lock_is_held((int64) turn, JOB_LOCK_TURN);
}

bool
job_must_wait(int64 job_id)
{
	return free_workers() <= 0 || turn_is_taken(job_turn(job_id));
}

/* ---- who waits ---- */

static int
compare_waiting(const void *a, const void *b)
{
	const Waiting *x = a;
	const Waiting *y = b;

	if (x->first != y->first)
		return x->first ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* In the order in which they are to be started. */
static Waiting *
read_waiting(RecoverWhat what, int *n)
{
	SqlArgs		args = {0};
	Waiting    *waiting;

	arg_oid(&args, what == RECOVER_OWN ? GetUserId() : InvalidOid);
	arg_bool(&args, what == RECOVER_QUEUED);
	*n = (int) spi_catalog("SELECT j.job_id, j.run_as, j.state = 'running', coalesce(r.rolcanlogin AND"
						   " pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT'), false),"
						   " j.kind, j.target"
						   " FROM evmig.job j LEFT JOIN pg_catalog.pg_roles r ON r.oid = j.run_as"
						   " WHERE j.state IN ('queued', 'running') AND NOT ($2 AND j.state = 'running')"
						   " AND ($1 IS NULL OR pg_catalog.pg_has_role($1, j.owner, 'USAGE'))", &args);
	waiting = palloc(sizeof(Waiting) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		const JobKind *kind = find_kind(spi_text(i, 4));

		waiting[i].id = spi_int8(i, 0);
		waiting[i].role = spi_oid(i, 1);
		waiting[i].interrupted = spi_bool(i, 2);
		waiting[i].can_login = spi_bool(i, 3);
		waiting[i].turn = turn_of(spi_text(i, 4), spi_oid(i, 5));
		waiting[i].first = kind != NULL && kind->first;
	}
	qsort(waiting, *n, sizeof(Waiting), compare_waiting);
	return waiting;
}

void
count_restart(int64 job_id)
{
	SqlArgs		args = {0};

	arg_int8(&args, job_id);
	if (spi_catalog("UPDATE evmig.job j SET restart_batches = c.batches,"
					" restarts = CASE WHEN j.restart_batches = c.batches THEN j.restarts + 1 ELSE 1 END"
					" FROM (SELECT coalesce(sum(batches), 0)::bigint AS batches"
					"  FROM evmig.job_chunk WHERE job_id = $1) c"
					" WHERE j.job_id = $1 RETURNING j.restarts", &args) > 0 &&
		spi_int8(0, 0) == MAX_RESTARTS)
		ereport(LOG,
				(errmsg("evmig job " INT64_FORMAT " was started again %d times without getting on and is left alone once it is interrupted again",
						job_id, MAX_RESTARTS)));
}

bool
restart_is_due(int64 job_id, bool warn)
{
	SqlArgs		args = {0};

	arg_int8(&args, job_id);
	arg_int4(&args, MAX_RESTARTS);
	if (spi_catalog("SELECT 1 FROM evmig.job WHERE job_id = $1 AND (restarts < $2 OR restart_batches IS DISTINCT FROM"
					" (SELECT coalesce(sum(batches), 0) FROM evmig.job_chunk WHERE job_id = $1))", &args) > 0)
		return true;
	if (warn)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " was started again %d times without getting on and is left interrupted",
						job_id, MAX_RESTARTS),
				 errhint("Look for the cause in the server log, then call evmig_job_resume(" INT64_FORMAT ").",
						 job_id)));
	return false;
}

int
jobs_recover(RecoverWhat what, int *unfinished)
{
	int			places = free_workers();
	int			started = 0;
	int			n;
	Waiting    *waiting = read_waiting(what, &n);
	List	   *turns = NIL;

	/* whoever asks is a worker that leaves its place: others may be leaving theirs */
	if (what == RECOVER_QUEUED)
		places = Max(places, 1);
	*unfinished = n;
	for (int i = 0; i < n && started < places; i++)
	{
		if (job_lock_is_held(waiting[i].id, JOB_LOCK_LEADER))
			continue;

		/* an interrupted one's worker puts it into the queue if it has to */
		if (!waiting[i].interrupted &&
			(list_member_oid(turns, waiting[i].turn) || turn_is_taken(waiting[i].turn)))
			continue;
		if (what != RECOVER_OWN && !waiting[i].can_login)
			continue;
		if (waiting[i].interrupted &&
			!restart_is_due(waiting[i].id, what == RECOVER_OWN))
		{
			(*unfinished)--;
			continue;
		}
		worker_start_at_commit(waiting[i].id, waiting[i].role);
		if (OidIsValid(waiting[i].turn))
			turns = lappend_oid(turns, waiting[i].turn);
		started++;
	}
	return started;
}

/* Workers that started before this one, and itself; in a transaction of its own. */
static int64
rank_of_worker(void)
{
	SqlArgs		args = {0};
	int64		rank;

	StartTransactionCommand();
	spi_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	arg_text(&args, WORKER_TYPE);
	spi_catalog("SELECT count(*) FROM pg_catalog.pg_stat_activity o, pg_catalog.pg_stat_activity me"
				" WHERE me.pid = pg_catalog.pg_backend_pid() AND o.backend_type = $1"
				" AND (o.backend_start, o.pid) <= (me.backend_start, me.pid)", &args);
	rank = spi_int8(0, 0);
	PopActiveSnapshot();
	spi_end();
	CommitTransactionCommand();
	return rank;
}

bool
worker_has_place(bool wait)
{
	for (int i = 0; rank_of_worker() > evmig_max_workers; i++)
	{
		if (!wait || i >= PLACE_TRIES)
			return false;
		latch_pause(PLACE_MS);
	}
	return true;
}

/*
 * evmig_jobs_recover() returns int
 *
 * Start again each job of ours that should be at work and has no worker, as
 * long as evmig.max_workers allows.  Returns how many.
 */
Datum
evmig_jobs_recover(PG_FUNCTION_ARGS)
{
	int			unfinished;
	int			started;

	require_writable();
	spi_begin();
	started = jobs_recover(RECOVER_OWN, &unfinished);
	spi_end();
	PG_RETURN_INT32(started);
}
