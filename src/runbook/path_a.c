/*-------------------------------------------------------------------------
 *
 * path_a.c
 *	  Path A in one call, and what it would do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "job/job.h"
#include "job/worker.h"
#include "runbook/event.h"
#include "runbook/step.h"

PG_FUNCTION_INFO_V1(evmig_path_a);

/* bytes of an index entry beside the key: line pointer and tuple header */
#define INDEX_ENTRY_BYTES 12

/* ---- the dry run ---- */

/* what the notices say of sizes; from the server's statistics */
typedef struct Estimate
{
	int64		row_bytes;
	char	   *table_size;
	char	   *archive_size;
	char	   *index_size;
} Estimate;

static void
estimate(Target *target, Measured *m, Estimate *e)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	arg_int8(&args, m->total);
	arg_int8(&args, m->losers);
	arg_int4(&args, INDEX_ENTRY_BYTES);
	spi_catalog("SELECT s.bytes / greatest($3, 1), pg_catalog.pg_size_pretty(s.bytes),"
				" pg_catalog.pg_size_pretty(s.bytes / greatest($3, 1) * $4),"
				" pg_catalog.pg_size_pretty($3 * ($5 + w.width))"
				" FROM (SELECT pg_catalog.pg_table_size($1::regclass) AS bytes) s,"
				" (SELECT coalesce((SELECT st.avg_width FROM pg_catalog.pg_class c"
				"  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
				"  JOIN pg_catalog.pg_stats st ON st.schemaname = n.nspname AND st.tablename = c.relname"
				"   AND st.attname = $2::name WHERE c.oid = $1), 16) AS width) w", &args);
	e->row_bytes = spi_int8(0, 0);
	e->table_size = spi_text(0, 1);
	e->archive_size = spi_text(0, 2);
	e->index_size = spi_text(0, 3);
}

/* One step of the dry run. */
static void
say(int number, const char *step, const char *statement, const char *lock, const char *cost)
{
	ereport(NOTICE,
			(errmsg("step %d of %d: %s: %s", number, path_a_steps.n, step, cost),
			 errdetail("Statement: %s\nLocks: %s.", statement, lock)));
}

static char *
guard_statement(Target *target)
{
	return psprintf("CREATE OR REPLACE TRIGGER \"~evmig_ingest_guard\" BEFORE INSERT OR UPDATE ON %s FOR EACH ROW ...",
					target->quoted);
}

static char *
dedupe_statement(Target *target, const char *mode, const char *generator)
{
	char	   *archive = quote_qualified_identifier(target->schema,
													 object_name(target->name, NULL, "dupes_archived"));
	char	   *move = psprintf("WITH gone AS (DELETE FROM %s ... RETURNING *) INSERT INTO %s ...",
								target->quoted, archive);
	char	   *rekey = psprintf("UPDATE %s SET %s = %s ...", target->quoted, target->key.quoted, generator);

	if (mode && strcmp(mode, "rekey") == 0)
		return rekey;
	if (mode && strcmp(mode, "auto") == 0)
		return psprintf("%s; %s", move, rekey);
	return move;
}

/* Steps 1 to 6: the rows. */
static void
say_row_steps(Target *target, Measured *m, const char *mode, const char *generator,
			  const char *extension, Estimate *e)
{
	const char *polled = psprintf("SHARE ROW EXCLUSIVE for a moment, polled, queued for at most %d ms a try",
								  evmig_step_lock_timeout);

	say(1, "extension", extension ? "CREATE EXTENSION pgcrypto" : "none",
		"none on the table", extension ? "the generator needs it" : "nothing is needed");
	say(2, "ingest guard (fill)", guard_statement(target), polled,
		"new rows without a key get one");
	say(3, "backfill",
		psprintf("UPDATE %s SET %s = %s WHERE %s IS NULL AND ctid >= ... AND ctid < ...",
				 target->quoted, target->key.quoted, generator, target->key.quoted),
		"ROW EXCLUSIVE, and the rows of one batch",
		psprintf(INT64_FORMAT " rows of " INT64_FORMAT ", in batches from %d rows, %d ms at most a batch",
				 m->nulls, m->total, evmig_batch_size, evmig_batch_target_ms));
	say(4, "helper index",
		psprintf("CREATE INDEX CONCURRENTLY ... ON %s (%s)", target->quoted, target->key.quoted),
		"SHARE UPDATE EXCLUSIVE: reads and writes go on",
		psprintf("two reads of %s, an index of about %s", e->table_size, e->index_size));
	say(5, "ingest guard (duplicates)", guard_statement(target), polled,
		mode && strcmp(mode, "rekey") == 0 ? "incoming duplicates get a key of their own"
		: "incoming duplicates go to the archive");
	say(6, "dedupe", dedupe_statement(target, mode, generator),
		"ROW EXCLUSIVE, and the rows of one batch with their keepers",
		psprintf(INT64_FORMAT " rows of " INT64_FORMAT " keys, about %s",
				 m->losers, m->groups, e->archive_size));
}

