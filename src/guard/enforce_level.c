/*-------------------------------------------------------------------------
 *
 * enforce_level.c
 *	  How strict the live guard is with a session: settings, roles, bypass.
 *
 * evmig.guard is a superuser's setting; evmig.guard_roles is the server
 * configuration's, and goes by who logged in: neither SET ROLE nor SET
 * SESSION AUTHORIZATION makes it forget the first role.  The stricter counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "guard/enforce_internal.h"

static const struct config_enum_entry levels[] = {
	{"off", ENFORCE_OFF, false},
	{"log", ENFORCE_LOG, false},
	{"warn", ENFORCE_WARN, false},
	{"warning", ENFORCE_WARN, true},
	{"error", ENFORCE_ERROR, false},
	{NULL, 0, false}
};

/*
 * A value of evmig.guard_bypass_reason: its own use is noted with it, so that
 * a value that comes back (the end of SET LOCAL, a rollback) is still used up.
 */
typedef struct Bypass
{
	uint64		used_in;		/* number of the transaction; 0: not yet */
	uint64		warned_in;
} Bypass;

bool		enforce_armed = false;

static int	guard_setting = ENFORCE_OFF;
static char *roles_setting = NULL;
static char *bypass_setting = NULL;
static Bypass *bypass = NULL;

/* transactions of this session that looked at a bypass, counted from 1 */
static uint64 transaction_number = 1;

/* what the roles' levels came to, while nothing that matters has changed */
static struct
{
	bool		valid;
	Oid			session;
	Oid			login;
	EnforceLevel level;
}			cache;

/* ---- role=level, ... ---- */

/*
 * Take one "role=level" off *text; false for malformed text.  role is
 * truncated and folded as an identifier, palloc'd; NULL at the end of text.
 */
static bool
next_role(const char **text, char **role, EnforceLevel *level)
{
	const char *s = *text;
	StringInfoData name;
	const char *word;
	bool		quoted;

	*role = NULL;
	while (isspace((unsigned char) *s))
		s++;
	if (*s == '\0')
	{
		*text = s;
		return true;
	}

	initStringInfo(&name);
	quoted = *s == '"';
	if (quoted)
	{
		for (s++; *s != '\0' && (*s != '"' || s[1] == '"'); s++)
		{
			if (*s == '"')
				s++;
			appendStringInfoChar(&name, *s);
		}
		if (*s++ != '"')
			return false;
	}
	else
		while (*s != '\0' && *s != '=' && *s != ',' && *s != '"' && !isspace((unsigned char) *s))
			appendStringInfoChar(&name, *s++);
	while (isspace((unsigned char) *s))
		s++;
	if (name.len == 0 || *s++ != '=')
		return false;
	while (isspace((unsigned char) *s))
		s++;

	word = s;
	while (isalpha((unsigned char) *s))
		s++;
	for (const struct config_enum_entry *entry = levels;; entry++)
	{
		if (entry->name == NULL)
			return false;
		if (strlen(entry->name) == s - word && pg_strncasecmp(entry->name, word, s - word) == 0)
		{
			*level = entry->val;
			break;
		}
	}
	while (isspace((unsigned char) *s))
		s++;
	if (*s == ',')
	{
		/* something must follow */
		for (s++; isspace((unsigned char) *s); s++)
			;
		if (*s == '\0')
			return false;
	}
	else if (*s != '\0')
		return false;

	if (quoted)
		truncate_identifier(name.data, name.len, false);
	*role = quoted ? name.data : downcase_truncate_identifier(name.data, name.len, false);
	*text = s;
	return true;
}

static bool
check_roles(char **newval, void **extra, GucSource source)
{
	const char *text = *newval;
	char	   *role;
	EnforceLevel level;

	do
	{
		if (!next_role(&text, &role, &level))
		{
			GUC_check_errdetail("It must be a list such as migrator=error, \"Deploy Role\"=log,"
								" with levels off, log, warn and error.");
			return false;
		}
	} while (role != NULL);
	return true;
}

/* The strictest level that the list gives a role, itself or by membership. */
static EnforceLevel
role_level(Oid member)
{
	EnforceLevel strictest = ENFORCE_OFF;
	const char *text = roles_setting;
	char	   *role;
	EnforceLevel level;

	while (next_role(&text, &role, &level) && role != NULL)
	{
		bool		everybody = strcmp(role, "public") == 0;
		Oid			roleid = everybody ? InvalidOid : get_role_oid(role, true);

		/* superusers are not taken for members of every role */
		if (level > strictest &&
			(everybody || (OidIsValid(roleid) && is_member_of_role_nosuper(member, roleid))))
			strictest = level;
		pfree(role);
	}
	return strictest;
}

static void
roles_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	cache.valid = false;
}

