/*-------------------------------------------------------------------------
 *
 * command.h
 *	  The top-level statement at hand: which watched tables it writes, since
 *	  when, and how it ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_COMMAND_H
#define EVMIG_KPI_COMMAND_H

#include "base/compat.h"
#include "executor/execdesc.h"
#include "utils/portal.h"

#include "kpi/watch.h"

#define COMMAND_MAX_TARGETS 64

typedef struct CommandTarget
{
	WatchTarget target;
	uint64		rows;
	uint64		inserted;		/* of the rows, by INSERT and COPY */
	bool		in_xact;		/* written in the transaction at hand */
} CommandTarget;

typedef struct Command
{
	bool		active;			/* begun, and not recorded yet */
	TimestampTz message;		/* when the client's message arrived */
	TimestampTz start;
	TimestampTz left;			/* when its execution was last left, a time
								 * only if it has targets; 0: it runs */
	QueryDesc  *query;			/* NULL: a utility statement */
	Portal		portal;
	List	   *stmts;			/* of the portal, which a rule may have made many */
	int			ntargets;
	CommandTarget targets[COMMAND_MAX_TARGETS];
} Command;

extern Command command;

/* statements of the message at hand that have begun; message as above */
extern TimestampTz command_message;
extern int	command_begun;

/* watched tables that the statement that is being parsed or planned names */
typedef struct Parsed
{
	TimestampTz message;		/* 0: none */
	int64		us;				/* that its analysis took, locks and all */
	uint32		text;			/* hash of the statement's text */
	int			ntargets;
	WatchTarget targets[COMMAND_MAX_TARGETS];
} Parsed;

extern Parsed command_parsed;

/*
 * A statement of the client begins.  query NULL: a utility statement.  Goes on
 * with the one at hand where a rule made several of it.
 */
extern void command_begin(QueryDesc *query);

/*
 * It, or a statement within it, writes a relation.  What deferred triggers write
 * while the transaction commits belongs to the last statement.
 */
extern void command_writes(const WatchEntry *entry);
extern void command_rows(const WatchTarget *target, uint64 rows, uint64 inserted);
extern uint64 command_rows_so_far(const WatchTarget *target, uint64 *inserted);

/*
 * Its execution is left; it may be entered again.  for_good: its time ends here
 * unless it is.
 */
extern void command_leave(bool for_good);

/*
 * It has ended; nothing happens where none is at hand.  One whose execution was
 * not left has failed.
 */
extern void command_end(void);

/* The client's statement has failed, to be told once; sqlstate 0: unknown. */
extern void command_failed(int sqlstate);
extern void command_refused(void);	/* by a pause: no error of the application */

/* Was it the last error, if it is this one?  To be asked once. */
extern bool command_was_refused(int sqlstate);
extern void command_count_error(const WatchTarget *target, int sqlstate);

/* An error is being reported: count it for the tables that this session wrote. */
extern void command_logged(void);

/* BEGIN, COMMIT or the like, sent by the client at start. */
extern void command_transaction(const TransactionStmt *stmt, TimestampTz start);

/* The commit of what was written has failed; sqlstate as above. */
extern void command_commit_failed(int sqlstate);

/* So has a check of it before the commit. */
extern void command_constraints_failed(int sqlstate);

/* From _PG_init. */
extern void command_init(void);

#endif							/* EVMIG_KPI_COMMAND_H */
