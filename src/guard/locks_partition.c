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
check_sql(GuardRelation *relation, const char *check, const char *statement)
{
	const char *name = quote_identifier(object_name(OidIsValid(relation->relid) ?
													get_rel_name(relation->relid) : "partition",
													NULL, "bound"));

	return psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s NOT VALID;\n-- then, in a transaction of its own\nALTER TABLE %s VALIDATE CONSTRAINT %s;\n-- and %s; drop the CHECK behind it",
					relation->name, name, check, relation->name, name, statement);
}

/* A new bound must not hold rows that lie in the default partition. */
static void
check_default_partition(Guard *guard, GuardRelation *parent, PartitionBoundSpec *bound,
						int offset, const char *statement)
{
	Oid			dflt = OidIsValid(parent->relid) ?
		get_default_partition_oid(parent->relid) : InvalidOid;
	GuardRelation *relation;
	char	   *check;

	if (!OidIsValid(dflt) || bound->is_default)
		return;
	relation = guard_relation_by_oid(guard, dflt);
	lock_taken(guard, relation, AccessExclusiveLock);
	if (lock_bound_proven(guard, parent, relation, bound, true, &check))
		return;
	(void) lock_report(guard, "attach-partition", relation, AccessExclusiveLock, offset,
					   check_sql(relation, check, statement),
					   "%s reads all of the default partition %s under ACCESS EXCLUSIVE",
					   statement, lock_described(relation));
}

void
lock_new_partition(Guard *guard, CreateStmt *stmt)
{
	check_default_partition(guard, guard_relation(guard, linitial_node(RangeVar, stmt->inhRelations)),
							stmt->partbound, -1, "CREATE TABLE ... PARTITION OF");
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
	check_default_partition(guard, action->relation, cmd->bound, action->offset,
							"ATTACH PARTITION");
	lock_taken(guard, partition, AccessExclusiveLock);
	if (lock_bound_proven(guard, action->relation, partition, cmd->bound, false, &check))
		return;
	(void) lock_report(guard, "attach-partition", partition, AccessExclusiveLock,
					   action->offset,
					   check_sql(partition, check, "ATTACH PARTITION"),
					   "ATTACH PARTITION reads all of %s under ACCESS EXCLUSIVE to check its bound",
					   lock_described(partition));
}

void
lock_detach_partition(Guard *guard, AlterAction *action)
{
	PartitionCmd *cmd = castNode(PartitionCmd, action->cmd->def);
	GuardRelation *partition = guard_relation(guard, cmd->name);
	Oid			parent = action->relation->relid;
	const char *hint;

	if (cmd->concurrent)
	{
		(void) lock_concurrently(guard, action->relation, "DETACH PARTITION CONCURRENTLY");
		return;
	}
	lock_taken(guard, partition, AccessExclusiveLock);
	hint = TARGET_VERSION(guard) >= 14 ? "" : ": before PostgreSQL 14 there is no concurrent way";
	if (OidIsValid(parent) && OidIsValid(get_default_partition_oid(parent)))
		hint = ": a table with a default partition has no concurrent way";
	(void) lock_report(guard, "partition-detach", action->relation, action->mode,
					   action->offset,
					   *hint == '\0' ?
					   psprintf("ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY;",
								action->relation->name, partition->name) :
					   psprintf("SET lock_timeout = '2s';\n-- and again when it times out%s\nALTER TABLE %s DETACH PARTITION %s;",
								hint, action->relation->name, partition->name),
					   "DETACH PARTITION takes ACCESS EXCLUSIVE on %s: every query of any partition queues behind it",
					   lock_described(action->relation));
}
