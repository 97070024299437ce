/*-------------------------------------------------------------------------
 *
 * baseline.c
 *	  Grandfathered findings: evmig.guard_baseline.
 *
 * An entry excuses one occurrence of a fingerprint until the finding is gone;
 * then it excuses nothing any more, so that what was cleaned up stays clean.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "guard/encoding.h"
#include "guard/guard.h"
#include "guard/rules.h"

PG_FUNCTION_INFO_V1(evmig_guard_baseline_add);
PG_FUNCTION_INFO_V1(evmig_guard_baseline_report);
PG_FUNCTION_INFO_V1(evmig_guard_statements);

#define FINGERPRINT_SIZE 40

typedef struct Excuse
{
	char		fingerprint[FINGERPRINT_SIZE];
	int64		left;			/* occurrences that are excused yet */
} Excuse;

/* fingerprints of what no evmig:allow excuses already; returns their number */
static int
fingerprints(Guard *guard, char ***result)
{
	ListCell   *cell;
	int			n = 0;

	*result = palloc(sizeof(char *) * Max(list_length(guard->findings), 1));
	foreach(cell, guard->findings)
	{
		GuardFinding *finding = lfirst(cell);

		if (!finding->allowed)
			(*result)[n++] = finding->fingerprint;
	}
	return n;
}

/*
 * Mark findings for which the baseline of this database has an entry, the
 * first ones of the source first.
 */
void
guard_baseline_apply(Guard *guard)
{
	char	  **wanted;
	int			n = fingerprints(guard, &wanted);
	SqlArgs		args = {0};
	HASHCTL		ctl = {0};
	HTAB	   *excuses;
	ListCell   *cell;

	if (n == 0)
		return;
	ctl.keysize = FINGERPRINT_SIZE;
	ctl.entrysize = sizeof(Excuse);
	ctl.hcxt = CurrentMemoryContext;
	excuses = hash_create("evmig guard baseline", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);

	arg_texts(&args, wanted, n);
	spi_begin();
	spi_catalog("SELECT fingerprint, pg_catalog.count(*) FROM evmig.guard_baseline"
				" WHERE fingerprint = ANY ($1) AND gone_at IS NULL GROUP BY fingerprint", &args);
	for (uint64 row = 0; row < spi_nrows(); row++)
	{
		Excuse	   *excuse = hash_search(excuses, spi_text(row, 0), HASH_ENTER, NULL);

		excuse->left = spi_int8(row, 1);
	}
	spi_end();

	foreach(cell, guard->findings)
	{
		GuardFinding *finding = lfirst(cell);
		Excuse	   *excuse = finding->allowed ? NULL :
			hash_search(excuses, finding->fingerprint, HASH_FIND, NULL);

		if (excuse && excuse->left > 0)
		{
			excuse->left--;
			finding->grandfathered = true;
		}
	}
	hash_destroy(excuses);
	pfree(wanted);
}

/* ---- adding ---- */

static char *
required_text(FunctionCallInfo fcinfo, int n, const char *what)
{
	char	   *value = ARG_TEXT(n);

	if (value == NULL || strspn(value, " \t\r\n") == strlen(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", what)));
	return value;
}

static void
check_priority(const char *priority)
{
	if (priority == NULL ||
		(strcmp(priority, "high") != 0 && strcmp(priority, "medium") != 0 && strcmp(priority, "low") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid priority \"%s\"", priority ? priority : "NULL"),
				 errhint("It must be high, medium or low.")));
}

/* within spi_begin() */
static void
check_replaced_by(const char *name)
{
	SqlArgs		args = {0};

	if (name == NULL)
		return;
	arg_text(&args, name);
	if (spi_catalog("SELECT FROM evmig.backfill WHERE name = $1", &args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill \"%s\" does not exist", name),
				 errhint("Register the backfill that takes over first: SELECT evmig_backfill_register(%s, ...).",
						 quote_literal_cstr(name))));
}

