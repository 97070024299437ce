/*-------------------------------------------------------------------------
 *
 * defined.c
 *	  The functions and procedures that a source defines.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include <ctype.h>

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"

/* all of one name */
typedef struct NamedRoutines
{
	char		name[NAMEDATALEN];	/* hash key; must be first */
	List	   *routines;		/* Routine, the latest last */
} NamedRoutines;

/* ---- reading CREATE FUNCTION ---- */

/* the type that a name means here; InvalidOid: none, or not to be told */
static Oid
type_of(TypeName *type)
{
	if (type == NULL || type->pct_type || type->setof)
		return InvalidOid;
	if (list_length(type->names) > 1)
	{
		Oid			schema = get_namespace_oid(strVal(linitial(type->names)), true);

		if (list_length(type->names) > 2 || !OidIsValid(schema) ||
			compat_namespace_aclcheck(schema, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
			return InvalidOid;
	}
	return LookupTypeNameOid(NULL, type, true);
}

static List *
read_arguments(List *parameters, StringInfo signature)
{
	List	   *arguments = NIL;
	ListCell   *cell;
	bool		first = true;

	appendStringInfoChar(signature, '(');
	foreach(cell, parameters)
	{
		FunctionParameter *parameter = lfirst_node(FunctionParameter, cell);
		RoutineArgument *argument = palloc0(sizeof(RoutineArgument));

		argument->name = parameter->name ? pstrdup(parameter->name) : NULL;
		argument->type = type_of(parameter->argType);
		argument->input = parameter->mode != FUNC_PARAM_OUT && parameter->mode != FUNC_PARAM_TABLE;
		argument->variadic = parameter->mode == FUNC_PARAM_VARIADIC;
		argument->has_default = parameter->defexpr != NULL;
		argument->default_value = copyObject(parameter->defexpr);
		arguments = lappend(arguments, argument);
		if (!argument->input)
			continue;
		appendStringInfo(signature, "%s%s", first ? "" : ", ",
						 OidIsValid(argument->type) ? format_type_be(argument->type) :
						 TypeNameToString(parameter->argType));
		first = false;
	}
	appendStringInfoChar(signature, ')');
	return arguments;
}

/* of a string literal behind AS, which is at an offset of the frame's text */
static int
behind_as(const GuardFrame *frame, int offset)
{
	const char *p = frame->text + offset;
	int			depth = 0;

	if (offset < 0 || offset + 2 > frame->len || pg_strncasecmp(p, "as", 2) != 0)
		return offset;
	for (p += 2; *p; p++)
	{
		if (p[0] == '/' && p[1] == '*')
		{
			depth++;
			p++;
		}
		else if (depth > 0 && p[0] == '*' && p[1] == '/')
		{
			depth--;
			p++;
		}
		else if (depth == 0 && p[0] == '-' && p[1] == '-')
		{
			while (p[1] && p[1] != '\n')
				p++;
		}
		else if (depth == 0 && !isspace((unsigned char) *p))
			break;
	}
	return p - frame->text;
}

GuardFrame
guard_lasting_frame(const GuardFrame *frame)
{
	GuardFrame	copy = *frame;

	copy.parent = NULL;
	copy.via = NULL;
	copy.text = pnstrdup(frame->text, frame->len);
	if (frame->base < 0 && frame->map)
	{
		int		   *map = palloc(sizeof(int) * (frame->len + 1));

		memcpy(map, frame->map, sizeof(int) * (frame->len + 1));
		copy.map = map;
	}
	return copy;
}

static void
read_options(Guard *guard, Routine *routine, List *options)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "language") == 0)
			routine->language = pstrdup(strVal(option->arg));
		else if (strcmp(option->defname, "volatility") == 0)
			routine->volatility = strVal(option->arg)[0] == 'v' ? PROVOLATILE_VOLATILE :
				strVal(option->arg)[0] == 's' ? PROVOLATILE_STABLE : PROVOLATILE_IMMUTABLE;
		else if (strcmp(option->defname, "as") == 0 && IsA(option->arg, List))
		{
			GuardFrame	frame;

			guard_literal_frame(guard, &frame, strVal(linitial((List *) option->arg)),
								behind_as(guard->frame, option->location));
			routine->frame = guard_lasting_frame(&frame);
		}
	}
}

