/*-------------------------------------------------------------------------
 *
 * migration.c
 *	  Registered schema migrations: evmig.migration.
 *
 * A migration's text runs with the rights of who deploys it.  So nobody's text
 * is run by a role that may do more than who registered it: see
 * require_trust() in attempt.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "backfill/definition.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "deploy/deploy.h"
#include "evmig.h"
#include "guard/guard.h"
#include "guard/rules.h"

#define SHOWN_FINDINGS 10

/* of a text, as text */
#define CHECKSUM(text) "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(" text ", 'UTF8')), 'hex')"

PG_FUNCTION_INFO_V1(evmig_migration_register);
PG_FUNCTION_INFO_V1(evmig_migration_unregister);
PG_FUNCTION_INFO_V1(evmig_migration_baseline);

char *
required_text(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

void
require_deployer(void)
{
	AclResult	result = compat_database_aclcheck(MyDatabaseId, GetUserId(), ACL_CREATE);

	if (result != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to deploy to this database"),
				 errdetail("It needs the privilege CREATE on the database."),
				 errhint("GRANT CREATE ON DATABASE ... TO %s.",
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

List *
pending_migrations(void)
{
	SqlArgs		none = {0};
	List	   *list = NIL;
	uint64		n;

	n = spi_catalog("SELECT version FROM evmig.migration WHERE state = 'pending' ORDER BY version_key", &none);
	for (uint64 i = 0; i < n; i++)
		list = lappend(list, spi_text(i, 0));
	return list;
}

/* ---- the guard at the door ---- */

#define BACKFILL_LANE "It belongs in the backfills' lane: evmig_backfill_register()."
#define INDEX_LANE "It belongs in the indexes' lane: evmig_index_register()."
#define DROP_LANE "It belongs in the indexes' lane: evmig_index_unregister(name, drop_index => true)."
#define BY_HAND "Run it by hand, CONCURRENTLY: each migration is a transaction."
#define NEXT "Put it into the next migration, which has a transaction of its own."
#define ITS_INDEX "The index belongs in the indexes' lane: evmig_index_register(); a later migration adds the constraint USING INDEX."

/*
 * What to do about a finding, where the guard's own advice is none for a
 * migration: it says CONCURRENTLY, or COMMIT.
 */
static const struct
{
	const char *rule;
	const char *start;			/* of the message; NULL: any */
	const char *advice;
}			advices[] =
{
	{"index-not-concurrent", NULL, INDEX_LANE},
	{"concurrently-in-tx", "CREATE INDEX ", INDEX_LANE},
	{"drop-index-not-concurrent", NULL, DROP_LANE},
	{"concurrently-in-tx", "DROP INDEX ", DROP_LANE},
	{"concurrently-in-tx", NULL, BY_HAND},
	{"reindex-not-concurrent", NULL, BY_HAND},
	{"partition-detach", NULL, BY_HAND},
	{"enum-add-value-in-tx", NULL, NEXT},
	{"validate-in-same-tx", NULL, NEXT},
	{"add-primary-key", NULL, ITS_INDEX},
	{"add-unique-constraint", NULL, ITS_INDEX},
};

/* NULL where the guard has one that serves */
static const char *
advice_on(const GuardFinding *f)
{
	if (strncmp(f->rule->id, "data-", 5) == 0)
		return BACKFILL_LANE;
	for (int i = 0; i < lengthof(advices); i++)
		if (strcmp(advices[i].rule, f->rule->id) == 0 &&
			(advices[i].start == NULL || strncmp(advices[i].start, f->message, strlen(advices[i].start)) == 0))
			return advices[i].advice;
	return NULL;
}

/* As the deployment runs it: in one transaction, with a lock_timeout. */
static Guard *
inspect(const char *version, const char *sql)
{
	Guard	   *guard = guard_begin(sql, strlen(sql), psprintf("migration %s", version));

	guard->tx.open = true;
	guard->tx.lock_timeout = evmig_ddl_lock_timeout;
	guard_run(guard, "sql");
	return guard;
}

/* Raise one error that lists what the guard found new. */
static void
refuse_findings(const char *version, Guard *guard)
{
	StringInfoData detail;
	StringInfoData hint;
	int			n = 0;
	bool		data = false;
	bool		index = false;
	ListCell   *lc;

	initStringInfo(&detail);
	initStringInfo(&hint);
	foreach(lc, guard->findings)
	{
		GuardFinding *f = lfirst(lc);
		const char *advice = advice_on(f);
		int			line;
		int			col;

		if (f->severity != GUARD_ERROR || f->allowed || f->grandfathered)
			continue;
		data = data || (advice && strcmp(advice, BACKFILL_LANE) == 0);
		index = index || (advice && strstr(advice, "evmig_index_register"));
		if (++n > SHOWN_FINDINGS)
			continue;
		guard_line_col(guard, f->offset, &line, &col);
		appendStringInfo(&detail, "%sLine %d, column %d: %s (%s).", detail.len ? "\n" : "",
						 line, col, f->message, f->rule->id);
		if (advice)
			appendStringInfo(&detail, " %s", advice);
		else if (f->hint)
			appendStringInfo(&detail, " %s", f->hint);
	}
	if (n == 0)
		return;
	if (n > SHOWN_FINDINGS)
		appendStringInfo(&detail, "\nAnd %d more.", n - SHOWN_FINDINGS);
	appendStringInfoString(&hint, "A migration changes the schema and nothing else.");
	if (data)
		appendStringInfoString(&hint, " Register data changes with evmig_backfill_register().");
	if (index)
		appendStringInfoString(&hint, " Register indexes with evmig_index_register().");
	ereport(ERROR,
			(errcode(ERRCODE_EVMIG_GUARD),
			 errmsg("migration \"%s\" is refused by the guard", version),
			 errdetail_internal("%s", detail.data),
			 errhint("%s", hint.data)));
}

/* Does the server refuse it in a transaction block?  The guard knows what says CONCURRENTLY. */
static bool
needs_own_transaction(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_VacuumStmt:
			return ((VacuumStmt *) stmt)->is_vacuumcmd;
		case T_ClusterStmt:
			return ((ClusterStmt *) stmt)->relation == NULL;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterSystemStmt:
			return true;
		default:
			return false;
	}
}

/*
 * A migration's transaction is the deployment's: refuse what would end it, in
 * the parser's own reading.  Syntax errors point into the text.
 */
static void
check_statements(const char *version, const char *sql)
{
	ArgumentContext argument;
	List	   *statements;
	ListCell   *lc;

	argument_begin(&argument, "sql", sql);
	statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	argument_end(&argument);
	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("migration \"%s\" has no statement", version)));
	foreach(lc, statements)
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		if (IsA(raw->stmt, TransactionStmt))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("migration \"%s\" controls its transaction itself", version),
					 errdetail("Each migration runs in a transaction of its own."),
					 errhint("Leave BEGIN, COMMIT and their kin out.")));
		if (IsA(raw->stmt, CopyStmt) && ((CopyStmt *) raw->stmt)->filename == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("COPY %s cannot run in migration \"%s\"",
							((CopyStmt *) raw->stmt)->is_from ? "FROM STDIN" : "TO STDOUT", version),
					 errdetail("A migration has no client to exchange data with."),
					 errhint("A migration changes the schema and nothing else.")));
		if (needs_own_transaction(raw->stmt))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s cannot run in migration \"%s\"",
							GetCommandTagName(CreateCommandTag(raw->stmt)), version),
					 errdetail("Each migration runs in a transaction, and this statement needs to be outside of one."),
					 errhint("Run it by hand.")));
	}
}

