/*-------------------------------------------------------------------------
 *
 * style_columns.c
 *	  Rules about tables' columns, and names.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "miscadmin.h"

#include "guard/style.h"

/* what is said of a type by its last name */
typedef struct TypeRule
{
	const char *type;
	const char *rule;
	bool		taste;
	bool		with_length;	/* only as type(n) */
} TypeRule;

static const TypeRule type_rules[] = {
	{"json", "json-column", false, false},
	{"int4", "int-not-bigint", true, false},
	{"integer", "int-not-bigint", true, false},
	{"int2", "smallint", true, false},
	{"serial", "serial-type", true, false},
	{"serial4", "serial-type", true, false},
	{"bigserial", "serial-type", true, false},
	{"serial8", "serial-type", true, false},
	{"smallserial", "serial-type", true, false},
	{"serial2", "serial-type", true, false},
	{"varchar", "varchar-n", true, true},
	{"bpchar", "char-type", true, false},
	{"timestamp", "timestamp-no-tz", true, false},
};

static void
check_type(Guard *guard, ColumnDef *column, GuardRelation *relation)
{
	const char *type = column->typeName ? strVal(llast(column->typeName->names)) : NULL;

	if (type == NULL || column->typeName->arrayBounds != NIL)
		return;
	for (int i = 0; i < lengthof(type_rules); i++)
	{
		const TypeRule *rule = &type_rules[i];

		if (strcmp(type, rule->type) != 0 || (rule->taste && !guard_style_on) ||
			(rule->with_length && column->typeName->typmods == NIL))
			continue;
		guard_report(guard, rule->rule, column->location, relation->name, NULL,
					 "column \"%s\" is of type %s", column->colname, type);
	}
}

static void
check_constraint(Guard *guard, Constraint *constraint, GuardRelation *relation)
{
	bool		named = constraint->conname != NULL;

	switch (constraint->contype)
	{
		case CONSTR_FOREIGN:
			if (guard_style_on && (constraint->fk_del_action == FKCONSTR_ACTION_CASCADE ||
								   constraint->fk_upd_action == FKCONSTR_ACTION_CASCADE))
				guard_report(guard, "fk-cascade", constraint->location, relation->name, NULL,
							 "a statement on table %s changes rows of table %s through its foreign key",
							 constraint->pktable->relname, relation->name);
			break;
		case CONSTR_CHECK:
		case CONSTR_UNIQUE:
		case CONSTR_EXCLUSION:
			break;
		default:
			return;
	}
	if (guard_style_on && !named)
		guard_report(guard, "unnamed-constraint", constraint->location, relation->name, NULL,
					 "a constraint of table %s has no name of its own", relation->name);
}

void
style_column(Guard *guard, ColumnDef *column, GuardRelation *relation)
{
	ListCell   *lc;

	check_type(guard, column, relation);
	style_name_length(guard, column->location);
	foreach(lc, column->constraints)
		check_constraint(guard, lfirst(lc), relation);
}

bool
style_is_primary_key(List *constraints)
{
	ListCell   *lc;

	foreach(lc, constraints)
	{
		if (IsA(lfirst(lc), Constraint) && lfirst_node(Constraint, lc)->contype == CONSTR_PRIMARY)
			return true;
	}
	return false;
}

void
style_create_table(Guard *guard, CreateStmt *stmt)
{
	GuardRelation *relation = guard_relation(guard, stmt->relation);
	List	   *names = NIL;
	bool		has_key = stmt->partbound != NULL || stmt->inhRelations != NIL || stmt->ofTypename != NULL;
	ListCell   *lc;

	if (stmt->relation->relpersistence == RELPERSISTENCE_TEMP)
		return;
	foreach(lc, stmt->tableElts)
	{
		Node	   *element = lfirst(lc);

		if (IsA(element, ColumnDef))
		{
			ColumnDef  *column = (ColumnDef *) element;

			style_column(guard, column, relation);
			has_key = has_key || style_is_primary_key(column->constraints);
			names = lappend(names, column);
		}
		else if (IsA(element, Constraint))
		{
			has_key = has_key || style_is_primary_key(list_make1(element));
			check_constraint(guard, (Constraint *) element, relation);
		}
		else if (IsA(element, TableLikeClause))
			has_key = true;
	}
	style_assigned_twice(guard, names, "CREATE TABLE");
	if (!has_key)
		guard_withdrawable(guard, &guard->keyless,
						   guard_report(guard, "no-primary-key", stmt->relation->location,
										relation->name, NULL,
										"table %s has no primary key", relation->name));
}

void
style_key_added(Guard *guard, RangeVar *table)
{
	GuardRelation *relation = guard_relation(guard, table);
	ListCell   *lc;

	foreach(lc, guard->keyless)
	{
		GuardFinding *finding = lfirst(lc);

		if (finding->relation && strcmp(finding->relation, relation->name) == 0)
		{
			guard_withdraw(guard, finding);
			guard->keyless = foreach_delete_current(guard->keyless, lc);
		}
	}
}

/* ColumnDefs or ResTargets; several rows in an assignment are another matter. */
void
style_assigned_twice(Guard *guard, List *targets, const char *where)
{
	ListCell   *a;
	ListCell   *b;

	foreach(a, targets)
	{
		bool		column = IsA(lfirst(a), ColumnDef);
		char	   *name = column ? ((ColumnDef *) lfirst(a))->colname : ((ResTarget *) lfirst(a))->name;
		int			location = column ? ((ColumnDef *) lfirst(a))->location : ((ResTarget *) lfirst(a))->location;

		CHECK_FOR_INTERRUPTS();
		foreach(b, targets)
		{
			char	   *other = column ? ((ColumnDef *) lfirst(b))->colname : ((ResTarget *) lfirst(b))->name;

			if (lfirst(a) == lfirst(b))
				break;
			if (!column && (((ResTarget *) lfirst(a))->indirection || ((ResTarget *) lfirst(b))->indirection))
				continue;		/* parts of one column */
			if (name && other && strcmp(name, other) == 0)
			{
				guard_report(guard, "duplicate-assignment", location, NULL, NULL,
							 "column \"%s\" stands twice in %s", name, where);
				break;
			}
		}
	}
}

/* ---- names ---- */

static bool
is_identifier(unsigned char c)
{
	return c == '_' || c == '$' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		(c >= 'A' && c <= 'Z') || IS_HIGHBIT_SET(c);
}

/* The parser has cut the name that stands at a location: look at the text. */
void
style_name_length(Guard *guard, int location)
{
	const char *start;
	const char *s;
	int			len = 0;

	if (location < 0 || location >= guard->frame->len)
		return;
	start = s = guard->frame->text + location;
	do
	{
		const char *part;

		if (*s == '.')
			s++;
		part = s;
		if (*s == '"')
		{
			for (s++; *s && (*s != '"' || s[1] == '"'); s++)
				if (*s == '"')
					s++;
			len = Max(len, (int) (s - part - 1));
			if (*s)
				s++;
		}
		else
		{
			while (is_identifier((unsigned char) *s))
				s++;
			len = Max(len, (int) (s - part));
		}
	} while (*s == '.');
	if (len >= NAMEDATALEN)
		guard_report(guard, "identifier-too-long", start - guard->frame->text, NULL, NULL,
					 "a name of %d bytes is cut to %d", len, NAMEDATALEN - 1);
}
