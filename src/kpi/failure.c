/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  Errors: of which statement, on which watched tables.
 *
 * An error is counted when it is reported, once it is certain that nobody
 * catches it.  A statement that fails before it is analysed, as one that waits
 * for its table's lock in vain, has not told any hook what it writes; then its
 * text is parsed again, and the names are compared with those of the watched
 * tables.  Nothing here reads a catalog, takes a lock or raises an error.
 *
 * An error that the log hides is not reported; it is counted when it aborts its
 * transaction, while the server still has it at hand.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "commands/prepare.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "kpi/command.h"
#include "kpi/measure.h"
#include "kpi/pause.h"
#include "kpi/rows.h"

#define MAX_TEXT (1024 * 1024)	/* a longer one is not parsed again */

static emit_log_hook_type previous_log = NULL;
static TimestampTz reading = 0; /* message whose text we parse */
static TimestampTz told = 0;	/* message whose error was counted */

/* watched tables that a failed statement writes, each once */
static WatchTarget named[COMMAND_MAX_TARGETS];
static int	nnamed = 0;

static void count_statement(Node *stmt, int sqlstate);

static void
add_named(const WatchTarget *target)
{
	for (int i = 0; i < nnamed; i++)
		if (named[i].table == target->table)
			return;
	if (nnamed < COMMAND_MAX_TARGETS)
		named[nnamed++] = *target;
}

static void
count_named(int sqlstate)
{
	for (int i = 0; i < nnamed; i++)
		command_count_error(&named[i], sqlstate);
	nnamed = 0;
}

static void
count_name(const RangeVar *name)
{
	WatchTarget target;

	if (name && watch_find_name(name->schemaname, name->relname, &target))
		add_named(&target);
}

static void
count_with(const WithClause *with, int sqlstate)
{
	ListCell   *lc;

	if (with == NULL)
		return;
	foreach(lc, with->ctes)
		count_statement(lfirst_node(CommonTableExpr, lc)->ctequery, sqlstate);
}

static void
count_prepared(const char *name)
{
	PreparedStatement *prepared = FetchPreparedStatement(name, false);
	ListCell   *lc;

	if (prepared == NULL)
		return;
	foreach(lc, prepared->plansource->query_list)
	{
		Query	   *query = lfirst_node(Query, lc);
		WatchTarget target;

		if (query->resultRelation > 0 &&
			watch_find_relid(rt_fetch(query->resultRelation, query->rtable)->relid, &target))
			add_named(&target);
	}
}

