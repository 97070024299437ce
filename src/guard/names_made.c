/*-------------------------------------------------------------------------
 *
 * names_made.c
 *	  What statements of the source do to names: relations and schemas that it
 *	  makes, renames and drops, and the search_path that it sets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/names.h"

#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"

/* newschema or newname NULL: as before */
static void
move_name(Guard *guard, const RangeVar *name, const char *newschema, const char *newname)
{
	const char *schema = names_schema_of(guard, name);
	GuardNameState state;
	Oid			relid;
	bool		temporary;

	if (schema == NULL ||
		!names_find_in_schema(guard, schema, name->relname, &state, &relid, &temporary))
		return;
	names_set(guard, schema, name->relname, NAME_DROPPED, InvalidOid, temporary);
	names_set(guard, newschema ? newschema : schema, newname ? newname : name->relname,
			  state == NAME_UNTOUCHED ? NAME_RENAMED : state, relid, temporary);
}

static void
dropped(Guard *guard, const RangeVar *name)
{
	const char *schema = names_schema_of(guard, name);

	if (schema != NULL)
		names_set(guard, schema, name->relname, NAME_DROPPED, InvalidOid, false);
}

/* A relation made here gets rows that were elsewhere: no longer only ours. */
static void
taint(Guard *guard, const RangeVar *name)
{
	GuardNameState state;
	Oid			relid;
	bool		temporary;

	state = guard_name_find(guard, name, &relid, &temporary);
	if (state == NAME_CREATED)
		names_set(guard, names_schema_of(guard, name), name->relname, NAME_UNTOUCHED,
				  InvalidOid, temporary);
}

/* by the source, and empty */
static bool
is_made_here(Guard *guard, const RangeVar *name)
{
	Oid			relid;
	bool		temporary;

	return guard_name_find(guard, name, &relid, &temporary) == NAME_CREATED;
}

/* a relation that is in the catalog, or was made before */
static bool
exists_already(Guard *guard, const RangeVar *name)
{
	RangeVar   *there = makeRangeVar(pstrdup(names_creation_schema(guard, name)),
									 pstrdup(name->relname), -1);
	GuardNameState state;
	Oid			relid;
	bool		temporary;

	state = guard_name_find(guard, there, &relid, &temporary);
	return OidIsValid(relid) || state == NAME_CREATED || state == NAME_CREATED_FILLED;
}

static void
created(Guard *guard, RangeVar *name, bool if_not_exists, bool filled)
{
	const char *schema = names_creation_schema(guard, name);

	/* CREATE TABLE that does nothing, or in a branch that may not run */
	if ((if_not_exists || guard->frame->conditional) && exists_already(guard, name))
		return;
	names_set(guard, schema, name->relname,
			  filled ? NAME_CREATED_FILLED : NAME_CREATED, InvalidOid,
			  strcmp(schema, TEMP_SCHEMA) == 0);
}

static void
on_commit(Guard *guard, const RangeVar *name, OnCommitAction action)
{
	if (action == ONCOMMIT_DROP)
		names_until_commit(guard, TEMP_SCHEMA, name->relname);
}

static void
drop_statement(Guard *guard, DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		switch (stmt->removeType)
		{
			case OBJECT_TABLE:
			case OBJECT_VIEW:
			case OBJECT_MATVIEW:
			case OBJECT_FOREIGN_TABLE:
			case OBJECT_INDEX:
			case OBJECT_SEQUENCE:
				if (list_length(lfirst(lc)) <= 3)
					dropped(guard, makeRangeVarFromNameList(lfirst(lc)));
				break;
			case OBJECT_SCHEMA:
				names_set(guard, strVal(lfirst(lc)), "", NAME_DROPPED, InvalidOid, false);
				break;
			default:
				break;
		}
	}
}

static void
alter_statement(Guard *guard, AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_AttachPartition &&
			!is_made_here(guard, castNode(PartitionCmd, cmd->def)->name))
			taint(guard, stmt->relation);
		else if (cmd->subtype == AT_AddInherit && !is_made_here(guard, stmt->relation))
			taint(guard, castNode(RangeVar, cmd->def));
	}
}

