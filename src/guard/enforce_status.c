/*-------------------------------------------------------------------------
 *
 * enforce_status.c
 *	  What the live guard makes of this session, and why.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/spi.h"
#include "evmig.h"
#include "guard/enforce_internal.h"

PG_FUNCTION_INFO_V1(evmig_guard_status);

static void
put_row(ReturnSetInfo *rsinfo, const char *setting, const char *value,
		const char *source, const char *effective)
{
	Datum		values[4];
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(setting);
	values[1] = CStringGetTextDatum(value);
	nulls[2] = source == NULL;
	values[2] = source ? CStringGetTextDatum(source) : (Datum) 0;
	values[3] = CStringGetTextDatum(effective);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* a setting with its source, as pg_settings tells them */
static void
put_setting(ReturnSetInfo *rsinfo, const char *name, const char *effective)
{
	SqlArgs		args = {0};

	arg_text(&args, name);
	spi_catalog("SELECT pg_catalog.current_setting(name), source FROM pg_catalog.pg_settings WHERE name = $1", &args);
	if (spi_nrows() > 0)
		put_row(rsinfo, name, spi_text(0, 0), spi_text(0, 1), effective);
}

/* evmig_guard_status() returns setof (setting, value, source, effective) */
Datum
evmig_guard_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EnforceLevel level = enforce_level();
	char	   *session = GetUserNameFromId(GetSessionUserId(), false);
	char	   *login = GetUserNameFromId(GetAuthenticatedUserId(), false);

	InitMaterializedSRF(fcinfo, 0);
	spi_begin();
	put_row(rsinfo, "session", session,
			strcmp(session, login) == 0 ? NULL : psprintf("logged in as %s", login),
			enforce_level_name(level));
	put_setting(rsinfo, "evmig.guard", enforce_level_name(enforce_setting_level()));
	put_setting(rsinfo, "evmig.guard_roles", enforce_level_name(enforce_roles_level()));
	put_setting(rsinfo, "evmig.guard_bypass_reason", enforce_bypass_state());
	put_setting(rsinfo, "evmig.ddl_lock_timeout",
				psprintf("%d", level == ENFORCE_OFF ? LockTimeout : enforce_ddl_timeout()));
	put_setting(rsinfo, "shared_preload_libraries",
				enforce_preloaded() ? "evmig is loaded for every session" :
				"a session is judged only after it has called evmig: preload the library");
	spi_end();
	return (Datum) 0;
}
