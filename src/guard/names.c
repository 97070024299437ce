/*-------------------------------------------------------------------------
 *
 * names.c
 *	  Which relation a name means at a point of the source: what the source
 *	  made, renamed and dropped before, and the search_path that it set.
 *
 * Names are kept as (schema, relation) and looked up along the search_path as
 * the server would, first among those that the source touched, then in the
 * catalog.  An undo list takes back what a rolled back transaction did.
 * A live guard keeps nothing: there the catalog tells.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "guard/catalog.h"

#define TEMP_SCHEMA "pg_temp"

typedef struct NameKey
{
	NameData	schema;
	NameData	name;			/* empty: the schema itself */
} NameKey;

typedef struct NameEntry
{
	NameKey		key;			/* hash key; must be first */
	GuardNameState state;
	Oid			relid;			/* of NAME_RENAMED */
	bool		temporary;
} NameEntry;

/* how things were before a change */
typedef struct NameUndo
{
	NameEntry	entry;
	bool		existed;
	bool		is_path;		/* the search_path changed, not a name */
	List	   *path;
} NameUndo;

struct GuardNames
{
	HTAB	   *entries;
	List	   *path;			/* schemas, as char *, in the context of the guard */
	List	   *path_outside;	/* what SET LOCAL hides until the transaction ends */
	bool		path_is_local;
	List	   *undo;			/* NameUndo, the latest last */
};

static struct GuardNames *names_of(Guard *guard);
static List *split_path(const char *path);

/* The key's unused bytes must be zero. */
static NameKey
name_key(const char *schema, const char *name)
{
	NameKey		key;

	memset(&key, 0, sizeof(key));
	strlcpy(NameStr(key.schema), schema, NAMEDATALEN);
	strlcpy(NameStr(key.name), name, NAMEDATALEN);
	return key;
}

static NameEntry *
find_entry(Guard *guard, const char *schema, const char *name)
{
	NameKey		key = name_key(schema, name);

	return hash_search(names_of(guard)->entries, &key, HASH_FIND, NULL);
}

static void
set_entry(Guard *guard, const char *schema, const char *name, GuardNameState state,
		  Oid relid, bool temporary)
{
	struct GuardNames *names = names_of(guard);
	NameKey		key = name_key(schema, name);
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	NameUndo   *undo = palloc0(sizeof(NameUndo));
	NameEntry  *entry = hash_search(names->entries, &key, HASH_ENTER, &undo->existed);

	if (undo->existed)
		undo->entry = *entry;
	undo->entry.key = key;
	names->undo = lappend(names->undo, undo);
	MemoryContextSwitchTo(old);

	entry->state = state;
	entry->relid = relid;
	entry->temporary = temporary;
}