/* ---- the source's routines ---- */

static NamedRoutines *
named(Guard *guard, const char *name, bool create)
{
	char		key[NAMEDATALEN];
	bool		found;
	NamedRoutines *entry;

	if (guard->routines == NULL)
	{
		HASHCTL		ctl = {0};

		if (!create)
			return NULL;
		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(NamedRoutines);
		ctl.hcxt = guard->context;
		guard->routines = hash_create("evmig guard routines", 32, &ctl,
									  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	strlcpy(key, name, NAMEDATALEN);
	entry = hash_search(guard->routines, key, create ? HASH_ENTER : HASH_FIND, &found);
	if (create && !found)
		entry->routines = NIL;
	return entry;
}

static bool
same_text(const char *a, const char *b)
{
	return (a == NULL && b == NULL) || (a && b && strcmp(a, b) == 0);
}

void
guard_routine_defined(Guard *guard, CreateFunctionStmt *stmt)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	Routine    *routine = palloc0(sizeof(Routine));
	NamedRoutines *entry;
	StringInfoData signature;
	ListCell   *cell;

	routine->name = pstrdup(strVal(llast(stmt->funcname)));
	if (list_length(stmt->funcname) > 1)
		routine->schema = pstrdup(strVal(linitial(stmt->funcname)));
	initStringInfo(&signature);
	appendStringInfo(&signature, "%s %s%s%s", stmt->is_procedure ? "procedure" : "function",
					 routine->schema ? quote_identifier(routine->schema) : "",
					 routine->schema ? "." : "", quote_identifier(routine->name));
	routine->arguments = read_arguments(stmt->parameters, &signature);
	routine->signature = signature.data;
	routine->language = stmt->sql_body ? "sql" : "plpgsql";
	routine->volatility = PROVOLATILE_VOLATILE;
	routine->trigger = stmt->returnType && list_length(stmt->returnType->names) > 0 &&
		(strcmp(strVal(llast(stmt->returnType->names)), "trigger") == 0 ||
		 strcmp(strVal(llast(stmt->returnType->names)), "event_trigger") == 0);
	read_options(guard, routine, stmt->options);
	if (stmt->sql_body)
	{
		routine->sql_body = copyObject(stmt->sql_body);
		routine->frame = guard_lasting_frame(guard->frame);
	}

	entry = named(guard, routine->name, true);
	foreach(cell, entry->routines)
	{
		Routine    *other = lfirst(cell);

		if (same_text(other->schema, routine->schema) &&
			strcmp(other->signature, routine->signature) == 0)
			entry->routines = foreach_delete_current(entry->routines, cell);
	}
	entry->routines = lappend(entry->routines, routine);
	MemoryContextSwitchTo(old);
}

List *
routines_defined(Guard *guard, const FuncCall *call)
{
	NamedRoutines *entry = named(guard, strVal(llast(call->funcname)), false);
	const char *schema = list_length(call->funcname) > 1 ? strVal(linitial(call->funcname)) : NULL;
	List	   *result = NIL;
	ListCell   *cell;

	if (entry == NULL)
		return NIL;
	foreach(cell, entry->routines)
	{
		Routine    *routine = lfirst(cell);

		if (schema && routine->schema && strcmp(schema, routine->schema) != 0)
			continue;
		if (routine_takes(routine, call))
			result = lappend(result, routine);
	}
	return result;
}

/* inputs that a name with types has; -1: no types given */
static int
given_inputs(const ObjectWithArgs *object)
{
	return object->args_unspecified ? -1 : list_length(object->objargs);
}

static int
inputs(const Routine *routine)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, routine->arguments)
		n += ((RoutineArgument *) lfirst(cell))->input;
	return n;
}

static void
forget(Guard *guard, const ObjectWithArgs *object)
{
	NamedRoutines *entry = named(guard, strVal(llast(object->objname)), false);
	int			given = given_inputs(object);
	ListCell   *cell;

	if (entry == NULL)
		return;
	foreach(cell, entry->routines)
	{
		if (given < 0 || inputs(lfirst(cell)) == given)
			entry->routines = foreach_delete_current(entry->routines, cell);
	}
	/* an empty entry would say that something else has the name */
	if (entry->routines == NIL)
		(void) hash_search(guard->routines, entry->name, HASH_REMOVE, NULL);
}

