/*-------------------------------------------------------------------------
 *
 * report_result.c
 *	  What came of a runbook or a job, in a sentence: the first line of its
 *	  report.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "base/lock.h"
#include "base/markup.h"
#include "base/spi.h"
#include "job/job.h"
#include "runbook/event.h"
#include "runbook/report.h"

/* What the audits, the dedupe and the verification found. */
static char *
succeeded(Runbook *rb)
{
	SqlArgs		args = {0};

	arg_int8(&args, rb->id);
	spi_catalog("SELECT pg_catalog.format('Succeeded in %s s: NULL keys %s to %s, rows too many %s to %s,"
				" %s archived, %s given a key; %s of %s checks hold.',"
				"  pg_catalog.round(extract(epoch FROM r.finished_at - r.started_at)::numeric, 1),"
				"  b.data ->> 'null_request_ids', a.data ->> 'null_request_ids',"
				"  b.data ->> 'duplicate_rows', a.data ->> 'duplicate_rows',"
				"  s.archived, s.filled + s.rekeyed, v.ok, v.n)"
				" FROM evmig.runbook r,"
				" LATERAL (SELECT data FROM evmig.runbook_event WHERE runbook_id = $1 AND event = 'audit' ORDER BY seq LIMIT 1) b,"
				" LATERAL (SELECT data FROM evmig.runbook_event WHERE runbook_id = $1 AND event = 'audit' ORDER BY seq DESC LIMIT 1) a,"
				" LATERAL (SELECT coalesce(sum((data #>> '{result,archived}')::bigint), 0) AS archived,"
				"   coalesce(sum((data #>> '{result,rekeyed}')::bigint), 0) AS rekeyed,"
				"   coalesce(sum((data ->> 'rows_done')::bigint) FILTER (WHERE subject = 'backfill'), 0) AS filled"
				"  FROM evmig.runbook_event WHERE runbook_id = $1 AND event IN ('step done', 'step failed')) s,"
				" LATERAL (SELECT count(*) FILTER (WHERE c.ok) AS ok, count(*) AS n"
				"  FROM (SELECT data FROM evmig.runbook_event WHERE runbook_id = $1 AND event = 'step done'"
				"   AND subject = 'verify' ORDER BY seq DESC LIMIT 1) e,"
				"   pg_catalog.jsonb_to_recordset(e.data -> 'checks') AS c(ok bool)) v"
				" WHERE r.runbook_id = $1", &args);
	return spi_text(0, 0);
}

/* "; job 7 is running", where the last step's job has not ended by itself */
static char *
job_still_there(int64 job, int64 runbook)
{
	SqlArgs		args = {0};

	arg_int8(&args, job);
	arg_int8(&args, runbook);
	if (spi_catalog("SELECT " JOB_STATE " FROM evmig.job j WHERE job_id = $1 AND runbook_id = $2"
					" AND state IN ('queued', 'running', 'paused')", &args) == 0)
		return pstrdup("");
	return psprintf("; job " INT64_FORMAT " is %s", job, spi_text(0, 0));
}

/* Where it is, or why it is not. */
static char *
executing(Runbook *rb, Outcome *outcome)
{
	SqlArgs		args = {0};
	char	   *event;
	char	   *step;
	char	   *message;
	int64		job;

	arg_int8(&args, rb->id);
	if (spi_catalog("SELECT event, coalesce(subject, (SELECT s.subject FROM evmig.runbook_event s"
					"  WHERE s.runbook_id = $1 AND s.seq < e.seq AND s.event LIKE 'step %' ORDER BY s.seq DESC LIMIT 1)),"
					" coalesce(data ->> 'message', data ->> 'reached'), job_id"
					" FROM evmig.runbook_event e WHERE runbook_id = $1"
					" AND event IN ('step started', 'step done', 'step failed', 'paused at a limit', 'execution resumed')"
					" ORDER BY seq DESC LIMIT 1", &args) == 0)
		return pstrdup("About to start.");
	event = spi_text(0, 0);
	step = spi_text(0, 1);
	message = spi_text(0, 2);
	job = spi_int8(0, 3);
	if (job_lock_is_held(rb->id, JOB_LOCK_RUNBOOK))
		return step ? psprintf("Under way, last step: %s.", step) : pstrdup("Under way.");
	*outcome = OUTCOME_BAD;
	return psprintf("NOT finished%s%s, %s%s%s%s; CALL evmig_runbook_execute(" INT64_FORMAT ") goes on.",
					step ? ", last step: " : "", step ? step : "",
					strcmp(event, EVENT_FAILED) == 0 ? "which failed" :
					strcmp(event, EVENT_PAUSED) == 0 ? "paused at a limit" : "interrupted",
					message ? ": " : "", message ? message : "", job_still_there(job, rb->id), rb->id);
}

