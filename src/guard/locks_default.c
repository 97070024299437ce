/*-------------------------------------------------------------------------
 *
 * locks_default.c
 *	  Is a column's default the same for all rows, as the server would find?
 *
 * The server plans the expression, which folds constants and puts simple SQL
 * functions in line, and rewrites the table if what remains is volatile.  We
 * follow it without evaluating a function that is not the server's own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/transam.h"
#include "catalog/heap.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "executor/functions.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "parser/parse_expr.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/subxact.h"
#include "guard/locks.h"

#define MAX_INLINED 10			/* functions within functions */

typedef struct Volatility
{
	int			depth;
	bool		found;
} Volatility;

static bool is_volatile(Node *expr, int depth);

/* ---- analysis that may fail ---- */

/* What says that the server should not go on, not that the text is wrong. */
static bool
must_rethrow(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_TRANSACTION_ROLLBACK:
			return true;
		default:
			return sqlerrcode == ERRCODE_DATA_CORRUPTED ||
				sqlerrcode == ERRCODE_INDEX_CORRUPTED;
	}
}

bool
lock_attempt(void (*body) (void *context), void *context)
{
	ErrorData  *error = subxact_probe(body, context);

	if (error == NULL)
		return true;
	if (must_rethrow(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

typedef struct TypeLookup
{
	TypeName   *name;
	Oid			type;
	int32		typmod;
} TypeLookup;

static void
look_up_type(void *context)
{
	TypeLookup *lookup = context;

	typenameTypeIdAndMod(NULL, lookup->name, &lookup->type, &lookup->typmod);
}

bool
lock_type(TypeName *name, Oid *type, int32 *typmod)
{
	TypeLookup	lookup = {copyObject(name), InvalidOid, -1};

	if (name == NULL || !lock_attempt(look_up_type, &lookup) || !OidIsValid(lookup.type))
		return false;
	*type = lookup.type;
	*typmod = lookup.typmod;
	return true;
}

/* ---- SQL functions that the planner would put in line ---- */

static bool
has_sublink(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		return true;
	return raw_expression_tree_walker(node, has_sublink, context);
}

/* SELECT of one expression; anything else names relations, which would be locked */
static bool
is_bare_select(Node *tree)
{
	SelectStmt *select = (SelectStmt *) tree;

	return IsA(tree, SelectStmt) && list_length(select->targetList) == 1 &&
		!select->distinctClause && !select->intoClause && !select->fromClause &&
		!select->whereClause && !select->groupClause && !select->havingClause &&
		!select->windowClause && !select->valuesLists && !select->sortClause &&
		!select->limitOffset && !select->limitCount && !select->lockingClause &&
		!select->withClause && select->op == SETOP_NONE &&
		!has_sublink((Node *) select->targetList, NULL);
}

/* The one expression of a Query, NULL where it is more than that. */
static Node *
only_target(Query *query)
{
	if (query->commandType != CMD_SELECT || query->rtable || query->hasAggs ||
		query->hasWindowFuncs || query->hasTargetSRFs || query->hasSubLinks ||
		query->cteList || query->setOperations || list_length(query->targetList) != 1)
		return NULL;
	return (Node *) linitial_node(TargetEntry, query->targetList)->expr;
}

static Node *
sql_body(HeapTuple tup, FuncExpr *call)
{
	bool		isnull;
	Datum		value;
	char	   *source;
	List	   *trees;
	ParseState *pstate;

	value = SysCacheGetAttr(PROCOID, tup, Anum_pg_proc_prosqlbody, &isnull);
	if (!isnull)
	{
		Node	   *body = stringToNode(TextDatumGetCString(value));

		if (IsA(body, List))
			body = linitial((List *) body);
		if (IsA(body, List) && list_length((List *) body) == 1)
			body = linitial((List *) body);
		return IsA(body, Query) ? only_target((Query *) body) : NULL;
	}
	value = SysCacheGetAttr(PROCOID, tup, Anum_pg_proc_prosrc, &isnull);
	if (isnull)
		return NULL;
	source = TextDatumGetCString(value);
	trees = raw_parser(source, RAW_PARSE_DEFAULT);
	if (list_length(trees) != 1 || !is_bare_select(linitial_node(RawStmt, trees)->stmt))
		return NULL;
	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = source;
	sql_fn_parser_setup(pstate, prepare_sql_fn_parse_info(tup, (Node *) call,
														  call->inputcollid));
	return only_target(transformTopLevelStmt(pstate, linitial_node(RawStmt, trees)));
}

/* A function declared volatile whose body, put in line, is not. */
static bool
inlines_to_stable(FuncExpr *call, int depth)
{
	HeapTuple	tup = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	Form_pg_proc form;
	bool		stable = false;

	if (!HeapTupleIsValid(tup))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tup);
	if (depth < MAX_INLINED && form->prolang == SQLlanguageId &&
		form->prokind == PROKIND_FUNCTION && !form->prosecdef && !form->proretset &&
		form->prorettype != RECORDOID && heap_attisnull(tup, Anum_pg_proc_proconfig, NULL))
	{
		Node	   *body = sql_body(tup, call);

		stable = body != NULL && !is_volatile(body, depth + 1);
	}
	ReleaseSysCache(tup);
	return stable;
}

/* ---- volatility ---- */

static bool
is_volatile_function(Oid function, void *context)
{
	return func_volatile(function) == PROVOLATILE_VOLATILE;
}

static bool
find_volatile(Node *node, void *context)
{
	Volatility *state = context;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_volatile_function, NULL) &&
		!(IsA(node, FuncExpr) && inlines_to_stable((FuncExpr *) node, state->depth)))
		return true;
	if (IsA(node, NextValueExpr))
		return true;
	return expression_tree_walker(node, find_volatile, context);
}

