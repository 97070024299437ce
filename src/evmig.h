/*-------------------------------------------------------------------------
 *
 * evmig.h
 *	  Settings that every room may read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_H
#define EVMIG_H

#include "base/compat.h"

#define EVMIG_SCHEMA "evmig"

/* defaults of target, key_column and order_column arguments */
extern char *evmig_target;
extern char *evmig_key_column;
extern char *evmig_order_column;

/* locks and timeouts, milliseconds */
extern int	evmig_step_lock_timeout;
extern int	evmig_ddl_lock_timeout;
extern int	evmig_data_lock_timeout;
extern int	evmig_data_statement_timeout;
extern int	evmig_data_idle_timeout;
extern int	evmig_lock_wait_max;
extern int	evmig_long_transaction; /* seconds */

/* pace */
extern int	evmig_batch_size;		/* rows */
extern int	evmig_batch_sleep;		/* ms, the least pause */
extern int	evmig_batch_target_ms;
extern int	evmig_batch_wal_bytes;	/* kB */
extern double evmig_duty_cycle;
extern bool evmig_adaptive;
extern double evmig_canary_pct; /* of the chunks; 0: none */
extern char *evmig_canary_check;
extern int	evmig_recheck_interval; /* s */
extern int	evmig_max_passes;
extern int	evmig_max_workers;
extern int	evmig_log_min_interval; /* ms */

/* integrity */
extern int	evmig_max_group_rows;
extern double evmig_max_loser_pct;
extern int	evmig_index_retries;
extern int	evmig_ingest_key_locks; /* advisory locks one transaction takes */

/* runbook */
extern char *evmig_change_window;

/*
 * Minutes since midnight of an evmig.change_window; from > to wraps midnight,
 * from = to is the whole day.  False for text that is no window; the empty
 * one is the whole day.
 */
extern bool change_window_parse(const char *text, int *from, int *to);
extern int	evmig_approval_ttl;		/* minutes */
extern bool evmig_require_second_person;
extern bool evmig_require_runbook;

#endif							/* EVMIG_H */
