/*-------------------------------------------------------------------------
 *
 * locks.h
 *	  What the lock rules share.
 *
 * locks.c finds a statement's rules by its node tag, locks_alter.c an ALTER
 * TABLE's by their subtypes; locks_tx.c keeps the transaction.  All read the
 * catalogs without waiting, and change neither tree nor database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_LOCKS_H
#define EVMIG_GUARD_LOCKS_H

#include "guard/catalog.h"
#include "guard/guard.h"
#include "parser/parse_node.h"
#include "storage/lockdefs.h"

#define TARGET_VERSION(guard) ((guard)->target_version / 10000)

/* ---- locks.c ---- */

/* a node's location as guard_report() takes it; -1 stays the statement's start */
extern int	lock_at(Guard *guard, int location);

/*
 * Report a finding about a relation, and its lock: nothing for one that this
 * source made or that is temporary, info where it is small.  Returns NULL
 * where nothing was reported.
 */
extern GuardFinding *lock_report(Guard *guard, const char *rule, GuardRelation *relation,
								 LOCKMODE mode, int offset, const char *hint,
								 const char *format,...) pg_attribute_printf(7, 8);

/* the same whatever its size: what breaks clients or fails */
extern GuardFinding *lock_report_any_size(Guard *guard, const char *rule,
										  GuardRelation *relation, LOCKMODE mode,
										  int offset, const char *hint,
										  const char *format,...) pg_attribute_printf(7, 8);

/* "public.t (1,200,000 rows, 3 GB)" */
extern char *lock_described(GuardRelation *relation);

/* nobody else can be waiting for it */
extern bool lock_is_ours(GuardRelation *relation);

/* "CHECK (...)" as it stands behind a location of the current frame */
extern char *lock_check_text(Guard *guard, int location);

/* ---- locks_tx.c ---- */

/* The statement takes this lock: keep it, and report what is wrong with that. */
extern void lock_taken(Guard *guard, GuardRelation *relation, LOCKMODE mode);

extern void lock_statement_begin(Guard *guard, Node *tree);
extern void lock_statement_end(Guard *guard, Node *tree);
extern bool lock_in_transaction(Guard *guard);	/* or in a DO block, or function */
extern LOCKMODE lock_held(Guard *guard, GuardRelation *relation);	/* by earlier statements */

/* CONCURRENTLY where it cannot be; returns true where it was reported */
extern bool lock_concurrently(Guard *guard, GuardRelation *relation, const char *statement);

extern void lock_transaction(Guard *guard, TransactionStmt *stmt);
extern void lock_set(Guard *guard, VariableSetStmt *stmt);
extern void lock_select(Guard *guard, Node *tree);	/* set_config() */
extern void lock_alter_enum(Guard *guard, AlterEnumStmt *stmt);

/* constraints of the source: added NOT VALID, validated */
extern void lock_constraint_added(Guard *guard, GuardRelation *relation, Constraint *constraint);
extern void lock_constraint_dropped(Guard *guard, GuardRelation *relation, const char *name);
extern void lock_constraint_validated(Guard *guard, GuardRelation *relation, const char *name);
extern bool lock_constraint_in_tx(Guard *guard, GuardRelation *relation, const char *name);
extern bool lock_source_proves_not_null(Guard *guard, GuardRelation *relation,
										const char *column);
/*
 * What else the source did to a relation (NULL: none); kept for all of the
 * source, and looked up by all three.
 */
typedef enum LockNote
{
	NOTE_NOT_NULL,				/* detail: column */
	NOTE_INDEX,					/* detail: leading columns, quoted and sorted */
	NOTE_INDEX_NAME,
	NOTE_INDEX_KEY,				/* detail: index, quoted, and a column */
	NOTE_TYPE,
	NOTE_SCHEMA
} LockNote;

extern void lock_note(Guard *guard, LockNote kind, const GuardRelation *relation,
					  const char *detail);
extern bool lock_noted(Guard *guard, LockNote kind, const GuardRelation *relation,
					   const char *detail);
extern bool lock_source_has_constraint(Guard *guard, GuardRelation *relation,
									   const char *name);

/* ---- locks_alter.c, locks_type.c, locks_default.c ---- */

/* one action of an ALTER TABLE */
typedef struct AlterAction
{
	AlterTableStmt *stmt;
	AlterTableCmd *cmd;
	GuardRelation *relation;
	LOCKMODE	mode;			/* of the whole statement */
	int			offset;			/* of the action, for guard_report() */
} AlterAction;

/* where the n-th action starts, from 0; -1: not known */
extern int	lock_action_offset(Guard *guard, AlterTableStmt *stmt, int n);
extern void lock_alter_table(Guard *guard, AlterTableStmt *stmt);
extern void lock_add_column(Guard *guard, AlterAction *action);
extern void lock_set_not_null(Guard *guard, AlterAction *action, const char *column);
extern void lock_column_type(Guard *guard, AlterAction *action);

/* the safe way to a NOT NULL column, as SQL */
extern char *lock_not_null_sql(Guard *guard, GuardRelation *relation, const char *column);

