/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings that a worker's session runs under.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "base/spi.h"
#include "evmig.h"
#include "job/job.h"

/*
 * Settings of the role or database must not change what a batch means; what
 * the job's starter had set is applied by job_apply_settings().
 */
void
job_pin_session(void)
{
	static const char *const pins[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"row_security", "on"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"client_min_messages", "warning"},
		{"synchronize_seqscans", "off"},
		{"DateStyle", "ISO"},
		{"IntervalStyle", "postgres"},
		{"extra_float_digits", "1"},
	};

	for (int i = 0; i < lengthof(pins); i++)
		SetConfigOption(pins[i][0], pins[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Put the job's settings in force; a null takes one back to what role, database
 * and server say.
 */
void
job_apply_settings(Job *job)
{
	SqlArgs		args = {0};
	char		value[32];

	arg_int8(&args, job->id);
	spi_catalog("SELECT s.key, s.value, j.settings_version FROM evmig.job j LEFT JOIN LATERAL"
				" pg_catalog.jsonb_each_text(j.settings) s ON true WHERE j.job_id = $1", &args);
	for (uint64 i = 0; i < spi_nrows(); i++)
	{
		job->settings_version = (int) spi_int8(i, 2);
		if (!spi_isnull(i, 0))
			(void) set_config_option(spi_text(i, 0), spi_text(i, 1), PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_SET, true, WARNING, false);
	}
	snprintf(value, sizeof(value), "%d", evmig_data_lock_timeout);
	SetConfigOption("lock_timeout", value, PGC_USERSET, PGC_S_SESSION);
}
