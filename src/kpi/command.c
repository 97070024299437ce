/*-------------------------------------------------------------------------
 *
 * command.c
 *	  The top-level statement at hand, and the transaction around it.
 *
 * A statement is measured from the arrival of its message to the end of its
 * execution.  In the simple protocol one message may hold several statements:
 * each later one begins when the one before it has ended.  In the extended
 * protocol a statement's message is its Bind, and the time that its analysis
 * took (Parse, which may have waited for a lock) is added to its first
 * execution; what the client does between the two is not.  What it does between
 * Bind and Execute is, for Bind may wait for a lock, too, and calls nobody when
 * it has ended.
 *
 * Outside a transaction block the statement is recorded once its transaction
 * has ended, for it fails where the commit fails; with it the time up to the
 * end of that commit.  In a block the statement is recorded when it ends, and
 * the commit's own time, from the arrival of the COMMIT, apart.  A COMMIT in a
 * procedure is measured from the moment when the transaction begins to commit.
 * Prepared transactions have no time of a commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "kpi/command.h"
#include "kpi/measure.h"
#include "kpi/pause.h"

#define FEW_WRITTEN 8			/* most transactions need no more */
#define MAX_WRITTEN 65536

/* a statement that waits for the end of its transaction */
typedef struct Written
{
	WatchTarget target;
	KpiStatement statement;
	bool		recorded;		/* the statement is; its commit is not */
	bool		failed;
} Written;

Command		command;
Parsed		command_parsed;
TimestampTz command_message = 0;
int			command_begun = 0;

static TimestampTz last_end = 0;	/* of a statement of this message */

/* of the transaction at hand, in its memory */
static Written few_written[FEW_WRITTEN];
static Written *written = few_written;
static int	nwritten = 0;
static int	written_size = FEW_WRITTEN;
static bool in_block = false;	/* the client sent a BEGIN */
static bool chained = false;	/* the next transaction is in a block, too */
static TimestampTz commit_sent = 0; /* arrival of the client's COMMIT */
static TimestampTz commit_begun = 0;

/* of the session: tables that it wrote; a hash of their addresses would do */
static WatchTarget wrote[COMMAND_MAX_TARGETS];
static int	nwrote = 0;

/* ---- recording ---- */

static void
record_statement(const WatchTarget *target, const KpiStatement *statement, TimestampTz now)
{
	kpi_time(target->table, target->incarnation, now, statement, KPI_NONE);
}

static void
record_commit(const WatchTarget *target, TimestampTz start, TimestampTz end)
{
	kpi_time(target->table, target->incarnation, end, NULL, Max(end - start, 0));
}

void
command_count_error(const WatchTarget *target, int sqlstate)
{
	kpi_error(target->table, target->incarnation, GetCurrentTimestamp(), sqlstate);
}

static bool
same_target(const WatchTarget *a, const WatchTarget *b)
{
	return a->table == b->table && a->incarnation == b->incarnation;
}

static void
remember_wrote(const WatchTarget *target)
{
	for (int i = 0; i < nwrote; i++)
		if (wrote[i].table == target->table)
		{
			wrote[i].incarnation = target->incarnation;
			return;
		}
	if (nwrote < COMMAND_MAX_TARGETS)
		wrote[nwrote++] = *target;
}

void
command_logged(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < nwrote; i++)
		kpi_count(wrote[i].table, wrote[i].incarnation, now, KPI_LOGGED, 1);
}

/* ---- one statement ---- */

/* When the statement that begins now was sent. */
static TimestampTz
statement_start(QueryDesc *query, TimestampTz message)
{
	Portal		portal = ActivePortal;
	TimestampTz start = message;

	if (message == command_message && command_begun > 0)
		return last_end;

	/* an Execute of a portal that was bound, by a message of its own, just before */
	if (portal && portal->atStart && portal->creation_time < message)
		start = portal->creation_time;
	if (query && command_parsed.message != 0 && command_parsed.message < start &&
		command_parsed.text == hash_bytes((const unsigned char *) query->sourceText,
										  strlen(query->sourceText)))
		start -= command_parsed.us;
	return start;
}

