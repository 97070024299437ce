/*-------------------------------------------------------------------------
 *
 * locks_alter.c
 *	  ALTER TABLE: each action goes to the rule of its subtype; here are those
 *	  about columns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_constraint.h"
#include "commands/tablecmds.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/privilege.h"
#include "base/sqltext.h"
#include "guard/locks.h"
#include "guard/locks_session.h"
#include "guard/rules.h"

/* ---- ADD COLUMN ---- */

typedef struct NewColumn
{
	AlterAction *action;
	ColumnDef  *def;
	Constraint *dflt;			/* DEFAULT, NULL: none */
	Constraint *generated;
	Constraint *identity;
	Constraint *not_null;
	bool		serial;
	bool		type_known;
	Oid			type;
	int32		typmod;
	char	   *column;			/* quoted */
	char	   *type_text;
} NewColumn;

static bool
is_serial(TypeName *type)
{
	static const char *const names[] = {
		"smallserial", "serial2", "serial", "serial4", "bigserial", "serial8"
	};

	if (list_length(type->names) != 1 || type->pct_type)
		return false;
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(strVal(linitial(type->names)), names[i]) == 0)
			return true;
	}
	return false;
}

/* what a serial is made of */
static const char *
serial_type(TypeName *type)
{
	const char *name = strVal(linitial(type->names));

	if (strcmp(name, "smallserial") == 0 || strcmp(name, "serial2") == 0)
		return "smallint";
	if (strcmp(name, "bigserial") == 0 || strcmp(name, "serial8") == 0)
		return "bigint";
	return "integer";
}

static bool
is_null_constant(Node *expr)
{
	while (expr && IsA(expr, TypeCast))
		expr = ((TypeCast *) expr)->arg;
	return expr && IsA(expr, A_Const) && ((A_Const *) expr)->isnull;
}

static void
describe_column(AlterAction *action, NewColumn *column)
{
	ColumnDef  *def = castNode(ColumnDef, action->cmd->def);
	ListCell   *lc;

	memset(column, 0, sizeof(NewColumn));
	column->action = action;
	column->def = def;
	column->column = pstrdup(quote_identifier(def->colname));
	column->serial = is_serial(def->typeName);
	foreach(lc, def->constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, lc);

		if (constraint->contype == CONSTR_DEFAULT && !is_null_constant(constraint->raw_expr))
			column->dflt = constraint;
		else if (constraint->contype == CONSTR_GENERATED)
			column->generated = constraint;
		else if (constraint->contype == CONSTR_IDENTITY)
			column->identity = constraint;
		else if (constraint->contype == CONSTR_NOTNULL || constraint->contype == CONSTR_PRIMARY)
			column->not_null = constraint;
	}
	if (!column->serial)
		column->type_known = lock_type(def->typeName, &column->type, &column->typmod);
	column->type_text = column->serial ? pstrdup(serial_type(def->typeName)) :
		column->type_known ? format_type_with_typemod(column->type, column->typmod) :
		TypeNameToString(def->typeName);
}

/* "ALTER TABLE t ADD COLUMN c type;" */
static char *
plain_column(NewColumn *column)
{
	return psprintf("ALTER TABLE %s ADD COLUMN %s %s;",
					column->action->relation->name, column->column, column->type_text);
}

/* the registered backfill that fills the old rows of a column */
static char *
backfill_sql(NewColumn *column, const char *expression)
{
	char	   *set = psprintf("%s = %s", column->column, expression);
	char	   *where = psprintf("%s IS NULL", column->column);

	return psprintf("-- and fill the old rows in batches\nSELECT %sevmig_backfill_register(%s, %s, %s, %s);",
					extension_schema_prefix(),
					quote_literal_cstr(psprintf("%s_backfill", column->def->colname)),
					quote_literal_cstr(column->action->relation->name),
					quote_literal_cstr(set), quote_literal_cstr(where));
}