/* Count the error for what a statement, as the parser left it, would write. */
static void
count_statement(Node *stmt, int sqlstate)
{
	switch (nodeTag(stmt))
	{
		case T_InsertStmt:
			count_with(((InsertStmt *) stmt)->withClause, sqlstate);
			count_name(((InsertStmt *) stmt)->relation);
			break;
		case T_UpdateStmt:
			count_with(((UpdateStmt *) stmt)->withClause, sqlstate);
			count_name(((UpdateStmt *) stmt)->relation);
			break;
		case T_DeleteStmt:
			count_with(((DeleteStmt *) stmt)->withClause, sqlstate);
			count_name(((DeleteStmt *) stmt)->relation);
			break;
		case T_MergeStmt:
			count_with(((MergeStmt *) stmt)->withClause, sqlstate);
			count_name(((MergeStmt *) stmt)->relation);
			break;
		case T_SelectStmt:
			count_with(((SelectStmt *) stmt)->withClause, sqlstate);
			break;
		case T_CopyStmt:
			if (((CopyStmt *) stmt)->is_from)
				count_name(((CopyStmt *) stmt)->relation);
			break;
		case T_ExecuteStmt:
			count_prepared(((ExecuteStmt *) stmt)->name);
			break;
		case T_TransactionStmt:
			if (((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT ||
				((TransactionStmt *) stmt)->kind == TRANS_STMT_PREPARE)
				command_commit_failed(sqlstate);
			break;
		case T_ConstraintsSetStmt:
			/* unless it is the statement that is wrong */
			if (ERRCODE_TO_CATEGORY(sqlstate) != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
				command_constraints_failed(sqlstate);
			break;
		default:
			break;
	}
}

/* Has the session changed a setting that the parser follows? */
static bool
has_changed(const char *setting)
{
	return strcmp(GetConfigOption(setting, false, false), GetConfigOptionResetString(setting)) != 0;
}

/*
 * Can the parser read it now as it did when it came?  An error of ours would
 * take the place of the client's.
 */
static bool
is_readable(const char *text)
{
	return text[0] != '\0' && strlen(text) <= MAX_TEXT &&
		(strpbrk(text, "\\&") == NULL ||
		 !(has_changed("standard_conforming_strings") || has_changed("backslash_quote")));
}

/*
 * Which statement of the message is it?  Those that have begun are behind us,
 * unless one is at work; behind the last one comes the commit.
 */
static void
count_by_text(const char *text, int sqlstate)
{
	TimestampTz message = GetCurrentStatementStartTimestamp();
	int			n = message == command_message ? command_begun : 0;
	MemoryContext context;
	MemoryContext oldcontext;
	List	   *stmts;

	/* it has been parsed without an error once; and if not now, then not again */
	if (message == reading || (n == 0 && !ActiveSnapshotSet()) || !is_readable(text))
		return;
	reading = message;
	nnamed = 0;
	context = AllocSetContextCreate(TopMemoryContext, "evmig failed statement",
									ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	stmts = raw_parser(text, RAW_PARSE_DEFAULT);
	if (n > 0 && (command.active && command.left == 0))
		n--;
	if (n < list_length(stmts))
		count_statement(list_nth_node(RawStmt, stmts, n)->stmt, sqlstate);
	else if (n > 0 && n == list_length(stmts) &&
			 IsA(llast_node(RawStmt, stmts)->stmt, TransactionStmt))
		count_statement(llast_node(RawStmt, stmts)->stmt, sqlstate);
	else
		command_commit_failed(sqlstate);
	count_named(sqlstate);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	reading = 0;
}

/* Does what was analysed last belong to the message at hand? */
static bool
is_parsed(const char *text)
{
	return command_parsed.message != 0 &&
		(command_parsed.message == GetCurrentStatementStartTimestamp() ||
		 (text != NULL &&
		  command_parsed.text == hash_bytes((const unsigned char *) text, strlen(text))));
}

/* text: of the message; NULL where it has none, empty where nobody knows. */
static void
count_failure(const char *text, int sqlstate)
{
	bool		at_work = command.active && command.left == 0;

	if (command_was_refused(sqlstate))
	{
		command_refused();
		return;
	}
	if (at_work && command.ntargets > 0)
		command_failed(sqlstate);
	else if (at_work && command.query != NULL)
		return;					/* it writes nothing that is watched */
	else if (!at_work && is_parsed(text))
	{
		for (int i = 0; i < command_parsed.ntargets; i++)
			add_named(&command_parsed.targets[i]);
		count_named(sqlstate);
		command_parsed.message = 0;
	}
	else if (text == NULL)
		command_commit_failed(sqlstate);	/* in the extended protocol's Sync */
	else
		count_by_text(text, sqlstate);
}

static bool
is_of_interest(void)
{
	return kpi_shared != NULL && MyBackendType == B_BACKEND && OidIsValid(MyDatabaseId) &&
		pg_atomic_read_u32(&kpi_shared->active) != 0;
}

static void
tell(const char *text, int sqlstate)
{
	told = GetCurrentStatementStartTimestamp();
	count_failure(text, sqlstate);
	command_logged();
}

static void
log_error(ErrorData *edata)
{
	if (previous_log)
		previous_log(edata);
	if (edata->elevel < ERROR || !is_of_interest())
		return;

	/*
	 * What ends the session does not come by our own handlers.  Between
	 * statements, a query that an error ended is no longer there.
	 */
	if (edata->elevel > ERROR && measure_level() > 0 && command.active)
		rows_abandon(command.query);
	tell(debug_query_string, edata->sqlerrcode);
}

/*
 * The text of the message at hand, as far as pg_stat_activity has all of it.  The
 * call of a function by a message of its own has none.
 */
static const char *
activity(void)
{
	const char *text = MyBEEntry && MyBEEntry->st_state == STATE_RUNNING ? MyBEEntry->st_activity_raw : "";

	if (MyBEEntry && MyBEEntry->st_state == STATE_FASTPATH)
		return NULL;
	return strlen(text) < pgstat_track_activity_query_size - 1 ? text : "";
}

/*
 * The server has forgotten the statement by then, but not the error, which
 * tells this abort from a ROLLBACK.  An error of ours, be it that there is none
 * at hand, is swallowed: nothing was taken that had to be given back.
 */
void
failure_unlogged(void)
{
	uint32		holdoff = InterruptHoldoffCount;

	if (!is_of_interest() || told == GetCurrentStatementStartTimestamp() ||
		debug_query_string != NULL || measure_level() > 0 || proc_exit_inprogress)
		return;
	PG_TRY();
	{
		error_context_stack = NULL;
		tell(activity(), geterrcode());
	}
	PG_CATCH();
	{
		FlushErrorState();
	}
	PG_END_TRY();
	InterruptHoldoffCount = holdoff;
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		failure_unlogged();
}

void
failure_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_log = emit_log_hook;
	emit_log_hook = log_error;
	RegisterSubXactCallback(at_subxact_end, NULL);
}
