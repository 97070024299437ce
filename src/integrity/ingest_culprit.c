/*-------------------------------------------------------------------------
 *
 * ingest_culprit.c
 *	  Who sends rows without a key.
 *
 * Rows are counted in the backend's memory and written just before the
 * transaction commits, one row for each culprit, so writers never wait for
 * each other as they would on a shared counter.  What is rolled back, with a
 * savepoint or as a whole, is not counted.  Now and then a committing writer
 * sums up what has gathered.
 *
 * Counting never stops a writer: where the table is locked or gone, or the
 * transaction has become read-only, the counts are dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/backend_status.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/spi.h"
#include "evmig.h"
#include "integrity/ingest_guard.h"

#define COMPACT_EVERY 256		/* rows written by one backend */
#define COMPACT_ROWS 4096		/* summed up at once */

typedef struct Culprit
{
	dlist_node	node;
	Oid			relid;
	Oid			role;
	int64		query_id;		/* 0: not computed */
	char		application[NAMEDATALEN];
	SubTransactionId subxact;
	int64		rows;
} Culprit;

/* of the transaction at hand, in its memory */
static dlist_head culprits = DLIST_STATIC_INIT(culprits);

static bool callbacks_registered = false;
static int	rows_written = 0;

/* ---- counting ---- */

/* Count n rows for the same culprit as like. */
static void
count_rows(const Culprit *like, SubTransactionId subxact, int64 n)
{
	dlist_iter	iter;
	Culprit    *culprit;

	dlist_foreach(iter, &culprits)
	{
		culprit = dlist_container(Culprit, node, iter.cur);
		if (culprit->subxact == subxact && culprit->relid == like->relid &&
			culprit->role == like->role && culprit->query_id == like->query_id &&
			strcmp(culprit->application, like->application) == 0)
		{
			culprit->rows += n;
			return;
		}
	}
	culprit = MemoryContextAlloc(TopTransactionContext, sizeof(Culprit));
	*culprit = *like;
	culprit->subxact = subxact;
	culprit->rows = n;
	dlist_push_head(&culprits, &culprit->node);
}

/* ---- writing ---- */

/* Sum up rows that others have committed and nobody is at work on. */
void
culprits_compact(void)
{
	SqlArgs		args = {0};

	arg_int4(&args, COMPACT_ROWS);
	spi_catalog("WITH old AS (DELETE FROM evmig.ingest_culprit WHERE ctid = ANY (ARRAY("
				"  SELECT ctid FROM evmig.ingest_culprit LIMIT $1 FOR UPDATE SKIP LOCKED))"
				" RETURNING target, application_name, role, query_id, rows_filled, first_seen, last_seen)"
				" INSERT INTO evmig.ingest_culprit"
				" (target, application_name, role, query_id, rows_filled, first_seen, last_seen)"
				" SELECT target, application_name, role, query_id, sum(rows_filled), min(first_seen), max(last_seen)"
				" FROM old WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target)"
				" GROUP BY target, application_name, role, query_id", &args);
}

static void
culprit_write(const Culprit *culprit)
{
	SqlArgs		args = {0};

	arg_oid(&args, culprit->relid);
	arg_text(&args, culprit->application);
	arg_oid(&args, culprit->role);
	arg_datum(&args, INT8OID, Int64GetDatum(culprit->query_id), culprit->query_id == 0);
	arg_int8(&args, culprit->rows);
	spi_catalog("INSERT INTO evmig.ingest_culprit (target, application_name, role, query_id, rows_filled)"
				" VALUES ($1, $2, $3, $4, $5)", &args);
	rows_written++;
}

static void
culprits_write(void)
{
	dlist_iter	iter;
	Oid			nsp = get_namespace_oid(EVMIG_SCHEMA, true);
	Oid			table = OidIsValid(nsp) ? get_relname_relid("ingest_culprit", nsp) : InvalidOid;

	if (XactReadOnly || !OidIsValid(table) ||
		!ConditionalLockRelationOid(table, RowExclusiveLock))
		return;

	PushActiveSnapshot(GetTransactionSnapshot());
	spi_begin();
	dlist_foreach(iter, &culprits)
		culprit_write(dlist_container(Culprit, node, iter.cur));

	/* elsewhere the DELETE could meet a serialization failure */
	if (rows_written >= COMPACT_EVERY && !IsolationUsesXactSnapshot())
	{
		rows_written = 0;
		culprits_compact();
	}
	spi_end();
	PopActiveSnapshot();
}

/* ---- ends of transactions ---- */

static void
culprit_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (!dlist_is_empty(&culprits))
				culprits_write();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			dlist_init(&culprits);
			break;
		default:
			break;
	}
}

static void
culprit_subxact(SubXactEvent event, SubTransactionId mine,
				SubTransactionId parent, void *arg)
{
	dlist_mutable_iter iter;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	dlist_foreach_modify(iter, &culprits)
	{
		Culprit    *culprit = dlist_container(Culprit, node, iter.cur);

		if (culprit->subxact != mine)
			continue;
		dlist_delete(&culprit->node);
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			count_rows(culprit, parent, culprit->rows);
		pfree(culprit);
	}
}

void
culprit_count(Oid relid)
{
	Culprit		like = {0};

	if (!callbacks_registered)
	{
		RegisterXactCallback(culprit_xact, NULL);
		RegisterSubXactCallback(culprit_subxact, NULL);
		callbacks_registered = true;
	}
	like.relid = relid;
	like.role = GetSessionUserId();
	like.query_id = (int64) pgstat_get_my_query_id();
	strlcpy(like.application, application_name ? application_name : "", NAMEDATALEN);
	count_rows(&like, GetCurrentSubTransactionId(), 1);
}
