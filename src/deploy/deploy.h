/*-------------------------------------------------------------------------
 *
 * deploy.h
 *	  A deployment's three lanes: migrations (schema only, must succeed),
 *	  indexes and backfills (may warn), and the record of each item.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_DEPLOY_H
#define EVMIG_DEPLOY_H

#include "base/compat.h"
#include "fmgr.h"
#include "nodes/pg_list.h"

/* evmig.ddl_retries, evmig.deploy_wait_max, evmig.quiesce_timeout */
extern int	evmig_ddl_retries;
extern int	evmig_deploy_wait_max;	/* ms */
extern int	evmig_quiesce_timeout;	/* ms */
extern void deploy_settings(void);

/*
 * Raise insufficient_privilege unless the current user may register and deploy
 * migrations: CREATE on the database, as for CREATE SCHEMA.
 */
extern void require_deployer(void);

/* A text argument of this name; raises null_value_not_allowed. */
extern char *required_text(FunctionCallInfo fcinfo, int arg, const char *name);

/* ---- version.c ---- */

/*
 * A text that sorts bytewise as the version does naturally: numbers by their
 * value (2 before 10), all else as it is.  Raises invalid_parameter_value for
 * an empty version, one with control characters, or one too long.
 */
extern char *version_key(const char *version);

/* ---- deploy.c: the record of an item; spi_commit() is the caller's ---- */

extern void deploy_record(int64 deploy, const char *phase, const char *item, const char *status,
						  double seconds, int64 job_id, const char *detail);
extern void deploy_notice(const char *phase, const char *item, const char *status, const char *detail);

/* both, for what needs no commit to be true */
extern void deploy_item(int64 deploy, const char *phase, const char *item, const char *status,
						double seconds, int64 job_id, const char *format,...) pg_attribute_printf(7, 8);

/* The deployment ended by an error, which the caller raises; commit is the caller's. */
extern void deploy_failed(int64 deploy);

/* ---- migration.c, attempt.c, apply.c ---- */

/* Versions of the pending ones in order.  Inside SPI. */
extern List *pending_migrations(void);

/* a migration, and what came of the last try */
typedef struct Attempt
{
	int64		deploy;
	const char *version;
	MemoryContext context;		/* the rest lives here, until the next try */
	bool		applied;		/* not yet committed; false: it is not pending any more */
	ErrorData  *error;			/* NULL: none */
	char	   *where;			/* line and statement of the error */
} Attempt;

/*
 * Read a migration's row under its lock and run the text, in a subtransaction
 * of a nonatomic SPI connection.  An error is caught, and has released all
 * locks.  Raises nothing but what ends the session.
 */
extern void try_migration(Attempt *a);

/*
 * Apply one migration in a transaction of its own and commit; tried again on a
 * lock timeout or a deadlock.  Raises the migration's error, with its line,
 * after it was recorded.  In a nonatomic SPI connection, in a transaction that
 * holds nothing.
 */
extern void apply_migration(int64 deploy, const char *version);

/* ---- connections.c ---- */

/* The phase connections; raises object_in_use where others are not to be there. */
extern void deploy_connections(int64 deploy, const char *quiesce);

/* ---- registered_index.c ---- */

/*
 * Start jobs for the registered indexes of ours that are not there; deploy 0:
 * outside of a deployment.  Appends int64 job ids.
 */
extern List *build_indexes(int64 deploy, List *jobs);

#endif							/* EVMIG_DEPLOY_H */
