/*-------------------------------------------------------------------------
 *
 * script.c
 *	  The approved plan as plain psql SQL, for a server where extensions cannot
 *	  be installed.
 *
 * The templates of the script are in script_text.h; names and expressions are
 * put in where a template says {name}, quoted for that place.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/spi.h"
#include "base/sqltext.h"
#include "runbook/event.h"
#include "runbook/runbook.h"
#include "runbook/script_text.h"

PG_FUNCTION_INFO_V1(evmig_runbook_script);

typedef struct Token
{
	const char *name;
	const char *value;
} Token;

#define MAX_TOKENS 40

typedef struct Script
{
	StringInfoData out;
	Token		tokens[MAX_TOKENS];
	int			n;
} Script;

static void
token(Script *script, const char *name, const char *value)
{
	Assert(script->n < MAX_TOKENS);
	script->tokens[script->n].name = name;
	script->tokens[script->n++].value = value;
}

/* Append a template with its tokens replaced. */
static void
emit(Script *script, const char *template)
{
	const char *p = template;

	while (*p)
	{
		const char *end = *p == '{' ? strchr(p, '}') : NULL;
		const Token *found = NULL;

		for (int i = 0; end && i < script->n && found == NULL; i++)
			if (strlen(script->tokens[i].name) == end - p - 1 &&
				strncmp(script->tokens[i].name, p + 1, end - p - 1) == 0)
				found = &script->tokens[i];
		if (found)
		{
			appendStringInfoString(&script->out, found->value);
			p = end + 1;
		}
		else
			appendStringInfoChar(&script->out, *p++);
	}
}

/* Text that cannot end a comment line. */
static char *
comment(const char *text)
{
	char	   *copy = pstrdup(text ? text : "");

	for (char *p = copy; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	return copy;
}

/* A dollar quote that occurs in none of the values. */
static char *
dollar_quote(Script *script)
{
	char	   *quote = pstrdup("$evmig$");

	for (int i = 0, number = 0; i < script->n; i++)
		if (strstr(script->tokens[i].value, quote) != NULL)
		{
			quote = psprintf("$evmig%d$", ++number);
			i = -1;
		}
	return quote;
}

/* ---- what the script says about the table's columns ---- */

/*
 * Lists of columns: of all, with a prefix, for INSERT; of those that make two
 * rows of one key differ; of those that identify a row.
 */
static void
column_tokens(Script *script, Target *target)
{
	SqlArgs		args = {0};

	arg_oid(&args, target->relid);
	arg_text(&args, target->key.name);
	arg_text(&args, target->order.name);
	spi_catalog("SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum),"
				" pg_catalog.string_agg('NEW.' || pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum),"
				" coalesce(pg_catalog.string_agg(pg_catalog.format('l.%1$I::text IS NOT DISTINCT FROM k.%1$I::text',"
				"  a.attname), ' AND ' ORDER BY a.attnum)"
				"  FILTER (WHERE a.attname NOT IN ($2::name, $3::name) AND NOT pk.is), 'true'),"
				" coalesce(pg_catalog.string_agg(pg_catalog.format('%L, l.%I', a.attname, a.attname), ', '"
				"  ORDER BY a.attnum) FILTER (WHERE pk.is), '''ctid'', l.ctid'),"
				" coalesce(pg_catalog.string_agg(pg_catalog.format('%L, NEW.%I', a.attname, a.attname), ', '"
				"  ORDER BY a.attnum) FILTER (WHERE pk.is), '')"
				" FROM pg_catalog.pg_attribute a,"
				" LATERAL (SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid"
				"  AND i.indisprimary AND a.attnum = ANY (i.indkey::int2[])) AS is) pk"
				" WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped", &args);
	token(script, "columns", spi_text(0, 0));
	token(script, "new_columns", spi_text(0, 1));
	token(script, "same_payload", spi_text(0, 2));
	token(script, "identity", spi_text(0, 3));
	token(script, "new_identity", spi_text(0, 4));
}

static void
name_tokens(Script *script, Target *target)
{
	char	   *unique = object_name(psprintf("ux_%s", target->name), target->key.name, NULL);
	char	   *helper = object_name(target->name, target->key.name, "evmig_helper");
	char	   *guard = object_name(target->name, "evmig_guard", NULL);

	token(script, "table", target->quoted);
	token(script, "table_literal", quote_literal_cstr(target->quoted));
	token(script, "key", target->key.quoted);
	token(script, "key_literal", quote_literal_cstr(target->key.name));
	token(script, "order", target->order.quoted);
	token(script, "eq", quote_operator(target->key.eq_op));
	token(script, "schema_literal", quote_literal_cstr(target->schema));
	token(script, "unique", quote_identifier(unique));
	token(script, "unique_literal", quote_literal_cstr(unique));
	token(script, "helper", quote_identifier(helper));
	token(script, "helper_name", quote_qualified_identifier(target->schema, helper));
	token(script, "helper_literal", quote_literal_cstr(helper));
	token(script, "guard", quote_qualified_identifier(target->schema, guard));
	token(script, "archive", quote_qualified_identifier(target->schema,
														object_name(target->name, NULL, "dupes_archived")));
	token(script, "rekeyed", quote_qualified_identifier(target->schema,
														object_name(target->name, NULL, "rekeyed")));
	token(script, "check", quote_identifier(object_name(target->name, target->key.name, "not_null")));
	token(script, "check_literal", quote_literal_cstr(object_name(target->name, target->key.name, "not_null")));
	token(script, "create_unique", quote_literal_cstr(
		psprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s)",
				 quote_identifier(unique), target->quoted, target->key.quoted)));
	token(script, "create_helper", quote_literal_cstr(
		psprintf("CREATE INDEX CONCURRENTLY %s ON %s (%s)",
				 quote_identifier(helper), target->quoted, target->key.quoted)));
}

