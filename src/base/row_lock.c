/*-------------------------------------------------------------------------
 *
 * row_lock.c
 *	  Who holds the locks of rows.
 *
 * That stands in the rows themselves.  Where several transactions hold one,
 * its xmax is the number of a multixact, which SQL cannot tell from that of a
 * transaction: compared with pg_locks it would name nobody, or somebody else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/heapam.h"
#include "access/multixact.h"
#include "access/relation.h"
#include "access/subtrans.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/row_lock.h"

#define ROWS_AT_ONCE 1000

typedef struct Holders
{
	LockTupleMode mode;			/* that is wanted */
	List	   *pids;
	bool		prepared;
} Holders;

/* how a member of a multixact holds a row */
static LockTupleMode
mode_of_status(MultiXactStatus status)
{
	switch (status)
	{
		case MultiXactStatusForKeyShare:
			return LockTupleKeyShare;
		case MultiXactStatusForShare:
			return LockTupleShare;
		case MultiXactStatusForNoKeyUpdate:
		case MultiXactStatusNoKeyUpdate:
			return LockTupleNoKeyExclusive;
		case MultiXactStatusForUpdate:
		case MultiXactStatusUpdate:
			break;
	}
	return LockTupleExclusive;
}

/* the same of the only one who does */
static LockTupleMode
mode_of_infomask(uint16 infomask, uint16 infomask2)
{
	if (HEAP_XMAX_IS_KEYSHR_LOCKED(infomask))
		return LockTupleKeyShare;
	if (HEAP_XMAX_IS_SHR_LOCKED(infomask))
		return LockTupleShare;
	return infomask2 & HEAP_KEYS_UPDATED ? LockTupleExclusive : LockTupleNoKeyExclusive;
}

/*
 * The server's table of conflicts (documentation, "Row-Level Locks"), with the
 * modes numbered from the weakest: a conflict is where both add up to three.
 */
static bool
modes_conflict(LockTupleMode a, LockTupleMode b)
{
	StaticAssertStmt(LockTupleKeyShare == 0 && LockTupleShare == 1 &&
					 LockTupleNoKeyExclusive == 2 && LockTupleExclusive == 3,
					 "modes of row locks are numbered from the weakest");
	return (int) a + (int) b >= 3;
}

/* Add whose transaction it is, if it is in our way. */
static bool
add_holder(Holders *holders, TransactionId xid, LockTupleMode mode)
{
	int			pid;

	if (!modes_conflict(mode, holders->mode) || TransactionIdIsCurrentTransactionId(xid) ||
		!TransactionIdIsInProgress(xid))
		return false;
	pid = BackendXidGetPid(SubTransGetTopmostTransaction(xid));
	if (pid != 0)
		holders->pids = list_append_unique_int(holders->pids, pid);
	else if (TransactionIdIsInProgress(xid))
		holders->prepared = true;
	else
		return false;			/* it has just ended */
	return true;
}

static bool
add_holders(Holders *holders, TransactionId xmax, uint16 infomask, uint16 infomask2)
{
	MultiXactMember *members;
	int			n;
	bool		held = false;

	if ((infomask & HEAP_XMAX_INVALID) || HEAP_LOCKED_UPGRADED(infomask))
		return false;
	if (!(infomask & HEAP_XMAX_IS_MULTI))
		return add_holder(holders, xmax, mode_of_infomask(infomask, infomask2));
	n = GetMultiXactIdMembers(xmax, &members, false, HEAP_XMAX_IS_LOCKED_ONLY(infomask));
	for (int i = 0; i < n; i++)
		held |= add_holder(holders, members[i].xid, mode_of_status(members[i].status));
	if (n > 0)
		pfree(members);
	return held;
}

/* Is a row held by somebody in our way? */
static bool
is_held(Holders *holders, Relation rel, const ItemPointerData *tid)
{
	HeapTupleData tuple;
	Buffer		buffer;
	TransactionId xmax;
	uint16		infomask;
	uint16		infomask2;

	tuple.t_self = *tid;
	if (!heap_fetch(rel, SnapshotAny, &tuple, &buffer, false))
		return false;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	xmax = HeapTupleHeaderGetRawXmax(tuple.t_data);
	infomask = tuple.t_data->t_infomask;
	infomask2 = tuple.t_data->t_infomask2;
	UnlockReleaseBuffer(buffer);
	return add_holders(holders, xmax, infomask, infomask2);
}

static char *
describe(const Holders *holders)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, holders->pids)
		appendStringInfo(&text, "%s%d", lc == list_head(holders->pids) ? "pid " : ", ", lfirst_int(lc));
	if (holders->prepared)
		appendStringInfo(&text, "%sa prepared transaction", text.len > 0 ? " and " : "");
	return text.data;
}

char *
row_lockers(Oid relid, LockTupleMode mode, const char *sql, SqlArgs *args, int64 *nrows)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	SpiCursor  *cursor = spi_cursor_open(sql, args);
	Holders		holders = {mode, NIL, false};
	bool		is_heap = rel->rd_rel->relam == HEAP_TABLE_AM_OID;
	int64		held = 0;
	uint64		n;

	while (is_heap && (n = spi_cursor_fetch(cursor, ROWS_AT_ONCE)) > 0)
		for (uint64 i = 0; i < n; i++)
		{
			ItemPointerData tid;

			CHECK_FOR_INTERRUPTS();
			spi_tid(i, 0, &tid);
			held += is_held(&holders, rel, &tid);
		}
	spi_cursor_close(cursor);
	relation_close(rel, NoLock);
	if (nrows)
		*nrows = held;
	list_sort(holders.pids, list_int_cmp);
	return held > 0 ? describe(&holders) : NULL;
}