/* ---- registering ---- */

/* A pending text may be replaced by who could run it. */
static void
require_registrant(const char *version, Oid owner)
{
	if (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)) && !has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("migration \"%s\" was registered by role \"%s\"", version,
						GetUserNameFromId(owner, false)),
				 errhint("Use another version, or do it as a member of that role.")));
}

typedef enum Registered
{
	REGISTERED_NOT,
	REGISTERED_SAME,
	REGISTERED_OTHER			/* pending, and ours to replace */
} Registered;

/* What is there under this version, locked; raises where its text is final, or somebody else's. */
static Registered
find_registered(const char *version, const char *key, const char *sql)
{
	SqlArgs		args = {0};
	Oid			owner;

	arg_text(&args, key);
	arg_text(&args, sql);
	if (spi_catalog("SELECT version, state, sql IS NOT DISTINCT FROM $2, applied_at::text, owner::oid, sql IS NULL"
					" FROM evmig.migration WHERE version_key = $1 FOR UPDATE", &args) == 0)
		return REGISTERED_NOT;
	if (strcmp(spi_text(0, 0), version) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("version \"%s\" is the same as \"%s\"", version, spi_text(0, 0)),
				 errdetail("Leading zeros of a number do not count.")));
	owner = spi_oid(0, 4);
	if (spi_bool(0, 2))
		return strcmp(spi_text(0, 1), "pending") != 0 || SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)) ?
			REGISTERED_SAME : REGISTERED_OTHER;
	if (spi_bool(0, 5))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("migration \"%s\" was adopted without a text", version),
				 errdetail("Another tool had applied it; it is adopted since %s.", spi_text(0, 3)),
				 errhint("Register newer versions.")));
	if (strcmp(spi_text(0, 1), "pending") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("migration \"%s\" was applied with another text", version),
				 errdetail("It is %s since %s; a text is final then.", spi_text(0, 1), spi_text(0, 3)),
				 errhint("Register a new version that changes what this one did.")));
	require_registrant(version, owner);
	return REGISTERED_OTHER;
}