typedef enum DefaultKind
{
	DEFAULT_STABLE,				/* evaluated once for all rows */
	DEFAULT_VOLATILE,			/* for each row: a rewrite */
	DEFAULT_UNKNOWN				/* it names what is not known here */
} DefaultKind;

/* What the server would make of a column's default.  Evaluates nothing of a user's. */
extern DefaultKind lock_default_kind(Guard *guard, Node *raw, TypeName *type);

extern char *lock_default_text(Node *raw, TypeName *type); /* "..." where it has none */

/*
 * Run what reads catalogs and may raise an error about its input, in a
 * subtransaction that is rolled back; false where it did.
 */
extern bool lock_attempt(void (*body) (void *context), void *context);

/* the type of a column definition; false where it is not known here */
extern bool lock_type(TypeName *name, Oid *type, int32 *typmod);

/* ---- locks_proof.c ---- */

/* Does a valid CHECK, of the catalog or of this source, prove it not null? */
extern bool lock_column_proven(Guard *guard, GuardRelation *relation, const char *column,
							   AttrNumber attno);

/*
 * ... that all rows of the partition lie in the bound, or (outside) none do?
 * Where it does not, check is the CHECK that would, or "CHECK (...)".
 */
extern bool lock_bound_proven(Guard *guard, GuardRelation *parent, GuardRelation *partition,
							  PartitionBoundSpec *bound, bool outside, char **check);

/* p_pre_columnref_hook: a column of the table whose OID p_ref_hook_state points at */
extern Node *lock_resolve_column(ParseState *pstate, ColumnRef *ref);

/* ---- locks_constraint.c ---- */

extern void lock_add_constraint(Guard *guard, AlterAction *action, Constraint *constraint,
								const char *column);	/* NULL: of the table */
extern void lock_drop_constraint(Guard *guard, AlterAction *action);
extern void lock_validate_constraint(Guard *guard, AlterAction *action);
extern void lock_alter_domain(Guard *guard, AlterDomainStmt *stmt);

/* ---- locks_index.c ---- */

/* the source made an index that leads with these columns (String) */
extern bool lock_source_indexed(Guard *guard, GuardRelation *relation, List *columns);

extern void lock_create_index(Guard *guard, IndexStmt *stmt);
extern void lock_drop_indexes(Guard *guard, DropStmt *stmt);
extern void lock_reindex(Guard *guard, ReindexStmt *stmt);

/* ---- locks_drop.c: tables as a whole ---- */

extern void lock_drop_cascade(Guard *guard, int offset, GuardRelation *relation,
							  const char *what);
extern void lock_drop(Guard *guard, DropStmt *stmt);
extern void lock_rename(Guard *guard, RenameStmt *stmt);
extern void lock_set_schema(Guard *guard, AlterObjectSchemaStmt *stmt);
extern void lock_truncate(Guard *guard, TruncateStmt *stmt);
extern void lock_cluster(Guard *guard, ClusterStmt *stmt);
extern void lock_vacuum(Guard *guard, VacuumStmt *stmt);
extern void lock_refresh(Guard *guard, RefreshMatViewStmt *stmt);
extern void lock_trigger(Guard *guard, CreateTrigStmt *stmt);
extern void lock_lock_table(Guard *guard, LockStmt *stmt);
extern void lock_create_table(Guard *guard, CreateStmt *stmt);
extern void lock_data(Guard *guard, Node *tree);	/* UPDATE, DELETE without WHERE */

/* ---- locks_partition.c ---- */

extern void lock_attach_partition(Guard *guard, AlterAction *action);
extern void lock_new_partition(Guard *guard, CreateStmt *stmt);
extern void lock_detach_partition(Guard *guard, AlterAction *action);

/* ---- facts.c: catalog look-ups ---- */

/* attribute number, 0 where there is none; notnull, type may be NULL */
extern AttrNumber fact_column(Oid relid, const char *column, bool *notnull,
							  Oid *type, int32 *typmod, Oid *collation);

/* OIDs of constraints; kind 0: all */
extern List *fact_constraints(Oid relid, char kind);
extern List *fact_referencing(Oid relid);	/* foreign keys that refer to it */
extern bool fact_constraint_uses(Oid constraint, AttrNumber attno);
extern bool fact_constraint_valid(Oid constraint);
extern char *fact_constraint_definition(Oid constraint);	/* "..." where it is locked */
extern char *fact_constraint_name(Oid constraint);
extern Oid	fact_constraint(Oid relid, const char *name);
extern Node *fact_check_expression(Oid constraint); /* varno 1; NULL: none */

extern List *fact_indexes(Oid relid);	/* OIDs, no lock taken */
extern Oid	fact_access_method(Oid relid);

/* an index of the relation that starts with these columns, in any order, and has no WHERE */
extern bool fact_has_leading_index(Oid relid, const AttrNumber *attnos, int n);

/* has a domain, or one that it is made from, constraints? */
extern bool fact_domain_constrained(Oid type);

/* only functions of the server itself, whose evaluation is safe */
extern bool fact_only_builtin(Node *expr);

#endif							/* EVMIG_GUARD_LOCKS_H */
