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
#include "catalog/pg_operator.h"
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
	Datum		defaults;
	bool		isnull;
	List	   *values = NIL;

	defaults = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargdefaults, &isnull);
	if (!isnull)
		values = castNode(List, stringToNode(TextDatumGetCString(defaults)));
	for (int i = 0; i < n; i++)
	{
		RoutineArgument *argument = palloc0(sizeof(RoutineArgument));
		char		mode = modes ? modes[i] : PROARGMODE_IN;

		argument->name = names && names[i][0] ? names[i] : NULL;
		argument->type = types[i];
		argument->input = mode != PROARGMODE_OUT && mode != PROARGMODE_TABLE;
		argument->variadic = mode == PROARGMODE_VARIADIC;
		if (argument->input && ++input > proc->pronargs - proc->pronargdefaults)
		{
			int			nth = input - (proc->pronargs - proc->pronargdefaults) - 1;

			argument->has_default = true;
			argument->default_value = nth < list_length(values) ? list_nth(values, nth) : NULL;
		}
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

/* could it change rows, or call what does?  One that is not VOLATILE may call, too */
static bool
may_write(HeapTuple tuple)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

	return proc->pronamespace != PG_CATALOG_NAMESPACE &&
		proc->prolang != INTERNALlanguageId && proc->prolang != ClanguageId;
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

List *
aggregate_routines(Oid aggregate)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	List	   *routines = NIL;
	Form_pg_aggregate agg;
	Oid			supports[5];
	Routine    *routine;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	agg = (Form_pg_aggregate) GETSTRUCT(tuple);
	supports[0] = agg->aggtransfn;
	supports[1] = agg->aggfinalfn;
	supports[2] = agg->aggmtransfn;
	supports[3] = agg->aggminvtransfn;
	supports[4] = agg->aggmfinalfn;
	ReleaseSysCache(tuple);
	for (int i = 0; i < lengthof(supports); i++)
	{
		if (OidIsValid(supports[i]) && (routine = routine_stored(supports[i])) != NULL)
			routines = lappend(routines, routine);
	}
	return routines;
}

/* ---- operators ---- */

typedef struct NamedOperators
{
	char		name[NAMEDATALEN];	/* hash key; must be first */
	List	   *functions;		/* Oids */
} NamedOperators;

List *
operators_stored(Guard *guard, const char *name)
{
	char		key[NAMEDATALEN];
	NamedOperators *entry;
	CatCList   *list;
	bool		found;
	MemoryContext old;

	if (guard->operators == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(NamedOperators);
		ctl.hcxt = guard->context;
		guard->operators = hash_create("evmig guard operators", 16, &ctl,
									   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	strlcpy(key, name, NAMEDATALEN);
	entry = hash_search(guard->operators, key, HASH_ENTER, &found);
	if (found)
		return entry->functions;
	entry->functions = NIL;
	old = MemoryContextSwitchTo(guard->context);
	list = SearchSysCacheList1(OPERNAMENSP, CStringGetDatum(name));
	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_operator operator = (Form_pg_operator) GETSTRUCT(&list->members[i]->tuple);

		if (operator->oprnamespace != PG_CATALOG_NAMESPACE && OidIsValid(operator->oprcode))
			entry->functions = lappend_oid(entry->functions, operator->oprcode);
	}
	ReleaseCatCacheList(list);
	MemoryContextSwitchTo(old);
	return entry->functions;
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
