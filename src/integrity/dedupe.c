/*-------------------------------------------------------------------------
 *
 * dedupe.c
 *	  Remove or re-key the rows beyond the first of each key.
 *
 * A pass is one read of the table, which finds the losers with the TIDs of
 * their keepers, and then batches over them in block order.  What was locked
 * or has changed is left to the next pass; a read that finds nothing is the
 * proof that the work is done.  Passes that do not halve what is left are
 * counted, and after evmig.max_passes of them the job ends as incomplete: so
 * it ends also while writers keep sending duplicates.
 *
 * The losers are kept in memory, 12 bytes each; a read stops when they fill
 * maintenance_work_mem, and the next pass goes on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <limits.h>

#include "executor/instrument.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "evmig.h"
#include "integrity/archive.h"
#include "integrity/audit.h"
#include "integrity/dedupe.h"
#include "integrity/reference.h"
#include "integrity/settle.h"
#include "job/chunk.h"
#include "job/governor.h"
#include "job/kinds.h"
#include "job/pace.h"
#include "job/worker.h"

#define DEFAULT_MODE "archive"
#define DEFAULT_ON_REFERENCED "error"
#define FETCH_ROWS 10000		/* of the read, at a time */
#define LOG_EVERY 10			/* batches */
#define STALL_MS 100.0			/* rest before the next pass, doubled each time */
#define MAX_STALL_SHIFT 5
#define PROGRESS_MS 500

PG_FUNCTION_INFO_V1(evmig_dedupe);

typedef struct Dedupe
{
	Settle	   *settle;
	References *refs;
	const char *what;			/* for phases: "archiving duplicates" ... */
	Pace		pace;

	/* the pass at hand */
	Loser	   *losers;
	int64		nlosers;
	int64		allocated;
	int64		next;			/* first loser not looked at */
	bool		truncated;		/* there were more than fit */
	bool		have_pass;		/* false: read the table first */
	SettleCounts counts;

	/* over all passes of this worker */
	int			pass;
	int			stalled;		/* passes that did not halve what was left */
	int			batches;
	bool		checked;		/* nothing is referenced, or the policy copes */
	bool		finished;
	TimestampTz logged;
	TimestampTz reported;
} Dedupe;

/* ---- the SQL function ---- */

char *
dedupe_spec(Target *target, const char *mode, const char *on_referenced,
			const char *generator, const char *waived)
{
	SqlArgs		args = {0};
	char	   *spec;

	mode = mode ? mode : DEFAULT_MODE;
	on_referenced = on_referenced ? on_referenced : DEFAULT_ON_REFERENCED;
	(void) parse_on_referenced(on_referenced);
	if (generator || parse_dedupe_mode(mode) != DEDUPE_ARCHIVE)
		generator = target_generator(target, generator);

	spi_begin();
	arg_text(&args, target->order.name);
	arg_text(&args, mode);
	arg_text(&args, on_referenced);
	arg_text(&args, generator);
	arg_jsonb(&args, waived);
	spi_run("SELECT pg_catalog.jsonb_build_object('order_column', $1, 'mode', $2,"
			" 'on_referenced', $3, 'generator', $4, 'waived', $5)::pg_catalog.text", &args);
	spec = spi_text(0, 0);
	spi_end();
	return spec;
}

int64
dedupe_start(Target *target, const char *mode, const char *on_referenced,
			 const char *generator, const char *waived)
{
	JobRequest	request = {"dedupe"};

	request.spec = dedupe_spec(target, mode, on_referenced, generator, waived);

	/* what can be told now need not wait for the worker */
	if (mode == NULL || parse_dedupe_mode(mode) != DEDUPE_REKEY)
	{
		OnReferenced policy = parse_on_referenced(on_referenced ? on_referenced : DEFAULT_ON_REFERENCED);

		spi_begin();
		archive_check(target);
		(void) references_load(target, policy, job_role(target->relid), CurrentMemoryContext);
		spi_end();
	}
	return job_create(target, &request);
}