/* Statements that are run under a polled lock, each as a literal. */
static void
statement_tokens(Script *script, Target *target)
{
	const char *check = quote_identifier(object_name(target->name, target->key.name, "not_null"));

	token(script, "add_check", quote_literal_cstr(
		psprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s, ADD CONSTRAINT %s CHECK (%s IS NOT NULL) NOT VALID",
				 target->quoted, check, check, target->key.quoted)));
	token(script, "validate", quote_literal_cstr(
		psprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", target->quoted, check)));
	token(script, "set_not_null", quote_literal_cstr(
		psprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", target->quoted, target->key.quoted)));
	token(script, "drop_check", quote_literal_cstr(
		psprintf("ALTER TABLE %s DROP CONSTRAINT %s", target->quoted, check)));
	token(script, "create_trigger", quote_literal_cstr(
		psprintf("CREATE OR REPLACE TRIGGER \"~evmig_guard\" BEFORE INSERT OR UPDATE ON %s"
				 " FOR EACH ROW EXECUTE FUNCTION %s()", target->quoted,
				 quote_qualified_identifier(target->schema,
											object_name(target->name, "evmig_guard", NULL)))));
	token(script, "enable_trigger", quote_literal_cstr(
		psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER \"~evmig_guard\"", target->quoted)));
}

/* ---- the script ---- */

static void
head_tokens(Script *script, Runbook *rb)
{
	ChainState	chain;

	runbook_chain(rb->id, &chain);
	token(script, "id", psprintf(INT64_FORMAT, rb->id));
	token(script, "target_comment", comment(rb->quoted));
	token(script, "key_comment", comment(rb->key));
	token(script, "approver", comment(rb->approved_by));
	token(script, "approved_at", pstrdup(timestamptz_to_str(rb->approved_at)));
	token(script, "path", rb->path == 'B' ? "B" : "A");
	token(script, "head", chain.head ? chain.head : "");
	token(script, "generator", rb->generator);
}

static char *
script_text(Runbook *rb, Target *target)
{
	Script		script = {0};
	bool		rekey = rb->mode && strcmp(rb->mode, "rekey") == 0;
	bool		both = rb->mode && strcmp(rb->mode, "auto") == 0;

	initStringInfo(&script.out);
	head_tokens(&script, rb);
	name_tokens(&script, target);
	column_tokens(&script, target);
	statement_tokens(&script, target);
	token(&script, "q", dollar_quote(&script));

	emit(&script, SCRIPT_HEAD);
	if (rb->extension)
		emit(&script, SCRIPT_EXTENSION);
	if (rb->path == 'B')
	{
		emit(&script, SCRIPT_RESET);
		return script.out.data;
	}
	emit(&script, SCRIPT_TOOLS);
	emit(&script, SCRIPT_GUARD_FILL);
	emit(&script, SCRIPT_GUARD_ON);
	emit(&script, SCRIPT_FILL);
	emit(&script, SCRIPT_HELPER);
	if (!rekey)
		emit(&script, SCRIPT_ARCHIVE_TABLE);
	if (rekey || both)
		emit(&script, SCRIPT_REKEY_TABLE);
	emit(&script, rekey ? SCRIPT_GUARD_REKEY : SCRIPT_GUARD_ARCHIVE);

	emit(&script, SCRIPT_DEDUPE_BEGIN);
	if (!rekey)
		emit(&script, both ? SCRIPT_DEDUPE_ARCHIVE_SAME : SCRIPT_DEDUPE_ARCHIVE);
	if (rekey || both)
		emit(&script, SCRIPT_DEDUPE_REKEY);
	emit(&script, SCRIPT_DEDUPE_END);
	emit(&script, SCRIPT_UNIQUE);
	emit(&script, SCRIPT_VERIFY);
	if (rb->harden)
		emit(&script, SCRIPT_HARDEN);
	emit(&script, SCRIPT_GUARD_FILL);
	emit(&script, SCRIPT_END);
	return script.out.data;
}

/*
 * evmig_runbook_script(id bigint) returns text
 *
 * An approved runbook as a psql script that needs no extension.  Takes ACCESS
 * SHARE on the table; changes nothing.
 */
Datum
evmig_runbook_script(PG_FUNCTION_ARGS)
{
	Runbook    *rb;
	Target	   *target;
	char	   *text;

	spi_begin();
	rb = runbook_load(PG_GETARG_INT64(0), false);
	if (rb->approved_by == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("runbook " INT64_FORMAT " is not approved", rb->id),
				 errhint("SELECT evmig_runbook_approve(" INT64_FORMAT ", note) first.", rb->id)));
	target = runbook_target(rb, TARGET_READ | TARGET_ORDER);
	text = script_text(rb, target);
	spi_end();
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