/* entries of the source that it no longer gives a finding for */
static void
mark_gone(Guard *guard)
{
	SqlArgs		args = {0};
	char	  **found;
	int			n = fingerprints(guard, &found);

	arg_text(&args, guard->name);
	arg_texts(&args, found, n);
	spi_catalog("UPDATE evmig.guard_baseline SET gone_at = pg_catalog.now() WHERE entry_id IN"
				" (SELECT e.entry_id FROM (SELECT entry_id, fingerprint, pg_catalog.row_number()"
				" OVER (PARTITION BY fingerprint ORDER BY entry_id) AS n"
				" FROM evmig.guard_baseline WHERE source = $1 AND gone_at IS NULL) e"
				" LEFT JOIN (SELECT f AS fingerprint, pg_catalog.count(*) AS n"
				" FROM pg_catalog.unnest($2) f GROUP BY f) found ON found.fingerprint = e.fingerprint"
				" WHERE e.n > coalesce(found.n, 0))", &args);
	pfree(found);
}

static void
insert_entry(Guard *guard, const GuardFinding *finding, const char *reason, const char *replaced_by,
			 const char *priority)
{
	SqlArgs		args = {0};

	arg_text(&args, finding->fingerprint);
	arg_text(&args, guard->name);
	arg_text(&args, finding->rule->id);
	arg_text(&args, finding->relation);
	arg_text(&args, finding->statement);
	arg_text(&args, reason);
	arg_text(&args, replaced_by);
	arg_text(&args, priority);
	arg_text(&args, GetUserNameFromId(GetUserId(), false));
	spi_catalog("INSERT INTO evmig.guard_baseline (fingerprint, source, rule, relation, statement, reason,"
				" replaced_by, priority, recorded_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", &args);
}

/*
 * Record the findings of a source that are not grandfathered yet; returns how
 * many these are.  Entries of the source whose finding is gone are closed; the
 * others keep reason and priority, and get replaced_by where they had none.
 */
Datum
evmig_guard_baseline_add(PG_FUNCTION_ARGS)
{
	char	   *sql = ARG_TEXT(0);
	char	   *source = required_text(fcinfo, 1, "source");
	char	   *reason = required_text(fcinfo, 2, "reason");
	char	   *replaced_by = ARG_TEXT(3);
	char	   *priority = ARG_TEXT(4);
	int			added = 0;
	Guard	   *guard;
	ListCell   *cell;

	if (sql == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("sql must not be null")));
	check_priority(priority);
	require_writable();
	spi_begin();
	check_replaced_by(replaced_by);
	/* two that add at the same time would record an occurrence twice */
	spi_catalog("LOCK TABLE evmig.guard_baseline IN SHARE ROW EXCLUSIVE MODE", NULL);
	spi_end();

	guard = guard_inspect(sql, strlen(sql), source, "auto");

	spi_begin();
	mark_gone(guard);
	if (replaced_by != NULL)
	{
		SqlArgs		args = {0};

		arg_text(&args, source);
		arg_text(&args, replaced_by);
		spi_catalog("UPDATE evmig.guard_baseline SET replaced_by = $2"
					" WHERE source = $1 AND gone_at IS NULL AND replaced_by IS NULL", &args);
	}
	foreach(cell, guard->findings)
	{
		GuardFinding *finding = lfirst(cell);

		if (finding->allowed || finding->grandfathered)
			continue;
		insert_entry(guard, finding, reason, replaced_by, priority);
		added++;
	}
	spi_end();
	PG_RETURN_INT32(added);
}

/* ---- the report ---- */

Datum
evmig_guard_baseline_report(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	spi_begin();
	spi_catalog("SELECT p.priority,"
				" pg_catalog.count(b.entry_id) FILTER (WHERE b.gone_at IS NULL),"
				" pg_catalog.count(b.replaced_by) FILTER (WHERE b.gone_at IS NULL),"
				" pg_catalog.count(b.gone_at)"
				" FROM (VALUES (1, 'high'), (2, 'medium'), (3, 'low')) p (n, priority)"
				" LEFT JOIN evmig.guard_baseline b ON b.priority = p.priority"
				" GROUP BY p.n, p.priority ORDER BY p.n", NULL);
	for (uint64 row = 0; row < spi_nrows(); row++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = CStringGetTextDatum(spi_text(row, 0));
		for (int i = 1; i < 4; i++)
			values[i] = Int64GetDatum(spi_int8(row, i));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	spi_end();
	return (Datum) 0;
}

/* How many statements of a source were inspected, for audits. */
Datum
evmig_guard_statements(PG_FUNCTION_ARGS)
{
	char	   *lang = ARG_TEXT(2);

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("sql must not be null")));
	PG_RETURN_INT32(guard_inspect_bytes(PG_GETARG_BYTEA_PP(0), ARG_TEXT(1), lang ? lang : "auto")->statements);
}
