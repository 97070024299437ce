/*-------------------------------------------------------------------------
 *
 * ingest_duplicate.c
 *	  Settle an incoming row whose key is in the table already.
 *
 * A lock on the key's hash, held until the transaction ends, keeps two
 * writers from looking at the same time and both finding nothing; then the
 * key is looked up through an index with a snapshot of this very moment, which
 * also sees what the statement at hand has stored.
 *
 * The application comes first.  A writer waits for another one of the same key
 * for evmig.step_lock_timeout at most, and once a transaction; so writers that
 * send keys in opposite orders do not end in a deadlock either.  A bulk load
 * cannot take a lock for each of a million keys, and a lock on the whole table
 * would stall the others: past evmig.ingest_key_locks keys a transaction only
 * looks.  What races past is settled by dedupe and the retry of the index
 * build.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "base/lock.h"
#include "base/privilege.h"
#include "base/relation.h"
#include "base/spi.h"
#include "base/sqltext.h"
#include "evmig.h"
#include "integrity/archive.h"
#include "integrity/ingest_guard.h"

#define LOOKUP_RETRIES 3

typedef enum Found
{
	FOUND_NOTHING,
	FOUND_ROW,
	FOUND_CHANGING				/* it was changed meanwhile: look again */
} Found;

/* of this transaction: key locks taken, and whether one was waited for in vain */
static int	key_locks = 0;
static bool key_wait_over = false;

/* ---- the index ---- */

/* Can this index answer "is there a row with this key"? */
static bool
index_fits(Relation index, AttrNumber attno, Oid collation)
{
	Form_pg_index form = index->rd_index;

	return form->indisvalid && form->indisready && form->indislive &&
		index->rd_rel->relam == BTREE_AM_OID &&
		form->indnkeyatts == 1 && form->indkey.values[0] == attno &&
		index->rd_indcollation[0] == collation &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

Oid
guard_index(Relation rel, AttrNumber attno)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	TypeCacheEntry *type = lookup_type_cache(att->atttypid, TYPECACHE_BTREE_OPFAMILY);
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = try_relation_open(lfirst_oid(lc), AccessShareLock);

		if (index == NULL)
			continue;
		if (index_fits(index, attno, att->attcollation) &&
			index->rd_opfamily[0] == type->btree_opf)
			result = lfirst_oid(lc);
		relation_close(index, AccessShareLock);
		if (OidIsValid(result))
			break;
	}
	list_free(indexes);
	return result;
}

/* ---- the lock ---- */

static void
forget_key_locks(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
	{
		key_locks = 0;
		key_wait_over = false;
	}
}

static void
lock_key(GuardCall *call, Relation rel, Datum key)
{
	static bool registered = false;
	TypeCacheEntry *type = lookup_type_cache(call->target.type, TYPECACHE_HASH_PROC_FINFO);
	uint32		hash;

	if (!registered)
	{
		RegisterXactCallback(forget_key_locks, NULL);
		registered = true;
	}
	if (key_locks >= evmig_ingest_key_locks)
		return;

	/* the hash that agrees with the type's equality */
	if (OidIsValid(type->hash_proc_finfo.fn_oid))
		hash = DatumGetUInt32(FunctionCall1Coll(&type->hash_proc_finfo,
												call->target.collation, key));
	else
	{
		Oid			output;
		bool		varlena;
		char	   *text;

		getTypeOutputInfo(call->target.type, &output, &varlena);
		text = OidOutputFunctionCall(output, key);
		hash = hash_bytes((unsigned char *) text, strlen(text));
	}
	switch (key_lock_xact(RelationGetRelid(rel), hash,
						  key_wait_over ? 0 : evmig_step_lock_timeout))
	{
		case KEY_LOCKED:
			key_locks++;
			break;
		case KEY_HELD:
			break;
		case KEY_BUSY:
			key_wait_over = true;
			break;
	}
}

/* ---- the look-up ---- */

/*
 * Keep the row that was found from being deleted before we commit, since the
 * incoming one is to be put away because of it.  Nobody is waited for: a row
 * that is being deleted or re-keyed right now does not count.
 */
