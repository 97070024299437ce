/*-------------------------------------------------------------------------
 *
 * arguments.c
 *	  The arguments of routines: which call can be whose, and what it gives.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* the type of an argument as written; InvalidOid: that takes more than its text */
static Oid
written_type(Node *arg)
{
	if (IsA(arg, NamedArgExpr))
		arg = (Node *) ((NamedArgExpr *) arg)->arg;
	if (IsA(arg, A_Const) && !((A_Const *) arg)->isnull)
	{
		switch (nodeTag(&((A_Const *) arg)->val))
		{
			case T_Integer:
				return INT4OID;
			case T_Float:
				return NUMERICOID;
			case T_Boolean:
				return BOOLOID;
			default:
				break;
		}
	}
	return InvalidOid;
}

bool
routine_takes(const Routine *routine, const FuncCall *call)
{
	int			given = list_length(call->args);
	int			least = 0;
	int			most = 0;
	bool		variadic = false;
	ListCell   *cell;
	ListCell   *arg = list_head(call->args);

	if (call->agg_within_group)
		given += list_length(call->agg_order);
	foreach(cell, routine->arguments)
	{
		RoutineArgument *argument = lfirst(cell);
		Oid			type;

		/* CALL names those of OUT, too; a SELECT does not */
		if (!argument->input)
		{
			if (strncmp(routine->signature, "procedure", 9) == 0)
				most++;
			continue;
		}
		most++;
		if (argument->variadic)
			variadic = true;
		else if (!argument->has_default)
			least++;
		if (arg == NULL)
			continue;
		type = IsA(lfirst(arg), NamedArgExpr) ? InvalidOid : written_type(lfirst(arg));
		if (OidIsValid(type) && OidIsValid(argument->type) && !argument->variadic &&
			!can_coerce_type(1, &type, &argument->type, COERCION_IMPLICIT))
			return false;
		arg = lnext(call->args, arg);
	}
	return given >= least && (given <= most || variadic);
}

char *
routine_declaration(const Routine *routine)
{
	StringInfoData text;
	ListCell   *cell;
	int			number = 1;

	initStringInfo(&text);
	appendStringInfo(&text, "<<%s>> DECLARE", quote_identifier(routine->name));
	foreach(cell, routine->arguments)
	{
		RoutineArgument *argument = lfirst(cell);
		Oid			type = argument->type;
		const char *name = "record";

		if (type == ANYARRAYOID || type == ANYCOMPATIBLEARRAYOID)
			name = "pg_catalog.int4[]";
		else if (type == ANYRANGEOID || type == ANYCOMPATIBLERANGEOID)
			name = "pg_catalog.int4range";
		else if (IsPolymorphicType(type))
			name = "pg_catalog.int4";
		else if (OidIsValid(type) && get_typtype(type) != TYPTYPE_PSEUDO &&
				 get_typtype(type) != TYPTYPE_COMPOSITE)
			name = format_type_be_qualified(type);
		if (argument->name && argument->name[0])
		{
			const char *quoted = quote_identifier(argument->name);

			/* PL/pgSQL's own words need quotes as well */
			if (quoted[0] != '"')
				quoted = psprintf("\"%s\"", argument->name);
			appendStringInfo(&text, " %s %s; \"$%d\" ALIAS FOR %s;", quoted, name, number, quoted);
		}
		else
			appendStringInfo(&text, " \"$%d\" %s;", number, name);
		number++;
	}
	return text.data;
}

List *
routine_bind(Guard *guard, const Routine *routine, const FuncCall *call, uint64 *digest,
			 List **defaults)
{
	List	   *variables = NIL;
	ListCell   *cell;
	int			position = 0;
	int			number = 0;

	*digest = 1;
	*defaults = NIL;
	foreach(cell, routine->arguments)
	{
		RoutineArgument *argument = lfirst(cell);
		BodyVariable *variable;
		List	   *values;
		ListCell   *value;
		Node	   *given = NULL;

		number++;
		if (!argument->input || argument->variadic)
			continue;
		foreach(value, call->args)
		{
			NamedArgExpr *named = lfirst(value);

			if (IsA(named, NamedArgExpr) && argument->name &&
				strcmp(named->name, argument->name) == 0)
				given = (Node *) named->arg;
		}
		if (given == NULL && position < list_length(call->args) &&
			!IsA(list_nth(call->args, position), NamedArgExpr))
			given = list_nth(call->args, position);
		position++;
		if (given == NULL)
		{
			if (argument->default_value)
				*defaults = lappend(*defaults, argument->default_value);
			continue;
		}
		values = guard_texts(guard, given);
		if (list_length(values) == 1 &&
			strcmp(((SqlText *) linitial(values))->data, RUN_TIME_VALUE) == 0)
			continue;
		foreach(value, values)
		{
			SqlText    *text = lfirst(value);

			*digest = hash_combine64(*digest, hash_bytes_extended((unsigned char *) text->data,
																   text->len, number));
		}
		variable = palloc0(sizeof(BodyVariable));
		variable->name = argument->name ? argument->name : psprintf("$%d", number);
		variable->number = number;
		variable->values = values;
		variables = lappend(variables, variable);
	}
	return variables;
}
