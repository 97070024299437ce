/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings that a job's transactions run under.
 *
 * What role and database have set for the application must not change what a
 * batch means or how long it waits, and neither must what a trigger has SET in
 * an earlier batch: a worker pins the settings before each transaction, a
 * procedure within it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "base/spi.h"
#include "evmig.h"
#include "job/job.h"

typedef struct Pin
{
	const char *name;
	const char *value;
	bool		worker_only;	/* a procedure's caller keeps its own */
} Pin;

static const Pin pins[] = {
	{"role", "none", true},
	{"default_transaction_isolation", "read committed", true},
	{"default_transaction_read_only", "off", true},
	{"default_transaction_deferrable", "off", true},
	{"session_replication_role", "origin", false},
	{"exit_on_error", "off", false},
	{"client_min_messages", "warning", true},
	{"idle_session_timeout", "0", true},
	{"transaction_timeout", "0", true}, /* from 17 on */
	{"row_security", "on", false},
	{"jit", "off", false},
	{"enable_tidscan", "on", false},
	{"plan_cache_mode", "auto", false},
	{"max_parallel_workers_per_gather", "0", false},
	{"synchronize_seqscans", "off", false},
	{"DateStyle", "ISO", false},
	{"IntervalStyle", "postgres", false},
	{"extra_float_digits", "1", false},
};

static void
set_ms(const char *name, int ms, GucAction action)
{
	char		value[32];

	snprintf(value, sizeof(value), "%d", ms);
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, action, true, 0, false);
}

void
job_pin_worker(void)
{
	/* as of a session, else what a trigger has SET would outweigh it */
	for (int i = 0; i < lengthof(pins); i++)
		if (GetConfigOption(pins[i].name, true, false) != NULL)
			SetConfigOption(pins[i].name, pins[i].value, PGC_SUSET, PGC_S_SESSION);
	set_ms("lock_timeout", evmig_data_lock_timeout, GUC_ACTION_SET);

	/*
	 * These two say what holds, for whoever asks: a worker arms the first
	 * itself (job_begin), and never idles in a transaction.
	 */
	set_ms("statement_timeout", evmig_data_statement_timeout, GUC_ACTION_SET);
	set_ms("idle_in_transaction_session_timeout", evmig_data_idle_timeout, GUC_ACTION_SET);
}

void
job_pin_session(void)
{
	for (int i = 0; i < lengthof(pins); i++)
		if (!pins[i].worker_only)
			(void) set_config_option(pins[i].name, pins[i].value, PGC_SUSET, PGC_S_SESSION,
									 GUC_ACTION_LOCAL, true, 0, false);
	set_ms("lock_timeout", evmig_data_lock_timeout, GUC_ACTION_LOCAL);
	set_ms("idle_in_transaction_session_timeout", evmig_data_idle_timeout, GUC_ACTION_LOCAL);
}

void
job_limit_waits(int ms)
{
	set_ms("lock_timeout", ms, GUC_ACTION_LOCAL);
}

void
job_wait_for_rows(Job *job, List *relations)
{
	int			ms = evmig_ddl_lock_timeout;
	ListCell   *lc;

	LockRelationOid(job->target, RowExclusiveLock);
	foreach(lc, relations)
		LockRelationOid(lfirst_oid(lc), AccessShareLock);
	if (evmig_data_lock_timeout > 0)
		ms = Min(ms, evmig_data_lock_timeout);
	job_limit_waits(ms);
}

/* Remember what a procedure's caller had set. */
static void
save_setting(Job *job, const char *name)
{
	MemoryContext oldcontext;
	ListCell   *lc;

	foreach(lc, job->caller_settings)
		if (strcmp(linitial(lfirst(lc)), name) == 0)
			return;
	oldcontext = MemoryContextSwitchTo(job->context);
	job->caller_settings = lappend(job->caller_settings,
								   list_make2(pstrdup(name), pstrdup(GetConfigOption(name, false, false))));
	MemoryContextSwitchTo(oldcontext);
}

void
job_set_setting(Job *job, const char *name, const char *value)
{
	if (job->in_session)
		save_setting(job, name);
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SET, true, WARNING, false);
}

void
job_apply_settings(Job *job)
{
	SqlArgs		args = {0};

	arg_int8(&args, job->id);
	spi_catalog("SELECT s.key, s.value, j.settings_version FROM evmig.job j LEFT JOIN LATERAL"
				" pg_catalog.jsonb_each_text(j.settings) s ON true WHERE j.job_id = $1", &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		job->settings_version = (int) spi_int8(i, 2);
		if (!spi_isnull(i, 0))
			job_set_setting(job, spi_text(i, 0), spi_text(i, 1));
	}
}

void
job_restore_settings(Job *job)
{
	ListCell   *lc;

	foreach(lc, job->caller_settings)
	{
		char	   *name = linitial(lfirst(lc));
		char	   *value = lsecond(lfirst(lc));
		const char *reset = GetConfigOptionResetString(name);

		(void) set_config_option(name, reset && strcmp(reset, value) == 0 ? NULL : value,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SET, true, 0, false);
	}
}

char *
job_check_setting(const char *setting, const char *value)
{
	char	   *name = strncmp(setting, "evmig.", 6) == 0 ? pstrdup(setting) :
		psprintf("evmig.%s", setting);

	/* an unknown one would become a placeholder, were the prefix not reserved */
	if (GetConfigOption(name, true, false) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no setting \"%s\"", name),
				 errhint("SELECT name, short_desc FROM pg_settings WHERE name LIKE 'evmig.%%' shows the settings.")));

	/* only checks; as a plain role, so that nothing gets more than SET gives */
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SET, false, ERROR, false);
	return name;
}