static bool
is_volatile(Node *expr, int depth)
{
	Volatility	state = {depth, false};

	if (!contain_volatile_functions(expr))
		return false;
	/* CASE WHEN false THEN random() ...: only folding tells */
	if (fact_only_builtin(expr))
		return contain_volatile_functions((Node *) expression_planner((Expr *) copyObject(expr)));
	return find_volatile(expr, &state);
}

typedef struct DefaultLookup
{
	Node	   *raw;
	TypeName   *type;
	bool		is_volatile;
} DefaultLookup;

static void
look_up_default(void *context)
{
	DefaultLookup *lookup = context;
	ParseState *pstate = make_parsestate(NULL);
	Oid			type;
	int32		typmod;
	Node	   *expr;

	if (lookup->type && LookupTypeName(NULL, lookup->type, NULL, true) != NULL)
	{
		typenameTypeIdAndMod(NULL, lookup->type, &type, &typmod);
		expr = cookDefault(pstate, copyObject(lookup->raw), type, typmod, "column", 0);
	}
	else
		expr = transformExpr(pstate, copyObject(lookup->raw), EXPR_KIND_COLUMN_DEFAULT);
	lookup->is_volatile = is_volatile(expr, 0);
}

DefaultKind
lock_default_kind(Guard *guard, Node *raw, TypeName *type)
{
	DefaultLookup lookup = {raw, type, false};
	Node	   *inner = raw;

	/* what most defaults are needs no analysis */
	while (inner && IsA(inner, TypeCast))
		inner = ((TypeCast *) inner)->arg;
	if (inner == NULL || IsA(inner, A_Const) || IsA(inner, SQLValueFunction))
		return DEFAULT_STABLE;
	if (guard_too_deep(guard) || !lock_attempt(look_up_default, &lookup))
		return DEFAULT_UNKNOWN;
	return lookup.is_volatile ? DEFAULT_VOLATILE : DEFAULT_STABLE;
}

/* ---- its text, for a hint ---- */

typedef struct DefaultText
{
	DefaultLookup lookup;
	char	   *text;
	MemoryContext context;
} DefaultText;

static void
write_default(void *context)
{
	DefaultText *text = context;
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expr = transformExpr(pstate, copyObject(text->lookup.raw),
									 EXPR_KIND_COLUMN_DEFAULT);

	/* for a session of any DateStyle; the subtransaction's end takes it back */
	SetConfigOption("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION);
	text->text = MemoryContextStrdup(text->context, deparse_expression(expr, NIL, false, false));
}

char *
lock_default_text(Node *raw, TypeName *type)
{
	DefaultText text = {{raw, type, false}, NULL, CurrentMemoryContext};

	return lock_attempt(write_default, &text) && text.text ? text.text : pstrdup("...");
}
