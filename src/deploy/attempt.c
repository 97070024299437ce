/*-------------------------------------------------------------------------
 *
 * attempt.c
 *	  One try at a schema migration.
 *
 * All its statements run in one subtransaction, so that an error is caught
 * and lets go of every lock.  How long they wait for locks is lock_time.c's.
 *
 * The text runs as the role that registered it: plainly in a session that
 * logged in as that role, else as a security-restricted operation, so that
 * nothing of it, not even a trigger deferred to the commit, ever runs with
 * the session's rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/privilege.h"
#include "base/spi.h"
#include "base/subxact.h"
#include "deploy/deploy.h"
#include "deploy/lock_time.h"
#include "evmig.h"

#define SHOWN_STATEMENT 500
#define CHECK_CONSTRAINTS "SET CONSTRAINTS ALL IMMEDIATE"

/* a migration as its row has it, which stays locked */
typedef struct Migration
{
	const char *version;
	char	   *sql;
	Oid			owner;
	char	   *search_path;
	RawStmt    *statement;		/* at hand */
	char	   *text;			/* of it */
	const char *stage;			/* without one: what was done */
} Migration;

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

/* ---- the text ---- */

static void
run_statement(Migration *m, RawStmt *raw)
{
	int			len = raw->stmt_len > 0 ? raw->stmt_len : (int) strlen(m->sql + raw->stmt_location);
	TimestampTz start = GetCurrentTimestamp();

	CHECK_FOR_INTERRUPTS();
	m->statement = raw;
	m->text = pnstrdup(m->sql + raw->stmt_location, len);
	lock_time_impose();
	spi_run_text(m->text);
	lock_time_statement_done(start);
}

/* All of it; SET in a migration lasts for this migration, whether it says LOCAL or not. */
static void
run_statements(Migration *m)
{
	List	   *statements = raw_parser(m->sql, RAW_PARSE_DEFAULT);
	ListCell   *lc;

	foreach(lc, statements)
		run_statement(m, lfirst_node(RawStmt, lc));
	m->statement = NULL;
	m->stage = "at its end, when deferred constraints were checked";
	lock_time_impose();
	spi_run_text(CHECK_CONSTRAINTS);
	m->stage = "at its end";
}

static void
run_as_session(Migration *m)
{
	int			nest = NewGUCNestLevel();

	set_local("search_path", m->search_path);
	run_statements(m);
	AtEOXact_GUC(false, nest);
}

/* what is in the session's schema of temporary objects */
#define TEMP_OBJECTS " FROM pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_namespace'::regclass" \
	" AND refobjid = pg_catalog.pg_my_temp_schema()"

/*
 * As somebody who has less rights than the session: the server keeps such text
 * from leaving temporary tables behind, but not types, which the session would
 * find before its own.
 */
static void
run_restricted(Migration *m)
{
	RunAs		runas;
	SqlArgs		args = {0};
	SqlArgs		none = {0};

	spi_catalog("SELECT coalesce(pg_catalog.array_agg(classid || '/' || objid), '{}')::text" TEMP_OBJECTS, &none);
	arg_text(&args, spi_text(0, 0));
	runas_begin_path(&runas, m->owner, RUNAS_RESTRICTED, m->search_path);
	run_statements(m);
	runas_end(&runas);
	if (spi_catalog("SELECT" TEMP_OBJECTS " AND classid || '/' || objid <> ALL ($1::text[]) LIMIT 1", &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot create temporary objects in a migration of another role"),
				 errhint("Deploy in a session of role \"%s\".", GetUserNameFromId(m->owner, false))));
}

/* ---- whose it is ---- */

/* Nobody's text runs for somebody who may not act as that role. */
static void
require_trust(Migration *m)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(m->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role that registered the migration does not exist any more"),
				 errhint("Register it again.")));
	if (!has_privs_of_role(GetUserId(), m->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("it was registered by role \"%s\"", GetUserNameFromId(m->owner, false)),
				 errdetail("It runs with the rights of that role, which \"%s\" is not a member of.",
						   GetUserNameFromId(GetUserId(), false)),
				 errhint("Deploy as a member of that role.")));
}

/* What the text resets, RESET ROLE and RESET SESSION AUTHORIZATION among it, is nobody else. */
static bool
is_session_of(Oid role)
{
	return GetUserId() == role && GetSessionUserId() == role && GetAuthenticatedUserId() == role;
}

/* Read and lock the migration's row; false where it is not pending any more. */
static bool
claim(Migration *m)
{
	SqlArgs		args = {0};

	arg_text(&args, m->version);
	if (spi_catalog("SELECT sql, owner::oid, search_path FROM evmig.migration"
					" WHERE version = $1 AND state = 'pending' FOR UPDATE", &args) == 0)
		return false;
	m->sql = spi_text(0, 0);
	m->owner = spi_oid(0, 1);
	m->search_path = spi_text(0, 2);
	return true;
}

