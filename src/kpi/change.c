/*-------------------------------------------------------------------------
 *
 * change.c
 *	  Changes of shared memory that take effect when a transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "kpi/change.h"
#include "kpi/watch.h"

static dlist_head changes = DLIST_STATIC_INIT(changes);

static void
finish(Change *change, bool commit)
{
	LWLockAcquire(kpi_shared->lock, LW_EXCLUSIVE);
	change->apply(change, commit);
	watch_changed();
	LWLockRelease(kpi_shared->lock);
	dlist_delete(&change->node);
}

static void
at_xact_end(XactEvent event, void *arg)
{
	dlist_mutable_iter iter;

	if (dlist_is_empty(&changes))
		return;
	if (event == XACT_EVENT_PRE_PREPARE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed which tables are watched or paused")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	dlist_foreach_modify(iter, &changes)
		finish(dlist_container(Change, node, iter.cur), event == XACT_EVENT_COMMIT);
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	dlist_mutable_iter iter;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	dlist_foreach_modify(iter, &changes)
	{
		Change	   *change = dlist_container(Change, node, iter.cur);

		if (change->subxact != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			change->subxact = parent;
		else
			finish(change, false);
	}
}

/* Few sessions ever change anything; the others pay for no callback. */
static void
watch_transactions(void)
{
	static bool watching = false;

	if (watching)
		return;
	RegisterXactCallback(at_xact_end, NULL);
	RegisterSubXactCallback(at_subxact_end, NULL);
	watching = true;
}

Change *
change_new(void (*apply) (Change *change, bool commit))
{
	Change	   *change = MemoryContextAllocZero(TopTransactionContext, sizeof(Change));

	watch_transactions();
	change->apply = apply;
	return change;
}

void
change_at_commit(Change *change, void *slot, bool on)
{
	change->slot = slot;
	change->on = on;
	change->subxact = GetCurrentSubTransactionId();
	dlist_push_tail(&changes, &change->node);
}

Change *
change_find(void *slot)
{
	dlist_iter	iter;

	dlist_reverse_foreach(iter, &changes)
	{
		Change	   *change = dlist_container(Change, node, iter.cur);

		if (change->slot == slot)
			return change;
	}
	return NULL;
}
