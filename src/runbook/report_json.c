/*-------------------------------------------------------------------------
 *
 * report_json.c
 *	  A runbook's report for programs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "base/spi.h"
#include "runbook/event.h"
#include "runbook/report.h"

#define EVENTS_OF(names, columns) \
	"coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(" columns ") ORDER BY e.seq)" \
	" FROM evmig.runbook_event e WHERE e.runbook_id = $1 AND e.event IN (" names ")), '[]')"

#define WHO_WHEN "'by', e.session_role, 'role', e.role, 'at', e.at"

/* when the samples were taken, and what they say; the keys are always there */
#define APPLICATION \
	"pg_catalog.jsonb_build_object('before_at', (SELECT sampled_at FROM b), 'after_at', (SELECT sampled_at FROM a)," \
	" 'during', (SELECT pg_catalog.jsonb_build_object('samples', pg_catalog.count(*), 'from', pg_catalog.min(sampled_at)," \
	"   'to', pg_catalog.max(sampled_at)) FROM s WHERE label = 'during')," \
	" 'figures', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('kpi', kpi, 'before', before," \
	"   'during', during, 'after', after, 'change_pct', pg_catalog.round(change_pct, 1)) ORDER BY n, kpi), '[]') FROM f))"

char *
report_json(Runbook *rb)
{
	SqlArgs		args = {0};
	ChainState	chain;
	Outcome		outcome;

	runbook_chain(rb->id, &chain);
	arg_int8(&args, rb->id);
	arg_int8(&args, chain.events);
	arg_text(&args, chain.head);
	arg_text(&args, chain.problem);
	arg_text(&args, runbook_result(rb, chain.problem, &outcome));
	spi_catalog(APPLICATION_FIGURES " SELECT pg_catalog.jsonb_pretty(pg_catalog.jsonb_build_object("
				" 'result', $5, 'runbook', pg_catalog.to_jsonb(r) - ARRAY['head', 'events', 'target'],"
				" 'decision', (SELECT e.data FROM evmig.runbook_event e WHERE e.runbook_id = $1"
				"  AND e.event = 'decided' ORDER BY e.seq DESC LIMIT 1),"
				" 'checks', coalesce((SELECT e.data FROM evmig.runbook_event e WHERE e.runbook_id = $1"
				"  AND e.event = 'preflight' ORDER BY e.seq DESC LIMIT 1), '[]'),"
				" 'attestations', " EVENTS_OF("'attested'", "'item', e.subject, 'evidence',"
				" e.data -> 'evidence', 'kept_until', e.data -> 'kept_until', " WHO_WHEN) ","
				" 'waivers', " EVENTS_OF("'waived'", "'check', e.subject, 'reason',"
				" e.data -> 'reason', " WHO_WHEN) ","
				" 'approval', " EVENTS_OF("'approved'", "'data', e.data, " WHO_WHEN) ","
				" 'audits', " EVENTS_OF("'audit'", "'when', e.subject, 'at', e.at, 'figures', e.data") ","
				" 'steps', " EVENTS_OF("'step started', 'step done', 'step failed'",
									   "'step', e.subject, 'event', e.event, 'job', e.job_id, 'data', e.data, " WHO_WHEN) ","
				" 'limits', " EVENTS_OF("'limits set', 'paused at a limit', 'ingest paused', 'ingest resumed'",
									    "'event', e.event, 'job', e.job_id, 'data', e.data, " WHO_WHEN) ","
				" 'application', " APPLICATION ","
				" 'verification', (SELECT e.data -> 'checks' FROM evmig.runbook_event e WHERE e.runbook_id = $1"
				"  AND e.event = 'step done' AND e.subject = 'verify' ORDER BY e.seq DESC LIMIT 1),"
				" 'archives', coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
				"  'archive', a.relation_name, 'job', a.job_id,"
				"  'rows', a.archived_rows - a.restored_rows - a.purged_rows,"
				"  'kept_until', greatest(a.kept_until, r.kept_until), 'purged_at', a.purged_at) ORDER BY a.job_id)"
				"  FROM evmig.archive a WHERE a.target = r.target AND (a.job_id = 0 OR EXISTS"
				"   (SELECT FROM evmig.runbook_event e WHERE e.runbook_id = $1 AND e.job_id = a.job_id))), '[]'),"
				" 'events', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('seq', e.seq, 'event', e.event,"
				"   'subject', e.subject, 'job', e.job_id, " WHO_WHEN ") ORDER BY e.seq)"
				"  FROM evmig.runbook_event e WHERE e.runbook_id = $1),"
				" 'chain', pg_catalog.jsonb_build_object('events', $2, 'head', $3, 'whole', $4 IS NULL, 'problem', $4)))"
				" FROM evmig.runbook r WHERE r.runbook_id = $1", &args);
	return spi_text(0, 0);
}
