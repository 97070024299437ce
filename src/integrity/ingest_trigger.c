/*-------------------------------------------------------------------------
 *
 * ingest_trigger.c
 *	  The row trigger of the ingest guard: no row comes in without a key.
 *
 * What the guard does stands in the trigger's arguments.  Which column it
 * guards, and with which generator, stands in the trigger's WHEN condition:
 *
 *		new.key IS NULL OR (false AND generator IS NULL)
 *
 * The second half is never evaluated.  It is there because the server keeps a
 * condition as a parse tree: it follows a column, sequence or function that is
 * renamed, refuses to drop them or to change the column's type underneath, and
 * dumps them by their names of the day.  And where duplicates are let pass, a
 * row with a key does not even call the function.
 *
 * Each backend keeps what it read of a guard until the table's relcache entry
 * is invalidated; a statement works with its own copy.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/sysattr.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "integrity/ingest_guard.h"

PG_FUNCTION_INFO_V1(evmig_ingest_guard_trigger);

/* what a backend remembers of a guard */
typedef struct Guard
{
	Oid			trigger;		/* hash key */
	Oid			relid;
	bool		valid;
	AttrNumber	attno;
	GuardMode	mode;
	GuardDuplicates duplicates;
	Oid			index;
	bool		has_generator;
	CachedExpression *generator;	/* NULL until it is needed */
} Guard;

static HTAB *guards = NULL;

void		(*guard_outcome_hook) (Oid relid, GuardOutcome outcome) = NULL;

static void forget_guards(Datum arg, Oid relid);

const char *const guard_modes[] = {"fill", "report", "reject", NULL};
const char *const guard_duplicates[] = {"pass", "archive", "rekey", "reject", NULL};

int
guard_option(const char *const *options, const char *value)
{
	for (int i = 0; options[i] != NULL; i++)
		if (strcmp(options[i], value) == 0)
			return i;
	return -1;
}

/* ---- what the backend remembers ---- */

static Guard *
guard_entry(Oid trigger)
{
	Guard	   *guard;
	bool		found;

	if (guards == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(Guard);
		guards = hash_create("evmig ingest guards", 16, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(forget_guards, (Datum) 0);
	}
	guard = hash_search(guards, &trigger, HASH_ENTER, &found);
	if (!found)
	{
		guard->valid = false;
		guard->generator = NULL;
	}
	return guard;
}

/* Relcache callback: the table changed, or (InvalidOid) anything did. */
static void
forget_guards(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	Guard	   *guard;

	hash_seq_init(&scan, guards);
	while ((guard = hash_seq_search(&scan)) != NULL)
		if (relid == InvalidOid || guard->relid == relid)
			guard->valid = false;
}

static void
bad_trigger(TriggerData *trigdata)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger \"%s\" on table \"%s\" was not made by evmig_ingest_guard",
					trigdata->tg_trigger->tgname,
					RelationGetRelationName(trigdata->tg_relation)),
			 errhint("Drop the trigger, and call evmig_ingest_guard to set up the guard.")));
}

/* The one column that the trigger's WHEN condition looks at. */
static AttrNumber
guarded_column(TriggerData *trigdata)
{
	Bitmapset  *columns = NULL;
	int			member;

	if (trigdata->tg_trigger->tgqual)
		pull_varattnos(stringToNode(trigdata->tg_trigger->tgqual), PRS2_NEW_VARNO, &columns);
	if (bms_num_members(columns) != 1)
		bad_trigger(trigdata);
	member = bms_singleton_member(columns) + FirstLowInvalidHeapAttributeNumber;
	if (member <= 0)
		bad_trigger(trigdata);
	return (AttrNumber) member;
}

Node *
guard_generator(const char *when)
{
	BoolExpr   *or = stringToNode(when);
	BoolExpr   *and;

	if (!IsA(or, BoolExpr) || or->boolop != OR_EXPR)
		return NULL;
	and = lsecond(or->args);
	if (!IsA(and, BoolExpr) || and->boolop != AND_EXPR || !IsA(lsecond(and->args), NullTest))
		return NULL;
	return (Node *) lsecond_node(NullTest, and->args)->arg;
}

static void
guard_read(Guard *guard, TriggerData *trigdata)
{
	Trigger    *trigger = trigdata->tg_trigger;
	int			mode;
	int			duplicates;

	if (trigger->tgnargs != GUARD_NARGS)
		bad_trigger(trigdata);
	mode = guard_option(guard_modes, trigger->tgargs[GUARD_ARG_MODE]);
	duplicates = guard_option(guard_duplicates, trigger->tgargs[GUARD_ARG_DUPLICATES]);
	if (mode < 0 || duplicates < 0)
		bad_trigger(trigdata);

	if (guard->generator)
		FreeCachedExpression(guard->generator);
	guard->generator = NULL;
	guard->relid = RelationGetRelid(trigdata->tg_relation);
	guard->mode = mode;
	guard->duplicates = duplicates;
	guard->attno = guarded_column(trigdata);
	guard->has_generator = guard_generator(trigger->tgqual) != NULL;

	/* an invalidation that comes in from here on must not be lost */
	guard->valid = true;
	guard->index = duplicates == DUPLICATES_PASS ? InvalidOid :
		guard_index(trigdata->tg_relation, guard->attno);
}

/* ---- one statement ---- */

