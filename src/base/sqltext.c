/*-------------------------------------------------------------------------
 *
 * sqltext.c
 *	  Quoting, and SQL text composed from parts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "commands/defrem.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parser.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/privilege.h"
#include "base/sqltext.h"

char *
quote_relation(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *schema = name ? get_namespace_name(get_rel_namespace(relid)) : NULL;
	char	   *quoted;
	int			nest;

	if (schema == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (!quote_all_identifiers)
		return quote_qualified_identifier(schema, name);
	nest = NewGUCNestLevel();
	(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	quoted = quote_qualified_identifier(schema, name);
	AtEOXact_GUC(false, nest);
	return quoted;
}

char *
quote_type(Oid type, int32 typmod)
{
	return format_type_extended(type, typmod,
								FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

char *
quote_collation(Oid collation)
{
	HeapTuple	tup = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Form_pg_collation form;
	char	   *result;

	if (!HeapTupleIsValid(tup))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tup);
	result = quote_qualified_identifier(get_namespace_name(form->collnamespace),
										NameStr(form->collname));
	ReleaseSysCache(tup);
	return result;
}

char *
quote_operator(Oid opno)
{
	HeapTuple	tup = SearchSysCache1(OPEROID, ObjectIdGetDatum(opno));
	Form_pg_operator form;
	char	   *result;

	if (!HeapTupleIsValid(tup))
		elog(ERROR, "cache lookup failed for operator %u", opno);
	form = (Form_pg_operator) GETSTRUCT(tup);
	result = psprintf("OPERATOR(%s.%s)",
					  quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tup);
	return result;
}

char *
object_name(const char *name1, const char *name2, const char *label)
{
	return makeObjectName(name1, name2, label);
}

Node *
single_expression(const char *text)
{
	List	   *parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select;
	ResTarget  *target;

	if (list_length(parsed) != 1 || !IsA(linitial_node(RawStmt, parsed)->stmt, SelectStmt))
		return NULL;
	select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	if (list_length(select->targetList) != 1 || select->distinctClause ||
		select->intoClause || select->fromClause || select->whereClause ||
		select->groupClause || select->havingClause || select->windowClause ||
		select->valuesLists || select->sortClause || select->limitOffset ||
		select->limitCount || select->lockingClause || select->withClause ||
		select->op != SETOP_NONE)
		return NULL;
	target = linitial_node(ResTarget, select->targetList);
	if (target->name || target->indirection)
		return NULL;
	return target->val;
}

static void
argument_error_context(void *arg)
{
	ArgumentContext *argument = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(argument->text);
	}
	errcontext("argument \"%s\"", argument->param);
}

void
argument_begin(ArgumentContext *argument, const char *param, const char *text)
{
	argument->param = param;
	argument->text = text;
	argument->callback.callback = argument_error_context;
	argument->callback.arg = argument;
	argument->callback.previous = error_context_stack;
	error_context_stack = &argument->callback;
}

void
argument_end(ArgumentContext *argument)
{
	error_context_stack = argument->callback.previous;
}

char *
canonical_generator(const char *text, const char *param,
					Oid type, int32 typmod, Oid collation)
{
	ArgumentContext argument;
	ParseState *pstate;
	Node	   *raw;
	Node	   *expr;
	Oid			from;
	char	   *result;
	RunAs		runas;

	argument_begin(&argument, param, text);
	raw = single_expression(text);
	if (raw == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("generator must be a single expression"),
				 errdetail("It was: %s", text),
				 errhint("Give an expression such as gen_random_uuid() or nextval('my_sequence').")));

	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = text;
	expr = transformExpr(pstate, raw, EXPR_KIND_COLUMN_DEFAULT);
	from = exprType(expr);
	expr = coerce_to_target_type(pstate, expr, from, type, typmod,
								 COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
	if (expr == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("generator of type %s cannot be assigned to a key of type %s",
						format_type_be(from), format_type_be(type)),
				 errhint("Add a cast, or name a generator of the key's type.")));
	assign_expr_collations(pstate, expr);

	if (!contain_volatile_functions(expr))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("generator returns a constant"),
				 errdetail("Nothing in \"%s\" is volatile, so every row would get the same key.", text),
				 errhint("Use a volatile expression such as gen_random_uuid() or nextval('my_sequence').")));

	/* deparsed under a pinned path, every user object comes out qualified */
	runas_begin(&runas, GetUserId(), RUNAS_LOCAL);
	result = deparse_expression(expr, NIL, false, false);
	runas_end(&runas);

	free_parsestate(pstate);
	argument_end(&argument);
	return result;
}
