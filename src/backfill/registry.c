/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  Registered backfills: evmig.backfill.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "backfill/registry.h"
#include "base/lock.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "job/job.h"
#include "job/pace.h"

PG_FUNCTION_INFO_V1(evmig_backfill_register);
PG_FUNCTION_INFO_V1(evmig_backfill_replace);
PG_FUNCTION_INFO_V1(evmig_backfill_register_call);
PG_FUNCTION_INFO_V1(evmig_backfill_replace_call);
PG_FUNCTION_INFO_V1(evmig_backfill_unregister);
PG_FUNCTION_INFO_V1(evmig_backfill_set);

/*
 * Columns of evmig.backfill, in the order of Backfill and of every statement
 * here.  Its settings are not among them: they outlive a replaced definition.
 */
#define COLUMNS "name, target, owner, set_list, routine, where_clause, search_path, priority," \
	" tenant_column, batch_size, sleep_ms, adaptive, workers, max_failures, undo, description"

/* ---- reading ---- */

static void
no_such_backfill(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("backfill \"%s\" does not exist", name),
			 errhint("SELECT name FROM evmig.backfill shows the ones that you may see.")));
}

static bool
owns_table(Oid relid, Oid role)
{
	HeapTuple	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		owns;

	if (!HeapTupleIsValid(tup))
		return false;
	owns = has_privs_of_role(role, ((Form_pg_class) GETSTRUCT(tup))->relowner);
	ReleaseSysCache(tup);
	return owns;
}

bool
backfill_is_ours(const Backfill *backfill)
{
	return has_privs_of_role(GetUserId(), backfill->owner) ||
		owns_table(backfill->target, GetUserId());
}

/* The row of that name, locked; NULL if there is none. */
static Backfill *
find_backfill(const char *name)
{
	Backfill   *b;
	SqlArgs		args = {0};

	arg_text(&args, name);
	if (spi_catalog("SELECT name, target::oid, owner::oid, set_list, routine, where_clause, search_path, priority,"
					" tenant_column::text, batch_size, sleep_ms, adaptive, workers, max_failures, undo, description,"
					" settings::text FROM evmig.backfill WHERE name = $1 FOR UPDATE", &args) == 0)
		return NULL;
	b = palloc0(sizeof(Backfill));
	b->name = spi_text(0, 0);
	b->target = spi_oid(0, 1);
	b->owner = spi_oid(0, 2);
	b->set_list = spi_text(0, 3);
	b->routine = spi_text(0, 4);
	b->where_clause = spi_text(0, 5);
	b->search_path = spi_text(0, 6);
	b->priority = spi_text(0, 7);
	b->tenant_column = spi_text(0, 8);
	b->batch_size = (int) spi_int8(0, 9);
	b->sleep_ms = (int) spi_int8(0, 10);
	b->adaptive = spi_bool(0, 11);
	b->workers = (int) spi_int8(0, 12);
	b->max_failures = spi_int8(0, 13);
	b->undo = spi_bool(0, 14);
	b->description = spi_text(0, 15);
	b->settings = spi_text(0, 16);
	return b;
}

Backfill *
backfill_load(const char *name)
{
	Backfill   *backfill = find_backfill(name);

	if (backfill == NULL || !backfill_is_ours(backfill))
		no_such_backfill(name);
	return backfill;
}

int64
backfill_active_job(const char *name, char **state, Oid *run_as)
{
	SqlArgs		args = {0};

	arg_text(&args, name);
	if (spi_catalog("SELECT job_id, state, run_as FROM evmig.job WHERE kind = 'backfill' AND name = $1"
					" AND state IN ('queued', 'running', 'paused')", &args) == 0)
		return 0;
	*state = spi_text(0, 1);
	*run_as = spi_oid(0, 2);
	return spi_int8(0, 0);
}

Oid
routine_resolve(const char *routine)
{
	return DatumGetObjectId(DirectFunctionCall1(regprocedurein,
												CStringGetDatum(psprintf("%s(pg_catalog.regclass, pg_catalog.tid[])",
																		 routine))));
}

