/*-------------------------------------------------------------------------
 *
 * ingest.c
 *	  Set up the ingest guard, change it, remove it.
 *
 * The guard is a trigger and nothing else: what it does stands in the
 * trigger's arguments, so it is dumped, restored and dropped with its table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_expr.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "integrity/archive.h"
#include "integrity/generator.h"
#include "integrity/ingest.h"
#include "integrity/ingest_guard.h"
#include "job/job.h"

PG_FUNCTION_INFO_V1(evmig_ingest_guard);

/* ---- the SQL function ---- */

/*
 * evmig_ingest_guard(target regclass, key_column name, mode text,
 * duplicates text, generator text) returns void
 *
 * Set, change or remove the guard.  Takes SHARE ROW EXCLUSIVE (to remove it
 * ACCESS EXCLUSIVE) for a moment, polled.
 */
Datum
evmig_ingest_guard(PG_FUNCTION_ARGS)
{
	Target	   *target;

	require_own_transaction(fcinfo, "evmig_ingest_guard");
	target = target_resolve(ARG_RELID(0), ARG_NAME(1), NULL, TARGET_CHANGE);
	require_runbook("evmig_ingest_guard");
	ingest_guard_set(target, ARG_TEXT(2), ARG_TEXT(3), ARG_TEXT(4));
	PG_RETURN_VOID();
}

/* ---- the trigger ---- */

static Oid
guard_function(void)
{
	return LookupFuncName(list_make2(makeString(EVMIG_SCHEMA), makeString(GUARD_FUNCTION)),
						  0, NULL, false);
}

/* The guard's trigger on an open table, NULL if it has none. */
static Trigger *
find_trigger(Relation rel)
{
	TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc && i < desc->numtriggers; i++)
		if (strcmp(desc->triggers[i].tgname, GUARD_TRIGGER) == 0)
			return &desc->triggers[i];
	return NULL;
}

/* Raise if the trigger of our name is somebody else's. */
static void
require_ours(Relation rel, Trigger *trigger)
{
	if (trigger->tgfoid != guard_function())
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("trigger \"%s\" on table \"%s\" is not the ingest guard's",
						GUARD_TRIGGER, RelationGetRelationName(rel)),
				 errhint("Rename or drop that trigger.")));
}

/*
 * The WHEN condition, as ingest_trigger.c explains it.  Where rows with a key
 * are looked at too, its first half is always true and still names the column.
 */
static Node *
when_condition(Target *target, GuardDuplicates duplicates, const char *generator)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, duplicates == DUPLICATES_PASS ? "new.%s IS NULL" :
					 "(new.%s IS NULL) IS NOT NULL", target->key.quoted);
	if (generator)
		appendStringInfo(&buf, " OR (false AND (%s) IS NULL)", generator);
	return single_expression(buf.data);
}

/* The table is locked.  generator may be NULL. */
static void
create_trigger(Target *target, const char *mode, const char *duplicates,
			   const char *generator, const char *path)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	RunAs		runas;

	stmt->replace = true;
	stmt->trigname = GUARD_TRIGGER;
	stmt->relation = makeRangeVar(target->schema, target->name, -1);
	stmt->funcname = list_make2(makeString(EVMIG_SCHEMA), makeString(GUARD_FUNCTION));
	stmt->args = list_make3(makeString(pstrdup(mode)), makeString(pstrdup(duplicates)),
							makeString(pstrdup(path)));
	stmt->row = true;
	stmt->timing = TRIGGER_TYPE_BEFORE;
	stmt->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE;
	stmt->whenClause = when_condition(target, guard_option(guard_duplicates, duplicates),
									  generator);

	/*
	 * Nobody but us may make such a trigger, since it runs its argument with
	 * the rights of the table's owner.  Table and function go by OID.
	 */
	runas_begin(&runas, extension_owner(), RUNAS_LOCAL);
	(void) CreateTriggerFiringOn(stmt, NULL, target->relid, InvalidOid, InvalidOid,
								 InvalidOid, guard_function(), InvalidOid, NULL,
								 false, false, TRIGGER_FIRES_ALWAYS);
	runas_end(&runas);
	CommandCounterIncrement();
}

static void
drop_trigger(Target *target)
{
	Relation	rel = table_open(target->relid, AccessShareLock);
	Trigger    *trigger = find_trigger(rel);
	ObjectAddress address;

	if (trigger == NULL)
	{
		ereport(NOTICE,
				(errmsg("table \"%s\" has no ingest guard", target->name)));
		table_close(rel, NoLock);
		return;
	}
	require_ours(rel, trigger);
	ObjectAddressSet(address, TriggerRelationId, trigger->tgoid);
	table_close(rel, NoLock);

	lock_relation_polled(target->relid, AccessExclusiveLock);
	performDeletion(&address, DROP_RESTRICT, 0);
	CommandCounterIncrement();
}

