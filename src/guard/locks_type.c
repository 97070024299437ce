/*-------------------------------------------------------------------------
 *
 * locks_type.c
 *	  ALTER COLUMN TYPE: is the table rewritten, are its indexes built again
 *	  and its constraints checked again?
 *
 * Takes the server's steps (ATPrepAlterColumnType, ATColumnChangeRequiresRewrite,
 * CheckIndexCompatible) with what the catalogs say, and opens no table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_type.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/privilege.h"
#include "guard/locks.h"

typedef struct TypeChange
{
	Oid			relid;
	AttrNumber	attno;
	Oid			type;			/* as it is */
	int32		typmod;
	Oid			collation;
	ColumnDef  *def;			/* as it is to be */
	Oid			newtype;
	int32		newtypmod;
	Oid			newcollation;
	bool		impossible;		/* no cast: the statement fails */
	bool		rewrites;
	bool		by_zone;		/* because of the session's time zone */
} TypeChange;

/* ---- the table ---- */

Node *
lock_resolve_column(ParseState *pstate, ColumnRef *ref)
{
	Oid			relid = *(Oid *) pstate->p_ref_hook_state;
	Node	   *name = llast(ref->fields);
	Oid			type;
	int32		typmod;
	Oid			collation;
	AttrNumber	attno;

	if (!IsA(name, String))
		return NULL;
	attno = fact_column(relid, strVal(name), NULL, &type, &typmod, &collation);
	return attno == InvalidAttrNumber ? NULL :
		(Node *) makeVar(1, attno, type, typmod, collation, 0);
}

static bool
requires_rewrite(Node *expr, TypeChange *change)
{
	for (;;)
	{
		if (IsA(expr, Var) && ((Var *) expr)->varattno == change->attno)
			return false;
		else if (IsA(expr, RelabelType))
			expr = (Node *) ((RelabelType *) expr)->arg;
		else if (IsA(expr, FuncExpr) &&
				 (((FuncExpr *) expr)->funcid == F_TIMESTAMPTZ_TIMESTAMP ||
				  ((FuncExpr *) expr)->funcid == F_TIMESTAMP_TIMESTAMPTZ))
		{
			if (TimestampTimestampTzRequiresRewrite())
			{
				change->by_zone = true;
				return true;
			}
			expr = linitial(((FuncExpr *) expr)->args);
		}
		else
			return true;
	}
}

static void
judge_change(void *context)
{
	TypeChange *change = context;
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expr;

	typenameTypeIdAndMod(NULL, change->def->typeName, &change->newtype, &change->newtypmod);
	change->newcollation = GetColumnDefCollation(NULL, change->def, change->newtype);
	if (change->def->raw_default)
	{
		pstate->p_pre_columnref_hook = lock_resolve_column;
		pstate->p_ref_hook_state = &change->relid;
		expr = transformExpr(pstate, copyObject(change->def->raw_default),
							 EXPR_KIND_ALTER_COL_TRANSFORM);
	}
	else
		expr = (Node *) makeVar(1, change->attno, change->type, change->typmod,
								change->collation, 0);
	expr = coerce_to_target_type(pstate, expr, exprType(expr), change->newtype,
								 change->newtypmod, COERCION_ASSIGNMENT,
								 COERCE_IMPLICIT_CAST, -1);
	if (expr == NULL)
	{
		change->impossible = true;
		return;
	}
	assign_expr_collations(pstate, expr);
	while (IsA(expr, CoerceToDomain))
	{
		if (fact_domain_constrained(((CoerceToDomain *) expr)->resulttype))
		{
			change->rewrites = true;
			return;
		}
		expr = (Node *) ((CoerceToDomain *) expr)->arg;
	}
	/* a user's function is not folded away, and planning might evaluate it */
	change->rewrites = !fact_only_builtin(expr) ||
		requires_rewrite((Node *) expression_planner((Expr *) expr), change);
}

/* ---- indexes ---- */

/* Does an expression of an index, or its WHERE, use the column? */
static bool
expression_uses(HeapTuple tup, AttrNumber field, AttrNumber attno)
{
	Bitmapset  *used = NULL;
	bool		isnull;
	Datum		value = SysCacheGetAttr(INDEXRELID, tup, field, &isnull);

	if (isnull)
		return false;
	pull_varattnos(stringToNode(TextDatumGetCString(value)), 1, &used);
	return bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, used);
}

/* Can the index be kept for a key column of the new type? */
static bool
key_is_kept(HeapTuple tup, int k, TypeChange *change, Oid am)
{
	bool		isnull;
	oidvector  *classes = (oidvector *)
		DatumGetPointer(SysCacheGetAttr(INDEXRELID, tup, Anum_pg_index_indclass, &isnull));
	oidvector  *collations = (oidvector *)
		DatumGetPointer(SysCacheGetAttr(INDEXRELID, tup, Anum_pg_index_indcollation, &isnull));
	Oid			opclass = classes->values[k];
	Oid			input = get_opclass_input_type(opclass);

	if (IsPolymorphicType(input) && change->newtype != change->type)
		return false;
	if (OidIsValid(collations->values[k]) && collations->values[k] == change->collation &&
		change->newcollation != change->collation)
		return false;
	if (GetDefaultOpClass(change->type, am) == opclass)
		return GetDefaultOpClass(change->newtype, am) == opclass;
	return IsBinaryCoercible(change->newtype, input);
}

