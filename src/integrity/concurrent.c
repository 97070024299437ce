/*-------------------------------------------------------------------------
 *
 * concurrent.c
 *	  Statements that build and drop indexes beside readers and writers.
 *
 * An invalid index of our name may be a build at work, somebody else's or
 * that of a worker that is just dying.  Whoever builds it holds SHARE UPDATE
 * EXCLUSIVE on the table at session level, so it is judged, and dropped, only
 * by a session that holds this lock itself.  The server gives the lock back
 * just before it commits that the index is valid, so that commit is waited
 * for as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "base/statement.h"
#include "evmig.h"
#include "integrity/concurrent.h"

ErrorData *
run_patiently(const char *sql, int lock_timeout)
{
	char		value[32];
	ErrorData  *error;

	snprintf(value, sizeof(value), "%d", lock_timeout);
	SetConfigOption("lock_timeout", value, PGC_USERSET, PGC_S_SESSION);
	error = run_toplevel(sql);
	snprintf(value, sizeof(value), "%d", evmig_data_lock_timeout);
	SetConfigOption("lock_timeout", value, PGC_USERSET, PGC_S_SESSION);
	return error;
}

/* Wait until nobody has a change of the index's pg_index row in the making. */
static void
wait_for_writers(Oid index)
{
	Relation	catalog = table_open(IndexRelationId, AccessShareLock);
	TransactionId writer;

	do
	{
		SnapshotData dirty;
		ScanKeyData key;
		SysScanDesc scan;

		InitDirtySnapshot(dirty);
		writer = InvalidTransactionId;
		ScanKeyInit(&key, Anum_pg_index_indexrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(index));
		scan = systable_beginscan(catalog, IndexRelidIndexId, true, &dirty, 1, &key);
		while (HeapTupleIsValid(systable_getnext(scan)))
		{
			if (TransactionIdIsValid(dirty.xmin))
				writer = dirty.xmin;
			else if (TransactionIdIsValid(dirty.xmax))
				writer = dirty.xmax;
		}
		systable_endscan(scan);
		InvalidateCatalogSnapshotConditionally();
		if (TransactionIdIsValid(writer))
			XactLockTableWait(writer, NULL, NULL, XLTW_None);
	} while (TransactionIdIsValid(writer));
	table_close(catalog, AccessShareLock);
	AcceptInvalidationMessages();
}

/*
 * See concurrent.h.  The session's SHARE UPDATE EXCLUSIVE keeps out no reader
 * or writer.
 */
ErrorData *
drop_index_concurrently(Job *job, Oid table, int lock_timeout, IndexJudge judge, void *arg)
{
	LockRelId	lockid = {table, MyDatabaseId};
	ErrorData  *error = NULL;
	Oid			index = InvalidOid;
	char	   *quoted = NULL;
	bool		wanted;

	job_begin_bare(job);
	InvalidateCatalogSnapshotConditionally();
	LockRelationIdForSession(&lockid, ShareUpdateExclusiveLock);
	wanted = judge(job, arg, &index, &quoted);
	if (wanted)
	{
		wait_for_writers(index);
		wanted = judge(job, arg, &index, &quoted);
	}
	job_commit(job);

	if (wanted)
		error = run_patiently(psprintf("DROP INDEX CONCURRENTLY %s", quoted),
							  lock_timeout);
	if (error == NULL)			/* else it is released already */
		UnlockRelationIdForSession(&lockid, ShareUpdateExclusiveLock);
	return error;
}