static Found
hold_row(Relation rel, Snapshot snapshot, TupleTableSlot *slot)
{
	ItemPointerData tid = slot->tts_tid;
	TM_FailureData failure;
	bool		isnull;
	TransactionId xmin;

	xmin = DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber,
												 &isnull));
	if (TransactionIdIsCurrentTransactionId(xmin))
		return FOUND_ROW;		/* nobody else can see it */

	switch (table_tuple_lock(rel, &tid, snapshot, slot, snapshot->curcid,
							 LockTupleKeyShare, LockWaitSkip, 0, &failure))
	{
		case TM_Ok:
			return FOUND_ROW;
		case TM_Updated:
		case TM_Deleted:
			return FOUND_CHANGING;
		default:
			return FOUND_NOTHING;
	}
}

static TupleTableSlot *
lookup_slot(GuardCall *call, Relation rel)
{
	if (call->slot == NULL)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(call->context);

		/* a copy of the descriptor, so that nothing is pinned */
		call->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(rel)),
											  table_slot_callbacks(rel));
		MemoryContextSwitchTo(oldcontext);
	}
	return call->slot;
}

static Found
look_up(GuardCall *call, Relation rel, Datum key, bool hold)
{
	Relation	index = index_open(call->index, AccessShareLock);
	TupleTableSlot *slot = lookup_slot(call, rel);
	Oid			opcintype = index->rd_opcintype[0];
	Oid			equal = get_opfamily_member(index->rd_opfamily[0], opcintype, opcintype,
											BTEqualStrategyNumber);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Found		found = FOUND_NOTHING;
	ScanKeyData scankey;
	IndexScanDesc scan;

	/* RegisterSnapshot made a copy; rows of the command at hand count too */
	snapshot->curcid = GetCurrentCommandId(false) + 1;

	ScanKeyEntryInitialize(&scankey, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], get_opcode(equal), key);
	scan = compat_index_beginscan(rel, index, snapshot, 1);
	index_rescan(scan, &scankey, 1, NULL, 0);
	while (found == FOUND_NOTHING && index_getnext_slot(scan, ForwardScanDirection, slot))
		found = hold ? hold_row(rel, snapshot, slot) : FOUND_ROW;
	index_endscan(scan);
	ExecClearTuple(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	return found;
}

/* ---- what to do with a duplicate ---- */

static char *
key_text(GuardCall *call, Datum key)
{
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(call->target.type, &output, &varlena);
	return OidOutputFunctionCall(output, key);
}

static const char *
key_name(GuardCall *call, Relation rel)
{
	return NameStr(TupleDescAttr(RelationGetDescr(rel), call->attno - 1)->attname);
}

static void
reject_duplicate(GuardCall *call, Relation rel, Datum key)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("duplicate key value is rejected by the ingest guard on table \"%s\"",
					RelationGetRelationName(rel)),
			 errdetail("Key (%s)=(%s) already exists.", key_name(call, rel), key_text(call, key)),
			 errtablecol(rel, call->attno)));
}

/* Has the child a column for each of the table's? */
static bool
archive_takes(Relation rel, Oid child)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped &&
			get_atttype(child, get_attnum(child, NameStr(att->attname))) != att->atttypid)
			return false;
	}
	return true;
}

/*
 * The statement that puts a row, $1, into the archive; NULL with a warning
 * where there is no archive that takes it.  As the owner, inside SPI.
 */
static char *
archive_statement(GuardCall *call, Relation rel)
{
	static bool warned = false;
	Target	   *target = target_resolve(RelationGetRelid(rel), key_name(call, rel),
										NULL, TARGET_READ);
	Oid			child = archive_child_find(target, ARCHIVE_INGEST);
	MemoryContext oldcontext;
	char	   *sql;

	if (OidIsValid(child) && !archive_takes(rel, child))
		child = InvalidOid;
	if (!OidIsValid(child))
	{
		if (!warned)
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the ingest guard lets duplicates into table \"%s\"",
							RelationGetRelationName(rel)),
					 errdetail("The archive for them was dropped, or does not have the table's columns."),
					 errhint("Call evmig_ingest_guard again; it makes the archive anew.")));
		warned = true;
		return NULL;
	}
	oldcontext = MemoryContextSwitchTo(call->context);
	sql = psprintf("INSERT INTO %s (%s) SELECT %s FROM (SELECT ($1).*) d",
				   quote_relation(child), archive_columns(target, ""),
				   archive_columns(target, "d."));
	MemoryContextSwitchTo(oldcontext);
	return sql;
}

