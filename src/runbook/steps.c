/*-------------------------------------------------------------------------
 *
 * steps.c
 *	  The steps of a runbook: the non-destructive path A, the set-up of an
 *	  empty table (path B), and the way back.
 *
 * The order of path A matters.  The guard comes before the fill, so that no
 * new NULL comes in behind the cursor; the helper index comes before the
 * guard's work on duplicates, which needs it, and that before the dedupe, so
 * that the unique index converges while duplicates keep coming.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/guc.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "integrity/dedupe.h"
#include "integrity/index.h"
#include "integrity/ingest.h"
#include "runbook/event.h"
#include "runbook/step.h"

/* ---- extension ---- */

static bool
extension_holds(Runbook *rb, Target *target)
{
	return rb->extension == NULL;
}

/* Create what the generator needs; gen_random_uuid() needs nothing. */
static int64
extension_start(Runbook *rb, Target *target, StringInfo data)
{
	SqlArgs		args = {0};

	if (rb->extension == NULL)
	{
		json_text(data, "pgcrypto", "not needed");
		json_text(data, "generator", rb->generator);
		return 0;
	}
	spi_run(psprintf("CREATE EXTENSION IF NOT EXISTS %s", quote_identifier(rb->extension)), NULL);
	rb->generator = target_generator(target, rb->generator);
	arg_int8(&args, rb->id);
	arg_text(&args, rb->generator);
	spi_catalog("UPDATE evmig.runbook SET generator = $2, extension = NULL WHERE runbook_id = $1",
				&args);
	json_text(data, "created", rb->extension);
	json_text(data, "generator", rb->generator);
	rb->extension = NULL;
	return 0;
}

/* ---- ingest guard ---- */

static int64
set_guard(Runbook *rb, Target *target, const char *mode, const char *duplicates, StringInfo data)
{
	char	   *old_duplicates = NULL;
	char	   *old = ingest_guard_get(target->relid, &old_duplicates);

	ingest_guard_set(target, mode, duplicates, rb->generator);
	json_text(data, "mode", mode);
	json_text(data, "duplicates", duplicates);
	json_text(data, "was", old);
	return 0;
}

static bool
guard_fill_holds(Runbook *rb, Target *target)
{
	char	   *duplicates;

	return ingest_guard_get(target->relid, &duplicates) != NULL;
}

static int64
guard_fill_start(Runbook *rb, Target *target, StringInfo data)
{
	return set_guard(rb, target, "fill", "pass", data);
}

/* Once the unique index is there, the guard's look-ups are no longer needed. */
static bool
guard_duplicates_holds(Runbook *rb, Target *target)
{
	char	   *duplicates = NULL;

	if (OidIsValid(key_index_find(target, true)))
		return true;
	return ingest_guard_get(target->relid, &duplicates) != NULL &&
		duplicates != NULL && strcmp(duplicates, "pass") != 0;
}

/*
 * Of a pair that differs in payload the guard cannot say which is the event,
 * so in mode auto it archives: nothing is lost, and the writer who says ON
 * CONFLICT DO NOTHING gets what the finished index would give it.
 */
static int64
guard_duplicates_start(Runbook *rb, Target *target, StringInfo data)
{
	bool		rekey = rb->mode && strcmp(rb->mode, "rekey") == 0;

	return set_guard(rb, target, "fill", rekey ? "rekey" : "archive", data);
}

static bool
guard_report_holds(Runbook *rb, Target *target)
{
	char	   *duplicates;
	char	   *mode = ingest_guard_get(target->relid, &duplicates);

	return mode && strcmp(mode, "report") == 0;
}

static int64
guard_report_start(Runbook *rb, Target *target, StringInfo data)
{
	return set_guard(rb, target, "report", "pass", data);
}

/* ---- fill and dedupe ---- */

static int64
backfill_start(Runbook *rb, Target *target, StringInfo data)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	arg_text(&args, rb->generator);
	spi_run(psprintf("SELECT %sevmig_backfill_request_id($1::pg_catalog.regclass,"
					 " $2::pg_catalog.name, $3)", extension_schema_prefix()), &args);
	return spi_int8(0, 0);
}

static int64
dedupe_step_start(Runbook *rb, Target *target, StringInfo data)
{
	json_text(data, "mode", rb->mode ? rb->mode : "archive");
	return dedupe_start(target, rb->mode, NULL, rb->generator, runbook_waived(rb->id));
}

/* ---- indexes ---- */

static bool
helper_holds(Runbook *rb, Target *target)
{
	return OidIsValid(key_index_find(target, false));
}

static int64
helper_start(Runbook *rb, Target *target, StringInfo data)
{
	if (OidIsValid(key_index_find(target, false)))
	{
		json_bool(data, "existed", true);
		return 0;
	}
	return helper_index_start(target);
}

static bool
unique_holds(Runbook *rb, Target *target)
{
	return OidIsValid(key_index_find(target, true));
}