/* ---- arguments ---- */

static void
check_option(const char *const *options, const char *value, const char *param,
			 const char *hint)
{
	if (guard_option(options, value) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for argument \"%s\": \"%s\"", param, value),
				 errhint("%s", hint)));
}

/*
 * Try the generator, as the writers will have it: better here than in each of
 * their statements.
 */
static void
try_generator(Target *target, const char *text, const char *path)
{
	GeneratorTarget key = {target->owner, target->key.type, target->key.typmod,
	target->key.collation};
	ParseState *pstate = make_parsestate(NULL);
	CachedExpression *compiled;
	KeyGenerator *generator;
	Node	   *expr;
	RunAs		runas;
	int16		len;
	bool		byval;
	Datum		first;

	runas_begin(&runas, GetUserId(), RUNAS_LOCAL);
	expr = transformExpr(pstate, single_expression(text), EXPR_KIND_TRIGGER_WHEN);
	runas_end(&runas);
	compiled = generator_compile(expr, &key);
	generator = generator_start(compiled, &key, path);
	get_typlenbyval(target->key.type, &len, &byval);
	first = datumCopy(generator_next(generator, target->name), byval, len);
	if (datum_image_eq(first, generator_next(generator, target->name), byval, len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("generator returned the same key twice"),
				 errhint("Use an expression such as gen_random_uuid() or nextval('my_sequence').")));
	FreeExprContext(generator->econtext, true);
	FreeCachedExpression(compiled);
	free_parsestate(pstate);
}

/* The generator's canonical text, NULL where none is needed. */
static char *
required_generator(Target *target, GuardMode mode, GuardDuplicates duplicates,
				const char *generator, const char *path)
{
	char	   *text;

	if (generator == NULL && mode == GUARD_REJECT && duplicates != DUPLICATES_REKEY &&
		!target_takes_uuid(target))
		return NULL;
	text = target_generator(target, generator);
	try_generator(target, text, path);
	return text;
}

/* ---- for the runbook ---- */

/* Make what duplicates need before the table is locked. */
static void
prepare_duplicates(Target *target, GuardDuplicates duplicates)
{
	Relation	rel = table_open(target->relid, AccessShareLock);

	if (!OidIsValid(guard_index(rel, target->key.attno)))
		ereport(NOTICE,
				(errmsg("duplicates are let pass until there is a valid index on column \"%s\" of table \"%s\"",
						target->key.name, target->name)));
	table_close(rel, NoLock);
	if (duplicates == DUPLICATES_ARCHIVE)
	{
		spi_begin();
		(void) archive_child(target, ARCHIVE_INGEST);
		spi_end();
	}
}

void
ingest_guard_set(Target *target, const char *mode, const char *duplicates,
				 const char *generator)
{
	char	   *path = generator_path();
	GuardDuplicates what;
	Relation	rel;
	Trigger    *trigger;

	mode = mode ? mode : "fill";
	duplicates = duplicates ? duplicates : "pass";
	if (strcmp(mode, "off") == 0)
	{
		drop_trigger(target);
		return;
	}
	check_option(guard_modes, mode, "mode", "It is one of fill, report, reject and off.");
	check_option(guard_duplicates, duplicates, "duplicates",
				 "It is one of pass, archive, rekey and reject.");
	what = guard_option(guard_duplicates, duplicates);
	generator = required_generator(target, guard_option(guard_modes, mode), what,
								   generator, path);
	if (what != DUPLICATES_PASS)
		prepare_duplicates(target, what);
	spi_begin();
	culprits_compact();
	spi_end();

	lock_relation_polled(target->relid, ShareRowExclusiveLock);
	rel = table_open(target->relid, NoLock);
	trigger = find_trigger(rel);
	if (trigger)
		require_ours(rel, trigger);
	table_close(rel, NoLock);
	create_trigger(target, mode, duplicates, generator, path);
}

char *
ingest_guard_get(Oid relid, char **duplicates)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Trigger    *trigger = find_trigger(rel);
	char	   *mode = NULL;

	*duplicates = NULL;
	if (trigger && trigger->tgfoid == guard_function() &&
		trigger->tgnargs == GUARD_NARGS)
	{
		mode = pstrdup(trigger->tgargs[GUARD_ARG_MODE]);
		*duplicates = pstrdup(trigger->tgargs[GUARD_ARG_DUPLICATES]);
	}
	table_close(rel, NoLock);
	return mode;
}