/* Put the row away with the owner's rights; false if there is nowhere to. */
static bool
archive_duplicate(GuardCall *call, Relation rel, HeapTuple tuple)
{
	RunAs		runas;

	runas_begin(&runas, call->target.owner, RUNAS_RESTRICTED);
	spi_begin();
	if (!call->archive_known)
		call->archive_sql = archive_statement(call, rel);
	call->archive_known = true;
	if (call->archive_sql)
	{
		SqlArgs		args = {0};

		arg_datum(&args, rel->rd_rel->reltype,
				  heap_copy_tuple_as_datum(tuple, RelationGetDescr(rel)), false);
		spi_run_cached(call->archive_sql, &args);
	}
	spi_end();
	runas_end(&runas);
	return call->archive_sql != NULL;
}

/*
 * The row's primary key as the text of a JSON object, NULL where it has none.
 * Casts to JSON can be anybody's code, so as the owner; inside SPI.
 */
static char *
row_identity(GuardCall *call, Relation rel, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Bitmapset  *columns = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	int			member = -1;
	StringInfoData sql;
	SqlArgs		args = {0};
	RunAs		runas;

	if (bms_is_empty(columns))
		return NULL;
	initStringInfo(&sql);
	while ((member = bms_next_member(columns, member)) >= 0)
	{
		const char *name = NameStr(TupleDescAttr(desc, member + FirstLowInvalidHeapAttributeNumber - 1)->attname);

		appendStringInfo(&sql, "%s%s, ($1).%s", sql.len ? ", " : "SELECT pg_catalog.jsonb_build_object(",
						 quote_literal_cstr(name), quote_identifier(name));
	}
	appendStringInfoString(&sql, ")::pg_catalog.text");

	arg_datum(&args, rel->rd_rel->reltype, heap_copy_tuple_as_datum(tuple, desc), false);
	runas_begin(&runas, call->target.owner, RUNAS_RESTRICTED);
	spi_run_cached(sql.data, &args);
	runas_end(&runas);
	return spi_text(0, 0);
}

/* Give the row a new key, and log both in the same transaction. */
static HeapTuple
rekey_duplicate(GuardCall *call, TriggerData *trigdata, HeapTuple tuple, Datum key)
{
	Relation	rel = trigdata->tg_relation;
	Datum		new_key = guard_new_key(call, trigdata);
	SqlArgs		args = {0};
	HeapTuple	result = guard_set_key(call, trigdata, tuple, new_key);

	spi_begin();
	arg_oid(&args, RelationGetRelid(rel));
	arg_text(&args, key_name(call, rel));
	arg_jsonb(&args, row_identity(call, rel, result));
	arg_text(&args, key_text(call, key));
	arg_text(&args, key_text(call, new_key));
	spi_catalog("INSERT INTO evmig.rekey (target, key_column, row_identity, old_key, new_key)"
				" VALUES ($1, $2::name, $3, $4, $5)", &args);
	spi_end();
	return result;
}

HeapTuple
guard_settle(GuardCall *call, TriggerData *trigdata, HeapTuple tuple, Datum key)
{
	Relation	rel = trigdata->tg_relation;
	bool		update = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event);
	Found		found;
	int			tries = 0;

	/* an update's row cannot be put away: what it was would be lost */
	if (update && call->duplicates == DUPLICATES_ARCHIVE)
		return tuple;

	lock_key(call, rel, key);
	do
		found = look_up(call, rel, key, call->duplicates == DUPLICATES_ARCHIVE);
	while (found == FOUND_CHANGING && ++tries < LOOKUP_RETRIES);
	if (found != FOUND_ROW)
		return tuple;

	switch (call->duplicates)
	{
		case DUPLICATES_ARCHIVE:
			if (!archive_duplicate(call, rel, tuple))
				return tuple;
			guard_tell(RelationGetRelid(rel), GUARD_ARCHIVED);
			return NULL;
		case DUPLICATES_REKEY:
			guard_tell(RelationGetRelid(rel), GUARD_REKEYED);
			return rekey_duplicate(call, trigdata, tuple, key);
		case DUPLICATES_REJECT:
			reject_duplicate(call, rel, key);
			break;
		case DUPLICATES_PASS:
			break;
	}
	return tuple;
}