int64
count_writes(List *relations)
{
	SqlArgs		args = {0};
	Datum	   *oids = palloc(sizeof(Datum) * Max(list_length(relations), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, relations)
		oids[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	arg_datum(&args, OIDARRAYOID,
			  PointerGetDatum(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT)), false);
	/* xact: what this session has not reported yet */
	spi_catalog("SELECT coalesce(sum(pg_catalog.pg_stat_get_tuples_inserted(r)"
				" + pg_catalog.pg_stat_get_tuples_updated(r)"
				" + pg_catalog.pg_stat_get_tuples_deleted(r)"
				" + pg_catalog.pg_stat_get_xact_tuples_inserted(r)"
				" + pg_catalog.pg_stat_get_xact_tuples_updated(r)"
				" + pg_catalog.pg_stat_get_xact_tuples_deleted(r)), 0)::bigint"
				" FROM pg_catalog.unnest($1) AS r", &args);
	return spi_int8(0, 0);
}

Target *
backfill_resolve(const Backfill *backfill, Definition **definition)
{
	Target	   *target = target_resolve(backfill->target, NULL, NULL,
										TARGET_CHANGE | TARGET_NO_KEY);

	if (!has_privs_of_role(backfill->owner, target->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\", which registered backfill \"%s\", has no longer the rights of the owner of table %s",
						GetUserNameFromId(backfill->owner, true), backfill->name, target->quoted),
				 errhint("Register it again with evmig_backfill_replace.")));
	if (backfill->tenant_column &&
		get_attnum(target->relid, backfill->tenant_column) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist",
						backfill->tenant_column, target->name),
				 errhint("tenant_column names the column that tells whose a row is.")));
	if (backfill->routine)
		(void) routine_resolve(backfill->routine);
	*definition = definition_analyze(target, backfill->set_list, backfill->where_clause,
									 backfill->search_path);
	return target;
}

/* ---- arguments ---- */

static char *
required_text(FunctionCallInfo fcinfo, int n, const char *param)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", param)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static int64
bounded(const char *param, int64 value, int64 min, int64 max, const char *hint)
{
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between %s and %s", param,
						psprintf(INT64_FORMAT, min), psprintf(INT64_FORMAT, max)),
				 hint ? errhint("%s", hint) : 0));
	return value;
}

/* The routine's name as we keep it; raises unless it has the right form. */
static char *
routine_name(Oid routine)
{
	HeapTuple	tup = SearchSysCache1(PROCOID, ObjectIdGetDatum(routine));
	Form_pg_proc form;
	char	   *name;

	if (!HeapTupleIsValid(tup))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", routine)));
	form = (Form_pg_proc) GETSTRUCT(tup);
	if (form->prokind != PROKIND_FUNCTION || form->proretset || form->prorettype != INT8OID ||
		form->pronargs != 2 || form->proargtypes.values[0] != REGCLASSOID ||
		form->proargtypes.values[1] != TIDARRAYOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("routine \"%s\" has the wrong form", NameStr(form->proname)),
				 errhint("It must be a function (regclass, tid[]) that returns bigint: how many of these rows it changed.")));
	name = quote_qualified_identifier(get_namespace_name(form->pronamespace), NameStr(form->proname));
	ReleaseSysCache(tup);
	return name;
}

/* The arguments that all registering functions share. */
static Backfill *
read_arguments(FunctionCallInfo fcinfo, bool call)
{
	Backfill   *b = palloc0(sizeof(Backfill));

	b->name = required_text(fcinfo, 0, "name");
	if (b->name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name must not be empty")));
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null",
						PG_ARGISNULL(1) ? "target" : call ? "routine" : "set_list")));
	b->target = PG_GETARG_OID(1);
	if (call)
		b->routine = routine_name(PG_GETARG_OID(2));
	else
		b->set_list = text_to_cstring(PG_GETARG_TEXT_PP(2));
	b->where_clause = required_text(fcinfo, 3, "where_clause");
	b->priority = required_text(fcinfo, 4, "priority");
	if (strcmp(b->priority, "high") != 0 && strcmp(b->priority, "medium") != 0 &&
		strcmp(b->priority, "low") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown priority: \"%s\"", b->priority),
				 errhint("Priorities are high, medium and low.")));
	b->tenant_column = PG_ARGISNULL(5) ? NULL : pstrdup(NameStr(*PG_GETARG_NAME(5)));
	b->batch_size = bounded("batch_size", PG_ARGISNULL(6) ? 200 : PG_GETARG_INT32(6),
							1, PACE_MAX_ROWS, NULL);
	b->sleep_ms = bounded("sleep_ms", PG_ARGISNULL(7) ? 50 : PG_GETARG_INT32(7),
						  0, 3600 * 1000, NULL);
	b->adaptive = PG_ARGISNULL(8) ? true : PG_GETARG_BOOL(8);
	b->workers = bounded("workers", PG_ARGISNULL(9) ? 1 : PG_GETARG_INT32(9),
						 1, evmig_max_workers, "Raise evmig.max_workers to allow more.");
	b->max_failures = bounded("max_failures", PG_ARGISNULL(10) ? 0 : PG_GETARG_INT64(10),
							  0, PG_INT64_MAX, NULL);
	b->undo = PG_ARGISNULL(11) ? false : PG_GETARG_BOOL(11);
	if (call && b->undo)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("undo is not supported for a routine"),
				 errdetail("What a routine changes is not known.")));
	b->description = PG_ARGISNULL(12) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(12));
	b->owner = GetUserId();
	b->search_path = definition_path();
	return b;
}