static bool
index_is_rebuilt(Oid index, TypeChange *change)
{
	HeapTuple	tup = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index form;
	Oid			am = fact_access_method(index);
	bool		rebuilt = false;

	if (!HeapTupleIsValid(tup))
		return false;
	form = (Form_pg_index) GETSTRUCT(tup);
	if (expression_uses(tup, Anum_pg_index_indexprs, change->attno) ||
		expression_uses(tup, Anum_pg_index_indpred, change->attno))
		rebuilt = true;
	for (int k = 0; k < form->indnatts && !rebuilt; k++)
	{
		if (form->indkey.values[k] != change->attno)
			continue;
		/* the server does not look into expressions: such an index is built again */
		rebuilt = !heap_attisnull(tup, Anum_pg_index_indexprs, NULL) ||
			!heap_attisnull(tup, Anum_pg_index_indpred, NULL) ||
			(k < form->indnkeyatts && !key_is_kept(tup, k, change, am));
	}
	ReleaseSysCache(tup);
	return rebuilt;
}

static char *
rebuilt_indexes(TypeChange *change)
{
	List	   *indexes = fact_indexes(change->relid);
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, indexes)
	{
		if (index_is_rebuilt(lfirst_oid(lc), change))
			appendStringInfo(&names, "%s%s", names.len ? ", " : "",
							 quote_identifier(get_rel_name(lfirst_oid(lc))));
	}
	return names.len ? names.data : NULL;
}

/* ---- constraints ---- */

/* A foreign key is checked again where its comparison changes. */
static bool
is_checked_again(Oid constraint, TypeChange *change)
{
	HeapTuple	tup = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Form_pg_constraint form;
	bool		again = false;

	if (!HeapTupleIsValid(tup))
		return false;
	form = (Form_pg_constraint) GETSTRUCT(tup);
	if (!form->convalidated || !fact_constraint_uses(constraint, change->attno))
		again = false;
	else if (form->contype == CONSTRAINT_CHECK)
		again = true;
	else if (form->contype == CONSTRAINT_FOREIGN)
		again = GetDefaultOpClass(change->type, BTREE_AM_OID) !=
			GetDefaultOpClass(change->newtype, BTREE_AM_OID);
	ReleaseSysCache(tup);
	return again;
}

static void
report_rechecks(Guard *guard, AlterAction *action, TypeChange *change)
{
	GuardRelation *relation = action->relation;
	List	   *constraints = fact_constraints(relation->relid, 0);
	ListCell   *lc;

	foreach(lc, constraints)
	{
		const char *name;
		char	   *definition;

		if (!is_checked_again(lfirst_oid(lc), change))
			continue;
		name = pstrdup(quote_identifier(fact_constraint_name(lfirst_oid(lc))));
		definition = fact_constraint_definition(lfirst_oid(lc));
		(void) lock_report(guard, "change-type-rechecks-constraint", relation, action->mode,
						   action->offset,
						   psprintf("ALTER TABLE %s DROP CONSTRAINT %s, ALTER COLUMN %s TYPE %s, ADD CONSTRAINT %s %s NOT VALID;\n-- and, in a transaction of its own\nALTER TABLE %s VALIDATE CONSTRAINT %s;",
									relation->name, name, quote_identifier(action->cmd->name),
									format_type_with_typemod(change->newtype, change->newtypmod),
									name, definition, relation->name, name),
						   "the new type of %s checks constraint %s again, which reads all of %s under ACCESS EXCLUSIVE",
						   quote_identifier(action->cmd->name), name, lock_described(relation));
	}
}

/* ---- the rule ---- */

/* where an action's USING expression is, in its text */
typedef struct UsingPart
{
	int			depth;			/* of parentheses */
	int			start;			/* behind USING; 0: not there */
	int			end;
} UsingPart;

static bool
note_using(const GuardToken *token, void *context)
{
	UsingPart  *part = context;

	part->end = token->offset;
	if (token->code == '(' || token->code == '[')
		part->depth++;
	else if (token->code == ')' || token->code == ']')
		part->depth--;
	else if (part->depth == 0 && part->start == 0 && token->code > TOKEN_NOT_EQUALS &&
			 strcmp(token->text, "using") == 0)
		part->start = token->offset + strlen("using");
	return part->depth > 0 || (token->code != ',' && token->code != ';');
}