static char *
rolled_back(Runbook *rb)
{
	SqlArgs		args = {0};

	arg_int8(&args, rb->id);
	spi_catalog("SELECT pg_catalog.format('Rolled back: %s rows or keys restored; filled keys and later rows stayed.',"
				" coalesce(sum((data ->> 'rows_done')::bigint), 0)) FROM evmig.runbook_event"
				" WHERE runbook_id = $1 AND event IN ('step done', 'step failed') AND subject = 'rollback: restore'", &args);
	return spi_text(0, 0);
}

char *
runbook_result(Runbook *rb, const char *chain_problem, Outcome *outcome)
{
	*outcome = chain_problem ? OUTCOME_BAD : OUTCOME_OPEN;
	if (chain_problem)
		return psprintf("Nothing below can be relied on: the chain of events is BROKEN, %s.", chain_problem);
	if (strcmp(rb->state, RUNBOOK_OPEN) == 0)
		return pstrdup("Not approved; nothing was changed.");
	if (strcmp(rb->state, RUNBOOK_APPROVED) == 0)
		return psprintf("Approved by %s; nothing was changed yet.", rb->approved_by);
	if (strcmp(rb->state, RUNBOOK_EXECUTING) == 0)
		return executing(rb, outcome);
	if (strcmp(rb->state, RUNBOOK_ROLLED_BACK) == 0)
		return rolled_back(rb);
	if (strcmp(rb->state, RUNBOOK_SUCCEEDED) == 0)
	{
		*outcome = OUTCOME_GOOD;
		return succeeded(rb);
	}
	*outcome = OUTCOME_BAD;
	return psprintf("Its rollback is not finished; CALL evmig_runbook_rollback(" INT64_FORMAT ") goes on.", rb->id);
}

char *
job_report_result(int64 id, Outcome *outcome)
{
	SqlArgs		args = {0};
	char	   *state;

	arg_int8(&args, id);
	spi_catalog("SELECT s.state, pg_catalog.concat(CASE s.state"
				" WHEN 'succeeded' THEN 'Succeeded' WHEN 'incomplete' THEN 'INCOMPLETE' WHEN 'failed' THEN 'FAILED'"
				" WHEN 'cancelled' THEN 'Cancelled; what was done stays' WHEN 'running' THEN 'Under way'"
				" WHEN 'interrupted' THEN 'INTERRUPTED: no worker is at work' ELSE 'Not at work: ' || s.state END, ': ' || j.message,"
				" '; ' || nullif(coalesce(c.changed, 0), 0) || ' rows changed', '; ' || nullif(j.remaining, 0) || ' remain', '.')"
				" FROM evmig.job j, LATERAL (SELECT " JOB_STATE " AS state) s,"
				" LATERAL (SELECT sum(changed) AS changed FROM evmig.job_chunk WHERE job_id = $1) c"
				" WHERE j.job_id = $1", &args);
	state = spi_text(0, 0);
	*outcome = strcmp(state, "succeeded") == 0 ? OUTCOME_GOOD :
		strcmp(state, "incomplete") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "interrupted") == 0 ?
		OUTCOME_BAD : OUTCOME_OPEN;
	return spi_text(0, 1);
}

void
append_html_result(StringInfo out, const char *result, Outcome outcome)
{
	static const char *const class[] = {
		[OUTCOME_OPEN] = "result open",
		[OUTCOME_GOOD] = "result",
		[OUTCOME_BAD] = "result not",
	};

	appendStringInfo(out, "<p class=\"%s\">", class[outcome]);
	append_html(out, result);
	appendStringInfoString(out, "</p>\n");
}
