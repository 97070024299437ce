/*-------------------------------------------------------------------------
 *
 * report_result.c
 *	  What came of a runbook, in a sentence: the first line of its report.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "base/lock.h"
#include "base/spi.h"
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

/* Where it is, or why it is not. */
static char *
executing(Runbook *rb)
{
	SqlArgs		args = {0};
	char	   *event;
	char	   *step;
	char	   *message;

	arg_int8(&args, rb->id);
	if (spi_catalog("SELECT event, subject, coalesce(data ->> 'message', data ->> 'reached') FROM evmig.runbook_event WHERE runbook_id = $1"
					" AND event IN ('step started', 'step done', 'step failed', 'paused at a limit', 'execution resumed')"
					" ORDER BY seq DESC LIMIT 1", &args) == 0)
		return pstrdup("About to start.");
	event = spi_text(0, 0);
	step = spi_text(0, 1);
	message = spi_text(0, 2);
	if (job_lock_is_held(rb->id, JOB_LOCK_RUNBOOK))
		return step ? psprintf("Under way, last step: %s.", step) : pstrdup("Under way.");
	return psprintf("NOT finished%s%s, %s%s%s; CALL evmig_runbook_execute(" INT64_FORMAT ") goes on.",
					step ? ", last step: " : "", step ? step : "",
					strcmp(event, EVENT_FAILED) == 0 ? "which failed" :
					strcmp(event, EVENT_PAUSED) == 0 ? "paused at a limit" : "interrupted",
					message ? ": " : "", message ? message : "", rb->id);
}

char *
runbook_result(Runbook *rb, const char *chain_problem)
{
	if (chain_problem)
		return psprintf("Nothing below can be relied on: the chain of events is BROKEN, %s.", chain_problem);
	if (strcmp(rb->state, RUNBOOK_OPEN) == 0)
		return pstrdup("Not approved; nothing was changed.");
	if (strcmp(rb->state, RUNBOOK_APPROVED) == 0)
		return psprintf("Approved by %s; nothing was changed yet.", rb->approved_by);
	if (strcmp(rb->state, RUNBOOK_SUCCEEDED) == 0)
		return succeeded(rb);
	if (strcmp(rb->state, RUNBOOK_EXECUTING) == 0)
		return executing(rb);
	return strcmp(rb->state, RUNBOOK_ROLLED_BACK) == 0 ?
		pstrdup("Rolled back: filled keys and later rows stayed.") :
		psprintf("Its rollback is not finished; CALL evmig_runbook_rollback(" INT64_FORMAT ") goes on.", rb->id);
}
