/*-------------------------------------------------------------------------
 *
 * relation.h
 *	  Resolve and describe a target table, its key and order column.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_RELATION_H
#define EVMIG_RELATION_H

#include "base/compat.h"
#include "storage/lockdefs.h"

/* what the caller is going to do; decides what is checked */
#define TARGET_READ		0		/* SELECT on the table is needed */
#define TARGET_CHANGE	0x01	/* the owner's privileges, a writable server,
								 * a table that a worker can see */
#define TARGET_ORDER	0x02	/* resolve the order column too */
#define TARGET_NO_KEY	0x04	/* do not resolve the key column */
#define TARGET_INDEXED	0x08	/* a materialized view or partitioned table will do */

typedef struct TargetColumn
{
	AttrNumber	attno;			/* 0 if not resolved */
	char	   *name;
	char	   *quoted;
	Oid			type;
	int32		typmod;
	Oid			collation;
	Oid			eq_op;			/* btree equality, less-than of the type */
	Oid			lt_op;
	Oid			opclass;		/* default btree operator class */
	bool		notnull;
} TargetColumn;

typedef struct Target
{
	Oid			relid;
	Oid			owner;
	Oid			filenumber;		/* changes when the table is rewritten */
	char	   *schema;
	char	   *name;
	char	   *quoted;			/* schema.table, quoted */
	bool		temporary;		/* a temporary table of this session */
	TargetColumn key;
	TargetColumn order;
} Target;

/*
 * Resolve relid (InvalidOid: the table that evmig.target names), key and order
 * column (NULL: evmig.key_column, evmig.order_column) under AccessShareLock,
 * which is kept until the end of the transaction.  Raises one clear error:
 * undefined_table, undefined_column, wrong_object_type, feature_not_supported,
 * insufficient_privilege, undefined_function (no btree operator class).
 */
extern Target *target_resolve(Oid relid, const char *key, const char *order,
							  int flags);

/*
 * relid, or for InvalidOid the table that evmig.target names; raises
 * undefined_table where there is none.  Checks nothing else, takes no lock.
 */
extern Oid	target_relid(Oid relid);

/* the arguments of an SQL function: NULL becomes InvalidOid or NULL */
#define ARG_RELID(n) (PG_ARGISNULL(n) ? InvalidOid : PG_GETARG_OID(n))
#define ARG_NAME(n) (PG_ARGISNULL(n) ? NULL : NameStr(*PG_GETARG_NAME(n)))
#define ARG_TEXT(n) (PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n)))

/*
 * The default generator of a key: canonical text of generator, or of
 * gen_random_uuid() when generator is NULL.  Raises as canonical_generator();
 * a key that a uuid cannot be assigned to gets a hint to name its own.
 */
extern char *target_generator(Target *target, const char *generator);
extern bool target_takes_uuid(Target *target);

#endif							/* EVMIG_RELATION_H */