/* Write it down; false: somebody else has registered it meanwhile. */
static bool
write_migration(Registered found, const char *version, const char *key, const char *sql, const char *description)
{
	SqlArgs		args = {0};

	arg_text(&args, version);
	arg_text(&args, sql);
	arg_text(&args, description);
	arg_oid(&args, GetUserId());
	arg_text(&args, definition_path());
	if (found == REGISTERED_OTHER)
		return spi_catalog("UPDATE evmig.migration SET sql = $2, checksum = " CHECKSUM("$2") ", description = $3,"
						   " owner = $4::regrole, search_path = $5, registered_at = pg_catalog.clock_timestamp()"
						   " WHERE version = $1 RETURNING version", &args) > 0;
	arg_text(&args, key);
	return spi_catalog("INSERT INTO evmig.migration (version, sql, checksum, description, owner, search_path, version_key)"
					   " VALUES ($1, $2, " CHECKSUM("$2") ", $3, $4::regrole, $5, $6)"
					   " ON CONFLICT DO NOTHING RETURNING version", &args) > 0;
}

static void
refuse_out_of_order(const char *version, const char *key)
{
	SqlArgs		args = {0};

	arg_text(&args, key);
	if (spi_catalog("SELECT version FROM evmig.migration WHERE state <> 'pending'"
					" AND version_key > $1 ORDER BY version_key DESC LIMIT 1", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("migration \"%s\" is older than \"%s\", which is applied already",
						version, spi_text(0, 0)),
				 errhint("Give it a newer version, or say out_of_order => true.")));
}

/*
 * evmig_migration_register(version text, sql text, description text,
 * out_of_order boolean) returns boolean
 *
 * Register a schema migration that the guard lets pass; false where the same
 * text is there already.  Runs nothing; takes a lock on its row only.
 */