static bool
is_routine(ObjectType type)
{
	return type == OBJECT_FUNCTION || type == OBJECT_PROCEDURE || type == OBJECT_ROUTINE;
}

void
guard_routines_dropped(Guard *guard, DropStmt *stmt)
{
	ListCell   *cell;

	if (!is_routine(stmt->removeType))
		return;
	foreach(cell, stmt->objects)
		forget(guard, lfirst_node(ObjectWithArgs, cell));
}

void
guard_routine_renamed(Guard *guard, RenameStmt *stmt)
{
	ObjectWithArgs *object = (ObjectWithArgs *) stmt->object;
	NamedRoutines *entry;
	List	   *routines;
	MemoryContext old;
	ListCell   *cell;
	int			given;

	if (!is_routine(stmt->renameType))
		return;
	entry = named(guard, strVal(llast(object->objname)), false);
	routines = entry ? list_copy(entry->routines) : NIL;
	given = given_inputs(object);
	forget(guard, object);
	old = MemoryContextSwitchTo(guard->context);
	foreach(cell, routines)
	{
		if (given < 0 || inputs(lfirst(cell)) == given)
		{
			entry = named(guard, stmt->newname, true);
			entry->routines = lappend(entry->routines, lfirst(cell));
		}
	}
	MemoryContextSwitchTo(old);
}

/* the source made an aggregate, a type or such, which may be called by its name */
void
guard_routine_made(Guard *guard, List *name)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);

	(void) named(guard, strVal(llast(name)), true);
	MemoryContextSwitchTo(old);
}

/* a call of a function with so many arguments, of whatever type */
static FuncCall *
call_with(List *name, int arguments)
{
	List	   *args = NIL;

	for (int i = 0; i < arguments; i++)
	{
		A_Const    *any = makeNode(A_Const);

		any->isnull = true;
		args = lappend(args, any);
	}
	return makeFuncCall(copyObject(name), args, COERCE_EXPLICIT_CALL, -1);
}

void
guard_aggregate_defined(Guard *guard, DefineStmt *stmt)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	Routine    *routine = palloc0(sizeof(Routine));
	RoutineArgument *any = palloc0(sizeof(RoutineArgument));
	int			arguments = stmt->oldstyle ? 1 : list_length(linitial(stmt->args));
	ListCell   *cell;
	NamedRoutines *entry;

	any->input = any->variadic = true;
	routine->arguments = list_make1(any);
	routine->name = pstrdup(strVal(llast(stmt->defnames)));
	if (list_length(stmt->defnames) > 1)
		routine->schema = pstrdup(strVal(linitial(stmt->defnames)));
	routine->signature = psprintf("aggregate %s", quote_identifier(routine->name));
	routine->language = pstrdup("internal");
	routine->volatility = PROVOLATILE_VOLATILE;
	foreach(cell, stmt->definition)
	{
		DefElem    *option = lfirst_node(DefElem, cell);
		const char *name = option->defname;
		bool		transition = strcmp(name, "sfunc") == 0 || strcmp(name, "sfunc1") == 0 ||
			strcmp(name, "msfunc") == 0 || strcmp(name, "minvfunc") == 0;

		if (!transition && strcmp(name, "finalfunc") != 0 && strcmp(name, "mfinalfunc") != 0)
			continue;
		if (option->arg && IsA(option->arg, TypeName))
			routine->supports = lappend(routine->supports,
										call_with(((TypeName *) option->arg)->names,
												  transition ? arguments + 1 : 1));
	}
	entry = named(guard, routine->name, true);
	entry->routines = lappend(entry->routines, routine);
	MemoryContextSwitchTo(old);
}

bool
routine_name_made(Guard *guard, const FuncCall *call)
{
	NamedRoutines *entry = named(guard, strVal(llast(call->funcname)), false);

	return entry && entry->routines == NIL;
}
