/*-------------------------------------------------------------------------
 *
 * runbook.c
 *	  Open a runbook: measure, decide the path, write both down.
 *
 * evmig.runbook holds where a runbook stands; why it stands there is in
 * evmig.runbook_event.  Roles and tables are remembered by name too, which
 * a dump and restore keeps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "base/subxact.h"
#include "evmig.h"
#include "runbook/event.h"
#include "runbook/limits.h"
#include "runbook/runbook.h"

PG_FUNCTION_INFO_V1(evmig_runbook_open);

compat_noreturn static void no_such_runbook(int64 id);

/* ---- reading ---- */

static void
no_such_runbook(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("runbook " INT64_FORMAT " does not exist", id),
			 errhint("SELECT * FROM evmig.runbook shows the runbooks that you may see.")));
}

static Oid
table_by_name(const char *schema, const char *name)
{
	Oid			nsp = get_namespace_oid(schema, true);

	return OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;
}

/*
 * As the policy on evmig.runbook: whoever opened it, the table's owner, and
 * whom no policy binds, also when role and table are gone.
 */
static bool
may_see(const char *owner, const char *schema, const char *name)
{
	Oid			role = get_role_oid(owner, true);
	Oid			relid;
	HeapTuple	tup;
	bool		may;

	if (has_bypassrls_privilege(GetUserId()) ||
		(OidIsValid(role) && has_privs_of_role(GetUserId(), role)))
		return true;
	relid = table_by_name(schema, name);
	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tup))
		return false;
	may = has_privs_of_role(GetUserId(), ((Form_pg_class) GETSTRUCT(tup))->relowner);
	ReleaseSysCache(tup);
	return may;
}

#define RUNBOOK_COLUMNS \
	"target_schema::text, target_name::text, target, key_column::text, order_column::text," \
	" mode, generator, extension, harden, app_version, direct, path, state," \
	" opened_by::text, opened_at, approved_by::text, approved_at, rows_to_remove, owner::text"

Runbook *
runbook_load(int64 id, bool lock)
{
	Runbook    *rb = palloc0(sizeof(Runbook));
	SqlArgs		args = {0};

	arg_int8(&args, id);
	if (spi_catalog(lock
					? "SELECT " RUNBOOK_COLUMNS " FROM evmig.runbook WHERE runbook_id = $1 FOR UPDATE"
					: "SELECT " RUNBOOK_COLUMNS " FROM evmig.runbook WHERE runbook_id = $1",
					&args) == 0 ||
		!may_see(spi_text(0, 18), spi_text(0, 0), spi_text(0, 1)))
		no_such_runbook(id);

	rb->id = id;
	rb->schema = spi_text(0, 0);
	rb->name = spi_text(0, 1);
	rb->quoted = quote_qualified_identifier(rb->schema, rb->name);
	rb->target = spi_oid(0, 2);
	rb->key = spi_text(0, 3);
	rb->order = spi_text(0, 4);
	rb->mode = spi_text(0, 5);
	rb->generator = spi_text(0, 6);
	rb->extension = spi_text(0, 7);
	rb->harden = spi_bool(0, 8);
	rb->app_version = spi_text(0, 9);
	rb->direct = spi_bool(0, 10);
	rb->path = spi_text(0, 11)[0];
	rb->state = spi_text(0, 12);
	rb->opened_by = spi_text(0, 13);
	rb->opened_at = spi_time(0, 14);
	rb->approved_by = spi_text(0, 15);
	rb->approved_at = spi_time(0, 16);
	rb->rows_to_remove = spi_int8(0, 17);
	return rb;
}

Target *
runbook_target(Runbook *rb, int flags)
{
	Oid			relid = table_by_name(rb->schema, rb->name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %s of runbook " INT64_FORMAT " does not exist", rb->quoted, rb->id)));
	if (relid != rb->target)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s is not the one that runbook " INT64_FORMAT " was opened for",
						rb->quoted, rb->id),
				 errdetail("It was dropped and created, or renamed and replaced, since."),
				 errhint("Open a new runbook.")));
	return target_resolve(relid, rb->key, rb->order, flags);
}