/*
 * One of several statements that a rule made of the one at hand?  The first of
 * them is not: a portal and its list may lie where the last one lay.
 */
static bool
belongs_to_command(QueryDesc *query, TimestampTz message)
{
	return command.message == message && ActivePortal != NULL && command.portal == ActivePortal &&
		command.stmts == ActivePortal->stmts && list_length(ActivePortal->stmts) > 1 &&
		query->plannedstmt != linitial(ActivePortal->stmts);
}

pg_attribute_hot void
command_begin(QueryDesc *query)
{
	TimestampTz message = GetCurrentStatementStartTimestamp();

	if (unlikely(command.active))
	{
		if (query && belongs_to_command(query, message))
		{
			command.query = query;
			command.left = 0;
			return;
		}
		command_end();
	}
	pause_refused = false;
	command.start = statement_start(query, message);
	if (message != command_message)
		command_begun = 0;
	command_message = message;
	command_begun++;
	command.active = true;
	command.message = message;
	command.left = 0;
	command.query = query;
	command.portal = ActivePortal;
	command.stmts = ActivePortal ? ActivePortal->stmts : NIL;
	command.ntargets = 0;
}

/*
 * Make room.  A pipeline or a message of very many statements is not kept: then
 * they have ended well, and without a commit.
 */
static void
enlarge_written(void)
{
	Written    *more;

	if (written_size == MAX_WRITTEN)
	{
		for (int i = 0; i < nwritten; i++)
			if (!written[i].recorded)
				record_statement(&written[i].target, &written[i].statement, GetCurrentTimestamp());
		nwritten = 0;
		return;
	}
	more = MemoryContextAlloc(TopTransactionContext, written_size * 2 * sizeof(Written));
	memcpy(more, written, nwritten * sizeof(Written));
	written = more;
	written_size *= 2;
}

static pg_attribute_hot Written *
next_written(void)
{
	if (unlikely(nwritten == written_size))
		enlarge_written();
	memset(&written[nwritten], 0, sizeof(Written));
	return &written[nwritten++];
}

/* The last statement of the transaction that wrote the table, or a new entry. */
static Written *
last_written(const WatchTarget *target)
{
	Written    *entry;

	for (int i = nwritten - 1; i >= 0; i--)
		if (same_target(&written[i].target, target))
			return &written[i];
	entry = next_written();
	entry->target = *target;
	entry->statement.start = commit_sent != 0 ? commit_sent : GetCurrentStatementStartTimestamp();
	entry->statement.end = GetCurrentTimestamp();
	return entry;
}

static pg_attribute_hot CommandTarget *
add_target(const WatchTarget *target)
{
	for (int i = 0; i < command.ntargets; i++)
		if (same_target(&command.targets[i].target, target))
			return &command.targets[i];
	if (command.ntargets == COMMAND_MAX_TARGETS)
		return NULL;
	command.targets[command.ntargets].target = *target;
	command.targets[command.ntargets].rows = 0;
	command.targets[command.ntargets].inserted = 0;
	command.targets[command.ntargets].in_xact = false;
	return &command.targets[command.ntargets++];
}

pg_attribute_hot void
command_writes(const WatchEntry *entry)
{
	for (int i = 0; i < entry->ntargets; i++)
	{
		CommandTarget *target;

		remember_wrote(&entry->target[i]);
		if (!command.active)
		{
			(void) last_written(&entry->target[i]);
			continue;
		}
		target = add_target(&entry->target[i]);
		if (target)
			target->in_xact = true;
	}
}