static struct GuardNames *
names_of(Guard *guard)
{
	if (guard->names == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(guard->context);
		HASHCTL		ctl;

		ctl.keysize = sizeof(NameKey);
		ctl.entrysize = sizeof(NameEntry);
		ctl.hcxt = guard->context;
		guard->names = palloc0(sizeof(struct GuardNames));
		guard->names->entries = hash_create("evmig guard names", 32, &ctl,
											HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		guard->names->path = split_path(namespace_search_path);
		MemoryContextSwitchTo(old);
	}
	return guard->names;
}

/* ---- looking up ---- */

/* One schema's relation of that name; false where there is none. */
static bool
find_in_schema(Guard *guard, const char *schema, const char *name,
			   GuardNameState *state, Oid *relid, bool *temporary)
{
	NameEntry  *entry = find_entry(guard, schema, name);
	Oid			namespace;

	*state = NAME_UNTOUCHED;
	*relid = InvalidOid;
	*temporary = strcmp(schema, TEMP_SCHEMA) == 0;
	if (entry != NULL)
	{
		*state = entry->state;
		*relid = entry->relid;
		*temporary = entry->temporary;
		return entry->state != NAME_DROPPED;
	}
	namespace = LookupNamespaceNoError(schema);
	if (!OidIsValid(namespace))
		return false;
	*relid = get_relname_relid(name, namespace);
	return OidIsValid(*relid);
}

/* A role without USAGE on a schema of its search_path passes over it. */
static bool
may_use(const char *schema)
{
	Oid			namespace = strcmp(schema, TEMP_SCHEMA) == 0 ? InvalidOid :
		get_namespace_oid(schema, true);

	return !OidIsValid(namespace) ||
		compat_namespace_aclcheck(namespace, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
}

static bool
path_names(List *path, const char *schema)
{
	ListCell   *lc;

	foreach(lc, path)
	{
		if (strcmp(lfirst(lc), schema) == 0)
			return true;
	}
	return false;
}

GuardNameState
guard_name_find(Guard *guard, const RangeVar *name, Oid *relid, bool *temporary)
{
	List	   *path = names_of(guard)->path;
	GuardNameState state;
	ListCell   *lc;

	if (name->schemaname)
	{
		if (find_in_schema(guard, name->schemaname, name->relname, &state, relid, temporary))
			return state;
	}
	else
	{
		/* these two come first unless the path says where */
		if (!path_names(path, TEMP_SCHEMA) &&
			find_in_schema(guard, TEMP_SCHEMA, name->relname, &state, relid, temporary))
			return state;
		if (!path_names(path, "pg_catalog") &&
			find_in_schema(guard, "pg_catalog", name->relname, &state, relid, temporary))
			return state;
		foreach(lc, path)
		{
			if (may_use(lfirst(lc)) &&
				find_in_schema(guard, lfirst(lc), name->relname, &state, relid, temporary))
				return state;
		}
	}
	*relid = InvalidOid;
	*temporary = name->relpersistence == RELPERSISTENCE_TEMP;
	return NAME_UNTOUCHED;
}

static bool
schema_exists(Guard *guard, const char *schema)
{
	NameEntry  *entry = find_entry(guard, schema, "");

	if (entry != NULL)
		return entry->state == NAME_CREATED;
	return OidIsValid(LookupNamespaceNoError(schema));
}

/* Where CREATE would put it: the first schema of the path that exists. */
static const char *
creation_schema(Guard *guard, const RangeVar *name)
{
	List	   *path = names_of(guard)->path;
	ListCell   *lc;

	if (name->schemaname)
		return name->schemaname;
	if (name->relpersistence == RELPERSISTENCE_TEMP)
		return TEMP_SCHEMA;
	foreach(lc, path)
	{
		if (schema_exists(guard, lfirst(lc)) && may_use(lfirst(lc)))
			return lfirst(lc);
	}
	return path == NIL ? "public" : linitial(path);
}

/* ---- what the source does ---- */

/* schema in which a name is found, NULL: in none */
static const char *
schema_of(Guard *guard, const RangeVar *name)
{
	GuardNameState state;
	Oid			relid;
	bool		temporary;
	ListCell   *lc;

	if (name->schemaname)
		return name->schemaname;
	if (find_in_schema(guard, TEMP_SCHEMA, name->relname, &state, &relid, &temporary))
		return TEMP_SCHEMA;
	foreach(lc, names_of(guard)->path)
	{
		if (find_in_schema(guard, lfirst(lc), name->relname, &state, &relid, &temporary))
			return lfirst(lc);
	}
	return NULL;
}

/* newschema or newname NULL: as before */
static void
move_name(Guard *guard, const RangeVar *name, const char *newschema, const char *newname)
{
	const char *schema = schema_of(guard, name);
	GuardNameState state;
	Oid			relid;
	bool		temporary;

	if (schema == NULL ||
		!find_in_schema(guard, schema, name->relname, &state, &relid, &temporary))
		return;
	set_entry(guard, schema, name->relname, NAME_DROPPED, InvalidOid, temporary);
	set_entry(guard, newschema ? newschema : schema, newname ? newname : name->relname,
			  state == NAME_UNTOUCHED ? NAME_RENAMED : state, relid, temporary);
}

static void
dropped(Guard *guard, const RangeVar *name)
{
	const char *schema = schema_of(guard, name);

	if (schema != NULL)
		set_entry(guard, schema, name->relname, NAME_DROPPED, InvalidOid, false);
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
		set_entry(guard, schema_of(guard, name), name->relname, NAME_UNTOUCHED,
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
	RangeVar   *there = makeRangeVar(pstrdup(creation_schema(guard, name)),
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
	const char *schema = creation_schema(guard, name);

	/* CREATE TABLE that does nothing, or in a branch that may not run */
	if ((if_not_exists || guard->frame->conditional) && exists_already(guard, name))
		return;
	set_entry(guard, schema, name->relname,
			  filled ? NAME_CREATED_FILLED : NAME_CREATED, InvalidOid,
			  strcmp(schema, TEMP_SCHEMA) == 0);
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
				set_entry(guard, strVal(lfirst(lc)), "", NAME_DROPPED, InvalidOid, false);
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
	set_entry(guard, schema, "", NAME_CREATED, InvalidOid, false);
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

/* ---- the search_path ---- */

/* as names, "$user" replaced; NIL where the text is no list */
static List *
split_path(const char *path)
{
	List	   *result = NIL;
	List	   *parts;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(path), ',', &parts))
		return NIL;
	foreach(lc, parts)
	{
		const char *name = lfirst(lc);

		if (strcmp(name, "$user") == 0)
			name = GetUserNameFromId(GetUserId(), true);
		if (name != NULL)
			result = lappend(result, pstrdup(name));
	}
	return result;
}

static void
set_path(Guard *guard, List *path)
{
	struct GuardNames *names = names_of(guard);
	NameUndo   *undo = palloc0(sizeof(NameUndo));

	undo->is_path = true;
	undo->path = names->path;
	names->undo = lappend(names->undo, undo);
	names->path = path;
}

void
guard_names_search_path(Guard *guard, const char *path, bool local)
{
	struct GuardNames *names = names_of(guard);
	MemoryContext old;

	if (guard->live || (local && !guard->tx.open))
		return;
	old = MemoryContextSwitchTo(guard->context);
	if (local && !names->path_is_local)
		names->path_outside = names->path;
	names->path_is_local = local;
	set_path(guard, split_path(path ? path : namespace_search_path));
	MemoryContextSwitchTo(old);
}

/* ---- transactions ---- */

int
guard_names_mark(Guard *guard)
{
	return list_length(names_of(guard)->undo);
}

void
guard_names_rollback(Guard *guard, int mark)
{
	struct GuardNames *names = names_of(guard);

	while (list_length(names->undo) > mark)
	{
		NameUndo   *undo = llast(names->undo);

		if (undo->is_path)
			names->path = undo->path;
		else if (undo->existed)
			*(NameEntry *) hash_search(names->entries, &undo->entry.key, HASH_ENTER,
									   NULL) = undo->entry;
		else
			hash_search(names->entries, &undo->entry.key, HASH_REMOVE, NULL);
		names->undo = list_delete_last(names->undo);
	}
	if (mark == 0)
		names->path_is_local = false;
}

void
guard_names_commit(Guard *guard)
{
	struct GuardNames *names = names_of(guard);

	if (names->path_is_local)
		names->path = names->path_outside;
	names->path_is_local = false;
	list_free_deep(names->undo);
	names->undo = NIL;
}