/* the new value as SQL: what USING says, or a cast; NULL: not to be told */
static char *
new_value_sql(Guard *guard, AlterAction *action, const char *column, const char *type)
{
	UsingPart	part = {0};
	const char *text;
	int			start;

	if (castNode(ColumnDef, action->cmd->def)->raw_default == NULL)
		return psprintf("%s::%s", column, type);
	if (action->offset < 0 || action->offset > guard->frame->len)
		return NULL;
	text = guard->frame->text + action->offset;
	if (!guard_lex(text, note_using, &part) || part.start == 0)
		return NULL;
	start = part.start;
	while (start < part.end && scanner_isspace(text[start]))
		start++;
	while (part.end > start && scanner_isspace(text[part.end - 1]))
		part.end--;
	return psprintf("(%.*s)::%s", part.end - start, text + start, type);
}

static char *
new_column_sql(Guard *guard, AlterAction *action, TypeChange *change)
{
	const char *table = action->relation->name;
	const char *column = pstrdup(quote_identifier(action->cmd->name));
	const char *new = pstrdup(quote_identifier(psprintf("%s_new", action->cmd->name)));
	const char *value;
	const char *type = OidIsValid(change->newtype) ?
		format_type_with_typemod(change->newtype, change->newtypmod) :
		TypeNameToString(castNode(ColumnDef, action->cmd->def)->typeName);

	value = new_value_sql(guard, action, column, type);
	if (value == NULL)
		return psprintf("ALTER TABLE %s ADD COLUMN %s %s;\n-- write both columns, fill the old rows with a registered backfill, then rename, and drop %s",
						table, new, type, column);
	return psprintf("ALTER TABLE %s ADD COLUMN %s %s;\n-- write both columns, and fill the old rows in batches\nSELECT %sevmig_backfill_register(%s, %s, %s, %s);\n-- then rename, and drop %s",
					table, new, type, extension_schema_prefix(),
					quote_literal_cstr(psprintf("%s_new_type", action->cmd->name)),
					quote_literal_cstr(table),
					quote_literal_cstr(psprintf("%s = %s", new, value)),
					quote_literal_cstr(psprintf("%s IS DISTINCT FROM %s", new, value)),
					column);
}

static void
report_unknown(Guard *guard, AlterAction *action, TypeChange *change)
{
	(void) lock_report(guard, "change-column-type", action->relation, action->mode,
					   action->offset, new_column_sql(guard, action, change),
					   "the new type of %s may rewrite %s under ACCESS EXCLUSIVE: it cannot be told here, where %s is not known",
					   quote_identifier(action->cmd->name), lock_described(action->relation),
					   !OidIsValid(action->relation->relid) ? "the table" :
					   change->attno == InvalidAttrNumber ? "the column" :
					   OidIsValid(change->newtype) ? "what USING refers to" : "the new type");
}

void
lock_column_type(Guard *guard, AlterAction *action)
{
	GuardRelation *relation = action->relation;
	const char *column = action->cmd->name;
	TypeChange	change = {relation->relid};
	char	   *rebuilt;

	if (lock_is_ours(relation))
		return;
	change.def = castNode(ColumnDef, action->cmd->def);
	change.attno = fact_column(relation->relid, column, NULL, &change.type,
							   &change.typmod, &change.collation);
	if (change.attno == InvalidAttrNumber || guard_too_deep(guard) ||
		!lock_attempt(judge_change, &change))
	{
		report_unknown(guard, action, &change);
		return;
	}
	if (change.impossible)
	{
		(void) lock_report(guard, "change-column-type", relation, action->mode,
						   action->offset, new_column_sql(guard, action, &change),
						   "%s cannot be cast to %s without USING, and with it %s is rewritten under ACCESS EXCLUSIVE",
						   quote_identifier(column),
						   format_type_with_typemod(change.newtype, change.newtypmod),
						   lock_described(relation));
		return;
	}
	if (change.rewrites)
	{
		(void) lock_report(guard, "change-column-type", relation, action->mode,
						   action->offset,
						   change.by_zone && TARGET_VERSION(guard) >= 12 ?
						   psprintf("-- if the values are in UTC, this before the statement, which then rewrites nothing\nSET timezone = 'UTC';\n-- else\n%s",
									new_column_sql(guard, action, &change)) :
						   new_column_sql(guard, action, &change),
						   "the new type of %s rewrites %s under ACCESS EXCLUSIVE%s",
						   quote_identifier(column), lock_described(relation),
						   change.by_zone ? ", because the time zone is not UTC" : "");
		return;
	}
	rebuilt = rebuilt_indexes(&change);
	if (rebuilt)
		(void) lock_report(guard, "change-column-type", relation, action->mode,
						   action->offset, new_column_sql(guard, action, &change),
						   "the new type of %s rewrites no table but builds %s again, on %s under ACCESS EXCLUSIVE",
						   quote_identifier(column), rebuilt, lock_described(relation));
	report_rechecks(guard, action, &change);
}
