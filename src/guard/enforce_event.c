/*-------------------------------------------------------------------------
 *
 * enforce_event.c
 *	  What the live guard does about a finding: refuse, warn, log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "guard/enforce_internal.h"

#define STATEMENT_BYTES 1000
#define MOST_LOGGED 1000

/* when this session last logged a change of data */
typedef struct Logged
{
	uint64		key;			/* rule, relation and text, hashed; must be first */
	TimestampTz at;
	int64		repeated;		/* since, and not logged */
} Logged;

/* rule and relation, hashed, that this transaction has told of; in TopTransactionContext */
static HTAB *told = NULL;

void
enforce_event_forget(void)
{
	told = NULL;
}

static bool
told_before(const EnforceEvent *event)
{
	uint64		key = hash_bytes_extended((const unsigned char *) event->rule, strlen(event->rule), 0);
	bool		found;

	if (event->relation)
		key = hash_combine64(key, hash_bytes_extended((const unsigned char *) event->relation,
													  strlen(event->relation), 0));
	if (told == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(uint64);
		ctl.entrysize = sizeof(uint64);
		ctl.hcxt = TopTransactionContext;
		told = hash_create("evmig guard events", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(told, &key, HASH_ENTER, &found);
	return found;
}

bool
enforce_event_repeated(const char *rule, Oid relid, const EnforceText *text, int64 *repeated)
{
	static HTAB *logged = NULL;
	TimestampTz now = GetCurrentTimestamp();
	uint64		key = relid;
	Logged	   *entry;
	bool		found;

	key = hash_combine64(key, hash_bytes_extended((const unsigned char *) rule, strlen(rule), 0));
	if (text->source)
	{
		const char *statement = text->source + Max(text->location, 0);

		key = hash_combine64(key, hash_bytes_extended((const unsigned char *) statement,
													  text->location >= 0 && text->len > 0 ?
													  text->len : strlen(statement), 0));
	}
	if (logged != NULL && hash_get_num_entries(logged) >= MOST_LOGGED)
	{
		hash_destroy(logged);
		logged = NULL;
	}
	if (logged == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(uint64);
		ctl.entrysize = sizeof(Logged);
		logged = hash_create("evmig guard log", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(logged, &key, HASH_ENTER, &found);
	if (found && now - entry->at < USECS_PER_SEC && now >= entry->at)
	{
		entry->repeated++;
		return true;
	}
	*repeated = found ? entry->repeated : 0;
	entry->at = now;
	entry->repeated = 0;
	return false;
}

/* The statement alone, not the others of its string, shortened. */
static char *
statement_text(const EnforceText *text)
{
	const char *s = text->source ? text->source : "";
	int			len;

	if (text->location > 0)
		s += text->location;
	len = text->location >= 0 && text->len > 0 ? text->len : strlen(s);
	while (len > 0 && strchr(" \t\r\n", *s) != NULL)
	{
		s++;
		len--;
	}
	while (len > 0 && strchr(" \t\r\n;", s[len - 1]) != NULL)
		len--;
	if (len > STATEMENT_BYTES)
		return psprintf("%.*s...", pg_mbcliplen(s, len, STATEMENT_BYTES), s);
	return pnstrdup(s, len);
}

/* who is told; somebody may have dropped the role meanwhile */
static const char *
session_role(void)
{
	const char *name = GetUserNameFromId(GetSessionUserId(), true);

	return name ? name : "?";
}

/* One line that a log's reader finds by "evmig.guard" and its keys. */
static void
log_event(const EnforceEvent *event, const char *outcome, EnforceLevel level)
{
	ereport(LOG_SERVER_ONLY,
			(errmsg("evmig.guard %s: %s, rule=%s relation=%s role=%s level=%s application_name=%s%s",
					outcome, event->what, event->rule,
					event->relation ? event->relation : "-",
					quote_identifier(session_role()),
					enforce_level_name(level),
					quote_literal_cstr(application_name ? application_name : ""),
					event->repeated > 0 ? psprintf(" repeated=" INT64_FORMAT, event->repeated) : ""),
			 errdetail("Statement: %s", statement_text(event->text)),
			 errhidestmt(true)));
}

static const char *
event_detail(const EnforceEvent *event, EnforceLevel level)
{
	return psprintf("%s%sRule %s; the session of role \"%s\" is guarded at level %s.",
					event->why ? event->why : "", event->why ? " " : "", event->rule,
					session_role(), enforce_level_name(level));
}

void
enforce_event(const EnforceEvent *event)
{
	EnforceLevel level = enforce_level();

	if (level == ENFORCE_OFF || event->severity == GUARD_INFO)
		return;
	if (enforce_bypassed())
	{
		if (!told_before(event))
			log_event(event, "let through", level);
		return;
	}
	if (level == ENFORCE_ERROR && event->severity == GUARD_ERROR)
	{
		log_event(event, "refused", level);
		ereport(ERROR,
				(errcode(ERRCODE_EVMIG_GUARD),
				 errmsg("refused by evmig.guard: %s", event->what),
				 errdetail_internal("%s", event_detail(event, level)),
				 event->hint ? errhint("%s", event->hint) : 0));
	}
	if (told_before(event))
		return;
	log_event(event, level == ENFORCE_LOG ? "noted" : "warned", level);
	if (level != ENFORCE_LOG)
		ereport(WARNING,
				(errcode(ERRCODE_EVMIG_GUARD),
				 errmsg("evmig.guard: %s", event->what),
				 errdetail_internal("%s", event_detail(event, level)),
				 event->hint ? errhint("%s", event->hint) : 0));
}