static void
mark_applied(Migration *m, int64 deploy, TimestampTz start)
{
	SqlArgs		args = {0};

	arg_text(&args, m->version);
	arg_text(&args, GetUserNameFromId(GetUserId(), false));
	arg_float8(&args, (GetCurrentTimestamp() - start) / 1000000.0);
	arg_int8(&args, deploy);
	spi_catalog("UPDATE evmig.migration SET state = 'applied', applied_at = pg_catalog.clock_timestamp(),"
				" applied_by = $2, seconds = $3, deploy_id = $4 WHERE version = $1", &args);
}

/* ---- where it failed ---- */

/* The statement's first byte that is neither space nor comment. */
static const char *
skip_comments(const char *s)
{
	for (;;)
	{
		s += strspn(s, " \t\r\n\f\v");
		if (s[0] == '-' && s[1] == '-')
			s += strcspn(s, "\n");
		else if (s[0] == '/' && s[1] == '*')
		{
			int			depth = 0;

			do
			{
				bool		opens = s[0] == '/' && s[1] == '*';
				bool		closes = s[0] == '*' && s[1] == '/';

				depth += opens - closes;
				s += opens || closes ? 2 : 1;
			} while (depth > 0 && *s);
		}
		else
			return s;
	}
}

/*
 * Where the statement has the query that an error points into, a function's
 * body or itself; NULL: not once, so that it may be another function's.
 */
static const char *
find_query(const char *statement, int len, const char *query)
{
	const char *found = query[0] ? strstr(statement, query) : NULL;
	const char *again = found ? strstr(found + 1, query) : NULL;
	const char *end = statement + len - strlen(query);

	return found == NULL || found > end || (again && again <= end) ? NULL : found;
}

/*
 * "line 3: ALTER TABLE ..."; takes the error's own position, if that is in the
 * statement: the line says it.
 */
static char *
where_it_failed(const Migration *m, ErrorData *error)
{
	const char *query = NULL;
	const RawStmt *raw = m->statement;
	const char *start;
	int			offset;
	int			len;
	int			line = 1;

	if (raw == NULL)
		return pstrdup(m->stage);
	offset = raw->stmt_location;
	start = skip_comments(m->sql + offset);
	len = raw->stmt_len > 0 ? m->sql + offset + raw->stmt_len - start : (int) strlen(start);

	if (error->internalpos > 0 && error->internalquery)
		query = find_query(m->sql + offset, strlen(m->text), error->internalquery);
	if (query)
	{
		offset = query - m->sql;
		offset += pg_mbcharcliplen(query, strlen(query), error->internalpos - 1);
		error->internalpos = 0;
		error->internalquery = NULL;
	}
	else
		offset = start - m->sql;
	for (const char *s = m->sql; s < m->sql + offset; s++)
		line += *s == '\n';
	return psprintf("line %d: %s", line, pnstrdup(start, pg_mbcliplen(start, len, SHOWN_STATEMENT)));
}

/* The error's context without the last line, which repeats the statement. */
static void
trim_context(const Migration *m, ErrorData *error)
{
	char	   *last = psprintf("SQL statement \"%s\"", m->statement ? m->text : CHECK_CONSTRAINTS);
	size_t		len = error->context ? strlen(error->context) : 0;
	size_t		cut = strlen(last);

	if (len < cut || strcmp(error->context + len - cut, last) != 0)
		return;
	if (len == cut)
		error->context = NULL;
	else
		error->context[len - cut - 1] = '\0';	/* the newline before it */
}

/* ---- the try ---- */

static void
run_migration(Attempt *a, Migration *m)
{
	TimestampTz start = GetCurrentTimestamp();

	m->stage = "before its first statement";
	a->applied = claim(m);
	if (!a->applied)
		return;
	require_trust(m);
	if (is_session_of(m->owner))
		run_as_session(m);
	else
		run_restricted(m);
	mark_applied(m, a->deploy, start);
}

typedef struct MigrationCall
{
	Attempt    *attempt;
	Migration  *migration;
} MigrationCall;

static void
call_run_migration(void *arg)
{
	MigrationCall *call = arg;
	int			nest = NewGUCNestLevel();

	PG_TRY();
	{
		lock_time_begin();
		run_migration(call->attempt, call->migration);
	}
	PG_FINALLY();
	{
		/* before a rollback gives lock_timeout back */
		lock_time_end();
	}
	PG_END_TRY();
	AtEOXact_GUC(false, nest);
}

void
try_migration(Attempt *a)
{
	MemoryContext caller = MemoryContextSwitchTo(a->context);
	Migration  *m = palloc0(sizeof(Migration));
	MigrationCall call = {a, m};

	m->version = a->version;
	a->applied = false;
	a->where = NULL;
	a->error = subxact_try(call_run_migration, &call);
	if (a->error)
	{
		a->where = where_it_failed(m, a->error);
		trim_context(m, a->error);
	}
	MemoryContextSwitchTo(caller);
}
