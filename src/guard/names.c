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
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "guard/names.h"

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
	bool		until_commit;	/* ON COMMIT DROP */
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

void
names_set(Guard *guard, const char *schema, const char *name, GuardNameState state,
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
	entry->until_commit = false;
}

void
names_until_commit(Guard *guard, const char *schema, const char *name)
{
	NameEntry  *entry = find_entry(guard, schema, name);

	if (entry != NULL)
		entry->until_commit = true;
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

bool
names_find_in_schema(Guard *guard, const char *schema, const char *name,
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
		if (names_find_in_schema(guard, name->schemaname, name->relname, &state, relid, temporary))
			return state;
	}
	else
	{
		/* these two come first unless the path says where */
		if (!path_names(path, TEMP_SCHEMA) &&
			names_find_in_schema(guard, TEMP_SCHEMA, name->relname, &state, relid, temporary))
			return state;
		if (!path_names(path, "pg_catalog") &&
			names_find_in_schema(guard, "pg_catalog", name->relname, &state, relid, temporary))
			return state;
		foreach(lc, path)
		{
			if (may_use(lfirst(lc)) &&
				names_find_in_schema(guard, lfirst(lc), name->relname, &state, relid, temporary))
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

const char *
names_creation_schema(Guard *guard, const RangeVar *name)
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

const char *
names_schema_of(Guard *guard, const RangeVar *name)
{
	GuardNameState state;
	Oid			relid;
	bool		temporary;
	ListCell   *lc;

	if (name->schemaname)
		return name->schemaname;
	if (names_find_in_schema(guard, TEMP_SCHEMA, name->relname, &state, &relid, &temporary))
		return TEMP_SCHEMA;
	foreach(lc, names_of(guard)->path)
	{
		if (names_find_in_schema(guard, lfirst(lc), name->relname, &state, &relid, &temporary))
			return lfirst(lc);
	}
	return NULL;
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
guard_names_commit(Guard *guard, bool ended)
{
	struct GuardNames *names = names_of(guard);
	ListCell   *lc;

	foreach(lc, names->undo)
	{
		const NameKey *key = &((NameUndo *) lfirst(lc))->entry.key;
		NameEntry  *entry = ended ? hash_search(names->entries, key, HASH_FIND, NULL) : NULL;

		if (entry && entry->until_commit)
			hash_search(names->entries, key, HASH_REMOVE, NULL);
	}
	if (names->path_is_local)
		names->path = names->path_outside;
	names->path_is_local = false;
	list_free_deep(names->undo);
	names->undo = NIL;
}
