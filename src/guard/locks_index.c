/*-------------------------------------------------------------------------
 *
 * locks_index.c
 *	  Indexes: created, dropped, built again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/sqltext.h"
#include "guard/locks.h"
#include "guard/rules.h"

/* ---- CREATE INDEX ---- */

/* "(a, lower(b))": as far as the raw tree tells */
static char *
element_list(IndexStmt *stmt)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, stmt->indexParams)
	{
		IndexElem  *element = lfirst_node(IndexElem, lc);

		appendStringInfo(&text, "%s%s", text.len ? ", " : "(",
						 element->name ? quote_identifier(element->name) : "...");
	}
	appendStringInfoChar(&text, ')');
	return text.data;
}

typedef struct IndexWord
{
	int			offset;			/* behind CREATE [UNIQUE] INDEX */
	int			words;
} IndexWord;

static bool
find_index_word(const GuardToken *token, void *context)
{
	IndexWord  *word = context;

	if (token->text && pg_strcasecmp(token->text, "index") == 0)
		word->offset = token->offset + strlen("index");
	return word->offset < 0 && ++word->words < 3;
}

/* The statement itself with CONCURRENTLY in its place; NULL where it does not stand alone. */
static char *
own_text(Guard *guard)
{
	const char *text = guard->frame->text;
	IndexWord	word = {-1, 0};

	if (guard->live || guard->tree_offset != 0 || guard->frame->len > 2000)
		return NULL;
	(void) guard_lex(text, find_index_word, &word);
	if (word.offset < 0)
		return NULL;
	return psprintf("%.*s CONCURRENTLY%s;", word.offset, text, text + word.offset);
}

static char *
concurrent_sql(Guard *guard, IndexStmt *stmt, GuardRelation *relation)
{
	const char *unique = stmt->unique ? "UNIQUE " : "";
	const char *method = stmt->accessMethod && strcmp(stmt->accessMethod, "btree") != 0 ?
		psprintf("USING %s ", quote_identifier(stmt->accessMethod)) : "";
	const char *name = stmt->idxname ? psprintf("%s ", quote_identifier(stmt->idxname)) : "";
	const char *where = stmt->whereClause ? " WHERE ..." : "";
	char	   *own;

	if (relation->relkind == RELKIND_PARTITIONED_TABLE)
		return psprintf("CREATE %sINDEX %sON ONLY %s %s%s%s;\n-- then, for each partition, CREATE %sINDEX CONCURRENTLY on it, and ALTER INDEX ... ATTACH PARTITION",
						unique, name, relation->name, method, element_list(stmt), where,
						unique);
	own = own_text(guard);
	if (own)
		return own;
	return psprintf("CREATE %sINDEX CONCURRENTLY %sON %s %s%s%s;",
					unique, name, relation->name, method, element_list(stmt), where);
}

/* as a note: the order does not matter to who looks for them */
static char *
sorted_columns(List *columns, int n)
{
	char	  **names = palloc(sizeof(char *) * Max(n, 1));
	StringInfoData text;

	for (int i = 0; i < n; i++)
		names[i] = list_nth(columns, i);
	qsort(names, n, sizeof(char *), pg_qsort_strcmp);
	initStringInfo(&text);
	for (int i = 0; i < n; i++)
		appendStringInfo(&text, "%s,", names[i]);
	return text.data;
}

/* each leading part of its columns */
static void
note_index(Guard *guard, GuardRelation *relation, IndexStmt *stmt)
{
	List	   *columns = NIL;
	ListCell   *lc;

	if (stmt->idxname)
		lock_note(guard, NOTE_INDEX_NAME, NULL, stmt->idxname);
	foreach(lc, stmt->indexParams)
	{
		IndexElem  *element = lfirst_node(IndexElem, lc);

		if (element->name == NULL || stmt->whereClause)
			return;
		if (stmt->idxname)
			lock_note(guard, NOTE_INDEX_KEY, relation,
					  psprintf("%s %s", quote_identifier(stmt->idxname), element->name));
		columns = lappend(columns, element->name);
		lock_note(guard, NOTE_INDEX, relation,
				  sorted_columns(columns, list_length(columns)));
	}
}

bool
lock_source_indexed(Guard *guard, GuardRelation *relation, List *columns)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, columns)
		names = lappend(names, strVal(lfirst(lc)));
	return lock_noted(guard, NOTE_INDEX, relation,
					  sorted_columns(names, list_length(names)));
}

/* CREATE INDEX IF NOT EXISTS of one that is there */
static bool
index_exists(IndexStmt *stmt, GuardRelation *relation)
{
	return stmt->if_not_exists && stmt->idxname && OidIsValid(relation->relid) &&
		OidIsValid(get_relname_relid(stmt->idxname, get_rel_namespace(relation->relid)));
}