/* Steps 7 to 11: the constraints. */
static void
say_constraint_steps(Target *target, Estimate *e)
{
	say(7, "unique index", unique_index_statement(target, true),
		"SHARE UPDATE EXCLUSIVE: reads and writes go on",
		psprintf("two reads of %s, an index of about %s", e->table_size, e->index_size));
	say(8, "helper index dropped", "DROP INDEX CONCURRENTLY ...",
		"SHARE UPDATE EXCLUSIVE: reads and writes go on", "frees its space");
	say(9, "verify", psprintf("SELECT * FROM evmig_verify(%s, %s)",
							  quote_literal_cstr(target->quoted), quote_literal_cstr(target->key.name)),
		"ACCESS SHARE", psprintf("one read of %s", e->table_size));
	say(10, "harden",
		psprintf("ALTER TABLE %s ADD CHECK (%s IS NOT NULL) NOT VALID; VALIDATE CONSTRAINT;"
				 " ALTER COLUMN %s SET NOT NULL; DROP CONSTRAINT",
				 target->quoted, target->key.quoted, target->key.quoted),
		psprintf("ACCESS EXCLUSIVE for a moment each, polled, queued for at most %d ms a try;"
				 " SHARE UPDATE EXCLUSIVE while it reads", evmig_step_lock_timeout),
		psprintf("one read of %s", e->table_size));
	say(11, "ingest guard (report)", guard_statement(target),
		"SHARE ROW EXCLUSIVE for a moment, polled",
		"who sends rows without a key is counted in evmig_ingest_culprits");
}

/* What preflight found wrong, each check in a line. */
static void
say_checks(const char *preflight)
{
	SqlArgs		args = {0};
	uint64		n;

	arg_jsonb(&args, preflight);
	n = spi_catalog("SELECT c ->> 'check', c ->> 'status', c ->> 'detail', c ->> 'hint'"
					" FROM pg_catalog.jsonb_array_elements($1) c WHERE c ->> 'status' IN ('fail', 'warn')",
					&args);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *hint = spi_text(i, 3);

		ereport(NOTICE,
				(errmsg("check %s: %s: %s", spi_text(i, 0), spi_text(i, 1), spi_text(i, 2)),
				 hint ? errhint("%s", hint) : 0));
	}
}

static void
dry_run(OpenRequest *request)
{
	Target	   *target;
	Measured	m;
	Estimate	e;
	char	   *generator;
	char	   *extension;
	int64		differing;

	target = runbook_plan(request, &m, &generator, &extension, &differing);
	estimate(target, &m, &e);
	ereport(NOTICE,
			(errmsg("dry run on table %s, key %s: nothing is changed", target->quoted, target->key.quoted),
			 errdetail(INT64_FORMAT " rows, " INT64_FORMAT " without a key, " INT64_FORMAT
					   " beyond the first of " INT64_FORMAT " keys, " INT64_FORMAT
					   " of them differ in payload; %s.",
					   m.total, m.nulls, m.losers, m.groups, differing, e.table_size)));
	say_checks(m.preflight);
	say_row_steps(target, &m, request->mode, generator, extension, &e);
	say_constraint_steps(target, &e);
}

/* ---- the one call ---- */

/*
 * The runbook of an earlier call on this table that was stopped on its way, 0
 * for none.
 */
static int64
stopped_call(OpenRequest *request)
{
	Target	   *target = target_resolve(request->relid, request->key, request->order,
										TARGET_CHANGE | TARGET_ORDER);
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	if (spi_catalog("SELECT runbook_id FROM evmig.runbook WHERE direct AND target = $1"
					" AND key_column = $2::name AND state = 'executing' ORDER BY 1 DESC LIMIT 1",
					&args) == 0)
		return 0;
	return spi_int8(0, 0);
}

/*
 * CALL evmig_path_a(target regclass, key_column name, order_column name,
 * mode text, dry_run boolean)
 *
 * Open a runbook and execute it without attestations and approval, or say what
 * that would do.  Refused under evmig.require_runbook.  Locks as
 * evmig_runbook_execute(); the dry run takes ACCESS SHARE and changes nothing.
 */
Datum
evmig_path_a(PG_FUNCTION_ARGS)
{
	OpenRequest request = {0};
	int64		id;

	request.relid = ARG_RELID(0);
	request.key = ARG_NAME(1);
	request.order = ARG_NAME(2);
	request.mode = ARG_TEXT(3);
	request.harden = true;
	request.direct = true;
	if (!PG_ARGISNULL(4) && PG_GETARG_BOOL(4))
	{
		spi_begin();
		dry_run(&request);
		spi_end();
		PG_RETURN_VOID();
	}

	require_nonatomic(fcinfo, "evmig_path_a");
	require_writable();
	require_runbook("evmig_path_a");
	spi_begin_nonatomic();
	EnsurePortalSnapshotExists();
	id = stopped_call(&request);
	if (id == 0)
		id = runbook_open(&request);
	ereport(NOTICE,
			(errmsg("runbook " INT64_FORMAT, id),
			 errdetail("It is recorded as one call, without attestations and approval.")));

	/* opened and measured in one transaction: a failing check leaves nothing */
	with_runbook_locked(id, execute_runbook);
	spi_end();
	PG_RETURN_VOID();
}