/* SET search_path, in both its spellings */
static void
set_statement(Guard *guard, VariableSetStmt *stmt)
{
	StringInfoData path;
	ListCell   *lc;

	if (stmt->kind == VAR_RESET_ALL)
		guard_names_search_path(guard, NULL, false);
	if (stmt->name == NULL || strcmp(stmt->name, "search_path") != 0)
		return;
	if (stmt->kind != VAR_SET_VALUE)
	{
		guard_names_search_path(guard, NULL, stmt->is_local);
		return;
	}
	initStringInfo(&path);
	foreach(lc, stmt->args)
	{
		A_Const    *value = lfirst(lc);

		if (!IsA(value, A_Const) || value->isnull || !IsA(&value->val, String))
			return;
		appendStringInfo(&path, "%s%s", path.len > 0 ? "," : "",
						 quote_identifier(strVal(&value->val)));
	}
	guard_names_search_path(guard, path.data, stmt->is_local);
}

static void
create_schema(Guard *guard, CreateSchemaStmt *stmt)
{
	const char *schema = stmt->schemaname;
	ListCell   *lc;

	if (schema == NULL && stmt->authrole && stmt->authrole->roletype == ROLESPEC_CSTRING)
		schema = stmt->authrole->rolename;
	if (schema == NULL)
		return;
	names_set(guard, schema, "", NAME_CREATED, InvalidOid, false);
	foreach(lc, stmt->schemaElts)
	{
		if (IsA(lfirst(lc), CreateStmt))
		{
			RangeVar   *name = copyObject(lfirst_node(CreateStmt, lc)->relation);

			if (name->schemaname == NULL)
				name->schemaname = pstrdup(schema);
			created(guard, name, lfirst_node(CreateStmt, lc)->if_not_exists, false);
		}
	}
}

/* SELECT ... INTO; of a set operation the first query has the clause */
static IntoClause *
into_clause(SelectStmt *select)
{
	while (select->op != SETOP_NONE && select->larg)
		select = select->larg;
	return select->intoClause;
}

void
guard_names_statement(Guard *guard, Node *tree)
{
	if (guard->live)
		return;
	switch (nodeTag(tree))
	{
		case T_CreateStmt:
			created(guard, ((CreateStmt *) tree)->relation,
					((CreateStmt *) tree)->if_not_exists, false);
			on_commit(guard, ((CreateStmt *) tree)->relation, ((CreateStmt *) tree)->oncommit);
			break;
		case T_CreateSeqStmt:
			created(guard, ((CreateSeqStmt *) tree)->sequence,
					((CreateSeqStmt *) tree)->if_not_exists, false);
			break;
		case T_CreateForeignTableStmt:
			created(guard, ((CreateForeignTableStmt *) tree)->base.relation,
					((CreateForeignTableStmt *) tree)->base.if_not_exists, true);
			break;
		case T_CreateTableAsStmt:
			created(guard, ((CreateTableAsStmt *) tree)->into->rel,
					((CreateTableAsStmt *) tree)->if_not_exists,
					!((CreateTableAsStmt *) tree)->into->skipData);
			on_commit(guard, ((CreateTableAsStmt *) tree)->into->rel,
					  ((CreateTableAsStmt *) tree)->into->onCommit);
			break;
		case T_SelectStmt:
			if (into_clause((SelectStmt *) tree))
				created(guard, into_clause((SelectStmt *) tree)->rel, false, true);
			break;
		case T_CreateSchemaStmt:
			create_schema(guard, (CreateSchemaStmt *) tree);
			break;
		case T_DropStmt:
			drop_statement(guard, (DropStmt *) tree);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) tree)->relation &&
				(((RenameStmt *) tree)->renameType == OBJECT_TABLE ||
				 ((RenameStmt *) tree)->renameType == OBJECT_VIEW ||
				 ((RenameStmt *) tree)->renameType == OBJECT_INDEX ||
				 ((RenameStmt *) tree)->renameType == OBJECT_FOREIGN_TABLE ||
				 ((RenameStmt *) tree)->renameType == OBJECT_MATVIEW))
				move_name(guard, ((RenameStmt *) tree)->relation, NULL,
						  ((RenameStmt *) tree)->newname);
			break;
		case T_AlterObjectSchemaStmt:
			if (((AlterObjectSchemaStmt *) tree)->relation)
				move_name(guard, ((AlterObjectSchemaStmt *) tree)->relation,
						  ((AlterObjectSchemaStmt *) tree)->newschema, NULL);
			break;
		case T_AlterTableStmt:
			alter_statement(guard, (AlterTableStmt *) tree);
			break;
		case T_VariableSetStmt:
			set_statement(guard, (VariableSetStmt *) tree);
			break;
		default:
			break;
	}
}
