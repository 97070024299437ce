/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The guard's settings.
 *
 * What decides between a finding and none is for superusers to set, since
 * the live guard goes by it too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/settings.h"

#include "utils/guc.h"
#include "utils/varlena.h"

#include "guard/catalog.h"
#include "guard/style.h"

int			guard_insert_values = INSERT_VALUES_WARNING;
char	   *guard_backfills;
char	   *guard_dml_functions;
bool		guard_in_transaction;
int			guard_target_major;

static const struct config_enum_entry insert_values_levels[] = {
	{"off", INSERT_VALUES_OFF, false},
	{"warning", INSERT_VALUES_WARNING, false},
	{"error", INSERT_VALUES_ERROR, false},
	{NULL, 0, false}
};

static bool
check_dml_functions(char **newval, void **extra, GucSource source)
{
	char	   *names = pstrdup(*newval);
	List	   *list;
	bool		ok = SplitIdentifierString(names, ',', &list);

	list_free(list);
	pfree(names);
	if (!ok)
		GUC_check_errdetail("It is a list of functions' names, separated by commas.");
	return ok;
}

static bool
check_target_version(int *newval, void **extra, GucSource source)
{
	if (*newval == 0 || *newval >= 10)
		return true;
	GUC_check_errdetail("It is a major version, from 10 on, or 0 for that of this server.");
	return false;
}

int
guard_server_version(void)
{
	return atoi(GetConfigOption("server_version_num", false, false));
}

int
guard_target_version(void)
{
	return guard_target_major > 0 ? guard_target_major * 10000 : guard_server_version();
}

void
guard_settings(void)
{
	DefineCustomStringVariable("evmig.guard_backfills",
							   "Backfills that comments may name though they are not registered here.",
							   "Names, separated by commas; for a CI's database.",
							   &guard_backfills, "", PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("evmig.guard_dml_functions",
							   "Functions whose calls are data changes to evmig_guard.",
							   "Names with or without a schema, separated by commas.",
							   &guard_dml_functions, "exec_dml", PGC_SUSET, GUC_LIST_INPUT,
							   check_dml_functions, NULL, NULL);
	DefineCustomBoolVariable("evmig.guard_in_transaction",
							 "Whether the sources that evmig_guard inspects are run in one transaction each.",
							 NULL, &guard_in_transaction, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomEnumVariable("evmig.guard_insert_values",
							 "What INSERT ... VALUES is to the guard: nothing (off), a warning or an error.",
							 NULL, &guard_insert_values, INSERT_VALUES_WARNING,
							 insert_values_levels, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("evmig.guard_small_table",
							   "Size up to which a lock on a table is no error to the guard.",
							   "A number of rows such as 10000, or a size such as 10MB.",
							   &guard_small_table, GUARD_SMALL_TABLE, PGC_SUSET, 0,
							   guard_small_table_check, NULL, NULL);
	DefineCustomBoolVariable("evmig.guard_style",
							 "Whether the guard says what is a matter of taste, too.",
							 NULL, &guard_style_on, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("evmig.guard_target_version",
							"Major version that the guard's rules go by; 0 is that of this server.",
							NULL, &guard_target_major, 0, 0, 99, PGC_USERSET, 0,
							check_target_version, NULL, NULL);
}