void
runbook_set_state(Runbook *rb, const char *state)
{
	SqlArgs		args = {0};

	arg_int8(&args, rb->id);
	arg_text(&args, state);
	spi_catalog("UPDATE evmig.runbook SET state = $2,"
				" started_at = CASE WHEN $2 = 'executing' THEN coalesce(started_at, pg_catalog.clock_timestamp())"
				"  ELSE started_at END,"
				" finished_at = CASE WHEN $2 IN ('succeeded', 'rolled back')"
				"  THEN pg_catalog.clock_timestamp() ELSE finished_at END"
				" WHERE runbook_id = $1", &args);
	rb->state = pstrdup(state);
}

/* ---- measuring ---- */

static void
arg_target(SqlArgs *args, Target *target)
{
	arg_oid(args, target->relid);
	arg_text(args, target->key.name);
	arg_text(args, target->order.name);
}

void
runbook_measure(Target *target, Measured *m)
{
	SqlArgs		args = {0};
	SqlArgs		preflight = {0};
	char	   *prefix = extension_schema_prefix();
	StringInfoData buf;

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	spi_run(psprintf("SELECT total_events, null_request_ids, duplicate_count, duplicate_rows"
					 " FROM %sevmig_audit($1::pg_catalog.regclass, $2::pg_catalog.name)", prefix), &args);
	m->total = spi_int8(0, 0);
	m->nulls = spi_int8(0, 1);
	m->groups = spi_int8(0, 2);
	m->losers = spi_int8(0, 3);
	json_begin(&buf);
	json_int8(&buf, "total_events", m->total);
	json_int8(&buf, "null_request_ids", m->nulls);
	json_int8(&buf, "duplicate_count", m->groups);
	json_int8(&buf, "duplicate_rows", m->losers);
	m->audit = json_end(&buf);

	arg_target(&preflight, target);
	spi_run(psprintf("SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
					 "'check', check_name, 'status', status, 'detail', detail, 'hint', hint)), '[]')"
					 "::pg_catalog.text FROM %sevmig_preflight($1::pg_catalog.regclass,"
					 " $2::pg_catalog.name, $3::pg_catalog.name)", prefix), &preflight);
	m->preflight = spi_text(0, 0);
}

int64
differing_rows(Target *target)
{
	SqlArgs		args = {0};

	arg_target(&args, target);
	spi_run(psprintf("SELECT COALESCE(pg_catalog.sum(differing), 0)::pg_catalog.int8"
					 " FROM %sevmig_duplicates($1::pg_catalog.regclass, $2::pg_catalog.name,"
					 " $3::pg_catalog.name, 2147483647)", extension_schema_prefix()), &args);
	return spi_int8(0, 0);
}

/* Does a row of the referencing table have a value in all columns of the key? */
static bool
has_referencing_rows(Oid child, const char *condition)
{
	SqlArgs		args = {0};

	arg_oid(&args, child);
	spi_run("SELECT pg_catalog.has_table_privilege($1, 'SELECT')"
			" AND NOT pg_catalog.row_security_active($1)", &args);
	if (!spi_bool(0, 0))
		return true;			/* not to be known, so assumed */
	return spi_read(psprintf("SELECT FROM %s WHERE %s", quote_relation(child), condition),
					NULL, 1) > 0;
}