/* ---- writing ---- */

static void
arg_backfill(SqlArgs *args, const Backfill *b)
{
	arg_text(args, b->name);
	arg_oid(args, b->target);
	arg_oid(args, b->owner);
	arg_text(args, b->set_list);
	arg_text(args, b->routine);
	arg_text(args, b->where_clause);
	arg_text(args, b->search_path);
	arg_text(args, b->priority);
	arg_text(args, b->tenant_column);
	arg_int4(args, b->batch_size);
	arg_int4(args, b->sleep_ms);
	arg_bool(args, b->adaptive);
	arg_int4(args, b->workers);
	arg_int8(args, b->max_failures);
	arg_bool(args, b->undo);
	arg_text(args, b->description);
}

#define VALUES "$1, $2::regclass, $3::regrole, $4, $5, $6, $7, $8, $9::name, $10, $11, $12, $13, $14, $15, $16"

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
same_backfill(const Backfill *a, const Backfill *b)
{
	return a->target == b->target &&
		same_text(a->set_list, b->set_list) && same_text(a->routine, b->routine) &&
		same_text(a->where_clause, b->where_clause) &&
		same_text(a->search_path, b->search_path) &&
		same_text(a->priority, b->priority) &&
		same_text(a->tenant_column, b->tenant_column) &&
		a->batch_size == b->batch_size && a->sleep_ms == b->sleep_ms &&
		a->adaptive == b->adaptive && a->workers == b->workers &&
		a->max_failures == b->max_failures && a->undo == b->undo &&
		same_text(a->description, b->description);
}

static void
refuse_while_running(const char *name, const char *what)
{
	char	   *state;
	Oid			run_as;
	int64		job = backfill_active_job(name, &state, &run_as);

	if (job != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot %s backfill \"%s\" while job " INT64_FORMAT " is %s",
						what, name, job, state),
				 errhint("CALL evmig_wait(" INT64_FORMAT "), or SELECT evmig_job_cancel(" INT64_FORMAT ").",
						 job, job)));
}

/* Register a definition that is not there yet; the same again is no error. */
static void
register_backfill(Backfill *backfill)
{
	SqlArgs		args = {0};
	Definition *definition;
	Backfill   *old;

	(void) backfill_resolve(backfill, &definition);
	(void) job_role(backfill->target);
	spi_begin();
	arg_backfill(&args, backfill);
	if (spi_catalog("INSERT INTO evmig.backfill (" COLUMNS ") VALUES (" VALUES ")"
					" ON CONFLICT (name) DO NOTHING RETURNING 1", &args) == 0)
	{
		old = find_backfill(backfill->name);
		if (old == NULL || !backfill_is_ours(old) || !same_backfill(old, backfill))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("backfill \"%s\" is registered with another definition", backfill->name),
					 errhint("Use evmig_backfill_replace to change it.")));
	}
	spi_end();
}

static void
replace_backfill(Backfill *backfill)
{
	SqlArgs		args = {0};
	Definition *definition;

	spi_begin();
	(void) backfill_load(backfill->name);
	refuse_while_running(backfill->name, "replace");
	(void) backfill_resolve(backfill, &definition);
	(void) job_role(backfill->target);
	arg_backfill(&args, backfill);
	spi_catalog("UPDATE evmig.backfill SET (" COLUMNS ", registered_at) = (" VALUES
				", pg_catalog.clock_timestamp()) WHERE name = $1", &args);
	spi_end();
}

/* ---- SQL functions ---- */