/*
 * evmig_dedupe(target regclass, key_column name, order_column name, mode text,
 * on_referenced text, generator text) returns bigint
 *
 * Start a job that leaves one row of each key: the first by order column
 * (NULLS LAST), then ctid.  Returns the job's id.  Takes ACCESS SHARE here;
 * the job takes ROW EXCLUSIVE and row locks, a batch at a time.
 */
Datum
evmig_dedupe(PG_FUNCTION_ARGS)
{
	Target	   *target = target_resolve(ARG_RELID(0), ARG_NAME(1), ARG_NAME(2),
										TARGET_CHANGE | TARGET_ORDER);

	if (target->key.attno == target->order.attno)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key column and order column are the same"),
				 errhint("Name the column that says which of the duplicates was first.")));
	PG_RETURN_INT64(dedupe_start(target, ARG_TEXT(3), ARG_TEXT(4), ARG_TEXT(5), NULL));
}

/* ---- preparing ---- */

static void
dedupe_prepare(Job *job)
{
	Dedupe	   *dedupe = MemoryContextAllocZero(job->context, sizeof(Dedupe));
	DedupeMode	mode = parse_dedupe_mode(job_spec_text(job, "mode"));
	OnReferenced policy = parse_on_referenced(job_spec_text(job, "on_referenced"));
	Target	   *target;
	Oid			child = InvalidOid;

	job_phase(job, "checking duplicates", -1);
	job_begin_untimed(job);
	(void) job_check_target(job);
	target = target_resolve(job->target, job->key_column,
							job_spec_text(job, "order_column"),
							TARGET_CHANGE | TARGET_ORDER);
	audit_require_plausible(target, job_spec_text(job, "waived"));
	if (mode != DEDUPE_REKEY)
	{
		dedupe->refs = references_load(target, policy, GetUserId(), job->context);
		child = archive_child(target, job->id);
	}
	dedupe->settle = settle_compose(target, mode, child, job_spec_text(job, "generator"),
									dedupe->refs, job->context);
	job_commit(job);

	dedupe->what = mode == DEDUPE_REKEY ? "re-keying duplicates" :
		mode == DEDUPE_AUTO ? "settling duplicates" : "archiving duplicates";
	governor_pace_init(&dedupe->pace);
	job->state = dedupe;
}

/* ---- a pass: one read ---- */

static void
remember_loser(Job *job, Dedupe *dedupe, const Loser *loser)
{
	if (dedupe->nlosers == dedupe->allocated)
	{
		dedupe->allocated = Max(dedupe->allocated * 2, FETCH_ROWS);
		if (dedupe->losers == NULL)
			dedupe->losers = MemoryContextAllocHuge(job->context,
													dedupe->allocated * sizeof(Loser));
		else
			dedupe->losers = repalloc_huge(dedupe->losers, dedupe->allocated * sizeof(Loser));
	}
	dedupe->losers[dedupe->nlosers++] = *loser;
}

/* Read the table once; fills the array of losers. */
static void
find_losers(Job *job, Dedupe *dedupe)
{
	int64		bound = Max((int64) maintenance_work_mem * 1024 / (int64) sizeof(Loser), FETCH_ROWS);
	SpiCursor  *cursor;
	uint64		n;
	SqlArgs		none = {0};

	dedupe->nlosers = 0;
	dedupe->next = 0;
	dedupe->truncated = false;
	memset(&dedupe->counts, 0, sizeof(dedupe->counts));

	job_begin_untimed(job);
	(void) job_check_target(job);
	cursor = spi_cursor_open(dedupe->settle->find, &none);
	while (!dedupe->truncated && (n = spi_cursor_fetch(cursor, FETCH_ROWS)) > 0)
	{
		for (uint64 i = 0; i < n; i++)
		{
			Loser		loser;

			spi_tid(i, 0, &loser.row);
			spi_tid(i, 1, &loser.keeper);
			remember_loser(job, dedupe, &loser);
		}
		dedupe->truncated = dedupe->nlosers >= bound;
	}
	spi_cursor_close(cursor);
	job_commit(job);
}

