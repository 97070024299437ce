/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  What a worker is told when it starts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_LAUNCHER_H
#define EVMIG_LAUNCHER_H

/* travels in bgw_extra */
typedef struct WorkerArgs
{
	int64		job_id;
	Oid			database;
	Oid			role;			/* to log in as */
	int			number;			/* 0: the job's leader */
} WorkerArgs;

#endif							/* EVMIG_LAUNCHER_H */