char *
path_b_obstacle(Target *target)
{
	SqlArgs		args = {0};
	uint64		n;
	Oid		   *children;
	char	  **conditions;

	if (spi_read(psprintf("SELECT FROM ONLY %s", target->quoted), NULL, 1) > 0)
		return psprintf("table %s has rows", target->quoted);

	arg_oid(&args, target->relid);
	n = spi_catalog("SELECT c.conrelid, pg_catalog.string_agg("
					" pg_catalog.quote_ident(a.attname) || ' IS NOT NULL', ' AND ')"
					" FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_attribute a"
					"  ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)"
					" WHERE c.contype = 'f' AND c.confrelid = $1 AND c.conrelid <> $1"
					" GROUP BY c.oid, c.conrelid ORDER BY c.oid", &args);
	children = palloc(sizeof(Oid) * Max(n, 1));
	conditions = palloc(sizeof(char *) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		children[i] = spi_oid(i, 0);
		conditions[i] = spi_text(i, 1);
	}
	for (uint64 i = 0; i < n; i++)
		if (has_referencing_rows(children[i], conditions[i]))
			return psprintf("table %s has rows that refer to %s",
							quote_relation(children[i]), target->quoted);
	return NULL;
}

/* ---- opening ---- */

typedef struct GeneratorCall
{
	Target	   *target;
	const char *text;
	bool		with_pgcrypto;
	char	   *canonical;
} GeneratorCall;

static void
read_generator(void *arg)
{
	GeneratorCall *call = arg;

	if (call->with_pgcrypto)
		spi_run("CREATE EXTENSION pgcrypto", NULL);
	call->canonical = target_generator(call->target, call->text);
}

/*
 * The generator's canonical text, or NULL with *error set.  Whatever it did is
 * rolled back, the extension too.
 */
static char *
try_generator(Target *target, const char *text, bool with_pgcrypto, ErrorData **error)
{
	GeneratorCall call = {target, text, with_pgcrypto};

	*error = subxact_probe(read_generator, &call);
	return *error ? NULL : call.canonical;
}

/*
 * The generator as the runbook keeps it: canonical.  One that needs functions
 * of pgcrypto, which is not there yet, stays as it was written; *extension
 * names what the runbook has to create first.
 */
static char *
plan_generator(Target *target, const char *text, char **extension)
{
	ErrorData  *error = NULL;
	ErrorData  *second = NULL;
	char	   *generator = try_generator(target, text, false, &error);

	*extension = NULL;
	if (generator)
		return generator;
	if (error->sqlerrcode == ERRCODE_UNDEFINED_FUNCTION &&
		try_generator(target, text, true, &second) != NULL)
	{
		*extension = "pgcrypto";
		return pstrdup(text);
	}
	if (second && is_cancel(second))
		error = second;
	ReThrowError(error);
	return NULL;				/* not reached */
}

static void
check_mode(const char *mode)
{
	if (mode && strcmp(mode, "archive") != 0 && strcmp(mode, "rekey") != 0 &&
		strcmp(mode, "auto") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode \"%s\"", mode),
				 errhint("Say archive, rekey or auto.")));
}

/* The path that the measured figures allow, as data of an event. */
static char *
decision(Target *target, Measured *m, const char *mode)
{
	char	   *obstacle = path_b_obstacle(target);
	StringInfoData buf;

	json_begin(&buf);
	json_text(&buf, "path", "A");
	json_text(&buf, "reason", m->total > 0
			  ? psprintf("the table has " INT64_FORMAT " rows: nothing may be lost", m->total)
			  : "the non-destructive path is the default, also for an empty table");
	json_bool(&buf, "path_b_possible", obstacle == NULL);
	if (obstacle)
		json_text(&buf, "path_b_obstacle", obstacle);
	json_text(&buf, "mode", mode ? mode : "archive");
	return json_end(&buf);
}

