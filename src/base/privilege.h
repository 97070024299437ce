/*-------------------------------------------------------------------------
 *
 * privilege.h
 *	  Who may do what, and as whom a piece of work runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_PRIVILEGE_H
#define EVMIG_PRIVILEGE_H

#include "base/compat.h"

typedef enum RunAsKind
{
	RUNAS_LOCAL,				/* our own constant SQL: path pinned */
	RUNAS_RESTRICTED			/* a table's owner's code: path pinned, and
								 * no session state may be changed */
} RunAsKind;

/* what runas_begin saves; an error's abort restores it without our help */
typedef struct RunAs
{
	Oid			userid;
	int			sec_context;
	int			nest_level;
} RunAs;

extern void runas_begin(RunAs *save, Oid role, RunAsKind kind);
extern void runas_end(RunAs *save);

/*
 * The same under another search_path, for code that was named under it; NULL
 * leaves the path alone, where nothing is parsed or executed.
 */
extern void runas_begin_path(RunAs *save, Oid role, RunAsKind kind, const char *path);

/* owner of the extension's tables */
extern Oid	extension_owner(void);

/* schema that the extension's functions live in */
extern Oid	extension_schema(void);

/* quoted, with a trailing dot, ready to be put before a function's name */
extern char *extension_schema_prefix(void);

/*
 * Raise insufficient_privilege unless the current user has the privileges of
 * the relation's owner.
 */
extern void require_owner(Oid relid);
extern bool owns_relation(Oid relid);	/* false too for one that is gone */

/*
 * The role that a job on this relation runs as: the owner where it can log
 * in, else the current user; never a superuser on somebody else's table.
 * Raises insufficient_privilege with a hint where there is none.
 */
extern Oid	job_role(Oid relid);

/*
 * Raise insufficient_privilege if row level security hides rows from the role:
 * it would call a table done of which it saw a part.  Returns the role.
 */
extern Oid	require_all_rows(Oid relid, Oid role);

/* raise unless writing is possible on this server (standby, read-only) */
extern void require_writable(void);

#endif							/* EVMIG_PRIVILEGE_H */
