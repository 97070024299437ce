/*-------------------------------------------------------------------------
 *
 * generator.c
 *	  A key generator, compiled once and evaluated as the table's owner.
 *
 * Somebody with the rights of the table's owner named it, so it runs with
 * these and no others, whoever the writer is: a writer needs no USAGE on a
 * sequence, and gains nothing from a function that the owner chose.  The
 * default, a core function and its cast, touches no rights and no names, so
 * it is called without that ceremony.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/namespace.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "base/privilege.h"
#include "integrity/generator.h"

static bool
function_is_not_harmless(Oid function, void *context)
{
	switch (function)
	{
		case F_GEN_RANDOM_UUID:
		case F_UUID_OUT:
		case F_TEXTIN:
		case F_VARCHARIN:
		case F_BPCHARIN:
		case F_VARCHAR_VARCHAR_INT4_BOOL:
		case F_BPCHAR_BPCHAR_INT4_BOOL:
			return false;
		default:
			return true;
	}
}

/* Does an expression need the owner's rights or a pinned search_path? */
static bool
needs_owner(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, FuncExpr) && !IsA(node, CoerceViaIO) &&
		!IsA(node, RelabelType) && !IsA(node, Const))
		return true;
	if (check_functions_in_node(node, function_is_not_harmless, NULL))
		return true;
	return expression_tree_walker(node, needs_owner, context);
}

CachedExpression *
generator_compile(Node *expr, const GeneratorTarget *target)
{
	CachedExpression *compiled;
	Oid			from = exprType(expr);
	RunAs		runas;

	/* inlining looks at rights and runs code, so it is done as the owner */
	runas_begin(&runas, target->owner, RUNAS_RESTRICTED);
	expr = coerce_to_target_type(NULL, expr, from, target->type, target->typmod,
								 COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
	if (expr == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("generator of type %s cannot be assigned to a key of type %s",
						format_type_be(from), format_type_be(target->type)),
				 errhint("Call evmig_ingest_guard again with another generator.")));
	assign_expr_collations(NULL, expr);
	compiled = GetCachedExpression(expr);
	runas_end(&runas);
	return compiled;
}

KeyGenerator *
generator_start(CachedExpression *compiled, const GeneratorTarget *target,
				const char *path)
{
	KeyGenerator *generator = palloc0(sizeof(KeyGenerator));
	Expr	   *expr = copyObject((Expr *) compiled->expr);
	RunAs		runas;

	generator->owner = target->owner;
	generator->path = pstrdup(path);
	generator->harmless = !needs_owner((Node *) expr, NULL);
	generator->econtext = CreateStandaloneExprContext();

	/* EXECUTE is checked here */
	runas_begin_path(&runas, target->owner, RUNAS_RESTRICTED, NULL);
	generator->state = ExecInitExpr(expr, NULL);
	runas_end(&runas);
	return generator;
}

static void
generator_next_context(void *arg)
{
	errcontext("key generator of the ingest guard on table \"%s\"", (const char *) arg);
}

Datum
generator_next(KeyGenerator *generator, const char *relname)
{
	ErrorContextCallback context;
	Datum		key;
	bool		isnull;
	RunAs		runas;

	context.callback = generator_next_context;
	context.arg = unconstify(char *, relname);
	context.previous = error_context_stack;
	error_context_stack = &context;

	ResetExprContext(generator->econtext);
	if (!generator->harmless)
		runas_begin_path(&runas, generator->owner, RUNAS_RESTRICTED, generator->path);
	key = ExecEvalExprSwitchContext(generator->state, generator->econtext, &isnull);
	if (!generator->harmless)
		runas_end(&runas);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("generator returned NULL"),
				 errhint("Name a generator that returns a new key each time.")));

	error_context_stack = context.previous;
	return key;
}

char *
generator_path(void)
{
	StringInfoData buf;
	List	   *path = fetch_search_path(true);
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, path)
	{
		char	   *name = get_namespace_name(lfirst_oid(lc));

		if (name && !isAnyTempNamespace(lfirst_oid(lc)))
			appendStringInfo(&buf, "%s, ", quote_identifier(name));
	}
	appendStringInfoString(&buf, "pg_temp");
	return buf.data;
}