static int64
insert_runbook(Target *target, OpenRequest *request, const char *generator,
			   const char *extension, int64 losers)
{
	SqlArgs		args = {0};

	arg_text(&args, target->schema);
	arg_text(&args, target->name);
	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	arg_text(&args, target->order.name);
	arg_text(&args, request->mode);
	arg_text(&args, generator);
	arg_text(&args, extension);
	arg_bool(&args, request->harden);
	arg_text(&args, request->app_version);
	arg_bool(&args, request->direct);
	arg_text(&args, GetUserNameFromId(GetSessionUserId(), false));
	arg_text(&args, GetUserNameFromId(GetUserId(), false));
	arg_int8(&args, losers);
	spi_catalog("INSERT INTO evmig.runbook (target_schema, target_name, target, key_column,"
				" order_column, mode, generator, extension, harden, app_version, direct,"
				" opened_by, owner, rows_to_remove)"
				" VALUES ($1::name, $2::name, $3, $4::name, $5::name, $6, $7, $8, $9, $10, $11,"
				" $12::name, $13::name, $14) RETURNING runbook_id", &args);
	return spi_int8(0, 0);
}

Target *
runbook_plan(OpenRequest *request, Measured *m, char **generator,
			 char **extension, int64 *differing)
{
	Target	   *target;

	check_mode(request->mode);
	target = target_resolve(request->relid, request->key, request->order,
							TARGET_CHANGE | TARGET_ORDER);
	(void) job_role(target->relid);
	*generator = plan_generator(target, request->generator, extension);
	runbook_measure(target, m);
	*differing = m->losers > 0 ? differing_rows(target) : 0;
	if (request->mode == NULL && *differing > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode must be said: " INT64_FORMAT " of " INT64_FORMAT " duplicates differ from the row that would be kept",
						*differing, m->losers),
				 errdetail("Rows that share a key but not their payload may be different events."),
				 errhint("Look at evmig_duplicates; then say archive (they go to the archive all the same), rekey (each gets a key of its own) or auto (exact repeats are archived, the others re-keyed).")));
	return target;
}

int64
runbook_open(OpenRequest *request)
{
	Measured	m;
	char	   *generator;
	char	   *extension;
	int64		differing;
	Target	   *target = runbook_plan(request, &m, &generator, &extension, &differing);
	int64		id;
	StringInfoData buf;

	id = insert_runbook(target, request, generator, extension, m.losers);
	json_begin(&buf);
	json_text(&buf, "target", target->quoted);
	json_text(&buf, "key_column", target->key.name);
	json_text(&buf, "order_column", target->order.name);
	json_text(&buf, "mode", request->mode);
	json_text(&buf, "generator", generator);
	json_text(&buf, "extension", extension);
	json_bool(&buf, "harden", request->harden);
	json_text(&buf, "app_version", request->app_version);
	json_bool(&buf, "direct", request->direct);
	json_int8(&buf, "differing", differing);
	runbook_event(id, EVENT_OPENED, NULL, 0, json_end(&buf));
	runbook_event(id, EVENT_PREFLIGHT, NULL, 0, m.preflight);
	runbook_event(id, EVENT_AUDIT, "before (opened)", 0, m.audit);
	runbook_event(id, EVENT_DECIDED, NULL, 0, decision(target, &m, request->mode));
	runbook_watch_table(target->relid);
	return id;
}

/*
 * evmig_runbook_open(target regclass, key_column name, order_column name,
 * mode text, harden boolean, app_version text, generator text) returns bigint
 *
 * Open a runbook: run preflight and audit, record both, decide the path.
 * Returns its id.  Takes ACCESS SHARE on the table; changes nothing in it.
 */
Datum
evmig_runbook_open(PG_FUNCTION_ARGS)
{
	OpenRequest request = {0};
	int64		id;

	request.relid = ARG_RELID(0);
	request.key = ARG_NAME(1);
	request.order = ARG_NAME(2);
	request.mode = ARG_TEXT(3);
	request.harden = PG_ARGISNULL(4) || PG_GETARG_BOOL(4);
	request.app_version = ARG_TEXT(5);
	request.generator = ARG_TEXT(6);
	require_writable();
	spi_begin();
	id = runbook_open(&request);
	spi_end();
	PG_RETURN_INT64(id);
}