Datum
evmig_migration_register(PG_FUNCTION_ARGS)
{
	char	   *version;
	char	   *sql;
	char	   *key;
	Registered	found;
	bool		inspected = false;

	version = required_text(fcinfo, 0, "version");
	sql = required_text(fcinfo, 1, "sql");
	key = version_key(version);
	require_deployer();
	require_writable();
	spi_begin();

	/*
	 * No limit: once more only where somebody has registered this version
	 * since we looked, and that row is what we find and lock then, unless it
	 * is gone again.
	 */
	do
	{
		found = find_registered(version, key, sql);
		if (found == REGISTERED_SAME)
			break;
		if (PG_ARGISNULL(3) || !PG_GETARG_BOOL(3))
			refuse_out_of_order(version, key);
		if (!inspected)
		{
			refuse_findings(version, inspect(version, sql));
			check_statements(version, sql);
			inspected = true;
		}
	} while (!write_migration(found, version, key, sql, ARG_TEXT(2)));
	spi_end();
	PG_RETURN_BOOL(found != REGISTERED_SAME);
}

/*
 * evmig_migration_unregister(version text) returns void
 *
 * Forget a pending migration of ours.  Waits for a deployment that is just
 * applying it.
 */
Datum
evmig_migration_unregister(PG_FUNCTION_ARGS)
{
	char	   *version = required_text(fcinfo, 0, "version");
	SqlArgs		args = {0};

	require_deployer();
	require_writable();
	spi_begin();
	arg_text(&args, version);
	if (spi_catalog("SELECT state, owner::oid, applied_at::text FROM evmig.migration WHERE version = $1 FOR UPDATE",
					&args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("migration \"%s\" is not registered", version),
				 errhint("SELECT version FROM evmig.migration shows the ones that you may see.")));
	if (strcmp(spi_text(0, 0), "pending") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("migration \"%s\" is not pending any more", version),
				 errdetail("It is %s since %s, and stays on record.", spi_text(0, 0), spi_text(0, 2)),
				 errhint("Register a new version that undoes what this one did.")));
	require_registrant(version, spi_oid(0, 1));
	spi_catalog("DELETE FROM evmig.migration WHERE version = $1", &args);
	spi_end();
	PG_RETURN_VOID();
}

/* Nobody takes others' pending migrations for applied, which would never run then. */
static void
require_pending_ours(const char *key)
{
	SqlArgs		args = {0};

	arg_text(&args, key);
	arg_oid(&args, GetUserId());
	if (spi_catalog("SELECT version, owner FROM evmig.migration WHERE state = 'pending' AND version_key <= $1"
					" AND NOT pg_catalog.pg_has_role($2, owner, 'USAGE') ORDER BY version_key LIMIT 1", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("migration \"%s\" was registered by role \"%s\"", spi_text(0, 0), spi_text(0, 1)),
				 errdetail("It is pending, and would count as applied."),
				 errhint("Call it as a member of that role.")));
}

/*
 * evmig_migration_baseline(up_to text) returns int
 *
 * Take the migrations up to this version as applied by another tool; returns
 * how many registered ones that were pending.
 */
Datum
evmig_migration_baseline(PG_FUNCTION_ARGS)
{
	char	   *version = required_text(fcinfo, 0, "up_to");
	char	   *key = version_key(version);
	SqlArgs		args = {0};
	int64		n;

	require_deployer();
	require_writable();
	spi_begin();
	require_pending_ours(key);
	arg_text(&args, version);
	arg_text(&args, key);
	arg_oid(&args, GetUserId());
	arg_text(&args, definition_path());
	n = (int64) spi_catalog("UPDATE evmig.migration SET state = 'adopted', applied_at = pg_catalog.clock_timestamp(),"
							" applied_by = $3::regrole::text WHERE state = 'pending' AND version_key <= $2"
							" AND $1 IS NOT NULL AND $4 IS NOT NULL", &args);
	spi_catalog("INSERT INTO evmig.migration (version, version_key, owner, search_path, state, applied_at, applied_by)"
				" VALUES ($1, $2, $3::regrole, $4, 'adopted', pg_catalog.clock_timestamp(), $3::regrole::text)"
				" ON CONFLICT (version_key) DO NOTHING", &args);
	spi_end();
	PG_RETURN_INT32((int32) n);
}
