/*-------------------------------------------------------------------------
 *
 * connections.c
 *	  The first phase of a deployment: who else is connected.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "base/latch.h"
#include "base/spi.h"
#include "deploy/deploy.h"
#include "job/worker.h"

#define POLL_MS 250

/*
 * What a deployment works on: tables of registered indexes and backfills, and
 * those that a pending migration seems to name.
 */
#define IS_TARGET(relation) \
	"(coalesce(pg_catalog.pg_partition_root(" relation ")::pg_catalog.oid, " relation ")" \
	" OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT target::pg_catalog.oid FROM evmig.index" \
	"  UNION ALL SELECT target::pg_catalog.oid FROM evmig.backfill))" \
	" OR EXISTS (SELECT FROM pg_catalog.pg_class c, evmig.migration m WHERE c.oid OPERATOR(pg_catalog.=) " relation \
	"  AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,m,v,f,S}'::pg_catalog.\"char\"[])" \
	"  AND m.state OPERATOR(pg_catalog.=) 'pending'" \
	"  AND pg_catalog.strpos(pg_catalog.lower(m.sql), pg_catalog.lower(c.relname)) OPERATOR(pg_catalog.>) 0))"

/*
 * Process ids of the other sessions on this database, as text of an int[]; asked
 * as the extension's owner, because backend_type is hidden from others.
 */
static char *
other_pids(int64 *n)
{
	SqlArgs		none = {0};

	spi_catalog("SELECT pg_catalog.count(*), coalesce(pg_catalog.array_agg(pid), '{}')::text"
				" FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()"
				" AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()", &none);
	*n = spi_int8(0, 0);
	return spi_text(0, 1);
}

static int64
count_others(void)
{
	int64		n;

	(void) other_pids(&n);
	return n;
}

/*
 * An item for each other session, as far as the current user may see it: what it
 * is, what it does, how old its transaction is, and its locks on the targets.
 */
static void
list_others(int64 deploy)
{
	SqlArgs		args = {0};
	int64		others;
	uint64		n;
	char	 ***rows;

	arg_text(&args, other_pids(&others));
	n = spi_run("SELECT pg_catalog.format('pid %s', a.pid),"
				" pg_catalog.format('application %s, role %s, %s%s%s',"
				"  CASE WHEN a.application_name OPERATOR(pg_catalog.<>) '' THEN a.application_name ELSE '(none)' END,"
				"  a.usename, coalesce(a.state, 'state not visible'),"
				"  ', transaction open for ' OPERATOR(pg_catalog.||) pg_catalog.date_trunc('second',"
				"   pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) a.xact_start)::pg_catalog.text,"
				"  '; locks on targets: ' OPERATOR(pg_catalog.||) l.locks)"
				" FROM pg_catalog.pg_stat_activity a LEFT JOIN LATERAL"
				" (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%s on %s', l.mode, l.relation::pg_catalog.regclass), ', ')"
				"   AS locks FROM pg_catalog.pg_locks l WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND l.granted"
				"   AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND " IS_TARGET("l.relation") ") l ON true"
				" WHERE a.pid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])"
				" ORDER BY a.xact_start NULLS LAST, a.pid", &args);
	rows = palloc(sizeof(char **) * (n + 1));
	for (uint64 i = 0; i < n; i++)
	{
		rows[i] = palloc(sizeof(char *) * 2);
		rows[i][0] = spi_text(i, 0);
		rows[i][1] = spi_text(i, 1);
	}
	for (uint64 i = 0; i < n; i++)
		deploy_item(deploy, "connections", rows[i][0], "listed", 0, 0, "%s", rows[i][1]);
	if (n == 0)
		deploy_item(deploy, "connections", "other sessions", "none", 0, 0, NULL);
}

/* How many of these are still here? */
static int64
count_of(char *pids)
{
	SqlArgs		args = {0};

	arg_text(&args, pids);
	spi_catalog("SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE pid = ANY ($1::int[])", &args);
	return spi_int8(0, 0);
}

/*
 * Wait, without a snapshot, until these are gone, or, where none are named,
 * until nobody else is here; false: time is up.
 */
static bool
wait_for_others(char *pids)
{
	TimestampTz start = GetCurrentTimestamp();

	for (;;)
	{
		int64		n = pids ? count_of(pids) : count_others();

		spi_commit();
		if (n == 0)
			return true;
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), evmig_quiesce_timeout))
			return false;
		latch_pause_bare(POLL_MS);
	}
}

static void
record_refusal(int64 deploy, const char *detail)
{
	deploy_record(deploy, "connections", "other sessions", "failed", 0, 0, detail);
	deploy_failed(deploy);
	spi_commit();
}

static void
raise_connected(int64 deploy, int64 others, const char *detail)
{
	record_refusal(deploy, psprintf(INT64_FORMAT " connected", others));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg_plural(INT64_FORMAT " other session is connected to the database",
						   INT64_FORMAT " other sessions are connected to the database", others, others),
			 errdetail("%s", detail),
			 errhint("SELECT * FROM evmig_deploy_report(" INT64_FORMAT ") lists them.", deploy)));
}

/* End the others, and return who they were; where one may not be ended, nobody is. */
static char *
terminate_others(int64 deploy)
{
	SqlArgs		args = {0};
	int64		n;
	char	   *pids = other_pids(&n);

	arg_text(&args, pids);
	if (!superuser() &&
		(!has_privs_of_role(GetUserId(), ROLE_PG_SIGNAL_BACKEND) ||
		 spi_run("SELECT FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r"
				 " ON r.oid OPERATOR(pg_catalog.=) a.usesysid WHERE r.rolsuper"
				 " AND a.pid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int4[])", &args) > 0))
	{
		record_refusal(deploy, "permission denied to terminate them");
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to terminate other sessions"),
				 errdetail("quiesce => 'terminate' needs membership in pg_signal_backend, and superuser where one of them is a superuser's.")));
	}
	spi_run("SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.unnest($1::pg_catalog.int4[]) pid",
			&args);
	return pids;
}

static void
warn_connected(int64 others)
{
	if (others > 0)
		ereport(WARNING,
				(errmsg_plural(INT64_FORMAT " other session is connected; the deployment goes on beside it",
							   INT64_FORMAT " other sessions are connected; the deployment goes on beside them",
							   others, others)));
}

/*
 * Who waits, waits until nobody is here.  Who terminates has the sessions ended
 * that were here: an application's pool may connect again at once.
 */
void
deploy_connections(int64 deploy, const char *quiesce)
{
	char	   *ended = NULL;
	int64		others;

	list_others(deploy);
	others = count_others();
	if (others == 0 || strcmp(quiesce, "warn") == 0)
	{
		warn_connected(others);
		spi_commit();
		return;
	}
	if (strcmp(quiesce, "fail") == 0)
		raise_connected(deploy, others, "quiesce is 'fail'.");
	if (strcmp(quiesce, "terminate") == 0)
		ended = terminate_others(deploy);
	spi_commit();
	if (!wait_for_others(ended))
		raise_connected(deploy, ended ? count_of(ended) : count_others(),
						psprintf("They did not go within %d ms (evmig.quiesce_timeout).", evmig_quiesce_timeout));
	deploy_item(deploy, "connections", "other sessions", ended ? "ended" : "gone", 0, 0, NULL);
	warn_connected(count_others());
	spi_commit();
}
