/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  What a worker is told when it starts, and the process that starts
 *	  interrupted jobs again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_LAUNCHER_H
#define EVMIG_LAUNCHER_H

#include "base/compat.h"

#define WORKER_TYPE "evmig worker"	/* backend_type in pg_stat_activity */

/* travels in bgw_extra */
typedef struct WorkerArgs
{
	int64		job_id;
	Oid			database;
	Oid			role;			/* to log in as */
	int			number;			/* 0: the job's leader */
} WorkerArgs;

/* Settings, and the launcher where the library is preloaded; from _PG_init. */
extern void launcher_init(void);

/*
 * Have the launcher start a job's leader when this process has left its place;
 * false where there is no launcher.
 */
extern bool leave_to_launcher(int64 job_id, Oid role);

extern PGDLLEXPORT void evmig_launcher_main(Datum main_arg);
extern PGDLLEXPORT void evmig_recovery_main(Datum main_arg);

#endif							/* EVMIG_LAUNCHER_H */
