/*-------------------------------------------------------------------------
 *
 * stored.c
 *	  The functions and procedures of the database that a call may mean.
 *
 * Reads catalogs only, and none that a role may not read.  All candidates
 * count that have the name and can take the arguments as written, since types
 * are not resolved: first those of the search_path; where that has none, those
 * of any schema, since the migration may run under another path.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

/* ---- one routine ---- */

static List *
stored_arguments(HeapTuple tuple)
{
	List	   *arguments = NIL;
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	Oid		   *types;
	char	  **names;
	char	   *modes;
	int			n = get_func_arg_info(tuple, &types, &names, &modes);
	int			input = 0;

	for (int i = 0; i < n; i++)
	{
		RoutineArgument *argument = palloc0(sizeof(RoutineArgument));
		char		mode = modes ? modes[i] : PROARGMODE_IN;

		argument->name = names && names[i][0] ? names[i] : NULL;
		argument->type = types[i];
		argument->input = mode != PROARGMODE_OUT && mode != PROARGMODE_TABLE;
		argument->variadic = mode == PROARGMODE_VARIADIC;
		if (argument->input && ++input > proc->pronargs - proc->pronargdefaults)
			argument->has_default = true;
		arguments = lappend(arguments, argument);
	}
	return arguments;
}

static char *
language_name(Oid language)
{
	char	   *name = get_language_name(language, true);

	return name ? name : "an unknown language";
}

static Routine *
read_routine(HeapTuple tuple)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	Routine    *routine = palloc0(sizeof(Routine));
	Datum		source;
	bool		isnull;

	routine->oid = proc->oid;
	routine->name = pstrdup(NameStr(proc->proname));
	routine->signature = psprintf("%s %s",
								  proc->prokind == PROKIND_PROCEDURE ? "procedure" : "function",
								  format_procedure(proc->oid));
	routine->arguments = stored_arguments(tuple);
	routine->language = language_name(proc->prolang);
	routine->volatility = proc->provolatile;
	routine->trigger = proc->prorettype == TRIGGEROID || proc->prorettype == EVENT_TRIGGEROID;
	routine->frame.base = -1;
	source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
	routine->frame.text = isnull ? "" : TextDatumGetCString(source);
	routine->frame.len = strlen(routine->frame.text);
	source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	if (!isnull)
		routine->query = stringToNode(TextDatumGetCString(source));
	return routine;
}

/* could it change rows by itself? */
static bool
may_write(HeapTuple tuple)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

	return proc->pronamespace != PG_CATALOG_NAMESPACE &&
		proc->prolang != INTERNALlanguageId && proc->prolang != ClanguageId &&
		proc->prokind != PROKIND_WINDOW && proc->provolatile == PROVOLATILE_VOLATILE;
}

Routine *
routine_stored(Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Routine    *routine = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	if (may_write(tuple))
		routine = read_routine(tuple);
	ReleaseSysCache(tuple);
	return routine;
}

/* an aggregate is as good as the functions that it is made of */
static List *
aggregate_routines(Oid aggregate)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	List	   *routines = NIL;
	Form_pg_aggregate agg;
	Routine    *routine;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	agg = (Form_pg_aggregate) GETSTRUCT(tuple);
	if ((routine = routine_stored(agg->aggtransfn)) != NULL)
		routines = lappend(routines, routine);
	if (OidIsValid(agg->aggfinalfn) && (routine = routine_stored(agg->aggfinalfn)) != NULL)
		routines = lappend(routines, routine);
	ReleaseSysCache(tuple);
	return routines;
}

/* ---- candidates ---- */

/* add what a candidate amounts to, if it can be meant and can change rows */
static bool
add_candidate(List **routines, HeapTuple tuple, const FuncCall *call)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	Routine    *routine;

	/* the server's own are known, all of them */
	if (proc->pronamespace == PG_CATALOG_NAMESPACE)
		return true;
	routine = read_routine(tuple);
	if (!routine_takes(routine, call))
		return false;
	if (proc->prokind == PROKIND_AGGREGATE)
		*routines = list_concat(*routines, aggregate_routines(proc->oid));
	else if (may_write(tuple))
		*routines = lappend(*routines, routine);
	return true;
}

typedef enum Where
{
	IN_SCHEMA,
	IN_PATH,
	ANYWHERE
} Where;

static bool
collect(List **routines, const FuncCall *call, Where where, Oid schema)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP,
										   CStringGetDatum(strVal(llast(call->funcname))));
	List	   *path = where == IN_PATH ? fetch_search_path(true) : NIL;
	bool		known = false;

	for (int i = 0; i < list->n_members; i++)
	{
		HeapTuple	tuple = &list->members[i]->tuple;
		Oid			namespace = ((Form_pg_proc) GETSTRUCT(tuple))->pronamespace;

		if (where == IN_SCHEMA ? namespace == schema :
			where == IN_PATH ? list_member_oid(path, namespace) : true)
			known |= add_candidate(routines, tuple, call);
	}
	ReleaseCatCacheList(list);
	return known;
}

/* f(x) may be a cast to a type, and x.f a column of x */
static bool
is_cast(const FuncCall *call)
{
	return list_length(call->funcname) == 1 && list_length(call->args) == 1 &&
		OidIsValid(TypenameGetTypid(strVal(linitial(call->funcname))));
}

List *
routines_stored(Guard *guard, const FuncCall *call, bool *known)
{
	List	   *routines = NIL;

	*known = false;
	if (list_length(call->funcname) > 1)
	{
		char	   *name = strVal(list_nth(call->funcname, list_length(call->funcname) - 2));
		Oid			schema = get_namespace_oid(name, true);

		if (OidIsValid(schema))
			*known = collect(&routines, call, IN_SCHEMA, schema);
		return routines;
	}
	*known = collect(&routines, call, IN_PATH, InvalidOid) ||
		collect(&routines, call, ANYWHERE, InvalidOid) || is_cast(call);
	return routines;
}