EnforceLevel
enforce_roles_level(void)
{
	static bool registered = false;
	Oid			session = GetSessionUserId();
	Oid			login = GetAuthenticatedUserId();
	EnforceLevel a;
	EnforceLevel b;

	if (cache.valid && cache.session == session && cache.login == login)
		return cache.level;
	if (roles_setting == NULL || roles_setting[0] == '\0')
		return ENFORCE_OFF;
	if (!registered)
	{
		CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
		registered = true;
	}
	/* an invalidation that comes meanwhile makes it invalid again */
	cache.session = InvalidOid;
	cache.valid = true;
	a = role_level(session);
	b = session == login ? a : role_level(login);
	cache.session = session;
	cache.login = login;
	cache.level = Max(a, b);
	return cache.level;
}

EnforceLevel
enforce_setting_level(void)
{
	return (EnforceLevel) guard_setting;
}

EnforceLevel
enforce_level(void)
{
	/* workers, autovacuum, logical replication: nobody's session */
	if (!enforce_armed || IsBinaryUpgrade ||
		(MyBackendType != B_BACKEND && MyBackendType != B_WAL_SENDER))
		return ENFORCE_OFF;
	return Max(enforce_setting_level(), enforce_roles_level());
}

const char *
enforce_level_name(EnforceLevel level)
{
	for (const struct config_enum_entry *entry = levels; entry->name; entry++)
		if (entry->val == level)
			return entry->name;
	return "off";
}

bool
enforce_wanted(void)
{
	return enforce_armed;
}

/* ---- bypass ---- */

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		transaction_number++;
}

/*
 * Only somebody at work in a session gives a reason; a stored one would let
 * every session's first transaction through.
 */
static bool
check_bypass(char **newval, void **extra, GucSource source)
{
	const char *s = *newval;

	*extra = NULL;
	if (*s == '\0')
		return true;
	while (isspace((unsigned char) *s))
		s++;
	if (*s == '\0')
	{
		GUC_check_errdetail("It must say why.");
		return false;
	}
	if (source < PGC_S_CLIENT || source == PGC_S_TEST)
	{
		GUC_check_errdetail("It is good for one transaction, and cannot be stored for a role, a database or a function.");
		GUC_check_errhint("Run SET LOCAL evmig.guard_bypass_reason in the transaction.");
		return false;
	}
	*extra = compat_guc_malloc(sizeof(Bypass));
	if (*extra == NULL)
		return false;
	memset(*extra, 0, sizeof(Bypass));
	return true;
}

static void
assign_bypass(const char *newval, void *extra)
{
	bypass = extra;
}

const char *
enforce_bypass_state(void)
{
	if (bypass == NULL)
		return "none";
	if (bypass->used_in == 0)
		return "for the next transaction that needs it";
	return bypass->used_in == transaction_number ? "for this transaction" : "used up";
}

bool
enforce_bypassed(void)
{
	static bool registered = false;

	if (bypass == NULL)
		return false;
	if (!registered)
	{
		RegisterXactCallback(transaction_ended, NULL);
		registered = true;
	}
	if (bypass->used_in == 0)
	{
		const char *role = GetUserNameFromId(GetSessionUserId(), true);

		bypass->used_in = transaction_number;
		ereport(LOG_SERVER_ONLY,
				(errmsg("evmig.guard lets a transaction of role \"%s\" through: %s",
						role ? role : "?", bypass_setting)));
	}
	if (bypass->used_in == transaction_number)
		return true;
	if (bypass->warned_in != transaction_number)
	{
		bypass->warned_in = transaction_number;
		ereport(WARNING,
				(errmsg("evmig.guard_bypass_reason was used up by an earlier transaction"),
				 errhint("A superuser can set it again for another one.")));
	}
	return false;
}

/* ---- settings ---- */

static void
arm(int setting, const char *roles)
{
	enforce_armed = setting != ENFORCE_OFF || (roles != NULL && roles[0] != '\0');
	cache.valid = false;
}

static void
assign_guard(int newval, void *extra)
{
	arm(newval, roles_setting);
}

static void
assign_roles(const char *newval, void *extra)
{
	arm(guard_setting, newval);
}

void
enforce_settings(void)
{
	DefineCustomEnumVariable("evmig.guard",
							 "What happens to data changes and strong locks of this session's statements.",
							 "off, log, warn or error.  Needs evmig in shared_preload_libraries to hold for every session.",
							 &guard_setting, ENFORCE_OFF, levels, PGC_SUSET, 0,
							 NULL, assign_guard, NULL);
	DefineCustomStringVariable("evmig.guard_bypass_reason",
							   "Why the guard lets one transaction of this session through.",
							   "Logged; the transaction that uses it uses it up.",
							   &bypass_setting, "", PGC_SUSET, GUC_DISALLOW_IN_FILE,
							   check_bypass, assign_bypass, NULL);
	DefineCustomStringVariable("evmig.guard_roles",
							   "Roles whose sessions are judged at least as strictly as this, such as migrator=error.",
							   "Goes by who logged in, and by membership; public is everybody.",
							   &roles_setting, "", PGC_SIGHUP, 0,
							   check_roles, assign_roles, NULL);
}