/*
 * evmig_backfill_register(name, target, set_list, where_clause, ...)
 *
 * Remember what "UPDATE target SET set_list WHERE where_clause" does under a
 * name.  Changes no row.  Takes ROW EXCLUSIVE on the target for its own
 * transaction.  Raises what the server raises about the two texts, with the
 * position in them.
 */
Datum
evmig_backfill_register(PG_FUNCTION_ARGS)
{
	register_backfill(read_arguments(fcinfo, false));
	PG_RETURN_VOID();
}

/* The same for an existing name; object_in_use while a job of it runs. */
Datum
evmig_backfill_replace(PG_FUNCTION_ARGS)
{
	replace_backfill(read_arguments(fcinfo, false));
	PG_RETURN_VOID();
}

/* evmig_backfill_register_call(name, target, routine, where_clause, ...) */
Datum
evmig_backfill_register_call(PG_FUNCTION_ARGS)
{
	register_backfill(read_arguments(fcinfo, true));
	PG_RETURN_VOID();
}

Datum
evmig_backfill_replace_call(PG_FUNCTION_ARGS)
{
	replace_backfill(read_arguments(fcinfo, true));
	PG_RETURN_VOID();
}

/* evmig_backfill_unregister(name): forget it; its jobs stay in evmig_jobs. */
Datum
evmig_backfill_unregister(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SqlArgs		args = {0};

	require_writable();
	spi_begin();
	(void) backfill_load(name);
	refuse_while_running(name, "unregister");
	arg_text(&args, name);
	spi_catalog("DELETE FROM evmig.backfill WHERE name = $1", &args);
	spi_end();
	PG_RETURN_VOID();
}

/* ---- settings ---- */

/*
 * Settings that have a column: they are registered with the definition.  The
 * column and its value; false for any other setting.  value NULL: the default.
 */
static bool
registered_setting(const char *name, const char *value, const char **column, char **number)
{
	int			rows = 200;
	int			ms = 50;
	bool		adaptive = true;

	/* SET would take the value, so it can be parsed */
	if (strcmp(name, "evmig.batch_size") == 0)
	{
		*column = "batch_size";
		if (value)
			(void) parse_int(value, &rows, 0, NULL);
		*number = psprintf("%d", rows);
	}
	else if (strcmp(name, "evmig.batch_sleep") == 0)
	{
		*column = "sleep_ms";
		if (value)
			(void) parse_int(value, &ms, GUC_UNIT_MS, NULL);
		*number = psprintf("%d", ms);
	}
	else if (strcmp(name, "evmig.adaptive") == 0)
	{
		*column = "adaptive";
		if (value)
			(void) parse_bool(value, &adaptive);
		*number = adaptive ? "true" : "false";
	}
	else
		return false;
	return true;
}

/*
 * evmig_backfill_set(name text, setting text, value text) returns void
 *
 * Give the jobs that a backfill will start a setting of their own; NULL takes it
 * back.  Raises what SET would raise.
 */
Datum
evmig_backfill_set(PG_FUNCTION_ARGS)
{
	char	   *value = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char	   *backfill = required_text(fcinfo, 0, "name");
	char	   *name;
	const char *column;
	char	   *number;
	SqlArgs		args = {0};

	require_writable();
	name = job_check_setting(required_text(fcinfo, 1, "setting"), value);
	spi_begin();
	(void) backfill_load(backfill);
	arg_text(&args, backfill);
	if (registered_setting(name, value, &column, &number))
	{
		arg_text(&args, column);
		arg_text(&args, number);
		spi_catalog("UPDATE evmig.backfill SET"
					" batch_size = CASE $2 WHEN 'batch_size' THEN $3::int ELSE batch_size END,"
					" sleep_ms = CASE $2 WHEN 'sleep_ms' THEN $3::int ELSE sleep_ms END,"
					" adaptive = CASE $2 WHEN 'adaptive' THEN $3::boolean ELSE adaptive END"
					" WHERE name = $1", &args);
	}
	else
	{
		arg_text(&args, name);
		arg_text(&args, value);
		spi_catalog("UPDATE evmig.backfill SET settings = CASE WHEN $3 IS NULL THEN settings - $2"
					" ELSE settings || pg_catalog.jsonb_build_object($2, $3) END WHERE name = $1", &args);
	}
	spi_end();
	PG_RETURN_VOID();
}
