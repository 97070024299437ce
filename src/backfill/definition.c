/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  The two texts of a backfill, SET list and WHERE clause, parsed by the
 *	  server's own parser.
 *
 * Each text is parsed alone, so that neither can reach into the other; the
 * trees are joined to one UPDATE and analyzed.  What runs later is deparsed
 * from the analyzed tree: nothing of the user's own text is ever composed into
 * a statement.
 *
 * So that an error points into the right text, both are laid out on one line
 * of source: PREFIX, the SET list, a blank, the WHERE clause.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "backfill/definition.h"
#include "base/sqltext.h"

#define PREFIX "UPDATE t SET "

/* where the texts lie in the source that the parser sees; for error positions */
typedef struct Source
{
	const char *set_list;		/* NULL: none */
	const char *where_clause;
	int			where_at;		/* characters before the WHERE clause */
	bool		raw;			/* set_list alone was given to the parser */
} Source;

/* what the walker looks for in the analyzed tree */
typedef struct WalkContext
{
	Relation	rel;
	const char *source;
	int			depth;			/* of subqueries */
	List	   *relations;		/* OIDs of tables */
	bool		generated;
} WalkContext;

/* ---- search_path ---- */

char *
definition_path(void)
{
	StringInfoData buf;
	List	   *path = fetch_search_path(false);
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, path)
	{
		char	   *name = get_namespace_name(lfirst_oid(lc));

		if (name && !isTempNamespace(lfirst_oid(lc)))
			appendStringInfo(&buf, "%s, ", quote_identifier(name));
	}
	appendStringInfoString(&buf, "pg_temp");
	return buf.data;
}

int
definition_path_begin(const char *search_path)
{
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("search_path", search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

void
definition_path_end(int nest_level)
{
	AtEOXact_GUC(false, nest_level);
}

/* ---- raw parsing ---- */

/* Let an error point into the user's own text. */
static void
source_error_context(void *arg)
{
	Source	   *source = arg;
	int			position = geterrposition();
	const char *text = source->set_list;
	int			start = strlen(PREFIX);
	const char *param = "set_list";

	if (text == NULL || position > source->where_at)
	{
		text = source->where_clause;
		start = source->where_at;
		param = "where_clause";
	}
	if (position > start || text[0] == '\0')
	{
		errposition(0);
		internalerrposition(Min(position - start, pg_mbstrlen(text) + 1));
		internalerrquery(text);
		errcontext("argument \"%s\"", param);
	}
}

/* location: of what is too much, in bytes of the source; -1 if not known */
static void
not_one_update(const char *param, const char *text, const char *source, int location)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("%s must be a single %s", param,
					strcmp(param, "set_list") == 0 ? "SET list of an UPDATE" : "expression"),
			 errdetail("It was: %s", text),
			 errhint("Give only what stands behind SET, and what stands behind WHERE, without comment at the end."),
			 location >= 0 ? errposition(pg_mbstrlen_with_len(source, location) + 1) : 0));
}

static int
first_location(int a, int b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

/* Where something is that an UPDATE's SET list does not have; -1 if not known. */
static int
location_beyond_set(const char *source)
{
	List	   *parsed = raw_parser(source, RAW_PARSE_DEFAULT);
	RawStmt    *raw = parsed ? linitial_node(RawStmt, parsed) : NULL;
	UpdateStmt *update;
	int			location = -1;

	if (raw == NULL || !IsA(raw->stmt, UpdateStmt))
		return -1;
	update = (UpdateStmt *) raw->stmt;
	if (raw->stmt_len > 0)
		location = raw->stmt_location + raw->stmt_len;
	location = first_location(location, exprLocation((Node *) update->fromClause));
	return first_location(location, exprLocation(update->whereClause));
}

/* The same for an expression. */
static int
location_beyond_expression(const char *source)
{
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, raw_parser(source, RAW_PARSE_PLPGSQL_EXPR))->stmt;
	int			location = -1;

	if (!IsA(select, SelectStmt))
		return -1;
	if (list_length(select->targetList) > 1)
		location = exprLocation(lsecond(select->targetList));
	location = first_location(location, exprLocation((Node *) select->fromClause));
	location = first_location(location, exprLocation(select->whereClause));
	location = first_location(location, exprLocation((Node *) select->groupClause));
	location = first_location(location, exprLocation(select->havingClause));
	location = first_location(location, exprLocation((Node *) select->sortClause));
	location = first_location(location, exprLocation(select->limitOffset));
	return first_location(location, exprLocation(select->limitCount));
}

