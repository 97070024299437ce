/*-------------------------------------------------------------------------
 *
 * locks_session.h
 *	  What the transaction's rules remember from statement to statement:
 *	  between locks_tx.c and locks_session.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_LOCKS_SESSION_H
#define EVMIG_GUARD_LOCKS_SESSION_H

#include "guard/locks.h"

#define TIMEOUT_UNSET (-1)

/* a lock that the transaction holds on somebody else's relation */
typedef struct LockHeld
{
	char	   *name;
	Oid			relid;
	bool		large;
	LOCKMODE	mode;
	int			sequence;		/* of the statement that took it */
} LockHeld;

typedef struct LockSavepoint
{
	char	   *name;
	int			held;			/* locks before it */
	int			names_mark;
	int			timeout;
	int			session_timeout;
} LockSavepoint;

/* a constraint that the source added or validated */
typedef struct SourceConstraint
{
	char	   *relation;
	char	   *name;
	List	   *not_null;		/* columns that it proves not null */
	bool		added;			/* by this source */
	bool		valid;
	Node	   *expr;			/* raw, of a CHECK */
	int			transaction;	/* in which it was added */
} SourceConstraint;

/* lock_note(): by hashes, 64 bits each, of what is noted */
typedef struct NotedFact
{
	uint64		relation;
	uint64		detail;
	int64		kind;			/* LockNote */
} NotedFact;

/* what guard->tx does not hold, because a rollback leaves it alone */
typedef struct LockSession
{
	int			statement;		/* offset of the top-level statement */
	int			sequence;		/* of statements, those in bodies too */
	int			number;			/* of the transaction */
	bool		nested;			/* in a routine's body or a DO block */
	List	   *savepoints;		/* LockSavepoint */
	int			names_mark;		/* where the names stood at BEGIN */

	/* lock_timeout without SET LOCAL; in force is guard->tx.lock_timeout */
	int			timeout;
	int			timeout_at_begin;

	List	   *constraints;	/* SourceConstraint */
	HTAB	   *notes;			/* NotedFact */
	List	   *made_types;		/* char *, in this transaction */
	char	   *altered;		/* table of the last ALTER TABLE */
	int			altered_sequence;
	int			altered_number;

	/* said once */
	bool		timeout_reported;
	bool		waited_unlimited;	/* a strong lock, where lock_timeout was set to 0 */
	bool		timeout_reported_large;
	bool		after_ax_reported;
	bool		wide_reported;
} LockSession;

extern LockSession *lock_session(Guard *guard);

/* ---- locks_session.c ---- */
extern bool lock_is_set_config(Node *tree);
extern void lock_check_enum_use(Guard *guard, Node *tree);
extern SourceConstraint *lock_source_constraint(Guard *guard, GuardRelation *relation,
												const char *name);
extern void lock_constraints_rollback(Guard *guard);

#endif							/* EVMIG_GUARD_LOCKS_SESSION_H */
