/*-------------------------------------------------------------------------
 *
 * locks_proof.c
 *	  What a table's valid CHECK constraints prove, so that the server need
 *	  not read the table: a column that is never NULL, a partition's bound.
 *
 * The server's own tests (ConstraintImpliedByRelConstraint and its callers),
 * with the constraints of the catalog and those that the source added and
 * validated.  What calls functions of users proves nothing: evaluating them
 * is not ours.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_type.h"
#include "parser/parse_utilcmd.h"
#include "partitioning/partbounds.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "guard/locks.h"
#include "guard/locks_session.h"

/* ---- what is known of a table ---- */

static NullTest *
not_null_test(Oid relid, AttrNumber attno)
{
	NullTest   *test = makeNode(NullTest);
	Oid			type;
	int32		typmod;
	Oid			collation;

	get_atttypetypmodcoll(relid, attno, &type, &typmod, &collation);
	test->arg = (Expr *) makeVar(1, attno, type, typmod, collation, 0);
	test->nulltesttype = IS_NOT_NULL;
	test->argisrow = false;
	test->location = -1;
	return test;
}

/* Add a CHECK to what is known, as the server does; part by part, for our sake. */
static List *
add_known(List *known, Node *expr)
{
	List	   *parts = expr ? make_ands_implicit((Expr *) expr) : NIL;
	ListCell   *lc;

	foreach(lc, parts)
	{
		Node	   *part = lfirst(lc);

		if (!fact_only_builtin(part))
			continue;
		part = eval_const_expressions(NULL, part);
		part = (Node *) canonicalize_qual((Expr *) part, true);
		known = list_concat(known, make_ands_implicit((Expr *) part));
	}
	return known;
}

typedef struct SourceCheck
{
	Oid			relid;
	Node	   *raw;
	Node	   *expr;
} SourceCheck;

static void
transform_check(void *context)
{
	SourceCheck *check = context;
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expr;

	pstate->p_pre_columnref_hook = lock_resolve_column;
	pstate->p_ref_hook_state = &check->relid;
	expr = transformExpr(pstate, copyObject(check->raw), EXPR_KIND_CHECK_CONSTRAINT);
	expr = coerce_to_boolean(pstate, expr, "CHECK");
	assign_expr_collations(pstate, expr);
	check->expr = expr;
}

static List *
known_of(Guard *guard, GuardRelation *relation)
{
	List	   *known = NIL;
	List	   *checks = fact_constraints(relation->relid, CONSTRAINT_CHECK);
	ListCell   *lc;

	foreach(lc, checks)
	{
		char	   *name = fact_constraint_name(lfirst_oid(lc));
		SourceConstraint *source = name ? lock_source_constraint(guard, relation, name) : NULL;

		if (source ? source->valid : fact_constraint_valid(lfirst_oid(lc)))
			known = add_known(known, fact_check_expression(lfirst_oid(lc)));
	}
	foreach(lc, lock_session(guard)->constraints)
	{
		SourceConstraint *source = lfirst(lc);
		SourceCheck check = {relation->relid, source->expr, NULL};

		if (source->expr && source->valid && strcmp(source->relation, relation->name) == 0 &&
			lock_attempt(transform_check, &check))
			known = add_known(known, check.expr);
	}
	return known;
}

/* ---- NOT NULL ---- */

bool
lock_column_proven(Guard *guard, GuardRelation *relation, const char *column,
				   AttrNumber attno)
{
	List	   *known;

	if (TARGET_VERSION(guard) < 12)
		return false;
	if (lock_source_proves_not_null(guard, relation, column))
		return true;
	if (attno == InvalidAttrNumber)
		return false;
	known = known_of(guard, relation);
	return known != NIL &&
		predicate_implied_by(list_make1(not_null_test(relation->relid, attno)), known, true);
}

/* ---- partitions ---- */

/*
 * Bounds are evaluated when they are transformed, and so are casts of users:
 * a constant of a type of theirs is a plain string, which only its input
 * function reads.
 */
static bool
is_constant(Node *node, bool builtin)
{
	while (builtin && node && IsA(node, TypeCast))
	{
		if (typenameTypeId(NULL, ((TypeCast *) node)->typeName) >= FirstNormalObjectId)
			return false;
		node = ((TypeCast *) node)->arg;
	}
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))	/* MINVALUE, MAXVALUE */
		return true;
	return IsA(node, A_Const) &&
		(builtin || ((A_Const *) node)->isnull || IsA(&((A_Const *) node)->val, String));
}

