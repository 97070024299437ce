/*-------------------------------------------------------------------------
 *
 * approve.c
 *	  What people answer for: attestations, waivers, the approval.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "evmig.h"
#include "kpi/sample.h"
#include "runbook/event.h"
#include "runbook/limits.h"
#include "runbook/runbook.h"

PG_FUNCTION_INFO_V1(evmig_runbook_attest);
PG_FUNCTION_INFO_V1(evmig_runbook_attest_all);
PG_FUNCTION_INFO_V1(evmig_runbook_waive);
PG_FUNCTION_INFO_V1(evmig_runbook_approve);

/* rows to remove may grow by this factor after they were last looked at */
#define GROWTH_LIMIT 1.2

/*
 * Without these the steps themselves cannot work, so no reason can be good
 * enough.
 */
static const char *const never_waived[] = {
	"table", "privileges", "key_type", "order_column", "row_level_security",
	"archive_name", "jobs", "server", "publications",
};

static bool
is_blank(const char *text)
{
	return text == NULL || text[strspn(text, " \t\r\n")] == '\0';
}

/* Raise unless the runbook is in one of two states. */
static void
require_state(Runbook *rb, const char *one, const char *other, const char *what)
{
	if (strcmp(rb->state, one) != 0 && strcmp(rb->state, other) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " is %s and cannot be %s", rb->id, rb->state, what)));
}

/* ---- attestations ---- */

/* One attestation; inside SPI, the runbook's row is locked. */
static void
attest(Runbook *rb, const char *item, const char *evidence, TimestampTz kept_until)
{
	SqlArgs		args = {0};
	SqlArgs		kept = {0};
	StringInfoData buf;

	arg_text(&args, item);
	if (spi_catalog("SELECT 1 FROM evmig.runbook_item WHERE name = $1", &args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("nothing to attest is called \"%s\"", item),
				 errhint("SELECT name, question FROM evmig.runbook_item shows what is asked.")));
	if (is_blank(evidence))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attestation \"%s\" needs its evidence", item),
				 errhint("Say what was looked at and where it can be seen.")));
	if (kept_until != 0 && kept_until <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("kept_until of attestation \"%s\" is in the past", item)));

	json_begin(&buf);
	json_text(&buf, "evidence", evidence);
	json_text(&buf, "kept_until", kept_until ? timestamptz_to_str(kept_until) : NULL);
	runbook_event(rb->id, EVENT_ATTESTED, item, 0, json_end(&buf));

	arg_int8(&kept, rb->id);
	arg_time(&kept, kept_until);
	spi_catalog("UPDATE evmig.runbook SET kept_until = greatest(kept_until, $2) WHERE runbook_id = $1",
				&kept);
}

static Runbook *
load_to_attest(int64 id)
{
	Runbook    *rb;

	require_writable();
	rb = runbook_load(id, true);
	if (strcmp(rb->state, RUNBOOK_EXECUTING) != 0)
		require_state(rb, RUNBOOK_OPEN, RUNBOOK_APPROVED, "attested");
	return rb;
}

/*
 * evmig_runbook_attest(id bigint, item text, evidence text,
 * kept_until timestamptz) returns void
 *
 * Answer one question of evmig.runbook_item.  A second answer replaces the
 * first, which stays in the evidence.
 */
Datum
evmig_runbook_attest(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id and item must not be null")));
	spi_begin();
	attest(load_to_attest(PG_GETARG_INT64(0)), ARG_TEXT(1), ARG_TEXT(2),
		   PG_ARGISNULL(3) ? 0 : PG_GETARG_TIMESTAMPTZ(3));
	spi_end();
	PG_RETURN_VOID();
}

/*
 * evmig_runbook_attest(id bigint, jsonb) returns void
 *
 * Answer several questions: {item: evidence} or {item: {"evidence": ...,
 * "kept_until": ...}}.
 */
Datum
evmig_runbook_attest_all(PG_FUNCTION_ARGS)
{
	Jsonb	   *answers = PG_GETARG_JSONB_P(1);
	Runbook    *rb;
	SqlArgs		args = {0};
	uint64		n;
	char	  **items;
	char	  **evidence;
	TimestampTz *kept;

	if (!JB_ROOT_IS_OBJECT(answers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attestations must be a JSON object"),
				 errhint("Give {\"item\": \"evidence\"} or {\"item\": {\"evidence\": \"...\", \"kept_until\": \"...\"}}.")));
	spi_begin();
	rb = load_to_attest(PG_GETARG_INT64(0));
	arg_datum(&args, JSONBOID, JsonbPGetDatum(answers), false);
	n = spi_catalog("SELECT key, CASE pg_catalog.jsonb_typeof(value) WHEN 'string' THEN value #>> '{}'"
					" WHEN 'object' THEN value ->> 'evidence' END,"
					" CASE pg_catalog.jsonb_typeof(value) WHEN 'object'"
					"  THEN (value ->> 'kept_until')::timestamptz END"
					" FROM pg_catalog.jsonb_each($1)", &args);
	items = palloc(sizeof(char *) * Max(n, 1));
	evidence = palloc(sizeof(char *) * Max(n, 1));
	kept = palloc(sizeof(TimestampTz) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		items[i] = spi_text(i, 0);
		evidence[i] = spi_text(i, 1);
		kept[i] = spi_time(i, 2);
	}
	for (uint64 i = 0; i < n; i++)
		attest(rb, items[i], evidence[i], kept[i]);
	spi_end();
	PG_RETURN_VOID();
}

