/*-------------------------------------------------------------------------
 *
 * evmig.c
 *	  Module initialisation and settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "evmig.h"

#include <ctype.h>
#include <limits.h>

#include "fmgr.h"
#include "utils/guc.h"

#include "deploy/deploy.h"
#include "deploy/lock_time.h"
#include "guard/enforce.h"
#include "guard/guard.h"
#include "job/governor.h"
#include "job/launcher.h"
#include "kpi/kpi.h"

PG_MODULE_MAGIC;

char	   *evmig_target;
char	   *evmig_key_column;
char	   *evmig_order_column;

int			evmig_step_lock_timeout;
int			evmig_ddl_lock_timeout;
int			evmig_data_lock_timeout;
int			evmig_data_statement_timeout;
int			evmig_data_idle_timeout;
int			evmig_lock_wait_max;
int			evmig_long_transaction;

int			evmig_batch_size;
int			evmig_batch_sleep;
int			evmig_batch_target_ms;
int			evmig_batch_wal_bytes;
double		evmig_duty_cycle;
bool		evmig_adaptive;
double		evmig_canary_pct;
char	   *evmig_canary_check;
int			evmig_recheck_interval;
int			evmig_max_passes;
int			evmig_max_workers;
int			evmig_log_min_interval;

int			evmig_max_group_rows;
double		evmig_max_loser_pct;
int			evmig_index_retries;
int			evmig_ingest_key_locks;

char	   *evmig_change_window;
int			evmig_approval_ttl;
bool		evmig_require_second_person;
bool		evmig_require_runbook;

/* one row a setting, so that they stand in alphabetical order at a glance */
static void
define_int(const char *name, const char *what, int *variable, int boot,
		   int min, int max, GucContext context, int flags)
{
	DefineCustomIntVariable(name, what, NULL, variable, boot, min, max,
							context, flags, NULL, NULL, NULL);
}

static void
define_string(const char *name, const char *what, char **variable, const char *boot)
{
	DefineCustomStringVariable(name, what, NULL, variable, boot, PGC_USERSET, 0,
							   NULL, NULL, NULL);
}

static void
define_real(const char *name, const char *what, double *variable, double boot,
			double min, double max)
{
	DefineCustomRealVariable(name, what, NULL, variable, boot, min, max,
							 PGC_USERSET, 0, NULL, NULL, NULL);
}

static void
define_bool(const char *name, const char *what, bool *variable, bool boot,
			GucContext context)
{
	DefineCustomBoolVariable(name, what, NULL, variable, boot, context, 0,
							 NULL, NULL, NULL);
}

/* "HH:MM" at *text, which moves behind it; -1 for anything else */
static int
parse_minutes(const char **text)
{
	const char *s = *text;
	int			minutes;

	for (int i = 0; i < 5; i++)
		if (i == 2 ? s[i] != ':' : !isdigit((unsigned char) s[i]))
			return -1;
	minutes = ((s[0] - '0') * 10 + s[1] - '0') * 60 + (s[3] - '0') * 10 + s[4] - '0';
	if (s[3] > '5' || minutes > 24 * 60)
		return -1;
	*text += 5;
	return minutes;
}

bool
change_window_parse(const char *text, int *from, int *to)
{
	*from = *to = 0;
	if (text[0] == '\0')
		return true;
	*from = parse_minutes(&text);
	if (*from < 0 || *text++ != '-')
		return false;
	*to = parse_minutes(&text);
	return *to >= 0 && *text == '\0';
}

static bool
check_change_window(char **newval, void **extra, GucSource source)
{
	int			from;
	int			to;

	if (change_window_parse(*newval, &from, &to))
		return true;
	GUC_check_errdetail("It must be empty or two times of day, such as 22:00-04:00.");
	return false;
}