static void
check_default(Guard *guard, NewColumn *column)
{
	AlterAction *action = column->action;
	char	   *table = action->relation->name;
	char	   *text;
	GuardFinding *finding;
	DefaultKind kind = lock_default_kind(guard, column->dflt->raw_expr,
										 column->def->typeName);
	char	   *hint;

	if (kind == DEFAULT_STABLE && TARGET_VERSION(guard) >= 11)
		return;
	text = lock_default_text(column->dflt->raw_expr, column->def->typeName);
	hint = psprintf("%s\nALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s;\n%s",
					plain_column(column), table, column->column, text,
					backfill_sql(column, text));
	if (kind == DEFAULT_UNKNOWN)
	{
		finding = lock_report(guard, "add-column-volatile-default", action->relation,
							  action->mode, lock_at(guard, column->dflt->location), hint,
							  "the default of new column %s calls what is not known here; if it is volatile, %s is rewritten",
							  column->column, lock_described(action->relation));
		if (finding && finding->severity == GUARD_ERROR)
			finding->severity = GUARD_WARNING;
	}
	else
		(void) lock_report(guard, "add-column-volatile-default", action->relation,
						   action->mode, lock_at(guard, column->dflt->location), hint,
						   "the %sdefault of new column %s rewrites %s under ACCESS EXCLUSIVE",
						   kind == DEFAULT_VOLATILE ? "volatile " : "", column->column,
						   lock_described(action->relation));
}

/* NOT NULL and nothing to put there */
static void
check_not_null(Guard *guard, NewColumn *column)
{
	GuardRelation *relation = column->action->relation;

	if (column->dflt || column->generated || column->identity || column->serial)
		return;
	if (column->type_known && get_typdefault(column->type) != NULL)
		return;
	if (relation->rows == 0 && relation->bytes == 0)
		return;					/* nothing to fail on */
	(void) lock_report_any_size(guard, "add-column-not-null-no-default", relation,
								column->action->mode,
								lock_at(guard, column->not_null->location),
								psprintf("-- with a constant default\nALTER TABLE %s ADD COLUMN %s %s NOT NULL DEFAULT ...;\n-- or nullable, filled by a registered backfill, and then\n%s",
										 relation->name, column->column, column->type_text,
										 lock_not_null_sql(guard, relation, column->def->colname)),
								"new column %s is NOT NULL without a default: the statement fails if %s has a row",
								column->column, lock_described(relation));
}

static void
check_numbering(Guard *guard, NewColumn *column)
{
	GuardRelation *relation = column->action->relation;
	char	   *sequence = psprintf("%s_seq", column->def->colname);
	char	   *next = psprintf("nextval(%s)", quote_literal_cstr(quote_identifier(sequence)));

	(void) lock_report(guard, "add-column-auto-increment", relation, column->action->mode,
					   column->action->offset,
					   psprintf("CREATE SEQUENCE %s;\nALTER TABLE %s ADD COLUMN %s %s;\nALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s;\nALTER SEQUENCE %s OWNED BY %s.%s;\n%s",
								quote_identifier(sequence), relation->name, column->column,
								column->type_text, relation->name, column->column, next,
								quote_identifier(sequence), relation->name, column->column,
								backfill_sql(column, next)),
					   "new column %s numbers every row, which rewrites %s under ACCESS EXCLUSIVE",
					   column->column, lock_described(relation));
}

/* A domain's constraints are checked for the rows that are there, by a rewrite. */
static void
check_domain(Guard *guard, NewColumn *column)
{
	if (!column->type_known || !fact_domain_constrained(column->type))
		return;
	(void) lock_report(guard, "add-column-volatile-default", column->action->relation,
					   column->action->mode, column->action->offset,
					   psprintf("ALTER TABLE %s ADD COLUMN %s %s;\n-- and a CHECK constraint of the table, NOT VALID, in place of the domain's",
								column->action->relation->name, column->column,
								format_type_be(getBaseType(column->type))),
					   "new column %s is of a domain with constraints, which rewrites %s under ACCESS EXCLUSIVE",
					   column->column, lock_described(column->action->relation));
}