/* Raise, before anything is changed, where the policy is to raise. */
static void
check_references(Job *job, Dedupe *dedupe)
{
	if (dedupe->refs == NULL || dedupe->checked)
		return;
	for (int64 i = 0; i < dedupe->nlosers; i += FETCH_ROWS)
	{
		worker_check(job);
		job_begin_untimed(job);
		references_check(dedupe->refs, dedupe->losers + i,
						 (int) Min(FETCH_ROWS, dedupe->nlosers - i));
		job_commit(job);
	}
	dedupe->checked = !dedupe->truncated;
}

/*
 * Read the table again; false when there is nothing left to do, or nothing
 * that could be done.
 */
static bool
start_pass(Job *job, Dedupe *dedupe)
{
	SettleCounts last = dedupe->counts;
	int64		before = dedupe->nlosers;
	bool		was_truncated = dedupe->truncated;
	int64		changed = last.archived + last.rekeyed;

	job_phase(job, psprintf("finding duplicates, pass %d", dedupe->pass + 1), -1);
	find_losers(job, dedupe);
	if (dedupe->nlosers == 0)
		return false;
	if (dedupe->pass++ > 0)
	{
		if (changed == 0 || (!was_truncated && dedupe->nlosers * 2 > before))
			dedupe->stalled++;

		/* what is held by references and triggers will not go by waiting */
		if (dedupe->stalled >= evmig_max_passes ||
			(changed == 0 && last.locked == 0 && dedupe->nlosers == before))
		{
			dedupe->counts = last;
			return false;
		}
		if (dedupe->stalled > 0)
			worker_sleep(job, STALL_MS * (1 << Min(dedupe->stalled - 1, MAX_STALL_SHIFT)));
	}
	check_references(job, dedupe);
	dedupe->have_pass = true;
	return true;
}

/* ---- a batch ---- */

/* Say how far we are, in the batch's own transaction and not too often. */
static void
report_progress(Job *job, Dedupe *dedupe, int n)
{
	TimestampTz now = GetCurrentTimestamp();
	SqlArgs		args = {0};

	if (dedupe->next > 0 && dedupe->next + n < dedupe->nlosers &&
		!TimestampDifferenceExceeds(dedupe->reported, now, PROGRESS_MS))
		return;
	dedupe->reported = now;
	arg_int8(&args, job->id);
	arg_text(&args, psprintf("%s, pass %d", dedupe->what, dedupe->pass));
	arg_float8(&args, (double) (dedupe->next + n) / dedupe->nlosers);
	spi_catalog("UPDATE evmig.job SET phase = $2, progress = $3 WHERE job_id = $1", &args);
}

static void
log_batch(Job *job, Dedupe *dedupe)
{
	TimestampTz now = GetCurrentTimestamp();

	if (++dedupe->batches % LOG_EVERY != 0 ||
		!TimestampDifferenceExceeds(dedupe->logged, now, evmig_log_min_interval))
		return;
	dedupe->logged = now;
	ereport(LOG,
			(errmsg("evmig job " INT64_FORMAT " (%s): pass %d, " INT64_FORMAT " of " INT64_FORMAT " duplicates",
					job->id, job->name, dedupe->pass, dedupe->next, dedupe->nlosers)));
}

static void
add_counts(SettleCounts *sum, const SettleCounts *counts)
{
	sum->archived += counts->archived;
	sum->rekeyed += counts->rekeyed;
	sum->locked += counts->locked;
	sum->referenced += counts->referenced;
	sum->suppressed += counts->suppressed;
}

