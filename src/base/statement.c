/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  Run one statement at top level in a background worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "base/statement.h"

/* One raw statement through analysis, planning and a portal of its own. */
static void
run_raw(RawStmt *raw, const char *sql)
{
	bool		snapshot = analyze_requires_snapshot(raw);
	CommandTag	tag = CreateCommandTag(raw->stmt);
	QueryCompletion qc;
	DestReceiver *dest = CreateDestReceiver(DestNone);
	Portal		portal;
	List	   *queries;
	List	   *plans;

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(raw, sql, NULL, 0, NULL);
	plans = pg_plan_queries(queries, sql, CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();

	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, tag, plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	(void) compat_PortalRun(portal, FETCH_ALL, true, dest, dest, &qc);
	dest->rDestroy(dest);
	PortalDrop(portal, false);
}

ErrorData *
run_toplevel(const char *sql)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "evmig statement",
												  ALLOCSET_DEFAULT_SIZES);
	ErrorData  *volatile edata = NULL;

	Assert(!IsTransactionState());
	pgstat_report_activity(STATE_RUNNING, sql);
	debug_query_string = sql;
	PG_TRY();
	{
		ListCell   *lc;
		List	   *parsed;

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		MemoryContextSwitchTo(context);
		parsed = pg_parse_query(sql);
		foreach(lc, parsed)
			run_raw(lfirst_node(RawStmt, lc), sql);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oldcontext);
		edata = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	debug_query_string = NULL;
	pgstat_report_activity(STATE_IDLE, NULL);
	return edata;
}