/* ---- waivers ---- */

/*
 * evmig_runbook_waive(id bigint, check text, reason text) returns void
 *
 * Let a failing check of the last preflight pass, for a reason.  Checks
 * without which the steps cannot work are not waived.
 */
Datum
evmig_runbook_waive(PG_FUNCTION_ARGS)
{
	char	   *check = ARG_TEXT(1);
	char	   *reason = ARG_TEXT(2);
	Runbook    *rb;
	SqlArgs		args = {0};
	StringInfoData buf;

	if (PG_ARGISNULL(0) || check == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id and check must not be null")));
	if (is_blank(reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a waiver needs a reason")));
	require_writable();
	spi_begin();
	rb = runbook_load(PG_GETARG_INT64(0), true);
	require_state(rb, RUNBOOK_OPEN, RUNBOOK_APPROVED, "given a waiver");
	for (int i = 0; i < lengthof(never_waived); i++)
		if (strcmp(check, never_waived[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("check \"%s\" cannot be waived", check),
					 errdetail("The steps of the runbook cannot work without it.")));

	arg_int8(&args, rb->id);
	arg_text(&args, check);
	if (spi_catalog("SELECT c ->> 'detail' FROM (SELECT data FROM evmig.runbook_event"
					"  WHERE runbook_id = $1 AND event = 'preflight' ORDER BY seq DESC LIMIT 1) p,"
					" pg_catalog.jsonb_array_elements(p.data) c"
					" WHERE c ->> 'check' = $2 AND c ->> 'status' = 'fail'", &args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("check \"%s\" did not fail in runbook " INT64_FORMAT, check, rb->id),
				 errhint("Only a failing check of evmig_preflight can be waived.")));
	json_begin(&buf);
	json_text(&buf, "reason", reason);
	json_text(&buf, "detail", spi_text(0, 0));
	runbook_event(rb->id, EVENT_WAIVED, check, 0, json_end(&buf));
	spi_end();
	PG_RETURN_VOID();
}

char *
runbook_waived(int64 id)
{
	SqlArgs		args = {0};

	arg_int8(&args, id);
	spi_catalog("SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT subject), '[]')::text"
				" FROM evmig.runbook_event WHERE runbook_id = $1 AND event = 'waived'", &args);
	return spi_text(0, 0);
}

/* ---- checks before approval and execution ---- */

/* Lines "check: detail" that stand in the way, or NULL; $1 preflight, $2 id. */
static char *
open_checks(Runbook *rb, const char *preflight, const char *sql)
{
	SqlArgs		args = {0};

	arg_jsonb(&args, preflight);
	arg_int8(&args, rb->id);
	spi_catalog(sql, &args);
	return spi_text(0, 0);
}

static void
check_preflight(Runbook *rb, const char *preflight, const char *step)
{
	char	   *failing = open_checks(rb, preflight,
									  "SELECT pg_catalog.string_agg(pg_catalog.format('%s: %s', c ->> 'check',"
									  " c ->> 'detail'), E'\\n') FROM pg_catalog.jsonb_array_elements($1) c"
									  " WHERE c ->> 'status' = 'fail' AND NOT EXISTS (SELECT FROM evmig.runbook_event e"
									  "  WHERE e.runbook_id = $2 AND e.event = 'waived' AND e.subject = c ->> 'check')");
	char	   *missing;

	if (failing)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " cannot be %s: a check fails", rb->id, step),
				 errdetail("%s", failing),
				 rb->direct ?
				 errhint("Repair what evmig_preflight shows, or open a runbook and see evmig_runbook_waive.") :
				 errhint("Repair what evmig_preflight shows, or see evmig_runbook_waive.")));
	if (rb->direct)
		return;
	missing = open_checks(rb, preflight,
						  "SELECT pg_catalog.string_agg(pg_catalog.format('%s: %s', c ->> 'check',"
						  " c ->> 'detail'), E'\\n') FROM pg_catalog.jsonb_array_elements($1) c"
						  " WHERE c ->> 'status' = 'manual' AND NOT EXISTS (SELECT FROM evmig.runbook_event e"
						  "  WHERE e.runbook_id = $2 AND e.event = 'attested' AND e.subject = c ->> 'check')");
	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " cannot be %s: an attestation is missing", rb->id, step),
				 errdetail("%s", missing),
				 errhint("SELECT evmig_runbook_attest(" INT64_FORMAT ", item, evidence) for each.", rb->id)));
}

