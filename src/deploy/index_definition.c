/*-------------------------------------------------------------------------
 *
 * index_definition.c
 *	  What an index is, in the server's own words.
 *
 * A user's text is turned into the server's by making the index on an empty
 * copy of the table, in a subtransaction that is rolled back, and deparsing
 * it under search_path = pg_catalog, so that all of it is qualified.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "commands/cluster.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "nodes/makefuncs.h"
#include "parser/parse_utilcmd.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/spi.h"
#include "base/sqltext.h"
#include "base/subxact.h"
#include "deploy/index_definition.h"

/* The deparsed index from USING on. */
static char *
deparse_tail(Oid index, Oid table, bool unique)
{
	int			nest = NewGUCNestLevel();
	char	   *text;
	char	   *prefix;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	text = pg_get_indexdef_string(index);
	prefix = psprintf("CREATE %sINDEX %s ON %s ", unique ? "UNIQUE " : "",
					  quote_identifier(get_rel_name(index)), quote_relation(table));
	AtEOXact_GUC(false, nest);
	if (strncmp(text, prefix, strlen(prefix)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot compare index \"%s\"", get_rel_name(index)),
				 errdetail("It is defined as: %s", text)));
	return pstrdup(text + strlen(prefix));
}

static bool
index_flag(Oid index, bool *valid, Oid *table)
{
	HeapTuple	tup = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index form;
	bool		unique;

	if (!HeapTupleIsValid(tup))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("index with OID %u does not exist", index)));
	form = (Form_pg_index) GETSTRUCT(tup);
	unique = form->indisunique;
	*valid = form->indisvalid && form->indisready && form->indislive;
	*table = form->indrelid;
	ReleaseSysCache(tup);
	return unique;
}

IndexDefinition *
index_definition_of(Oid index)
{
	IndexDefinition *d = palloc0(sizeof(IndexDefinition));
	bool		valid;

	d->name = get_rel_name(index);
	d->unique = index_flag(index, &valid, &d->target);
	d->partitioned = get_rel_relkind(d->target) == RELKIND_PARTITIONED_TABLE;
	d->tail = deparse_tail(index, d->target, d->unique);
	return d;
}

bool
index_definition_equal(const IndexDefinition *a, const IndexDefinition *b)
{
	return a->target == b->target && a->unique == b->unique &&
		strcmp(a->name, b->name) == 0 && strcmp(a->tail, b->tail) == 0;
}

char *
index_definition_text(const IndexDefinition *definition, bool concurrently)
{
	return psprintf("CREATE %sINDEX %s%s ON %s%s %s", definition->unique ? "UNIQUE " : "",
					concurrently && !definition->partitioned ? "CONCURRENTLY " : "",
					quote_identifier(definition->name), definition->partitioned ? "ONLY " : "",
					quote_relation(definition->target), definition->tail);
}

IndexFound
index_definition_find(const IndexDefinition *definition, Oid *index)
{
	Oid			table;
	bool		valid;

	*index = get_relname_relid(definition->name, get_rel_namespace(definition->target));
	if (!OidIsValid(*index))
		return FOUND_NOTHING;
	if (get_rel_relkind(*index) != (definition->partitioned ? RELKIND_PARTITIONED_INDEX : RELKIND_INDEX))
		return FOUND_FOREIGN;
	(void) index_flag(*index, &valid, &table);
	if (table != definition->target)
		return FOUND_FOREIGN;
	if (!valid)
		return FOUND_INVALID;
	return index_definition_equal(definition, index_definition_of(*index)) ? FOUND_EQUAL : FOUND_OTHER;
}

/* ---- of a job ---- */

char *
index_definition_spec(const IndexDefinition *definition)
{
	SqlArgs		args = {0};
	char	   *spec;

	arg_text(&args, definition->name);
	arg_bool(&args, definition->unique);
	arg_text(&args, definition->tail);
	spi_begin();
	spi_run("SELECT pg_catalog.jsonb_build_object('index_name', $1, 'unique', $2, 'tail', $3)::pg_catalog.text",
			&args);
	spec = spi_text(0, 0);
	spi_end();
	return spec;
}

IndexDefinition *
index_definition_of_job(Job *job)
{
	IndexDefinition *d = palloc0(sizeof(IndexDefinition));

	d->target = job->target;
	d->name = job_spec_text(job, "index_name");
	d->unique = job_spec_bool(job, "unique", false);
	d->tail = job_spec_text(job, "tail");
	d->partitioned = get_rel_relkind(d->target) == RELKIND_PARTITIONED_TABLE;
	return d;
}

/* ---- a user's text ---- */

static IndexStmt *
parse_definition(const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_DEFAULT);
	Node	   *first = statements ? linitial_node(RawStmt, statements)->stmt : NULL;

	if (list_length(statements) != 1 || !IsA(first, IndexStmt))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("definition must be exactly one CREATE INDEX"),
				 errdetail("It was: %s", text)));
	return (IndexStmt *) first;
}

