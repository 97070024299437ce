/*-------------------------------------------------------------------------
 *
 * change.h
 *	  Changes of shared memory that take effect when a transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_CHANGE_H
#define EVMIG_KPI_CHANGE_H

#include "base/compat.h"
#include "lib/ilist.h"

/*
 * Something is put into a slot, or taken from it.  apply is called with
 * KpiShared.lock held, and raises nothing; commit false: undo the reservation.
 */
typedef struct Change
{
	dlist_node	node;
	void	   *slot;
	uint32		incarnation;	/* of the slot that is given up, if it has one */
	bool		on;
	void		(*apply) (struct Change *change, bool commit);
	SubTransactionId subxact;
} Change;

/* Memory for a change, to be allocated before any lock is taken. */
extern Change *change_new(void (*apply) (Change *change, bool commit));

extern void change_at_commit(Change *change, void *slot, bool on);

/* What waits for the commit, or is applied, the last of it; NULL for nothing. */
extern Change *change_find(void *slot);

#endif							/* EVMIG_KPI_CHANGE_H */