void
lock_add_column(Guard *guard, AlterAction *action)
{
	NewColumn	column;
	ListCell   *lc;

	describe_column(action, &column);
	if (action->cmd->missing_ok &&
		fact_column(action->relation->relid, column.def->colname, NULL, NULL, NULL, NULL))
		return;					/* it is there: nothing is done */
	if (column.dflt)
		check_default(guard, &column);
	if (column.generated && !compat_generated_virtual(column.generated))
		(void) lock_report(guard, "add-column-generated-stored", action->relation,
						   action->mode, lock_at(guard, column.generated->location),
						   psprintf("%s\n-- keep it filled by a trigger, and fill the old rows with a registered backfill%s",
									plain_column(&column),
									TARGET_VERSION(guard) >= 18 ? ";\n-- or make it VIRTUAL, which is free" : ""),
						   "generated column %s rewrites %s under ACCESS EXCLUSIVE",
						   column.column, lock_described(action->relation));
	if (column.serial || column.identity)
		check_numbering(guard, &column);
	else
		check_domain(guard, &column);
	if (column.not_null)
		check_not_null(guard, &column);

	foreach(lc, column.def->constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, lc);

		if (constraint->contype == CONSTR_FOREIGN && !column.dflt)
		{
			/* all NULL: there is nothing to check */
			Constraint *unchecked = copyObject(constraint);

			unchecked->skip_validation = true;
			lock_add_constraint(guard, action, unchecked, column.def->colname);
		}
		else
			lock_add_constraint(guard, action, constraint, column.def->colname);
	}
}

/* ---- NOT NULL ---- */

char *
lock_not_null_sql(Guard *guard, GuardRelation *relation, const char *column)
{
	const char *quoted = pstrdup(quote_identifier(column));
	const char *name = quote_identifier(object_name(column, NULL, "not_null"));

	if (TARGET_VERSION(guard) >= 18)
		return psprintf("ALTER TABLE %s ADD CONSTRAINT %s NOT NULL %s NOT VALID;\n-- and, in a transaction of its own\nALTER TABLE %s VALIDATE CONSTRAINT %s;",
						relation->name, name, quoted, relation->name, name);
	return psprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s IS NOT NULL) NOT VALID;\n-- then, each in a transaction of its own\nALTER TABLE %s VALIDATE CONSTRAINT %s;\nALTER TABLE %s ALTER COLUMN %s SET NOT NULL;\nALTER TABLE %s DROP CONSTRAINT %s;",
					relation->name, name, quoted, relation->name, name,
					relation->name, quoted, relation->name, name);
}

void
lock_set_not_null(Guard *guard, AlterAction *action, const char *column)
{
	GuardRelation *relation = action->relation;
	bool		notnull = false;
	AttrNumber	attno = fact_column(relation->relid, column, &notnull, NULL, NULL, NULL);

	if (notnull || lock_noted(guard, NOTE_NOT_NULL, relation, column))
		return;
	lock_note(guard, NOTE_NOT_NULL, relation, column);
	if (lock_column_proven(guard, relation, column, attno))
		return;
	(void) lock_report(guard, "set-not-null", relation, action->mode, action->offset,
					   lock_not_null_sql(guard, relation, column),
					   "SET NOT NULL on %s reads all of %s under ACCESS EXCLUSIVE",
					   quote_identifier(column), lock_described(relation));
}

static void
drop_not_null(Guard *guard, AlterAction *action)
{
	const char *column = action->cmd->name;
	bool		notnull = true;

	(void) fact_column(action->relation->relid, column, &notnull, NULL, NULL, NULL);
	if (!notnull)
		return;
	(void) lock_report_any_size(guard, "drop-not-null", action->relation, action->mode,
								action->offset, NULL,
								"column %s of %s may be NULL from now on, for clients that do not expect it",
								quote_identifier(column), action->relation->name);
}

/* ---- the rest ---- */

static void
drop_column(Guard *guard, AlterAction *action)
{
	const char *column = action->cmd->name;

	if (action->cmd->missing_ok && OidIsValid(action->relation->relid) &&
		!fact_column(action->relation->relid, column, NULL, NULL, NULL, NULL))
		return;
	(void) lock_report_any_size(guard, "drop-column", action->relation, action->mode,
								action->offset,
								psprintf("-- once no client uses the column\nSET lock_timeout = '2s';\nALTER TABLE %s DROP COLUMN %s;",
										 action->relation->name, quote_identifier(column)),
								"column %s of %s goes with its data, and clients that name it fail",
								quote_identifier(column), action->relation->name);
}