/* Rows that a deferred trigger wrote, maybe after the statement was recorded. */
static pg_noinline void
add_rows(Written *entry, uint64 rows, uint64 inserted)
{
	entry->statement.rows += rows;
	entry->statement.inserted += inserted;
	if (entry->recorded)
		kpi_rows(entry->target.table, entry->target.incarnation, GetCurrentTimestamp(), rows, inserted);
}

pg_attribute_hot void
command_rows(const WatchTarget *target, uint64 rows, uint64 inserted)
{
	CommandTarget *mine;

	if (!command.active)
		add_rows(last_written(target), rows, inserted);
	else if ((mine = add_target(target)) != NULL)
	{
		mine->rows += rows;
		mine->inserted += inserted;
	}
}

uint64
command_rows_so_far(const WatchTarget *target, uint64 *inserted)
{
	for (int i = 0; command.active && i < command.ntargets; i++)
		if (same_target(&command.targets[i].target, target))
		{
			*inserted = command.targets[i].inserted;
			return command.targets[i].rows;
		}
	for (int i = nwritten - 1; !command.active && i >= 0; i--)
		if (same_target(&written[i].target, target))
		{
			*inserted = written[i].statement.inserted;
			return written[i].statement.rows;
		}
	return *inserted = 0;
}

/*
 * The clock is read only where there is something to record, and once: not yet
 * where ExecutorFinish and ExecutorEnd are certain to follow.
 */
pg_attribute_hot void
command_leave(bool for_good)
{
	command.left = for_good && command.ntargets > 0 ? GetCurrentTimestamp() : command.start;
}

bool
command_was_refused(int sqlstate)
{
	bool		refused = pause_refused && (sqlstate == 0 || sqlstate == ERRCODE_LOCK_NOT_AVAILABLE);

	pause_refused = false;
	return refused;
}

/* An error that nobody told of ended it. */
static void
failed_untold(void)
{
	if (command_was_refused(0))
		command_refused();
	else
		command_failed(0);
}

void
command_failed(int sqlstate)
{
	for (int i = 0; i < command.ntargets; i++)
		command_count_error(&command.targets[i].target, sqlstate);
	command.active = false;
	command.ntargets = 0;
	command_parsed.message = 0;
	last_end = GetCurrentTimestamp();
}

void
command_refused(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < command.ntargets; i++)
		kpi_count(command.targets[i].target.table, command.targets[i].target.incarnation, now,
				  KPI_REFUSED, 1);
	command.active = false;
	command.ntargets = 0;
	command_parsed.message = 0;
}

/* In a transaction block one entry for each table is enough. */
static bool
is_kept(const WatchTarget *target)
{
	for (int i = 0; i < nwritten; i++)
		if (written[i].recorded && same_target(&written[i].target, target))
			return true;
	return false;
}

static pg_attribute_hot void
end_target(const CommandTarget *target)
{
	bool		in_xact = IsTransactionState();
	KpiStatement statement = {command.start, command.left, target->rows, target->inserted};

	/* now, which may be long after a portal was left */
	if (in_block || !in_xact)
		record_statement(&target->target, &statement, GetCurrentTimestamp());

	/* the rest once the transaction has ended */
	if (in_xact && !(in_block && is_kept(&target->target)))
	{
		Written    *entry = next_written();

		entry->target = target->target;
		entry->statement = statement;
		entry->recorded = in_block;
	}
}

pg_attribute_hot void
command_end(void)
{
	if (!command.active)
		return;
	if (unlikely(command.left == 0))
	{
		failed_untold();
		return;
	}
	command.active = false;
	command_parsed.message = 0;
	last_end = command.ntargets > 0 ? command.left : GetCurrentTimestamp();
	for (int i = 0; i < command.ntargets; i++)
		end_target(&command.targets[i]);
}

/* ---- the transaction ---- */

/* The client ends its block, and the transaction in it unless an error has. */
static void
end_block(const TransactionStmt *stmt, TimestampTz sent)
{
	if (IsAbortedTransactionBlockState() && GetCurrentTransactionNestLevel() == 1)
	{
		in_block = stmt->chain; /* nobody calls us once more */
		return;
	}
	chained = stmt->chain && in_block;
	if (stmt->kind != TRANS_STMT_ROLLBACK && !IsAbortedTransactionBlockState())
		commit_sent = sent;
}