void
runbook_recheck(Runbook *rb, Target *target, const char *step, Measured *m)
{
	SqlArgs		args = {0};

	runbook_measure(target, m);
	check_preflight(rb, m->preflight, step);
	if (rb->mode == NULL && m->losers > 0 && differing_rows(target) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " cannot be %s: duplicates that differ in payload came in",
						rb->id, step),
				 errhint("Look at evmig_duplicates, and open a new runbook that says its mode.")));
	if (m->losers > rb->rows_to_remove * GROWTH_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " cannot be %s: the rows to remove grew from "
						INT64_FORMAT " to " INT64_FORMAT, rb->id, step, rb->rows_to_remove, m->losers),
				 errdetail("More than a fifth above what was last looked at."),
				 errhint("Find out where they come from, and open a new runbook.")));

	runbook_event(rb->id, EVENT_PREFLIGHT, NULL, 0, m->preflight);
	runbook_event(rb->id, EVENT_AUDIT, psprintf("before (%s)", step), 0, m->audit);
	arg_int8(&args, rb->id);
	arg_int8(&args, m->losers);
	spi_catalog("UPDATE evmig.runbook SET rows_to_remove = $2 WHERE runbook_id = $1", &args);
	rb->rows_to_remove = m->losers;
}

/* ---- approval ---- */

static void
check_second_person(Runbook *rb, char path)
{
	if ((path == 'B' || evmig_require_second_person) &&
		strcmp(rb->opened_by, GetUserNameFromId(GetSessionUserId(), false)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("runbook " INT64_FORMAT " must be approved by a second person", rb->id),
				 errdetail("\"%s\" opened it; the role of the session counts.", rb->opened_by),
				 path == 'B' ? errhint("Path B always needs one.") :
				 errhint("evmig.require_second_person is on.")));
}

/*
 * evmig_runbook_approve(id bigint, note text, path text) returns void
 *
 * Approve a runbook for evmig.approval_ttl: refused while a check fails or an
 * attestation is missing.  Takes ACCESS SHARE on the table.
 */
Datum
evmig_runbook_approve(PG_FUNCTION_ARGS)
{
	char	   *note = ARG_TEXT(1);
	char	   *path = ARG_TEXT(2);
	char	   *obstacle;
	Runbook    *rb;
	Target	   *target;
	Measured	m;
	SqlArgs		args = {0};
	StringInfoData buf;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id must not be null")));
	if (path == NULL || (strcmp(path, "A") != 0 && strcmp(path, "B") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown path \"%s\"", path ? path : "NULL"),
				 errhint("Say A (nothing is lost), or B (the empty table is set up at once).")));
	require_writable();
	spi_begin();
	rb = runbook_load(PG_GETARG_INT64(0), true);
	require_state(rb, RUNBOOK_OPEN, RUNBOOK_APPROVED, "approved");
	target = runbook_target(rb, TARGET_CHANGE | TARGET_ORDER);
	if (path[0] == 'B' && is_blank(note))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path B needs a note that says why")));
	if (path[0] == 'B' && (obstacle = path_b_obstacle(target)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("path B is not possible: %s", obstacle),
				 errhint("Approve path A, which loses nothing.")));
	check_second_person(rb, path[0]);
	runbook_sample(rb, "before", SAMPLE_US);
	runbook_recheck(rb, target, "approved", &m);

	arg_int8(&args, rb->id);
	arg_text(&args, path);
	arg_text(&args, note);
	arg_text(&args, GetUserNameFromId(GetSessionUserId(), false));
	spi_catalog("UPDATE evmig.runbook SET state = 'approved', path = $2, note = $3,"
				" approved_by = $4::name, approved_at = pg_catalog.clock_timestamp()"
				" WHERE runbook_id = $1", &args);
	json_begin(&buf);
	json_text(&buf, "path", path);
	json_text(&buf, "note", note);
	json_int8(&buf, "rows_to_remove", m.losers);
	json_int8(&buf, "valid_minutes", evmig_approval_ttl);
	runbook_event(rb->id, EVENT_APPROVED, NULL, 0, json_end(&buf));
	spi_end();
	PG_RETURN_VOID();
}
