/*-------------------------------------------------------------------------
 *
 * routine.c
 *	  Following what a source calls: DO blocks, functions and procedures.
 *
 * A routine that the source defines counts where it is called; a finding
 * stands where the change is written.  One of the database is followed through
 * its callees, and a finding stands at the call in the source.  From there each
 * routine is followed once, unless it is given other texts, so that neither a
 * cycle nor a diamond of calls costs more than its routines.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "guard/settings.h"

static void follow_support(Guard *guard, FuncCall *support, int location);

/* ---- following ---- */

/* what has been followed */
typedef struct FollowedKey
{
	const Routine *defined;		/* of the source's, or */
	uint64		digest;			/* of the texts that it was given; 0: they do not matter */
	Oid			oid;			/* of the database's, from */
	int			place;			/* in the source */
} FollowedKey;

/*
 * The source's routines are followed once for all, since a finding stands in
 * them; the database's for each call, since it stands there.
 */
static bool
followed_before(Guard *guard, const Routine *routine, int location, uint64 digest,
				HASHACTION action)
{
	HTAB	  **table = OidIsValid(routine->oid) ? &guard->followed_stored : &guard->followed;
	FollowedKey key = {OidIsValid(routine->oid) ? NULL : routine, digest, routine->oid, 0};
	bool		found;

	if (OidIsValid(routine->oid))
		key.place = guard_source_offset(guard, location);

	if (OidIsValid(routine->oid) && guard->followed_for != guard->statement_offset)
	{
		if (guard->followed_stored)
			hash_destroy(guard->followed_stored);
		guard->followed_stored = NULL;
		guard->followed_for = guard->statement_offset;
	}
	if (*table == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = ctl.entrysize = sizeof(FollowedKey);
		ctl.hcxt = guard->context;
		*table = hash_create("evmig guard followed", 16, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(*table, &key, action, &found);
	return found;
}

/*
 * Where a word stands that is the last one of its kind before a location; the
 * parser does not say where an embedded statement starts.
 */
static int
word_before(const GuardFrame *frame, const char *word, int location)
{
	int			len = strlen(word);

	for (int at = Min(location, frame->len) - len; at >= 0; at--)
	{
		if (pg_strncasecmp(frame->text + at, word, len) == 0)
			return at;
	}
	return 0;
}

void
guard_embedded_tree(Guard *guard, Node *tree)
{
	const char *verb = NULL;
	const RangeVar *target = NULL;

	if (tree == NULL)
		return;
	switch (nodeTag(tree))
	{
		case T_InsertStmt:
			verb = "insert";
			target = ((InsertStmt *) tree)->relation;
			break;
		case T_UpdateStmt:
			verb = "update";
			target = ((UpdateStmt *) tree)->relation;
			break;
		case T_DeleteStmt:
			verb = "delete";
			target = ((DeleteStmt *) tree)->relation;
			break;
		case T_MergeStmt:
			verb = "merge";
			target = ((MergeStmt *) tree)->relation;
			break;
		default:
			break;
	}
	guard_tree(guard, tree, verb ? word_before(guard->frame, verb, target->location) : 0);
}

/* BEGIN ATOMIC is a list of one list of statements; else it is a RETURN */
static void
follow_sql_body(Guard *guard, Node *sql_body)
{
	ListCell   *cell;

	if (sql_body == NULL)
		return;
	if (!IsA(sql_body, List))
	{
		guard_embedded_tree(guard, sql_body);
		return;
	}
	foreach(cell, (List *) sql_body)
		follow_sql_body(guard, lfirst(cell));
}

static void
follow_body(Guard *guard, const Routine *routine, GuardFrame *frame)
{
	if (strcmp(routine->language, "plpgsql") == 0)
	{
		guard_plpgsql(guard, frame, routine_declaration(routine));
		return;
	}
	guard_push(guard, frame);
	if (routine->query)
		guard_query(guard, routine->query);
	else if (routine->sql_body)
		follow_sql_body(guard, routine->sql_body);
	else
		guard_sql(guard, frame);
	guard_pop(guard);
}

static bool
is_being_followed(Guard *guard, const Routine *routine)
{
	ListCell   *cell;

	foreach(cell, guard->following)
	{
		const Routine *other = lfirst(cell);

		if (OidIsValid(routine->oid) ? other->oid == routine->oid : other == routine)
			return true;
	}
	return false;
}

/* a language that we cannot read, in a routine that may change rows */
static bool
is_readable(const Routine *routine)
{
	return strcmp(routine->language, "sql") == 0 || strcmp(routine->language, "plpgsql") == 0;
}

/* Defaults are evaluated by who calls. */
static void
follow_defaults(Guard *guard, const Routine *routine, const FuncCall *call, List *defaults)
{
	GuardFrame	frame;
	ListCell   *cell;

	if (defaults == NIL)
		return;
	guard_push_stored(guard, &frame, call->location,
					  psprintf("a default of %s", routine->signature));
	foreach(cell, defaults)
	{
		if (OidIsValid(routine->oid))
			guard_query(guard, lfirst(cell));
		else
			guard_expression(guard, lfirst(cell));
	}
	guard_pop(guard);
}

/* The body, with what the arguments are known to be. */
static void
follow_with(Guard *guard, const Routine *routine, const FuncCall *call, List *variables)
{
	List	   *outer_variables = guard->variables;
	List	   *outer_values = guard->values;
	GuardFrame	frame = routine->frame;
	bool		outer_asked = guard->argument_asked;
	ListCell   *cell;

	frame.volatility = routine->volatility;
	if (OidIsValid(routine->oid))
	{
		frame.anchor = guard_source_offset(guard, call->location);
		frame.via = routine->signature;
	}
	else
	{
		int			line;
		int			col;

		guard_line_col(guard, guard_source_offset(guard, call->location), &line, &col);
		frame.via = psprintf("%s, called at line %d", routine->signature, line);
	}
	guard->argument_asked = false;
	guard->variables = variables;
	guard->values = NIL;
	foreach(cell, routine->arguments)
	{
		if (((RoutineArgument *) lfirst(cell))->name)
			guard->values = lappend(guard->values, ((RoutineArgument *) lfirst(cell))->name);
	}
	follow_body(guard, routine, &frame);
	guard->variables = outer_variables;
	guard->values = outer_values;
	if (!guard->argument_asked)
		(void) followed_before(guard, routine, call->location, 0, HASH_ENTER);
	guard->argument_asked = outer_asked;
}

/* defaults: of the arguments that the call does not give, if it says which it gives */
static void
follow(Guard *guard, const Routine *routine, FuncCall *call, bool with_defaults)
{
	List	   *variables;
	List	   *defaults;
	uint64		digest;
	ListCell   *cell;

	if (routine->trigger || is_being_followed(guard, routine))
		return;
	foreach(cell, routine->supports)
		follow_support(guard, lfirst_node(FuncCall, cell), call->location);
	/* without a body it cannot be created, so the call fails */
	if (!OidIsValid(routine->oid) && !routine->sql_body && routine->frame.text == NULL)
		return;
	if (strcmp(routine->language, "c") == 0 || strcmp(routine->language, "internal") == 0)
		return;
	if (!is_readable(routine))
	{
		if (routine->volatility == PROVOLATILE_VOLATILE)
			guard_report(guard, "dynamic-sql", call->location, NULL,
						 "Make sure that it changes no rows, or declare it STABLE if it only reads.",
						 "%s could not be inspected: it is written in %s",
						 routine->signature, routine->language);
		return;
	}
	variables = routine_bind(guard, routine, call, &digest, &defaults);
	guard->following = lappend(guard->following, unconstify(Routine *, routine));
	if (with_defaults)
		follow_defaults(guard, routine, call, defaults);
	if (!followed_before(guard, routine, call->location, 0, HASH_FIND) &&
		!followed_before(guard, routine, call->location, digest, HASH_ENTER))
		follow_with(guard, routine, call, variables);
	guard->following = list_delete_last(guard->following);
}

bool
guard_followed(Guard *guard, Oid class, Oid oid)
{
	Routine		object = {.oid = oid};

	return followed_before(guard, &object, -1, class, HASH_ENTER);
}

/* ---- entry points ---- */

static char *
called_name(const FuncCall *call)
{
	return NameListToQuotedString(call->funcname);
}

/* one of evmig.guard_dml_functions? */
static bool
is_helper(const FuncCall *call)
{
	const char *name = strVal(llast(call->funcname));
	List	   *helpers;
	ListCell   *cell;

	if (guard_dml_functions == NULL || guard_dml_functions[0] == '\0' ||
		!SplitIdentifierString(pstrdup(guard_dml_functions), ',', &helpers))
		return false;
	foreach(cell, helpers)
	{
		const char *helper = lfirst(cell);
		const char *dot = strchr(helper, '.');

		if (strcmp(helper, name) == 0)
			return true;
		if (dot && strcmp(dot + 1, name) == 0 &&
			(list_length(call->funcname) == 1 ||
			 strncmp(strVal(linitial(call->funcname)), helper, dot - helper) == 0))
			return true;
	}
	return false;
}

static void
report_helper(Guard *guard, const FuncCall *call)
{
	guard_report(guard, "data-helper", call->location, NULL, NULL,
				 "%s() changes data: it is one of evmig.guard_dml_functions",
				 called_name(call));
}

void
guard_call(Guard *guard, FuncCall *call)
{
	List	   *routines;
	ListCell   *cell;
	bool		known;

	if (guard_too_deep(guard))
		return;
	if (strstr(strVal(llast(call->funcname)), RUN_TIME_VALUE))
	{
		guard_report(guard, "dynamic-sql", call->location, NULL, NULL,
					 "a call could not be inspected: the routine's name is only known at run time");
		return;
	}
	if (is_helper(call))
	{
		report_helper(guard, call);
		return;
	}
	if (guard_executor(guard, call))
		return;
	routines = routines_defined(guard, call);
	if (routines == NIL)
	{
		routines = routines_stored(guard, call, &known);
		if (!known && !routine_name_made(guard, call))
			guard_report(guard, "unknown-routine", call->location, NULL, NULL,
						 "%s() is known neither to the source nor to this database, so it could not be inspected",
						 called_name(call));
	}
	foreach(cell, routines)
		follow(guard, lfirst(cell), call, true);
}

/* A function that an aggregate of the source is made of. */
static void
follow_support(Guard *guard, FuncCall *support, int location)
{
	FuncCall   *call = copyObject(support);
	bool		known;
	List	   *routines = routines_defined(guard, call);
	ListCell   *cell;

	if (guard_too_deep(guard))
		return;
	call->location = location;
	if (routines == NIL)
		routines = routines_stored(guard, call, &known);
	foreach(cell, routines)
		follow(guard, lfirst(cell), call, false);
}

void
guard_call_stored(Guard *guard, Oid oid, int location)
{
	List	   *routines;
	FuncCall   *call;
	ListCell   *cell;

	if (guard_too_deep(guard))
		return;
	routines = aggregate_routines(oid);
	if (routines == NIL)
		routines = list_make1(routine_stored(oid));
	foreach(cell, routines)
	{
		Routine    *routine = lfirst(cell);

		if (routine == NULL)
			continue;
		call = makeNode(FuncCall);
		call->funcname = list_make1(makeString(routine->name));
		call->location = location;
		if (is_helper(call))
			report_helper(guard, call);
		else
			follow(guard, routine, call, false);
	}
}

void
guard_operator(Guard *guard, List *name, int location)
{
	ListCell   *cell;

	foreach(cell, operators_stored(guard, strVal(llast(name))))
		guard_call_stored(guard, lfirst_oid(cell), location);
}

void
guard_do(Guard *guard, DoStmt *stmt)
{
	const char *language = "plpgsql";
	DefElem    *body = NULL;
	GuardFrame	frame;
	List	   *outer_variables = guard->variables;
	List	   *outer_values = guard->values;
	ListCell   *cell;

	foreach(cell, stmt->args)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "language") == 0)
			language = strVal(option->arg);
		else if (strcmp(option->defname, "as") == 0)
			body = option;
	}
	if (body == NULL || guard_too_deep(guard))
		return;
	if (strcmp(language, "plpgsql") != 0)
	{
		guard_report(guard, "dynamic-sql", -1, NULL,
					 "Write the block in PL/pgSQL, or as plain statements.",
					 "a DO block in language %s could not be inspected", language);
		return;
	}
	guard_literal_frame(guard, &frame, strVal(body->arg), body->location);
	guard->variables = guard->values = NIL;
	guard_plpgsql(guard, &frame, NULL);
	guard->variables = outer_variables;
	guard->values = outer_values;
}