/* The UPDATE that a source consists of, NULL where it is anything else. */
static UpdateStmt *
parse_update(const char *source, bool with_where)
{
	List	   *parsed = raw_parser(source, RAW_PARSE_DEFAULT);
	RawStmt    *raw;
	UpdateStmt *update;

	if (list_length(parsed) != 1)
		return NULL;
	raw = linitial_node(RawStmt, parsed);
	if (raw->stmt_len != 0 || !IsA(raw->stmt, UpdateStmt))
		return NULL;			/* a length: there was a semicolon */
	update = (UpdateStmt *) raw->stmt;
	if (update->fromClause || compat_update_returning(update) || update->withClause ||
		(update->whereClause != NULL) != with_where ||
		update->relation->alias != NULL)
		return NULL;
	return update;
}

/* What a batch cannot compute on its own. */
static void
check_assignment(ResTarget *column, const char *source)
{
	if (column->indirection)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("assignment to a part of column \"%s\" is not supported", column->name),
				 errhint("Assign the whole column."),
				 errposition(pg_mbstrlen_with_len(source, column->location) + 1)));
}

static UpdateStmt *
parse_set_list(Source *source)
{
	char	   *alone = psprintf("%s%s", PREFIX, source->set_list);
	UpdateStmt *update;
	UpdateStmt *closed;
	ListCell   *lc;

	update = parse_update(alone, false);
	if (update == NULL)
		not_one_update("set_list", source->set_list, alone, location_beyond_set(alone));

	/* a comment that runs on would swallow what follows */
	closed = parse_update(psprintf("%s WHERE true", alone), true);
	if (closed == NULL)
		not_one_update("set_list", source->set_list, alone, -1);
	foreach(lc, update->targetList)
		check_assignment(lfirst_node(ResTarget, lc), alone);
	return update;
}

static Node *
parse_where(Source *source)
{
	/* blanks in place of the SET list: locations are those in the source */
	char	   *padded = psprintf("%*s%s", source->where_at, "", source->where_clause);
	Node	   *where = single_expression(padded);

	if (where == NULL ||
		equal(where, single_expression(psprintf("%s AND true", padded))))
		not_one_update("where_clause", source->where_clause, padded,
					   location_beyond_expression(padded));
	return where;
}

/* ---- analysis ---- */

static bool
check_walker(Node *node, void *arg)
{
	WalkContext *context = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno != 1 || (int) var->varlevelsup != context->depth)
			return false;
		if (var->varattno <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a backfill cannot use %s of its own table",
							var->varattno == 0 ? "the whole row" : "a system column"),
					 errhint("Name the columns."),
					 errposition(pg_mbstrlen_with_len(context->source, var->location) + 1)));
		if (TupleDescAttr(RelationGetDescr(context->rel), var->varattno - 1)->attgenerated)
			context->generated = true;
		return false;
	}
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;
		bool		result;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind != RTE_RELATION)
				continue;
			context->relations = list_append_unique_oid(context->relations, rte->relid);
			if (get_rel_persistence(rte->relid) == RELPERSISTENCE_TEMP)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("a backfill cannot use temporary table \"%s\"",
								get_rel_name(rte->relid)),
						 errdetail("A background worker does not see it.")));
		}
		context->depth++;
		result = query_tree_walker(query, check_walker, context, 0);
		context->depth--;
		return result;
	}
	return expression_tree_walker(node, check_walker, context);
}

/*
 * Assignment coerces to a length by functions that an explicit cast would call
 * another way: varchar(3) truncates in a cast and raises in an assignment.
 * Let them be deparsed as the calls that they are.
 */
static void
spell_out_coercions(Node *node, Relation rel, AttrNumber attno)
{
	while (node != NULL)
	{
		if (IsA(node, FuncExpr) &&
			((FuncExpr *) node)->funcformat == COERCE_IMPLICIT_CAST)
		{
			((FuncExpr *) node)->funcformat = COERCE_EXPLICIT_CALL;
			node = linitial(((FuncExpr *) node)->args);
		}
		else if (IsA(node, RelabelType))
			node = (Node *) ((RelabelType *) node)->arg;
		else if (IsA(node, CoerceToDomain))
			node = (Node *) ((CoerceToDomain *) node)->arg;
		else if (IsA(node, ArrayCoerceExpr) &&
				 ((ArrayCoerceExpr *) node)->coerceformat == COERCE_IMPLICIT_CAST &&
				 ((ArrayCoerceExpr *) node)->resulttypmod >= 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the array assigned to column \"%s\" needs an explicit cast",
							NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname)),
					 errhint("Cast it to the column's type.")));
		else
			return;
	}
}

