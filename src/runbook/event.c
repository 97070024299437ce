/*-------------------------------------------------------------------------
 *
 * event.c
 *	  The evidence of a runbook: an append-only chain of events.
 *
 * What is hashed is the text of a jsonb array of all columns, times in UTC:
 * the same after a dump and restore, in any session and time zone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/spi.h"
#include "runbook/event.h"

PG_FUNCTION_INFO_V1(evmig_runbook_event_refuse);

/* sha256 of the row e */
#define EVENT_DIGEST \
	"pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.jsonb_build_array(" \
	"e.runbook_id, e.seq, pg_catalog.to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')," \
	" e.event, e.subject, e.job_id, e.session_role::text, e.role::text, e.data," \
	" pg_catalog.encode(e.previous_sha256, 'hex'))::text, 'UTF8'))"

/* what the first event carries */
#define NO_DIGEST "pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex')"

void
runbook_event(int64 runbook, const char *event, const char *subject,
			  int64 job, const char *data)
{
	SqlArgs		lock = {0};
	SqlArgs		args = {0};

	/* a later statement sees what the holder of this lock has written */
	arg_int8(&lock, runbook);
	spi_catalog("SELECT 1 FROM evmig.runbook WHERE runbook_id = $1 FOR UPDATE", &lock);

	arg_int8(&args, runbook);
	arg_text(&args, event);
	arg_text(&args, subject);
	arg_datum(&args, INT8OID, Int64GetDatum(job), job == 0);
	arg_text(&args, GetUserNameFromId(GetSessionUserId(), false));
	arg_text(&args, GetUserNameFromId(GetUserId(), false));
	arg_jsonb(&args, data);
	spi_catalog("WITH e AS (INSERT INTO evmig.runbook_event"
				"  (runbook_id, seq, event, subject, job_id, session_role, role, data, previous_sha256)"
				"  SELECT r.runbook_id, r.events + 1, $2, $3, $4, $5::name, $6::name, $7,"
				"   coalesce(r.head, " NO_DIGEST ")"
				"  FROM evmig.runbook r WHERE r.runbook_id = $1 RETURNING *)"
				" UPDATE evmig.runbook r SET events = e.seq, head = " EVENT_DIGEST
				" FROM e WHERE r.runbook_id = e.runbook_id", &args);
}

void
runbook_chain(int64 runbook, ChainState *chain)
{
	SqlArgs		args = {0};
	int64		expected;
	int64		broken;

	arg_int8(&args, runbook);
	spi_catalog("WITH d AS (SELECT e.seq, e.previous_sha256, " EVENT_DIGEST " AS digest"
				"  FROM evmig.runbook_event e WHERE e.runbook_id = $1),"
				" c AS (SELECT seq, digest, seq = pg_catalog.row_number() OVER w"
				"   AND previous_sha256 = coalesce(pg_catalog.lag(digest) OVER w, " NO_DIGEST ") AS ok"
				"  FROM d WINDOW w AS (ORDER BY seq))"
				" SELECT (SELECT pg_catalog.count(*) FROM c), r.events::bigint,"
				" (SELECT pg_catalog.min(seq)::bigint FROM c WHERE ok IS NOT TRUE),"
				" pg_catalog.encode((SELECT digest FROM c ORDER BY seq DESC LIMIT 1), 'hex'),"
				" pg_catalog.encode(r.head, 'hex')"
				" FROM evmig.runbook r WHERE r.runbook_id = $1", &args);
	chain->events = spi_int8(0, 0);
	expected = spi_int8(0, 1);
	broken = spi_int8(0, 2);
	chain->head = spi_text(0, 3);
	chain->problem = NULL;
	if (broken != 0)
		chain->problem = psprintf("event " INT64_FORMAT " does not follow from the one before it", broken);
	else if (chain->events != expected)
		chain->problem = psprintf(INT64_FORMAT " of " INT64_FORMAT " events are there",
								  chain->events, expected);
	else if (chain->head != NULL &&
			 (spi_isnull(0, 4) || strcmp(chain->head, spi_text(0, 4)) != 0))
		chain->problem = pstrdup("the last event is not the one that was written");
}

/*
 * Trigger on evmig.runbook_event: refuse whatever changes what is written.
 */
Datum
evmig_runbook_event_refuse(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by the trigger manager")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table evmig.runbook_event is append-only"),
			 errdetail("It is the evidence of what was approved and done."),
			 errhint("evmig_runbook_report shows it.")));
	PG_RETURN_NULL();
}

/* ---- composing data ---- */

static void
json_name(StringInfo buf, const char *name)
{
	if (buf->len > 1)
		appendStringInfoString(buf, ", ");
	escape_json(buf, name);
	appendStringInfoString(buf, ": ");
}

void
json_begin(StringInfo buf)
{
	initStringInfo(buf);
	appendStringInfoChar(buf, '{');
}

void
json_text(StringInfo buf, const char *name, const char *value)
{
	json_name(buf, name);
	if (value)
		escape_json(buf, value);
	else
		appendStringInfoString(buf, "null");
}

void
json_int8(StringInfo buf, const char *name, int64 value)
{
	json_name(buf, name);
	appendStringInfo(buf, INT64_FORMAT, value);
}

void
json_float8(StringInfo buf, const char *name, double value)
{
	json_name(buf, name);
	appendStringInfo(buf, "%.3f", value);
}

void
json_bool(StringInfo buf, const char *name, bool value)
{
	json_name(buf, name);
	appendStringInfoString(buf, value ? "true" : "false");
}

void
json_raw(StringInfo buf, const char *name, const char *json)
{
	json_name(buf, name);
	appendStringInfoString(buf, json ? json : "null");
}

char *
json_end(StringInfo buf)
{
	appendStringInfoChar(buf, '}');
	return buf->data;
}
