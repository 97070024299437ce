/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The guard's settings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_SETTINGS_H
#define EVMIG_GUARD_SETTINGS_H

#include "guard/guard.h"

typedef enum GuardInsertValues
{
	INSERT_VALUES_OFF,
	INSERT_VALUES_WARNING,
	INSERT_VALUES_ERROR
} GuardInsertValues;

extern int	guard_insert_values;	/* GuardInsertValues */
extern char *guard_backfills;	/* names that count as registered */
extern char *guard_dml_functions;	/* names, with or without schema */
extern bool guard_in_transaction;	/* a source runs in one transaction */
extern int	guard_target_major;		/* 0: the server's */

/* guard_target_major as a server_version_num */
extern int	guard_target_version(void);
extern int	guard_server_version(void);

#endif							/* EVMIG_GUARD_SETTINGS_H */