/* One transaction over the next losers; returns the ms to rest. */
static double
settle_next(Job *job, Dedupe *dedupe)
{
	SettleCounts counts = {0};
	ChunkCounts chunk = {0};
	uint64		wal = pgWalUsage.wal_bytes;
	TimestampTz start = GetCurrentTimestamp();
	int			n = (int) Min(pace_rows(&dedupe->pace), dedupe->nlosers - dedupe->next);

	job_begin(job);
	if (job_check_target(job))
	{
		/* rewritten or truncated: the TIDs mean nothing any more */
		job_commit(job);
		dedupe->have_pass = false;
		dedupe->nlosers = 0;
		return 0;
	}
	job_wait_for_rows(job, NIL);
	settle_batch(job, dedupe->settle, dedupe->losers + dedupe->next, n, &counts);
	chunk.changed = counts.archived + counts.rekeyed;
	chunk.ms = (GetCurrentTimestamp() - start) / 1000.0;
	chunk_count(job, &chunk);
	report_progress(job, dedupe, n);
	job_commit(job);

	add_counts(&dedupe->counts, &counts);
	dedupe->next += n;
	log_batch(job, dedupe);
	return pace_next(&dedupe->pace, chunk.changed,
					 (GetCurrentTimestamp() - start) / 1000.0, pgWalUsage.wal_bytes - wal);
}

static bool
dedupe_batch(Job *job)
{
	Dedupe	   *dedupe = job->state;

	if (dedupe->finished)
		return false;
	if (!dedupe->have_pass && !start_pass(job, dedupe))
	{
		dedupe->finished = true;
		return false;
	}
	governor_wait(job);
	governor_rest(job, &dedupe->pace, settle_next(job, dedupe));
	if (dedupe->next >= dedupe->nlosers)
		dedupe->have_pass = false;
	return true;
}

/* ---- the end ---- */

/* Nothing is added any more to the archives of this table's jobs. */
static void
close_archives(Job *job)
{
	SqlArgs		args = {0};

	arg_oid(&args, job->target);
	spi_catalog("UPDATE evmig.archive SET closed_at = pg_catalog.clock_timestamp()"
				" WHERE target = $1 AND job_id <> 0 AND closed_at IS NULL AND purged_at IS NULL",
				&args);
}

static void
write_result(Job *job, int passes)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	arg_int4(&args, passes);
	spi_catalog("SELECT pg_catalog.jsonb_build_object('passes', $2, 'archived',"
				" (SELECT coalesce(sum(archived_rows), 0) FROM evmig.archive WHERE job_id = $1),"
				" 'rekeyed', (SELECT count(*) FROM evmig.rekey WHERE job_id = $1))::text", &args);
	job_result(job, spi_text(0, 0));
}

/* Why rows are left, as far as it is known. */
static char *
reason(Job *job, Dedupe *dedupe)
{
	int			n = (int) Min(dedupe->nlosers, INT_MAX);
	char	   *keys = NULL;
	char	   *lockers;

	if (dedupe->counts.referenced > 0)
		keys = settle_note_referenced(job, dedupe->settle, dedupe->losers, n);
	if (keys)
		return psprintf("foreign keys point at %lld, the first with key %s (evmig_failures has more)",
						(long long) dedupe->counts.referenced, keys);
	if (dedupe->counts.suppressed > 0)
		return psprintf("a trigger of the table keeps %lld", (long long) dedupe->counts.suppressed);
	lockers = settle_lockers(dedupe->settle, dedupe->losers, n);
	if (lockers)
		return psprintf("rows are locked by %s", lockers);
	return pstrdup("writers keep sending duplicates");
}

static bool
dedupe_verify(Job *job)
{
	Dedupe	   *dedupe = job->state;
	SqlArgs		args = {0};

	job_begin(job);
	write_result(job, dedupe->pass);
	arg_int8(&args, job->id);
	arg_int8(&args, dedupe->counts.referenced);
	spi_catalog("UPDATE evmig.job_chunk SET skipped = $2 WHERE job_id = $1 AND chunk = 0", &args);
	if (dedupe->nlosers == 0)
	{
		close_archives(job);
		job_outcome(job, "succeeded", 0, NULL);
	}
	else
		job_outcome(job, "incomplete", dedupe->nlosers,
					INT64_FORMAT "%s %s: %s", dedupe->nlosers,
					dedupe->truncated ? " or more" : "",
					dedupe->nlosers == 1 ? "duplicate remains" : "duplicates remain", reason(job, dedupe));
	job_commit(job);
	return false;
}

const JobKind dedupe_kind = {
	.name = "dedupe",
	.integrity = true,
	.prepare = dedupe_prepare,
	.batch = dedupe_batch,
	.verify = dedupe_verify,
};