/* The table, locked ACCESS SHARE once it is known to be the user's. */
static Oid
resolve_table(IndexStmt *stmt)
{
	Oid			relid = RangeVarGetRelidExtended(stmt->relation, AccessShareLock, 0,
												 RangeVarCallbackOwnsRelation, NULL);
	char		relkind = get_rel_relkind(relid);

	if (relkind != RELKIND_RELATION && relkind != RELKIND_MATVIEW && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", stmt->relation->relname)));
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" is temporary", stmt->relation->relname),
				 errdetail("The worker that builds the index cannot see it.")));
	if (relkind == RELKIND_PARTITIONED_TABLE && !stmt->relation->inh)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an index ON ONLY a partitioned table cannot be registered"),
				 errhint("Leave ONLY out: the partitions' indexes are built one after the other.")));
	return relid;
}

/* As the server says it when the index is made, which on the copy it does not. */
static void
check_partition_key(Oid table, IndexStmt *stmt)
{
	Relation	rel;
	PartitionKey key;

	if (!stmt->unique || get_rel_relkind(table) != RELKIND_PARTITIONED_TABLE)
		return;
	rel = relation_open(table, AccessShareLock);
	key = RelationGetPartitionKey(rel);
	for (int i = 0; i < get_partition_natts(key); i++)
	{
		AttrNumber	attno = get_partition_col_attnum(key, i);
		char	   *column = attno != 0 ? get_attname(table, attno, false) : NULL;
		bool		found = false;
		ListCell   *lc;

		foreach(lc, stmt->indexParams)
		{
			IndexElem  *elem = lfirst_node(IndexElem, lc);

			found = found || (column && elem->name && strcmp(elem->name, column) == 0);
		}
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a unique index on partitioned table \"%s\" must have all of its partition key's columns",
							RelationGetRelationName(rel)),
					 column ? errdetail("It lacks column \"%s\".", column) :
					 errdetail("The partition key has an expression.")));
	}
	relation_close(rel, NoLock);
}

static Oid
table_am_of(Oid table)
{
	HeapTuple	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			am;

	if (!HeapTupleIsValid(tup))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", table)));
	am = ((Form_pg_class) GETSTRUCT(tup))->relam;
	ReleaseSysCache(tup);
	return OidIsValid(am) ? am : HEAP_TABLE_AM_OID; /* a partitioned table has none */
}

/* Make the index on an empty copy of the table, and deparse it. */
static char *
tail_of_copy(Oid table, IndexStmt *stmt, const char *text)
{
	Oid			copy = make_new_heap(table, InvalidOid, table_am_of(table), RELPERSISTENCE_PERMANENT,
									 AccessShareLock);
	ObjectAddress index;

	CommandCounterIncrement();
	stmt->concurrent = false;
	stmt->if_not_exists = false;
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(copy)), get_rel_name(copy), -1);
	stmt->idxname = psprintf("evmig_%u", copy);
	stmt = transformIndexStmt(copy, stmt, text);
	index = compat_DefineIndex(copy, stmt, InvalidOid, InvalidOid, InvalidOid, false, true, true,
							   true, true);
	CommandCounterIncrement();
	return deparse_tail(index.objectId, copy, stmt->unique);
}

typedef struct TailCall
{
	Oid			table;
	IndexStmt  *stmt;
	const char *text;
	char	   *tail;
} TailCall;

static void
call_tail_of_copy(void *arg)
{
	TailCall   *call = arg;

	call->tail = tail_of_copy(call->table, call->stmt, call->text);
}

static char *
canonical_tail(Oid table, IndexStmt *stmt, const char *text)
{
	TailCall	call = {table, stmt, text};
	ErrorData  *error = subxact_probe(call_tail_of_copy, &call);

	if (error && error->sqlerrcode == ERRCODE_UNDEFINED_COLUMN && error->hint == NULL)
		error->hint = "Where a pending migration adds the column, let that migration register the index.";
	if (error)
		ReThrowError(error);
	return call.tail;
}

IndexDefinition *
index_definition_read(const char *text, const char *name)
{
	IndexDefinition *d = palloc0(sizeof(IndexDefinition));
	ArgumentContext argument;
	IndexStmt  *stmt;

	argument_begin(&argument, "definition", text);
	stmt = parse_definition(text);
	d->target = resolve_table(stmt);
	d->partitioned = get_rel_relkind(d->target) == RELKIND_PARTITIONED_TABLE;
	check_partition_key(d->target, stmt);
	d->name = stmt->idxname ? stmt->idxname : pstrdup(name);
	if (strlen(d->name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("index name \"%s\" is too long", d->name),
				 errdetail("It has more than %d bytes.", NAMEDATALEN - 1)));
	d->unique = stmt->unique;
	d->tail = canonical_tail(d->target, stmt, text);
	argument_end(&argument);
	return d;
}