/* What the rewriter would refuse. */
static void
check_columns(Relation rel, UpdateStmt *update, Query *query, const char *source)
{
	Bitmapset  *seen = NULL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		ResTarget  *column;
		int			location;
		Form_pg_attribute att;

		if (tle->resjunk)
			break;				/* subqueries of several columns come last */
		column = list_nth_node(ResTarget, update->targetList, foreach_current_index(lc));
		location = pg_mbstrlen_with_len(source, column->location) + 1;
		att = TupleDescAttr(RelationGetDescr(rel), tle->resno - 1);

		if (bms_is_member(tle->resno, seen))
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("multiple assignments to same column \"%s\"", NameStr(att->attname)),
					 errposition(location)));
		seen = bms_add_member(seen, tle->resno);
		if (att->attgenerated || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 IsA(tle->expr, SetToDefault) ?
					 errmsg("column \"%s\" needs no backfill", NameStr(att->attname)) :
					 errmsg("column \"%s\" can only be updated to DEFAULT", NameStr(att->attname)),
					 att->attgenerated ?
					 errdetail("Column \"%s\" is a generated column.", NameStr(att->attname)) :
					 errdetail("Column \"%s\" is an identity column defined as GENERATED ALWAYS.",
							   NameStr(att->attname)),
					 errposition(location)));
	}
}

/* DEFAULT as the rewriter would fill it in. */
static Expr *
column_default(Relation rel, AttrNumber attno)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	Node	   *expr = build_column_default(rel, attno);

	if (expr == NULL)
		expr = coerce_to_domain((Node *) makeNullConst(att->atttypid, att->atttypmod, att->attcollation),
								InvalidOid, -1, att->atttypid, COERCION_IMPLICIT,
								COERCE_IMPLICIT_CAST, -1, false);
	return (Expr *) expr;
}

/*
 * The parameter that stands for a column of a subquery of several columns:
 * replaced by what is deparsed as VALUE, the rest of the expression coerces it.
 */
static Node *
take_parameter(Node *node, void *arg)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_MULTIEXPR)
	{
		CoerceToDomainValue *value = makeNode(CoerceToDomainValue);
		Param	   *param = (Param *) node;

		*(int *) arg = param->paramid;
		value->typeId = param->paramtype;
		value->typeMod = param->paramtypmod;
		value->collation = param->paramcollid;
		value->location = -1;
		return (Node *) value;
	}
	return expression_tree_mutator(node, take_parameter, arg);
}

/* An assigned expression as SQL. */
static char *
deparse_value(Expr *expr, List *context)
{
	int			paramid = 0;
	Node	   *value = take_parameter((Node *) expr, &paramid);
	char	   *text = deparse_expression(value, context, true, true);
	char	   *source;

	if (paramid == 0)
		return text;

	/* of no row NULL, of more than one the error that an UPDATE would raise */
	source = psprintf(ALIAS_SOURCE "_%d", paramid >> 16);
	return psprintf("(SELECT %s FROM (SELECT CASE WHEN (SELECT r FROM pg_catalog.generate_series(1, %s.n) AS r)"
					" IS NOT NULL THEN %s.c%d END) AS v(value))", text, source, source, paramid & 0xFFFF);
}

/* A subquery of several columns; they come in the order of their numbers. */
static void
add_source(Definition *definition, Expr *expr, List *context)
{
	SubLink    *sublink = copyObject(castNode(SubLink, expr));
	int			i = definition->nsources++;
	ListCell   *lc;

	definition->source_columns[i] = 0;
	foreach(lc, castNode(Query, sublink->subselect)->targetList)
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			definition->source_columns[i]++;
	sublink->subLinkType = EXPR_SUBLINK;
	definition->sources[i] = deparse_expression((Node *) sublink, context, true, true);
}

