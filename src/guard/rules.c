/*-------------------------------------------------------------------------
 *
 * rules.c
 *	  The rules about data and about what could not be read, and a look-up
 *	  over all sets of rules.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/rules.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(evmig_guard_rule_list);

#define BACKFILL "Register it as a backfill, which changes the rows in small committed batches: SELECT evmig_backfill_register(name, target, set_list, where_clause);"

static const GuardRule data_rules[] = {
	{"data-update", GUARD_ERROR, true, 0,
		"UPDATE, and INSERT ... ON CONFLICT DO UPDATE",
		"All rows are locked and rewritten in one transaction: the application waits, WAL and bloat come at once, and a failure loses all of it.",
	BACKFILL},
	{"data-delete", GUARD_ERROR, true, 0,
		"DELETE",
		"All rows are locked in one transaction, triggers and foreign keys fire for each, and nothing keeps what was removed.",
	"Remove rows outside the migration, in batches, into an archive: see evmig_dedupe() for duplicates."},
	{"data-insert-select", GUARD_ERROR, true, 0,
		"INSERT ... SELECT, also VALUES with a sub-select in it",
		"A whole query's rows are written in one transaction, which holds back vacuum and lags replicas.",
	"Create the table empty, let the application or a trigger fill it from now on, and register a backfill for the rows that are there."},
	{"data-insert-values", GUARD_WARNING, true, 0,
		"INSERT ... VALUES and INSERT ... DEFAULT VALUES; evmig.guard_insert_values sets the severity",
		"Rows in a migration differ from what the application writes, and fail where they are there already.",
	"Seed rows from the application or a seed script; where it must be here, INSERT ... ON CONFLICT DO NOTHING."},
	{"data-merge", GUARD_ERROR, true, 15,
		"MERGE",
		"It changes, adds and removes rows in one transaction, and fails on concurrent inserts of the same key.",
	BACKFILL},
	{"data-copy", GUARD_ERROR, true, 0,
		"COPY ... FROM, psql's \\copy too",
		"A load in one transaction, which holds back vacuum and lags replicas.",
	"Load the rows outside the migration, in files of a bounded size."},
	{"data-truncate", GUARD_ERROR, true, 0,
		"TRUNCATE of a table that the source did not create",
		"All rows are gone at once, under a lock that stops reads and writes.",
	"Create a new table and let the application change over; drop the old one later."},
	{"data-select-into", GUARD_WARNING, true, 0,
		"SELECT ... INTO a new table from a large table",
		"A long read in the migration's transaction, and a copy that is out of date when it is done.",
	"Create the table empty and register a backfill."},
	{"data-create-table-as", GUARD_WARNING, true, 0,
		"CREATE TABLE AS and CREATE MATERIALIZED VIEW from a large table",
		"A long read in the migration's transaction, and a copy that is out of date when it is done.",
	"Add WITH NO DATA, and fill it outside the migration."},
	{"data-refresh", GUARD_WARNING, true, 0,
		"REFRESH MATERIALIZED VIEW that reads or is a large relation",
		"It runs the whole query again, under a lock that stops readers unless CONCURRENTLY is given.",
	"Refresh it outside the migration: REFRESH MATERIALIZED VIEW CONCURRENTLY, from a scheduler."},
	{"data-setval", GUARD_INFO, true, 0,
		"setval()",
		"A sequence that is set back gives out values that are in use; setval() is not undone by ROLLBACK.",
	"Only ever move a sequence forward, past the largest value in use."},
	{"data-helper", GUARD_ERROR, true, 0,
		"calls of the functions in evmig.guard_dml_functions, and SQL text passed to dblink_exec and the like",
		"A data change by another name: the migration's transaction waits for it, or cannot undo it.",
	BACKFILL},
	{"dynamic-sql", GUARD_WARNING, true, 0,
		"SQL that is put together when it runs and could not be inspected",
		"It may change data or take any lock.",
	"Write the statement out, or build it from constants with format()."},
	{"unknown-routine", GUARD_WARNING, true, 0,
		"a call of a routine that neither the source nor this database knows",
		"It may change data or take any lock.",
	"Inspect the source in a database that has the routine, or define it in the source."},
	{"backfill-comment", GUARD_ERROR, true, 0,
		"a comment that announces a backfill which is not registered",
		"The rows will be changed by hand, or never.",
	"Register the backfill and name it: -- backfill: name"},
	{"unused-allow", GUARD_WARNING, false, 0,
		"evmig:allow that excuses nothing",
		"It will excuse the next one, which nobody has looked at.",
	"Remove the comment."},
	{"allow-without-reason", GUARD_ERROR, false, 0,
		"evmig:allow without a reason",
		"Nobody will know later why it was right.",
	"Write it as -- evmig:allow RULE: reason"},
	{"allow-unknown-rule", GUARD_ERROR, false, 0,
		"evmig:allow of a rule that does not exist",
		"It excuses nothing.",
	"Take the rule's name from evmig_guard_rules."},
	{"unparsed", GUARD_ERROR, true, 0,
		"a statement that the server's parser refuses, or that is nested too deeply",
		"It was not inspected, and may change data or take any lock.",
	"Correct the statement, or inspect it by hand."},
	{"unterminated-quote", GUARD_ERROR, true, 0,
		"a quote, comment or block of COPY's rows that never ends",
		"Nothing behind it was inspected.",
	"Close it; rows for COPY end with a line that is \\. alone."},
	{"include-not-inspected", GUARD_WARNING, true, 0,
		"psql's \\i, \\ir, \\include, \\include_relative",
		"The other file was not inspected, and may change data or take any lock.",
	"Inspect the other file too."},
	{"invalid-encoding", GUARD_ERROR, true, 0,
		"bytes that are no text: a NUL, or not valid in the encoding",
		"The server may read something else than was inspected, or refuse it.",
	"Save the file as UTF-8."},
	{"byte-order-mark", GUARD_INFO, false, 0,
		"a byte-order mark at the start",
		"psql skips it, other clients send it, and the first statement fails.",
	"Save the file as UTF-8 without a byte-order mark."},
};

const GuardRuleSet guard_data_rules = {data_rules, lengthof(data_rules)};

static const GuardRuleSet *const sets[] = {
	&guard_data_rules, &guard_lock_rules, &guard_style_rules
};

typedef struct RuleEntry
{
	char		id[NAMEDATALEN];	/* hash key; must be first */
	const GuardRule *rule;
} RuleEntry;

