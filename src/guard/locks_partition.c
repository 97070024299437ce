/*-------------------------------------------------------------------------
 *
 * locks_partition.c
 *	  Partitions attached and detached.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "guard/locks.h"
#include "guard/rules.h"

/* a valid CHECK of the table that speaks of rows at all */
static bool
has_check(Guard *guard, GuardRelation *relation)
{
	List	   *checks = fact_constraints(relation->relid, CONSTRAINT_CHECK);
	ListCell   *lc;

	foreach(lc, checks)
	{
		char	   *name = fact_constraint_name(lfirst_oid(lc));

		if (fact_constraint_valid(lfirst_oid(lc)) ||
			(name && lock_source_validated(guard, relation, name)))
			return true;
	}
	return lock_source_has_check(guard, relation);
}

static void
check_default_partition(Guard *guard, AlterAction *action)
{
	Oid			dflt = OidIsValid(action->relation->relid) ?
		get_default_partition_oid(action->relation->relid) : InvalidOid;
	GuardRelation *relation;

	if (!OidIsValid(dflt))
		return;
	relation = guard_relation_by_oid(guard, dflt);
	lock_taken(guard, relation, AccessExclusiveLock);
	if (has_check(guard, relation))
		return;
	(void) lock_report(guard, "attach-partition", relation, AccessExclusiveLock,
					   action->offset,
					   psprintf("ALTER TABLE %s ADD CONSTRAINT ... CHECK (the key is not in the new partition's bound) NOT VALID; and, in a transaction of its own, VALIDATE CONSTRAINT; then attach.",
								relation->name),
					   "ATTACH PARTITION reads all of the default partition %s under ACCESS EXCLUSIVE",
					   lock_described(relation));
}

void
lock_attach_partition(Guard *guard, AlterAction *action)
{
	PartitionCmd *cmd = castNode(PartitionCmd, action->cmd->def);
	GuardRelation *partition = guard_relation(guard, cmd->name);

	/* an index's partition is attached without reading it */
	if (action->stmt->objtype != OBJECT_TABLE)
		return;
	if (!cmd->bound->is_default)
		check_default_partition(guard, action);
	lock_taken(guard, partition, AccessExclusiveLock);
	if (has_check(guard, partition))
		return;
	(void) lock_report(guard, "attach-partition", partition, AccessExclusiveLock,
					   action->offset,
					   psprintf("ALTER TABLE %s ADD CONSTRAINT ... CHECK (the bound of the partition, and the key IS NOT NULL) NOT VALID; and, in a transaction of its own, VALIDATE CONSTRAINT; then attach, and drop the CHECK.",
								partition->name),
					   "ATTACH PARTITION reads all of %s under ACCESS EXCLUSIVE to check its bound",
					   lock_described(partition));
}

void
lock_detach_partition(Guard *guard, AlterAction *action)
{
	PartitionCmd *cmd = castNode(PartitionCmd, action->cmd->def);
	GuardRelation *partition = guard_relation(guard, cmd->name);

	if (cmd->concurrent)
	{
		(void) lock_concurrently(guard, action->relation, "DETACH PARTITION CONCURRENTLY");
		return;
	}
	lock_taken(guard, partition, AccessExclusiveLock);
	(void) lock_report(guard, "partition-detach", action->relation, action->mode,
					   action->offset,
					   TARGET_VERSION(guard) >= 14 ?
					   psprintf("ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY;",
								action->relation->name, partition->name) :
					   psprintf("SET lock_timeout = '2s'; and retry: DETACH PARTITION of %s has no concurrent way before PostgreSQL 14.",
								partition->name),
					   "DETACH PARTITION takes ACCESS EXCLUSIVE on %s: every query of any partition queues behind it",
					   lock_described(action->relation));
}
