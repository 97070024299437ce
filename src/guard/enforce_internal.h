/*-------------------------------------------------------------------------
 *
 * enforce_internal.h
 *	  Shared by the files of the live guard.
 *
 * enforce.c hooks in and tells the session's own statements from others',
 * enforce_level.c says how strict a session is, enforce_data.c and
 * enforce_locks.c judge, enforce_event.c refuses, warns and logs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_ENFORCE_INTERNAL_H
#define EVMIG_GUARD_ENFORCE_INTERNAL_H

#include "access/xact.h"
#include "executor/execdesc.h"
#include "guard/enforce.h"
#include "guard/guard.h"

typedef enum EnforceLevel
{
	ENFORCE_OFF,
	ENFORCE_LOG,
	ENFORCE_WARN,
	ENFORCE_ERROR
} EnforceLevel;

/* ---- enforce_level.c ---- */

/* false: nobody can be judged, and nothing else is asked */
extern PGDLLIMPORT bool enforce_armed;

/* the settings of the live guard */
extern void enforce_settings(void);

/*
 * How strict this session is.  In a transaction that is not aborted, except
 * where the level is known from before; reads catalogs once in a while.
 */
extern EnforceLevel enforce_level(void);
extern const char *enforce_level_name(EnforceLevel level);

/* what evmig.guard and evmig.guard_roles ask for, each for itself */
extern EnforceLevel enforce_setting_level(void);
extern EnforceLevel enforce_roles_level(void);

/*
 * Does evmig.guard_bypass_reason let this transaction through?  The first
 * question in a transaction uses it up; after that transaction it counts for
 * nothing, with a warning.
 */
extern bool enforce_bypassed(void);
extern const char *enforce_bypass_state(void);	/* for people */

/* ---- enforce_event.c ---- */

/* a statement's text, as the hooks have it */
typedef struct EnforceText
{
	const char *source;
	int			location;		/* -1: not known */
	int			len;			/* 0: to the end */
} EnforceText;

typedef struct EnforceEvent
{
	const char *rule;
	GuardSeverity severity;
	const char *relation;		/* quoted; NULL: none */
	const char *what;			/* "UPDATE of table public.leads" */
	const char *why;			/* a sentence; may be NULL */
	const char *hint;			/* may be NULL */
	const EnforceText *text;
	int64		repeated;		/* times that it was left out of the log before */
} EnforceEvent;

/*
 * Has this session logged the same rule for the same relation and text within
 * the last second?  Then it is counted, so that an application at level log
 * does not flood it; the next that is logged is told how often.
 */
extern bool enforce_event_repeated(const char *rule, Oid relid, const EnforceText *text,
								   int64 *repeated);

/*
 * Refuse, warn of or log what a rule has found, as the session's level asks.
 * Always writes a line to the server log when it acts, except that the same
 * rule on the same relation is told of once in a transaction; raises
 * ERRCODE_EVMIG_GUARD.
 */
extern void enforce_event(const EnforceEvent *event);
extern void enforce_event_forget(void); /* the transaction has ended */

/* ---- enforce_data.c ---- */

/* whose rows a statement changes, so whose triggers it fires */
typedef enum RowsOf
{
	ROWS_NONE,
	ROWS_EXEMPT,				/* temporary tables and those made in this transaction */
	ROWS_APPLICATION			/* others: judged, and let go on */
} RowsOf;

extern RowsOf enforce_plan_rows(QueryDesc *query);
extern RowsOf enforce_utility_rows(PlannedStmt *pstmt);

/* raise, warn of or log the data changes of a plan, or of COPY and TRUNCATE */
extern void enforce_plan(QueryDesc *query);
extern void enforce_utility_data(PlannedStmt *pstmt, const EnforceText *text);

/* warn of a large table that is read into a new one, or a materialized view */
extern void enforce_utility_copies(Guard *guard, PlannedStmt *pstmt, const EnforceText *text);

/* ---- enforce_locks.c ---- */

/*
 * The guard of this transaction, ready for a utility statement.  It keeps
 * which strong locks the transaction has taken.
 */
extern Guard *enforce_guard(PlannedStmt *pstmt, const EnforceText *text);

/* judge the locks that a utility statement will take */
extern void enforce_utility_locks(Guard *guard, PlannedStmt *pstmt, const EnforceText *text);

/*
 * Hold a statement that takes strong locks to evmig.ddl_lock_timeout.  Call
 * end however it ends.
 */
typedef struct EnforceTimeout
{
	bool		active;
	int			nest_level;		/* 0: LockTimeout itself was set, to be put back */
	int			saved;
	ErrorContextCallback callback;
} EnforceTimeout;

/* lock_timeout in ms that DDL of this session gets, if it is judged */
extern int	enforce_ddl_timeout(void);

extern void enforce_timeout_begin(EnforceTimeout *timeout, PlannedStmt *pstmt);
extern void enforce_timeout_end(EnforceTimeout *timeout, bool failed);

extern void enforce_locks_forget(void); /* the transaction has ended */
extern void enforce_locks_subxact(SubXactEvent event);

#endif							/* EVMIG_GUARD_ENFORCE_INTERNAL_H */
