/*-------------------------------------------------------------------------
 *
 * executors.c
 *	  Routines that run the SQL they are given as text.
 *
 * Those that run it in this session and read only are inspected like any
 * dynamic statement.  Those that send it elsewhere, to another server or
 * session, change data where the text does: tables there are not known here,
 * so the call itself is the finding.  A job of pg_cron runs later and by
 * itself, so scheduling one is no part of the migration.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include "catalog/namespace.h"
#include "nodes/nodeFuncs.h"

typedef struct Executor
{
	const char *name;
	bool		elsewhere;		/* else in this session, reading only */
} Executor;

static const Executor executors[] = {
	{"dblink", true},
	{"dblink_exec", true},
	{"dblink_open", true},
	{"dblink_send_query", true},
	{"pg_background_launch", true},
	{"run_command_on_all_nodes", true},
	{"run_command_on_colocated_placements", true},
	{"run_command_on_coordinator", true},
	{"run_command_on_placements", true},
	{"run_command_on_shards", true},
	{"run_command_on_workers", true},
	{"query_to_xml", false},
	{"query_to_xmlschema", false},
	{"query_to_xml_and_xmlschema", false},
	{"ts_stat", false},
	{"crosstab", false},
};

/* a data-modifying query at any depth of a SELECT */
static bool
has_change(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, InsertStmt) || IsA(node, UpdateStmt) || IsA(node, DeleteStmt) ||
		IsA(node, MergeStmt))
		return true;
	if (guard_too_deep(context))
		return true;
	return raw_expression_tree_walker(node, has_change, context);
}

static bool
changes_rows(Guard *guard, Node *node)
{
	switch (nodeTag(node))
	{
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
		case T_TruncateStmt:
		case T_DoStmt:
		case T_CallStmt:
			return true;
		case T_CopyStmt:
			return ((CopyStmt *) node)->is_from;
		case T_SelectStmt:
			return has_change(node, guard);
		case T_ExplainStmt:
			return changes_rows(guard, ((ExplainStmt *) node)->query);
		case T_PrepareStmt:
			return changes_rows(guard, ((PrepareStmt *) node)->query);
		case T_CreateTableAsStmt:
			return changes_rows(guard, ((CreateTableAsStmt *) node)->query);
		default:
			return false;
	}
}

typedef enum Sent
{
	SENT_NO_SQL,				/* a connection, a name */
	SENT_READ,
	SENT_CHANGE,
	SENT_UNKNOWN
} Sent;

/* what a text is that is sent elsewhere */
static Sent
judge_text(Guard *guard, const SqlText *text)
{
	const SqlText *sql = sql_text_parseable(text);
	List	   *trees;
	ListCell   *cell;

	if (sql == NULL || !guard_parse(sql->data, RAW_PARSE_DEFAULT, &trees, NULL))
		return sql_text_known(text) ? SENT_NO_SQL : SENT_UNKNOWN;
	foreach(cell, trees)
	{
		if (changes_rows(guard, lfirst_node(RawStmt, cell)->stmt))
			return SENT_CHANGE;
	}
	return SENT_READ;
}

static void
inspect_sent(Guard *guard, const Executor *executor, FuncCall *call)
{
	bool		read = false;
	bool		unknown = false;
	ListCell   *cell;

	foreach(cell, call->args)
	{
		ListCell   *text;

		foreach(text, guard_texts(guard, lfirst(cell)))
		{
			switch (judge_text(guard, lfirst(text)))
			{
				case SENT_CHANGE:
					guard_report(guard, "data-helper", call->location, NULL, NULL,
								 "%s() sends a statement that changes rows: %s",
								 executor->name,
								 guard_excerpt(((SqlText *) lfirst(text))->data));
					return;
				case SENT_READ:
					read = true;
					break;
				case SENT_UNKNOWN:
					unknown = true;
					break;
				case SENT_NO_SQL:
					break;
			}
		}
	}
	if (unknown && !read)
		guard_report(guard, "dynamic-sql", call->location, NULL, NULL,
					 "%s() could not be inspected: what it sends is only known at run time",
					 executor->name);
}

/* what runs here and reads only: still it may call what changes rows */
static void
inspect_run(Guard *guard, const Executor *executor, FuncCall *call)
{
	ListCell   *cell;

	foreach(cell, call->args)
	{
		ListCell   *text;

		foreach(text, guard_texts(guard, lfirst(cell)))
		{
			if (sql_text_known(lfirst(text)) && judge_text(guard, lfirst(text)) == SENT_READ)
				guard_dynamic(guard, lfirst(cell), executor->name);
		}
	}
}

bool
guard_executor(Guard *guard, FuncCall *call)
{
	const char *name = strVal(llast(call->funcname));

	for (int i = 0; i < lengthof(executors); i++)
	{
		if (strcmp(executors[i].name, name) != 0)
			continue;
		if (executors[i].elsewhere)
			inspect_sent(guard, &executors[i], call);
		else
			inspect_run(guard, &executors[i], call);
		return true;
	}
	return false;
}