void
command_transaction(const TransactionStmt *stmt, TimestampTz start)
{
	switch (stmt->kind)
	{
		case TRANS_STMT_BEGIN:
		case TRANS_STMT_START:
			in_block = true;
			break;
		case TRANS_STMT_COMMIT:
		case TRANS_STMT_PREPARE:
		case TRANS_STMT_ROLLBACK:
			end_block(stmt, start);
			break;
		default:
			break;
	}
}

static void
written_failed(int sqlstate, bool recorded_too)
{
	for (int i = 0; i < nwritten; i++)
	{
		bool		told = false;

		if (written[i].recorded && !recorded_too)
			continue;
		for (int j = 0; j < i && !told; j++)
			told = same_target(&written[j].target, &written[i].target);
		if (!told)
			command_count_error(&written[i].target, sqlstate);
		written[i].failed = true;
	}
}

/* In a block whose COMMIT was not sent the statements have not failed. */
void
command_commit_failed(int sqlstate)
{
	written_failed(sqlstate, commit_sent != 0);
}

void
command_constraints_failed(int sqlstate)
{
	written_failed(sqlstate, true);
}

static void
xact_over(void)
{
	written = few_written;
	written_size = FEW_WRITTEN;
	nwritten = 0;
	in_block = chained;
	chained = false;
	commit_sent = commit_begun = 0;
}

/* What was written in it is now there for others to see; or prepared. */
static pg_attribute_hot void
committed(bool prepared)
{
	TimestampTz now = nwritten > 0 || command.active ? GetCurrentTimestamp() : 0;

	for (int i = 0; i < nwritten; i++)
	{
		Written    *entry = &written[i];

		if (!entry->recorded)
			kpi_time(entry->target.table, entry->target.incarnation, now, &entry->statement,
					 prepared ? KPI_NONE : Max(now - entry->statement.start, 0));
		else if (!prepared)
			record_commit(&entry->target, commit_sent != 0 ? commit_sent : commit_begun, now);
	}
	/* a procedure commits while it runs */
	for (int i = 0; command.active && i < command.ntargets; i++)
		if (command.targets[i].in_xact)
		{
			record_commit(&command.targets[i].target, commit_begun, now);
			command.targets[i].in_xact = false;
		}
	xact_over();
}

/*
 * Statements that had ended well are counted as such, though others undid
 * them.  One that was at work when an error ended its transaction has failed;
 * failure.c has told so already, unless log_min_messages hides what ends the
 * session, too.
 */
static void
aborted(void)
{
	failure_unlogged();
	for (int i = 0; i < nwritten; i++)
		if (!written[i].recorded && !written[i].failed)
			record_statement(&written[i].target, &written[i].statement, GetCurrentTimestamp());
	if (command.active && command.left != 0)
		command_end();
	else if (command.active && (measure_level() == 0 || proc_exit_inprogress))
		failed_untold();
	for (int i = 0; i < command.ntargets; i++)
		command.targets[i].in_xact = false;
	if (commit_sent != 0)
		chained = false;		/* a COMMIT AND CHAIN that failed */
	xact_over();
}

static pg_attribute_hot void
at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT)
	{
		/* of a portal that is closed with its transaction */
		if (command.active && command.left != 0)
			command_end();
		if ((in_block && nwritten > 0) || (command.active && command.ntargets > 0))
			commit_begun = GetCurrentTimestamp();
	}
	else if (event == XACT_EVENT_COMMIT)
		committed(false);
	else if (event == XACT_EVENT_PREPARE)
		committed(true);
	else if (event == XACT_EVENT_ABORT)
		aborted();
}

void
command_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		RegisterXactCallback(at_xact_end, NULL);
}