void
_PG_init(void)
{
	define_bool("evmig.adaptive", "Adapts batch size and pauses to the measured load.",
				&evmig_adaptive, true, PGC_USERSET);
	define_int("evmig.approval_ttl", "How long an approval of a runbook is valid.",
			   &evmig_approval_ttl, 24 * 60, 1, INT_MAX / 60, PGC_SUSET, GUC_UNIT_MIN);
	define_int("evmig.batch_size", "Rows of the first batch of a job.",
			   &evmig_batch_size, 200, 1, 100000, PGC_USERSET, 0);
	define_int("evmig.batch_sleep", "Least pause between two batches.",
			   &evmig_batch_sleep, 50, 0, 3600 * 1000, PGC_USERSET, GUC_UNIT_MS);
	define_int("evmig.batch_target_ms", "Time that one batch should take at most.",
			   &evmig_batch_target_ms, 100, 1, 60000, PGC_USERSET, GUC_UNIT_MS);
	define_int("evmig.batch_wal_bytes", "WAL that one batch should write at most; 0 is no limit.",
			   &evmig_batch_wal_bytes, 4096, 0, INT_MAX / 2, PGC_USERSET, GUC_UNIT_KB);
	define_string("evmig.canary_check", "Query that must return true before a backfill goes on behind its canary share.",
				  &evmig_canary_check, "");
	define_real("evmig.canary_pct", "Share of a backfill after which it pauses, in percent of its chunks; 0 is never.",
				&evmig_canary_pct, 0.0, 0.0, 100.0);
	DefineCustomStringVariable("evmig.change_window",
							   "Hours in which changes are welcome, such as 22:00-04:00; empty is any.",
							   NULL, &evmig_change_window, "", PGC_USERSET, 0,
							   check_change_window, NULL, NULL);
	define_int("evmig.data_idle_timeout", "idle_in_transaction_session_timeout of a job's batches.",
			   &evmig_data_idle_timeout, 120000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	define_int("evmig.data_lock_timeout", "lock_timeout of a job's batches, until they hold a row; then evmig.ddl_lock_timeout.",
			   &evmig_data_lock_timeout, 60000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	define_int("evmig.data_statement_timeout", "statement_timeout of a job's batches.",
			   &evmig_data_statement_timeout, 120000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	define_int("evmig.ddl_lock_timeout", "lock_timeout of schema migrations, and of a job's batches once they hold rows.",
			   &evmig_ddl_lock_timeout, 5000, 1, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	define_real("evmig.duty_cycle", "Share of the time that a worker is at work.",
				&evmig_duty_cycle, 0.5, 0.01, 1.0);
	define_int("evmig.index_retries", "How often an index build that met duplicates is tried again.",
			   &evmig_index_retries, 3, 0, 1000, PGC_USERSET, 0);
	define_int("evmig.ingest_key_locks", "Key locks that one transaction takes under the ingest guard at most.",
			   &evmig_ingest_key_locks, 256, 1, 100000, PGC_USERSET, 0);
	define_string("evmig.key_column", "Key column where none is given.",
				  &evmig_key_column, "request_id");
	define_int("evmig.lock_wait_max", "How long a strong lock is polled for before giving up.",
			   &evmig_lock_wait_max, 600000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	define_int("evmig.log_min_interval", "Least time between two progress lines of a job in the server log.",
			   &evmig_log_min_interval, 10000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	define_int("evmig.long_transaction", "Age from which on evmig_preflight warns of a transaction.",
			   &evmig_long_transaction, 60, 0, INT_MAX, PGC_USERSET, GUC_UNIT_S);
	define_int("evmig.max_group_rows", "Duplicates of one key that are still believed to be duplicates.",
			   &evmig_max_group_rows, 10000, 2, INT_MAX, PGC_USERSET, 0);
	define_real("evmig.max_loser_pct", "Share of the table's rows that a dedupe may remove, in percent.",
				&evmig_max_loser_pct, 10.0, 0.0, 100.0);
	define_int("evmig.max_passes", "Passes over what was skipped before a job ends as incomplete.",
			   &evmig_max_passes, 5, 1, 1000, PGC_USERSET, 0);
	define_int("evmig.max_workers", "Workers at work in the whole cluster, and so of one job, at most.",
			   &evmig_max_workers, 4, 1, 64, PGC_SIGHUP, 0);
	define_string("evmig.order_column", "Order column where none is given.",
				  &evmig_order_column, "ts");
	define_int("evmig.recheck_interval", "How long evmig_backfill_start_all believes that a finished backfill is finished.",
			   &evmig_recheck_interval, 3600, 0, INT_MAX, PGC_USERSET, GUC_UNIT_S);
	define_bool("evmig.require_runbook", "Refuses changing steps outside an approved runbook.",
				&evmig_require_runbook, false, PGC_SUSET);
	define_bool("evmig.require_second_person", "An approval must come from somebody else than who opened the runbook.",
				&evmig_require_second_person, false, PGC_SUSET);
	define_int("evmig.step_lock_timeout", "How long a strong lock may queue, and so hold up others.",
			   &evmig_step_lock_timeout, 200, 1, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	define_string("evmig.target", "Target table where none is given.",
				  &evmig_target, "business_events");
	deploy_settings();
	lock_time_init();
	enforce_init();				/* evmig.guard, evmig.guard_roles ... */
	governor_settings();		/* evmig.throttle_... */
	launcher_init();			/* evmig.databases */
	guard_settings();			/* evmig.guard_... */
	kpi_init();					/* evmig.kpi_... */

	MarkGUCPrefixReserved("evmig");
}