const GuardRule *
guard_rule(const char *id)
{
	static HTAB *index = NULL;
	RuleEntry  *entry;
	char		key[NAMEDATALEN];

	if (index == NULL)
	{
		HASHCTL		ctl = {0};
		HTAB	   *rules;

		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(RuleEntry);
		rules = hash_create("evmig guard rules", 128, &ctl, HASH_ELEM | HASH_STRINGS);
		for (int i = 0; i < lengthof(sets); i++)
			for (int j = 0; j < sets[i]->n; j++)
			{
				strlcpy(key, sets[i]->rules[j].id, NAMEDATALEN);
				entry = hash_search(rules, key, HASH_ENTER, NULL);
				entry->rule = &sets[i]->rules[j];
			}
		index = rules;
	}
	strlcpy(key, id, NAMEDATALEN);
	entry = hash_search(index, key, HASH_FIND, NULL);
	return entry ? entry->rule : NULL;
}

const char *
guard_severity_name(GuardSeverity severity)
{
	return severity == GUARD_ERROR ? "error" : severity == GUARD_WARNING ? "warning" : "info";
}

/*
 * evmig_guard_rule_list() returns setof record
 *
 * For the view evmig_guard_rules.
 */
Datum
evmig_guard_rule_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < lengthof(sets); i++)
		for (int j = 0; j < sets[i]->n; j++)
		{
			const GuardRule *rule = &sets[i]->rules[j];
			Datum		values[6];
			bool		nulls[6] = {false};

			values[0] = CStringGetTextDatum(rule->id);
			values[1] = CStringGetTextDatum(guard_severity_name(rule->severity));
			values[2] = CStringGetTextDatum(rule->detects);
			values[3] = CStringGetTextDatum(rule->danger);
			values[4] = CStringGetTextDatum(rule->safe);
			values[5] = Int32GetDatum(rule->since);
			nulls[5] = rule->since == 0;
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	return (Datum) 0;
}