/* What the server will put into generated columns. */
static char **
generated_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *context = deparse_context_for(ALIAS_PLAIN, RelationGetRelid(rel));
	char	  **exprs = palloc0(sizeof(char *) * desc->natts);

	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attgenerated && !TupleDescAttr(desc, i)->attisdropped)
			exprs[i] = deparse_expression(build_column_default(rel, i + 1), context, true, true);
	return exprs;
}

/* Deparse the analyzed tree into the definition's texts. */
static Definition *
deparse_query(Relation rel, Query *query, const char *source, bool with_set)
{
	Definition *definition = palloc0(sizeof(Definition));
	List	   *old = deparse_context_for(ALIAS_OLD, RelationGetRelid(rel));
	List	   *new = deparse_context_for(ALIAS_NEW, RelationGetRelid(rel));
	WalkContext walk = {rel, source, 0, list_make1_oid(RelationGetRelid(rel))};
	ListCell   *lc;
	int			n = with_set ? list_length(query->targetList) : 0;

	definition->columns = palloc(sizeof(char *) * Max(n, 1));
	definition->values = palloc(sizeof(char *) * Max(n, 1));
	definition->sources = palloc(sizeof(char *) * Max(n, 1));
	definition->source_columns = palloc(sizeof(int) * Max(n, 1));
	check_walker(query->jointree->quals, &walk);
	if (walk.generated)
		definition->generated = generated_columns(rel);
	definition->where_old = deparse_expression(query->jointree->quals, old, true, true);
	definition->where_new = deparse_expression(query->jointree->quals, new, true, true);
	definition->relations = walk.relations;
	if (!with_set)
		return definition;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		int			i;

		check_walker((Node *) tle->expr, &walk);
		if (tle->resjunk)
		{
			add_source(definition, tle->expr, old);
			continue;
		}
		i = definition->ncolumns++;
		if (IsA(tle->expr, SetToDefault))
			tle->expr = column_default(rel, tle->resno);
		spell_out_coercions((Node *) tle->expr, rel, tle->resno);
		definition->columns[i] =
			pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), tle->resno - 1)->attname));
		definition->values[i] = deparse_value(tle->expr, old);
	}
	definition->relations = walk.relations;
	return definition;
}

/* "SET a = a" of any column: stands in where only the predicate is asked for */
static UpdateStmt *
update_nothing(Relation rel)
{
	UpdateStmt *update = makeNode(UpdateStmt);
	ResTarget  *target = makeNode(ResTarget);
	ColumnRef  *column = makeNode(ColumnRef);

	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
		if (!TupleDescAttr(RelationGetDescr(rel), i)->attisdropped)
			target->name = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), i)->attname));
	column->fields = list_make1(makeString(target->name));
	column->location = -1;
	target->val = (Node *) column;
	target->location = -1;
	update->targetList = list_make1(target);
	return update;
}

Definition *
definition_analyze(Target *target, const char *set_list,
				   const char *where_clause, const char *search_path)
{
	Source		source = {set_list, where_clause};
	ErrorContextCallback context;
	Definition *definition;
	UpdateStmt *update;
	RawStmt    *raw = makeNode(RawStmt);
	Query	   *query;
	Relation	rel;
	char	   *text;
	int			nest_level = definition_path_begin(search_path);

	/* in the padded text, characters are bytes up to the WHERE clause */
	context.callback = source_error_context;
	context.arg = &source;
	context.previous = error_context_stack;
	error_context_stack = &context;

	rel = relation_open(target->relid, RowExclusiveLock);
	source.where_at = INT_MAX;
	update = set_list ? parse_set_list(&source) : update_nothing(rel);
	text = psprintf("%s%s ", PREFIX, set_list ? set_list : "");
	source.where_at = strlen(text);
	source.set_list = NULL;
	update->whereClause = parse_where(&source);
	source.set_list = set_list;

	source.where_at = pg_mbstrlen(text);
	update->relation = makeRangeVar(target->schema, target->name, -1);
	update->relation->inh = false;
	raw->stmt = (Node *) update;
	text = psprintf("%s%s", text, where_clause);
	query = parse_analyze_fixedparams(raw, text, NULL, 0, NULL);
	if (rt_fetch(query->resultRelation, query->rtable)->relid != target->relid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %s was replaced by another one", target->quoted)));
	if (set_list)
		check_columns(rel, update, query, text);
	definition = deparse_query(rel, query, text, set_list != NULL);
	relation_close(rel, NoLock);

	error_context_stack = context.previous;
	definition_path_end(nest_level);
	return definition;
}