void
lock_create_index(Guard *guard, IndexStmt *stmt)
{
	GuardRelation *relation = guard_relation(guard, stmt->relation);

	if (index_exists(stmt, relation))
		return;
	note_index(guard, relation, stmt);
	if (stmt->concurrent)
	{
		if (!lock_concurrently(guard, relation, "CREATE INDEX CONCURRENTLY"))
			lock_taken(guard, relation, ShareUpdateExclusiveLock);
		return;
	}
	/* nothing is built for the parent alone, but its lock is taken */
	if (relation->relkind != RELKIND_PARTITIONED_TABLE || stmt->relation->inh)
		(void) lock_report(guard, "index-not-concurrent", relation, ShareLock, -1,
						   concurrent_sql(guard, stmt, relation),
						   "building %s stops all writes to %s until it is done",
						   stmt->idxname ? psprintf("index %s", quote_identifier(stmt->idxname)) :
						   "the index", lock_described(relation));
	lock_taken(guard, relation, ShareLock);
}

/* ---- DROP INDEX ---- */

static void
drop_one_index(Guard *guard, DropStmt *stmt, RangeVar *name)
{
	GuardRelation *index = guard_relation(guard, name);
	GuardRelation *relation = index;
	bool		partitioned = index->relkind == RELKIND_PARTITIONED_INDEX;

	if (stmt->missing_ok && index->relkind == 0 && guard->live)
		return;
	if (OidIsValid(index->relid) &&
		(index->relkind == RELKIND_INDEX || partitioned))
	{
		Oid			table = IndexGetRelation(index->relid, true);

		if (OidIsValid(table))
			relation = guard_relation_by_oid(guard, table);
	}
	else if (lock_noted(guard, NOTE_INDEX_NAME, NULL, name->relname))
		return;
	if (stmt->concurrent)
	{
		(void) lock_concurrently(guard, relation, "DROP INDEX CONCURRENTLY");
		return;
	}
	(void) lock_report(guard, "drop-index-not-concurrent", relation, AccessExclusiveLock, -1,
					   partitioned ?
					   psprintf("SET lock_timeout = '2s';\n-- and again when it times out: the index of a partitioned table cannot be dropped concurrently\nDROP INDEX %s;",
								index->name) :
					   psprintf("DROP INDEX CONCURRENTLY %s;", index->name),
					   "DROP INDEX %s takes ACCESS EXCLUSIVE on %s: every query queues behind it",
					   index->name, relation == index ? "its table" : lock_described(relation));
	lock_taken(guard, relation, AccessExclusiveLock);
}

void
lock_drop_indexes(Guard *guard, DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		if (list_length(lfirst(lc)) <= 3)
			drop_one_index(guard, stmt, makeRangeVarFromNameList(lfirst(lc)));
	}
}

/* ---- REINDEX ---- */

static bool
is_concurrent(ReindexStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->params)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "concurrently") == 0)
			return defGetBoolean(option);
	}
	return false;
}

void
lock_reindex(Guard *guard, ReindexStmt *stmt)
{
	static const char *const kinds[] = {"INDEX", "TABLE", "SCHEMA", "SYSTEM", "DATABASE"};
	const char *kind = kinds[stmt->kind];
	GuardRelation *relation = NULL;
	GuardRelation *index = NULL;

	if (stmt->relation)
		relation = index = guard_relation(guard, stmt->relation);
	if (stmt->kind == REINDEX_OBJECT_INDEX && OidIsValid(index->relid))
	{
		Oid			table = IndexGetRelation(index->relid, true);

		if (OidIsValid(table))
			relation = guard_relation_by_oid(guard, table);
	}
	if (is_concurrent(stmt))
	{
		if (relation)
			(void) lock_concurrently(guard, relation, "REINDEX CONCURRENTLY");
		return;
	}
	if (relation == NULL)
	{
		GuardFinding *finding;

		finding = guard_report(guard, "reindex-not-concurrent", -1, NULL,
							   psprintf("REINDEX %s CONCURRENTLY%s;", kind,
										stmt->name ? psprintf(" %s", quote_identifier(stmt->name)) : ""),
							   "REINDEX %s stops writes to each of its tables in turn", kind);
		guard_finding_lock(finding, ShareLock);
		return;
	}
	(void) lock_report(guard, "reindex-not-concurrent", relation, ShareLock, -1,
					   psprintf("REINDEX %s CONCURRENTLY %s;", kind,
								index->name),
					   "REINDEX stops writes to %s, and queries that would use the index, until it is done",
					   lock_described(relation));
	lock_taken(guard, relation, ShareLock);
}
