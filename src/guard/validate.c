/*-------------------------------------------------------------------------
 *
 * validate.c
 *	  Constraints that were added NOT VALID: VALIDATE CONSTRAINT evaluates
 *	  them over all rows, and so calls what they call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_constraint.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "guard/catalog.h"

/* one that the source added; in guard->context */
typedef struct Unvalidated
{
	char	   *schema;			/* of the table or domain; NULL: not given */
	char	   *owner;			/* the table or domain */
	char	   *name;
	Node	   *expr;			/* raw tree */
	GuardFrame	frame;			/* that it stands in */
} Unvalidated;

void
guard_constraint_added(Guard *guard, const RangeVar *owner, Constraint *constraint)
{
	MemoryContext old;
	Unvalidated *entry;

	/* one without a name gets one that the source cannot be sure of */
	if (constraint->conname == NULL || constraint->raw_expr == NULL)
		return;
	old = MemoryContextSwitchTo(guard->context);
	entry = palloc0(sizeof(Unvalidated));
	entry->schema = owner->schemaname ? pstrdup(owner->schemaname) : NULL;
	entry->owner = pstrdup(owner->relname);
	entry->name = pstrdup(constraint->conname);
	entry->expr = copyObject(constraint->raw_expr);
	entry->frame = guard_lasting_frame(guard->frame);
	guard->unvalidated = lappend(guard->unvalidated, entry);
	MemoryContextSwitchTo(old);
}

/* true: the source added a constraint of that name */
static bool
validate_own(Guard *guard, const RangeVar *owner, const char *name)
{
	for (int i = list_length(guard->unvalidated) - 1; i >= 0; i--)
	{
		Unvalidated *entry = list_nth(guard->unvalidated, i);
		GuardFrame	frame = entry->frame;

		if (strcmp(entry->name, name) != 0 || strcmp(entry->owner, owner->relname) != 0 ||
			(entry->schema && owner->schemaname && strcmp(entry->schema, owner->schemaname) != 0))
			continue;
		frame.via = psprintf("constraint %s", quote_identifier(name));
		guard_push(guard, &frame);
		guard_expression(guard, entry->expr);
		guard_pop(guard);
		return true;
	}
	return false;
}

static void
validate_stored(Guard *guard, Oid oid, const char *name)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(oid));
	Node	   *expr = NULL;
	GuardFrame	frame;
	bool		isnull;
	Datum		value;

	if (!HeapTupleIsValid(tuple))
		return;
	value = SysCacheGetAttr(CONSTROID, tuple, Anum_pg_constraint_conbin, &isnull);
	if (!isnull && !((Form_pg_constraint) GETSTRUCT(tuple))->convalidated)
		expr = stringToNode(TextDatumGetCString(value));
	ReleaseSysCache(tuple);
	guard_push_stored(guard, &frame, -1, psprintf("constraint %s", quote_identifier(name)));
	guard_query(guard, expr);
	guard_pop(guard);
}

void
guard_constraint_validated(Guard *guard, const RangeVar *table, const char *name)
{
	GuardRelation *relation;

	if (validate_own(guard, table, name))
		return;
	relation = guard_relation(guard, table);
	if (OidIsValid(relation->relid))
		validate_stored(guard, get_relation_constraint_oid(relation->relid, name, true), name);
}

/* ALTER DOMAIN: both */
void
guard_domain_altered(Guard *guard, AlterDomainStmt *stmt)
{
	RangeVar   *domain;
	Constraint *constraint = (Constraint *) stmt->def;
	Oid			type;

	if (list_length(stmt->typeName) > 3)
		return;
	domain = makeRangeVar(list_length(stmt->typeName) > 1 ?
						  strVal(list_nth(stmt->typeName, list_length(stmt->typeName) - 2)) : NULL,
						  strVal(llast(stmt->typeName)), -1);
	if (stmt->subtype == 'C' && constraint && IsA(constraint, Constraint))
	{
		if (constraint->skip_validation)
			guard_constraint_added(guard, domain, constraint);
		else
			guard_expression(guard, constraint->raw_expr);
	}
	else if (stmt->subtype == 'V' && !validate_own(guard, domain, stmt->name))
	{
		type = LookupTypeNameOid(NULL, makeTypeNameFromNameList(stmt->typeName), true);
		if (OidIsValid(type))
			validate_stored(guard, get_domain_constraint_oid(type, stmt->name, true), stmt->name);
	}
}
