/*-------------------------------------------------------------------------
 *
 * preflight.c
 *	  May this table be repaired here and now?
 *
 * A table of checks, each of them measured.  What a check raises is reported
 * as its failure, so a bad target gives rows and not an error; the same code
 * that would refuse the step says what is wrong.  Then come the questions
 * that only a person can answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "runbook/preflight.h"

PG_FUNCTION_INFO_V1(evmig_preflight);

typedef enum Needs
{
	NEEDS_NOTHING,
	NEEDS_TABLE,				/* one that can be a target */
	NEEDS_KEY					/* and its key column */
} Needs;

typedef struct PreflightCheck
{
	const char *name;
	Needs		needs;
	PreflightMeasure measure;
} PreflightCheck;

/* in the order of the report; later ones use what earlier ones found */
static const PreflightCheck checks[] = {
	{"table", NEEDS_NOTHING, preflight_table},
	{"privileges", NEEDS_TABLE, preflight_privileges},
	{"key_type", NEEDS_TABLE, preflight_key_type},
	{"order_column", NEEDS_TABLE, preflight_order_column},
	{"row_level_security", NEEDS_TABLE, preflight_row_security},
	{"archive_name", NEEDS_TABLE, preflight_archive_name},
	{"jobs", NEEDS_TABLE, preflight_jobs},
	{"server", NEEDS_NOTHING, preflight_server},
	{"pgcrypto", NEEDS_NOTHING, preflight_pgcrypto},
	{"background_workers", NEEDS_NOTHING, preflight_workers},
	{"long_transactions", NEEDS_NOTHING, preflight_long_transactions},
	{"prepared_transactions", NEEDS_NOTHING, preflight_prepared_transactions},
	{"replication_slots", NEEDS_NOTHING, preflight_slots},
	{"replica_lag", NEEDS_NOTHING, preflight_replicas},
	{"key_indexes", NEEDS_KEY, preflight_key_indexes},
	{"invalid_indexes", NEEDS_TABLE, preflight_invalid_indexes},
	{"foreign_keys", NEEDS_TABLE, preflight_foreign_keys},
	{"user_triggers", NEEDS_TABLE, preflight_triggers},
	{"rules", NEEDS_TABLE, preflight_rules},
	{"publications", NEEDS_TABLE, preflight_publications},
	{CHECK_PLACEHOLDER, NEEDS_KEY, preflight_plausibility},
	{CHECK_GROUP_SIZE, NEEDS_KEY, preflight_plausibility},
	{CHECK_LOSER_SHARE, NEEDS_KEY, preflight_plausibility},
	{"disk_space", NEEDS_KEY, preflight_disk_space},
	{"wal_archiving", NEEDS_NOTHING, preflight_archiving},
	{"change_window", NEEDS_NOTHING, preflight_change_window},
	{"guard", NEEDS_NOTHING, preflight_guard},
};

void
preflight_row(Preflight *p, const char *status, const char *detail, const char *hint)
{
	Datum		values[4] = {0};
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(p->check);
	values[1] = CStringGetTextDatum(status);
	values[2] = CStringGetTextDatum(detail);
	nulls[3] = hint == NULL;
	if (hint)
		values[3] = CStringGetTextDatum(hint);
	tuplestore_putvalues(p->rsinfo->setResult, p->rsinfo->setDesc, values, nulls);
}

/*
 * Is this error a finding?  Not if somebody cancelled the call, the server is
 * in trouble, or we are wrong ourselves.
 */
static bool
is_finding(ErrorData *edata)
{
	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return false;
		default:
			return true;
	}
}

typedef struct CheckCall
{
	Preflight  *preflight;
	const PreflightCheck *check;
} CheckCall;

static void
measure(void *arg)
{
	CheckCall  *call = arg;

	spi_begin();
	call->check->measure(call->preflight);
	spi_end();
}

/* Run one check; what it raises becomes its row. */
static void
run_check(Preflight *p, const PreflightCheck *check)
{
	CheckCall	call = {p, check};
	ErrorData  *error;

	p->check = check->name;
	if ((check->needs >= NEEDS_TABLE && p->table == NULL) ||
		(check->needs >= NEEDS_KEY && p->target == NULL))
	{
		preflight_row(p, FAIL, psprintf("not measured: the %s is not fit",
										p->table == NULL ? "table" : "key column"),
					  psprintf("See check \"%s\".", p->table == NULL ? "table" : "key_type"));
		return;
	}

	error = subxact_try(measure, &call);
	if (error == NULL)
		return;
	if (!is_finding(error))
		ReThrowError(error);
	preflight_row(p, FAIL, error->detail ?
				  psprintf("%s. %s", error->message, error->detail) : error->message, error->hint);
}

/* The questions of evmig.runbook_item. */
static void
ask(Preflight *p)
{
	char	   *prefix = extension_schema_prefix();

	spi_begin();
	spi_catalog("SELECT name, question FROM evmig.runbook_item"
				" ORDER BY name <> 'restore_point', name", NULL);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		char	   *name = spi_text(i, 0);

		p->check = name;
		preflight_row(p, "manual", spi_text(i, 1),
					  psprintf("SELECT %sevmig_runbook_attest(<runbook>, %s, '<what was looked at, and where>'%s);",
							   prefix, quote_literal_cstr(name),
							   strcmp(name, "restore_point") == 0 ? ", kept_until => '<time>'" : ""));
	}
	spi_end();
}

/*
 * evmig_preflight(target regclass, key_column name, order_column name)
 * returns setof record
 *
 * Reads only: ACCESS SHARE on the table, which is read once.  Raises
 * undefined_table for a table that does not exist; everything else is a row.
 */
Datum
evmig_preflight(PG_FUNCTION_ARGS)
{
	Preflight	p = {0};

	p.relid = target_relid(ARG_RELID(0));
	p.key_name = ARG_NAME(1);
	p.order_name = ARG_NAME(2);
	p.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	InitMaterializedSRF(fcinfo, 0);

	for (int i = 0; i < lengthof(checks); i++)
		run_check(&p, &checks[i]);
	ask(&p);
	return (Datum) 0;
}