static GuardCall *
guard_call(FunctionCallInfo fcinfo, TriggerData *trigdata)
{
	GuardCall  *call = fcinfo->flinfo->fn_extra;
	Guard	   *guard;
	Form_pg_attribute att;

	if (call)
		return call;

	guard = guard_entry(trigdata->tg_trigger->tgoid);
	if (!guard->valid)
		guard_read(guard, trigdata);
	att = TupleDescAttr(RelationGetDescr(trigdata->tg_relation), guard->attno - 1);

	call = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(GuardCall));
	call->trigger = guard->trigger;
	call->attno = guard->attno;
	call->mode = guard->mode;
	call->duplicates = guard->duplicates;
	call->index = guard->index;
	call->has_generator = guard->has_generator;
	call->target.owner = trigdata->tg_relation->rd_rel->relowner;
	call->target.type = att->atttypid;
	call->target.typmod = att->atttypmod;
	call->target.collation = att->attcollation;
	call->context = fcinfo->flinfo->fn_mcxt;
	fcinfo->flinfo->fn_extra = call;
	return call;
}

Datum
guard_new_key(GuardCall *call, TriggerData *trigdata)
{
	if (call->generator == NULL)
	{
		Guard	   *guard = guard_entry(call->trigger);
		Trigger    *trigger = trigdata->tg_trigger;
		MemoryContext oldcontext;

		if (guard->generator && !guard->generator->is_valid)
		{
			FreeCachedExpression(guard->generator);
			guard->generator = NULL;
		}
		if (guard->generator == NULL)
		{
			CachedExpression *compiled = generator_compile(guard_generator(trigger->tgqual),
														   &call->target);

			guard->generator = compiled;
		}
		oldcontext = MemoryContextSwitchTo(call->context);
		call->generator = generator_start(guard->generator, &call->target,
										  trigger->tgargs[GUARD_ARG_PATH]);
		MemoryContextSwitchTo(oldcontext);
	}
	return generator_next(call->generator,
						  RelationGetRelationName(trigdata->tg_relation));
}

HeapTuple
guard_set_key(GuardCall *call, TriggerData *trigdata, HeapTuple tuple, Datum key)
{
	int			attno = call->attno;
	bool		isnull = false;

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(trigdata->tg_relation),
									 1, &attno, &key, &isnull);
}

/* ---- rows ---- */

static void
reject_null(GuardCall *call, TriggerData *trigdata)
{
	Relation	rel = trigdata->tg_relation;
	const char *column = NameStr(TupleDescAttr(RelationGetDescr(rel), call->attno - 1)->attname);

	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("null value in column \"%s\" of table \"%s\" is rejected by the ingest guard",
					column, RelationGetRelationName(rel)),
			 errdetail("The row was sent by application \"%s\", role \"%s\".",
					   application_name, GetUserNameFromId(GetSessionUserId(), true)),
			 errhint("Let the writer name column \"%s\" and send a key of its own, one for each event and the same when it sends the event again.",
					 column),
			 errtablecol(rel, call->attno)));
}

void
guard_tell(Oid relid, GuardOutcome outcome)
{
	if (guard_outcome_hook)
		guard_outcome_hook(relid, outcome);
}

/* A row without a key: old is the row's former version, NULL for an INSERT. */
static HeapTuple
fill_null(GuardCall *call, TriggerData *trigdata, HeapTuple tuple, HeapTuple old)
{
	bool		legacy = old && heap_attisnull(old, call->attno,
											   RelationGetDescr(trigdata->tg_relation));

	/* who changes another column of an old row did not send the NULL */
	if (call->mode == GUARD_REJECT && !legacy)
		reject_null(call, trigdata);
	guard_tell(RelationGetRelid(trigdata->tg_relation),
			   call->has_generator ? GUARD_FILLED : GUARD_LET_NULL_IN);
	if (!call->has_generator)
		return tuple;
	tuple = guard_set_key(call, trigdata, tuple, guard_new_key(call, trigdata));
	if (call->mode == GUARD_REPORT && !legacy)
		culprit_count(RelationGetRelid(trigdata->tg_relation));
	return tuple;
}

static bool
key_changed(GuardCall *call, TriggerData *trigdata, HeapTuple old, Datum key)
{
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	Form_pg_attribute att = TupleDescAttr(desc, call->attno - 1);
	bool		isnull;
	Datum		before = heap_getattr(old, call->attno, desc, &isnull);
	TypeCacheEntry *type;

	if (isnull)
		return true;
	if (datum_image_eq(before, key, att->attbyval, att->attlen))
		return false;
	type = lookup_type_cache(att->atttypid, TYPECACHE_EQ_OPR_FINFO);
	return !OidIsValid(type->eq_opr_finfo.fn_oid) ||
		!DatumGetBool(FunctionCall2Coll(&type->eq_opr_finfo, att->attcollation, before, key));
}

/*
 * evmig.ingest_guard(mode, duplicates, generator, search_path) returns trigger
 *
 * BEFORE INSERT OR UPDATE FOR EACH ROW; made by evmig_ingest_guard() only.
 */
Datum
evmig_ingest_guard_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	GuardCall  *call;
	HeapTuple	tuple;
	HeapTuple	old;
	Datum		key;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		!(TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) ||
		  TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("the ingest guard must be called by a BEFORE INSERT OR UPDATE trigger FOR EACH ROW"),
				 errhint("Call evmig_ingest_guard to set up the guard.")));

	call = guard_call(fcinfo, trigdata);
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
	{
		tuple = trigdata->tg_newtuple;
		old = trigdata->tg_trigtuple;
	}
	else
	{
		tuple = trigdata->tg_trigtuple;
		old = NULL;
	}

	key = heap_getattr(tuple, call->attno, RelationGetDescr(trigdata->tg_relation), &isnull);
	if (isnull)
		tuple = fill_null(call, trigdata, tuple, old);
	else if (OidIsValid(call->index) &&
			 (old == NULL || key_changed(call, trigdata, old, key)))
		tuple = guard_settle(call, trigdata, tuple, key);
	return PointerGetDatum(tuple);
}
