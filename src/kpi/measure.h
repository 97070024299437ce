/*-------------------------------------------------------------------------
 *
 * measure.h
 *	  The hooks that measure the writes on watched tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_MEASURE_H
#define EVMIG_KPI_MEASURE_H

/* Install the hooks where the library is preloaded; from _PG_init. */
extern void measure_init(void);
extern void failure_init(void);

/* A transaction is aborted, maybe by an error that was not logged: count that. */
extern void failure_unlogged(void);

/* how deep we are in executors and utility statements; 0: between statements */
extern int	measure_level(void);

#endif							/* EVMIG_KPI_MEASURE_H */