static int64
unique_start(Runbook *rb, Target *target, StringInfo data)
{
	if (OidIsValid(key_index_find(target, true)))
	{
		json_bool(data, "existed", true);
		return 0;
	}
	return unique_index_start(target, NULL, rb->mode, NULL, rb->generator,
							  runbook_waived(rb->id));
}

static bool
helper_dropped_holds(Runbook *rb, Target *target)
{
	return !OidIsValid(helper_index_find(target));
}

static int64
helper_drop_start(Runbook *rb, Target *target, StringInfo data)
{
	Oid			helper = helper_index_find(target);

	return OidIsValid(helper) ? drop_index_start(target, helper) : 0;
}

/* ---- verify and harden ---- */

/* All checks of evmig_verify must hold; what they say is evidence. */
static int64
verify_start(Runbook *rb, Target *target, StringInfo data)
{
	SqlArgs		args = {0};
	char	   *failing;

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	spi_run(psprintf("SELECT pg_catalog.string_agg(pg_catalog.format('%%s: expected %%s, found %%s',"
					 " check_name, expected, actual), E'\\n') FILTER (WHERE ok IS NOT TRUE),"
					 " COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('check', check_name,"
					 " 'expected', expected, 'actual', actual, 'ok', ok)), '[]')::pg_catalog.text"
					 " FROM %sevmig_verify($1::pg_catalog.regclass, $2::pg_catalog.name)",
					 extension_schema_prefix()), &args);
	failing = spi_text(0, 0);
	if (failing)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the result is not what it should be"),
				 errdetail("%s", failing)));
	json_raw(data, "checks", spi_text(0, 1));
	return 0;
}

static bool
harden_wanted(Runbook *rb)
{
	return rb->harden;
}

static bool
harden_holds(Runbook *rb, Target *target)
{
	return target->key.notnull;
}

static int64
harden_step_start(Runbook *rb, Target *target, StringInfo data)
{
	if (target->key.notnull)
	{
		json_bool(data, "existed", true);
		return 0;
	}
	return harden_start(target);
}

static const Step path_a[] = {
	{"extension", NULL, extension_holds, extension_start},
	{"ingest guard (fill)", NULL, guard_fill_holds, guard_fill_start},
	{"backfill", NULL, NULL, backfill_start},
	{"helper index", NULL, helper_holds, helper_start},
	{"ingest guard (duplicates)", NULL, guard_duplicates_holds, guard_duplicates_start},
	{"dedupe", NULL, NULL, dedupe_step_start},
	{"unique index", NULL, unique_holds, unique_start},
	{"helper index dropped", NULL, helper_dropped_holds, helper_drop_start},
	{"verify", NULL, NULL, verify_start},
	{"harden", harden_wanted, harden_holds, harden_step_start},
	{"ingest guard (report)", NULL, guard_report_holds, guard_report_start},
};

const StepList path_a_steps = {"evmig_runbook_execute", lengthof(path_a), path_a};

/* ---- path B ---- */

char *
unique_index_statement(Target *target, bool concurrently)
{
	char	   *prefix = psprintf("ux_%s", target->name);

	return psprintf("CREATE UNIQUE INDEX %s%s ON %s (%s)",
					concurrently ? "CONCURRENTLY " : "",
					quote_identifier(object_name(prefix, target->key.name, NULL)),
					target->quoted, target->key.quoted);
}

/*
 * Index and NOT NULL at once, under a lock that keeps rows out; the lock is
 * polled for, and held only as long as it takes on an empty table.
 */
static int64
reset_start(Runbook *rb, Target *target, StringInfo data)
{
	int			nest = NewGUCNestLevel();
	char	   *obstacle;
	char	   *index;
	char	   *notnull;

	/* rows that a policy hides are rows: raise instead of counting none */
	(void) set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	lock_relation_polled(target->relid, AccessExclusiveLock);
	obstacle = path_b_obstacle(target);
	if (obstacle)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("path B is no longer possible: %s", obstacle),
				 errhint("SELECT evmig_runbook_approve with path A on a new runbook.")));
	if (!OidIsValid(key_index_find(target, true)))
	{
		index = unique_index_statement(target, false);
		spi_run(index, NULL);
		json_text(data, "index", index);
	}
	else
		json_bool(data, "existed", true);
	notnull = psprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL",
					   target->quoted, target->key.quoted);
	spi_run(notnull, NULL);
	json_text(data, "not_null", notnull);
	AtEOXact_GUC(true, nest);
	return 0;
}

static bool
reset_holds(Runbook *rb, Target *target)
{
	return target->key.notnull && OidIsValid(key_index_find(target, true));
}

static const Step path_b[] = {
	{"extension", NULL, extension_holds, extension_start},
	{"index and not null", NULL, reset_holds, reset_start},
	{"verify", NULL, NULL, verify_start},
};

const StepList path_b_steps = {"evmig_runbook_execute", lengthof(path_b), path_b};