static void
set_logged(Guard *guard, AlterAction *action)
{
	bool		logged = action->cmd->subtype == AT_SetLogged;

	if (OidIsValid(action->relation->relid) &&
		(get_rel_persistence(action->relation->relid) == RELPERSISTENCE_PERMANENT) == logged)
		return;					/* it is so already */
	(void) lock_report(guard, "set-logged", action->relation, action->mode, action->offset,
					   NULL, "SET %s rewrites %s under ACCESS EXCLUSIVE",
					   logged ? "LOGGED" : "UNLOGGED", lock_described(action->relation));
}

static void
apply_action(Guard *guard, AlterAction *action)
{
	AlterTableCmd *cmd = action->cmd;

	switch (cmd->subtype)
	{
		case AT_AddColumn:
			lock_add_column(guard, action);
			break;
		case AT_DropColumn:
			drop_column(guard, action);
			break;
		case AT_SetNotNull:
			lock_set_not_null(guard, action, cmd->name);
			break;
		case AT_DropNotNull:
			drop_not_null(guard, action);
			break;
		case AT_AlterColumnType:
			lock_column_type(guard, action);
			break;
		case AT_AddConstraint:
			lock_add_constraint(guard, action, castNode(Constraint, cmd->def), NULL);
			break;
		case AT_ValidateConstraint:
			lock_validate_constraint(guard, action);
			break;
		case AT_DropConstraint:
			lock_drop_constraint(guard, action);
			break;
		case AT_SetLogged:
		case AT_SetUnLogged:
			set_logged(guard, action);
			break;
		case AT_AttachPartition:
			lock_attach_partition(guard, action);
			break;
		case AT_DetachPartition:
			lock_detach_partition(guard, action);
			break;
		default:
			break;
	}
}

/* Actions that the safe ways take one by one, on purpose. */
static bool
stands_alone(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		switch (cmd->subtype)
		{
			case AT_ValidateConstraint:
			case AT_SetNotNull:
			case AT_DropConstraint:
			case AT_AttachPartition:
			case AT_DetachPartition:
			case AT_DetachPartitionFinalize:
				return true;
			case AT_AddConstraint:
				if (castNode(Constraint, cmd->def)->skip_validation ||
					castNode(Constraint, cmd->def)->indexname)
					return true;
				break;
			default:
				break;
		}
	}
	return false;
}

static void
check_repeated(Guard *guard, AlterTableStmt *stmt, GuardRelation *relation, LOCKMODE mode)
{
	LockSession *session = lock_session(guard);
	bool		combinable = mode >= ShareRowExclusiveLock && !stands_alone(stmt);

	if (guard->live)
		return;
	if (combinable && session->altered && strcmp(session->altered, relation->name) == 0 &&
		(session->altered_number == session->number ||
		 session->altered_sequence == session->sequence - 1))
		(void) lock_report(guard, "multiple-alter-table", relation, mode, -1, NULL,
						   "%s is altered again: one ALTER TABLE with both actions takes its lock, and reads or rewrites the table, once",
						   relation->name);
	session->altered = combinable ? MemoryContextStrdup(guard->context, relation->name) : NULL;
	session->altered_sequence = session->sequence;
	session->altered_number = session->number;
}

/* Takes no AccessShareLock-like strength for views, sequences and types: nobody scans them. */
void
lock_alter_table(Guard *guard, AlterTableStmt *stmt)
{
	AlterAction action = {stmt};
	ListCell   *lc;

	if (stmt->objtype != OBJECT_TABLE && stmt->objtype != OBJECT_MATVIEW)
		return;
	action.relation = guard_relation(guard, stmt->relation);
	if (stmt->missing_ok && action.relation->relkind == 0 && guard->live)
		return;
	action.mode = AlterTableGetLockLevel(stmt->cmds);
	check_repeated(guard, stmt, action.relation, action.mode);
	foreach(lc, stmt->cmds)
	{
		action.cmd = lfirst_node(AlterTableCmd, lc);
		action.offset = lock_action_offset(guard, stmt, foreach_current_index(lc));
		apply_action(guard, &action);
	}
	lock_taken(guard, action.relation, action.mode);
}
