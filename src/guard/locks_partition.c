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

#include "base/sqltext.h"
#include "guard/locks.h"
#include "guard/rules.h"

/* the way in which the server need not read the table */
static char *
check_sql(GuardRelation *relation, const char *check)
{
	const char *name = quote_identifier(object_name(OidIsValid(relation->relid) ?
													get_rel_name(relation->relid) : "partition",
													NULL, "bound"));

	return psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s NOT VALID;\n-- then, in a transaction of its own\nALTER TABLE %s VALIDATE CONSTRAINT %s;\n-- and ATTACH PARTITION; drop the CHECK behind it",
					relation->name, name, check, relation->name, name);
}

static void
check_default_partition(Guard *guard, AlterAction *action, PartitionBoundSpec *bound)
{
	Oid			dflt = OidIsValid(action->relation->relid) ?
		get_default_partition_oid(action->relation->relid) : InvalidOid;
	GuardRelation *relation;
	char	   *check;

	if (!OidIsValid(dflt))
		return;
	relation = guard_relation_by_oid(guard, dflt);
	lock_taken(guard, relation, AccessExclusiveLock);
	if (lock_bound_proven(guard, action->relation, relation, bound, true, &check))
		return;
	(void) lock_report(guard, "attach-partition", relation, AccessExclusiveLock,
					   action->offset,
					   check_sql(relation, check),
					   "ATTACH PARTITION reads all of the default partition %s under ACCESS EXCLUSIVE",
					   lock_described(relation));
}

void
lock_attach_partition(Guard *guard, AlterAction *action)
{
	PartitionCmd *cmd = castNode(PartitionCmd, action->cmd->def);
	GuardRelation *partition = guard_relation(guard, cmd->name);
	char	   *check;

	/* an index's partition is attached without reading it */
	if (action->stmt->objtype != OBJECT_TABLE)
		return;
	if (!cmd->bound->is_default)
		check_default_partition(guard, action, cmd->bound);
	lock_taken(guard, partition, AccessExclusiveLock);
	if (lock_bound_proven(guard, action->relation, partition, cmd->bound, false, &check))
		return;
	(void) lock_report(guard, "attach-partition", partition, AccessExclusiveLock,
					   action->offset,
					   check_sql(partition, check),
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