static bool
has_constant_bounds(Relation parent, PartitionBoundSpec *bound)
{
	PartitionKey key = RelationGetPartitionKey(parent);
	bool		builtin = true;
	List	   *values = list_concat_copy(bound->listdatums, bound->lowerdatums);
	ListCell   *lc;

	for (int i = 0; i < key->partnatts; i++)
	{
		if (get_typtype(key->parttypid[i]) == TYPTYPE_DOMAIN)
			return false;
		builtin &= key->parttypid[i] < FirstNormalObjectId;
	}
	values = list_concat(values, bound->upperdatums);
	foreach(lc, values)
	{
		if (!is_constant(lfirst(lc), builtin))
			return false;
	}
	return true;
}

/* columns that are NOT NULL are known, too */
static List *
known_columns(Relation rel)
{
	List	   *known = NIL;

	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		if (!TupleDescAttr(RelationGetDescr(rel), i)->attisdropped &&
			compat_notnull(RelationGetDescr(rel), i))
			known = lappend(known, not_null_test(RelationGetRelid(rel), i + 1));
	}
	return known;
}

typedef struct BoundProof
{
	Guard	   *guard;
	GuardRelation *partition;	/* whose rows must fit, or must not */
	Relation	parent;
	Relation	rel;
	PartitionBoundSpec *bound;
	bool		outside;		/* the default partition: its rows must not fit */
	bool		proven;
	char	   *check;			/* what would prove it */
} BoundProof;

static void
prove_bound(void *context)
{
	BoundProof *proof = context;
	ParseState *pstate = make_parsestate(NULL);
	PartitionBoundSpec *bound;
	List	   *wanted;

	if (!has_constant_bounds(proof->parent, proof->bound))
		return;
	bound = transformPartitionBound(pstate, proof->parent, copyObject(proof->bound));
	wanted = get_qual_from_partbound(proof->parent, bound);
	if (proof->outside)
		wanted = get_proposed_default_constraint(wanted);
	if (wanted == NIL)
	{
		proof->proven = true;
		return;
	}
	if (!fact_only_builtin((Node *) wanted))
		return;
	wanted = (List *) eval_const_expressions(NULL, (Node *) wanted);
	wanted = (List *) canonicalize_qual((Expr *) make_ands_explicit(wanted), false);
	wanted = make_ands_implicit((Expr *) wanted);
	wanted = map_partition_varattnos(wanted, 1, proof->rel, proof->parent);
	/* for a session of any DateStyle; the subtransaction's end takes it back */
	SetConfigOption("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION);
	proof->check = deparse_expression((Node *) make_ands_explicit(wanted),
									  deparse_context_for(RelationGetRelationName(proof->rel),
														  RelationGetRelid(proof->rel)),
									  false, false);
	proof->proven = predicate_implied_by(wanted,
										 list_concat(known_columns(proof->rel),
													 known_of(proof->guard, proof->partition)),
										 true);
}

/* A relation that can be opened without waiting; NULL where it cannot. */
static Relation
open_unless_locked(Oid relid)
{
	Relation	rel;

	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock))
		return NULL;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, AccessShareLock);
	return rel;
}

bool
lock_bound_proven(Guard *guard, GuardRelation *parent, GuardRelation *partition,
				  PartitionBoundSpec *bound, bool outside, char **check)
{
	BoundProof	proof = {guard, partition, NULL, NULL, bound, outside, false, NULL};

	*check = "CHECK (...)";
	if (partition->relkind == RELKIND_PARTITIONED_TABLE)
		return false;
	proof.parent = open_unless_locked(parent->relid);
	proof.rel = open_unless_locked(partition->relid);
	if (proof.parent && proof.rel &&
		proof.parent->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
		!lock_attempt(prove_bound, &proof))
		proof.proven = false;
	if (proof.check)
		*check = psprintf("CHECK (%s)", proof.check);
	if (proof.rel)
		relation_close(proof.rel, AccessShareLock);
	if (proof.parent)
		relation_close(proof.parent, AccessShareLock);
	return proof.proven;
}
