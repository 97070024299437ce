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
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "kpi/command.h"
#include "kpi/measure.h"
#include "kpi/pause.h"

#define MAX_TEXT (1024 * 1024)	/* a longer one is not parsed again */

static emit_log_hook_type previous_log = NULL;
static TimestampTz reading = 0; /* message whose text we parse */

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
	return strlen(text) <= MAX_TEXT &&
		(strpbrk(text, "\\&") == NULL ||
		 !(has_changed("standard_conforming_strings") || has_changed("backslash_quote")));
}

/*
 * Which statement of the message is it?  Those that have begun are behind us,
 * unless one is at work; behind the last one comes the commit.
 */
static void
count_by_text(int sqlstate)
{
	TimestampTz message = GetCurrentStatementStartTimestamp();
	int			n = message == command_message ? command_begun : 0;
	MemoryContext context;
	MemoryContext oldcontext;
	List	   *stmts;

	/* it has been parsed without an error once; and if not now, then not again */
	if (message == reading || (n == 0 && !ActiveSnapshotSet()) || !is_readable(debug_query_string))
		return;
	reading = message;
	nnamed = 0;
	context = AllocSetContextCreate(TopMemoryContext, "evmig failed statement",
									ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	stmts = raw_parser(debug_query_string, RAW_PARSE_DEFAULT);
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
is_parsed(void)
{
	return command_parsed.message != 0 &&
		(command_parsed.message == GetCurrentStatementStartTimestamp() ||
		 (debug_query_string != NULL &&
		  command_parsed.text == hash_bytes((const unsigned char *) debug_query_string,
											strlen(debug_query_string))));
}

static void
count_failure(int sqlstate)
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
	else if (!at_work && is_parsed())
	{
		for (int i = 0; i < command_parsed.ntargets; i++)
			add_named(&command_parsed.targets[i]);
		count_named(sqlstate);
		command_parsed.message = 0;
	}
	else if (debug_query_string == NULL)
		command_commit_failed(sqlstate);	/* in the extended protocol's Sync */
	else
		count_by_text(sqlstate);
}

static void
log_error(ErrorData *edata)
{
	if (previous_log)
		previous_log(edata);
	if (edata->elevel < ERROR || kpi_shared == NULL || MyBackendType != B_BACKEND ||
		!OidIsValid(MyDatabaseId) || pg_atomic_read_u32(&kpi_shared->active) == 0)
		return;
	count_failure(edata->sqlerrcode);
	command_logged();
}

void
failure_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_log = emit_log_hook;
	emit_log_hook = log_error;
}
