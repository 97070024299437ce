/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  Describe the relations that a statement names, with their sizes.
 *
 * A size is read from the files where an AccessShareLock is free this moment,
 * else from pg_class; rows are estimated as the planner does.  Nothing here
 * waits, and locks are given back at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>
#include <math.h>

#include "access/relation.h"
#include "catalog/pg_inherits.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "optimizer/plancat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/sqltext.h"
#include "guard/catalog.h"

/* partitions beyond these are counted by pg_class alone */
#define MAX_OPENED 1000

typedef struct SizeEntry
{
	Oid			relid;			/* hash key; must be first */
	double		rows;
	int64		bytes;
	bool		created;		/* live: by this transaction */
} SizeEntry;

char	   *guard_small_table = NULL;

/* ---- the setting ---- */

bool
guard_small_table_parse(const char *text, double *rows, int64 *bytes)
{
	char	   *end;
	const char *hint;
	int			kilobytes;

	*rows = -1;
	*bytes = -1;
	errno = 0;
	*rows = strtod(text, &end);
	while (end != text && isspace((unsigned char) *end))
		end++;
	if (end != text && *end == '\0')
		return errno == 0 && *rows >= 0 && *rows < 1e15;
	*rows = -1;
	if (!parse_int(text, &kilobytes, GUC_UNIT_KB, &hint) || kilobytes < 0)
		return false;
	*bytes = (int64) kilobytes * 1024;
	return true;
}

bool
guard_small_table_check(char **newval, void **extra, GucSource source)
{
	double		rows;
	int64		bytes;

	if (guard_small_table_parse(*newval, &rows, &bytes))
		return true;
	GUC_check_errdetail("It is a number of rows such as 10000, or a size such as 10MB.");
	return false;
}

static void
judge_size(GuardRelation *relation)
{
	double		rows;
	int64		bytes;

	if (!guard_small_table_parse(guard_small_table ? guard_small_table : GUARD_SMALL_TABLE,
								 &rows, &bytes))
		relation->large = true;
	else if (rows >= 0)
		relation->large = relation->rows < 0 || relation->rows > rows;
	else
		relation->large = relation->bytes < 0 || relation->bytes > bytes;
}

/* ---- sizes ---- */

/* pages of a heap or TOAST table; -1 where it cannot be looked at now */
static int64
pages_now(Oid relid)
{
	Relation	rel;
	int64		pages = -1;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return -1;
	rel = try_relation_open(relid, NoLock);
	if (rel != NULL)
	{
		pages = RelationGetNumberOfBlocks(rel);
		relation_close(rel, NoLock);
	}
	UnlockRelationOid(relid, AccessShareLock);
	return pages;
}

/* Under a lock that was free: the planner's view, without its guess for an empty table. */
static void
measure_open(Relation rel, SizeEntry *size)
{
	BlockNumber pages = 0;
	BlockNumber now;
	double		tuples = 0;
	double		allvisible;
	int64		toast = 0;

	if (!RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
		return;
	if (rel->rd_rel->relkind == RELKIND_INDEX)
	{
		size->bytes += (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ;
		return;
	}
	now = RelationGetNumberOfBlocks(rel);
	if (now > 0 && RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind))
	{
		estimate_rel_size(rel, NULL, &pages, &tuples, &allvisible);
		if (pages > now)
			tuples = tuples * now / pages;
	}
	if (OidIsValid(rel->rd_rel->reltoastrelid))
		toast = Max(pages_now(rel->rd_rel->reltoastrelid), 0);
	size->rows += rint(tuples);
	size->bytes += ((int64) now + toast) * BLCKSZ;
}

/* Add one relation's size; false where it is not known. */
static bool
measure_one(Oid relid, bool open, SizeEntry *size)
{
	HeapTuple	tup;
	Form_pg_class form;
	bool		known = false;

	if (open && ConditionalLockRelationOid(relid, AccessShareLock))
	{
		Relation	rel = try_relation_open(relid, NoLock);

		if (rel != NULL)
		{
			if (rel->rd_createSubid != InvalidSubTransactionId)
				size->created = true;
			measure_open(rel, size);
			relation_close(rel, NoLock);
			known = true;
		}
		UnlockRelationOid(relid, AccessShareLock);
		if (known)
			return true;
	}
	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tup))
		return true;			/* dropped meanwhile */
	form = (Form_pg_class) GETSTRUCT(tup);
	if (!RELKIND_HAS_STORAGE(form->relkind))
		known = true;
	else if (form->reltuples >= 0)
	{
		size->rows += form->reltuples;
		size->bytes += (int64) form->relpages * BLCKSZ;
		known = true;
	}
	ReleaseSysCache(tup);
	return known;
}

/* What changes a table's definition goes to its children too. */
static void
measure_tree(Oid relid, SizeEntry *size)
{
	List	   *children;
	ListCell   *lc;
	bool		known = measure_one(relid, true, size);
	bool		created = size->created;
	int			n = 0;

	children = has_subclass(relid) ? find_all_inheritors(relid, NoLock, NULL) : NIL;
	foreach(lc, children)
	{
		if (lfirst_oid(lc) == relid)
			continue;
		CHECK_FOR_INTERRUPTS();
		size->created = false;
		known &= measure_one(lfirst_oid(lc), ++n < MAX_OPENED, size);
		created &= size->created;	/* a child that was there has its rows */
	}
	list_free(children);
	size->created = created;
	if (!known)
		size->rows = size->bytes = -1;
}

static SizeEntry *
size_of(Guard *guard, Oid relid, char relkind)
{
	SizeEntry  *size;
	bool		found;

	if (guard->sizes == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(SizeEntry);
		ctl.hcxt = guard->context;
		guard->sizes = hash_create("evmig guard sizes", 32, &ctl,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	size = hash_search(guard->sizes, &relid, HASH_ENTER, &found);
	if (!found)
	{
		size->rows = 0;
		size->bytes = 0;
		size->created = false;
		if (relkind == RELKIND_FOREIGN_TABLE)
			size->rows = size->bytes = -1;
		else
			measure_tree(relid, size);
	}
	return size;
}

/* ---- relations ---- */

GuardRelation *
guard_relation_by_oid(Guard *guard, Oid relid)
{
	GuardRelation *relation = palloc0(sizeof(GuardRelation));
	HeapTuple	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	SizeEntry  *size;

	relation->rows = relation->bytes = -1;
	relation->large = true;
	if (!HeapTupleIsValid(tup))
	{
		relation->name = psprintf("%u", relid);
		return relation;
	}
	relation->relid = relid;
	relation->relkind = ((Form_pg_class) GETSTRUCT(tup))->relkind;
	relation->temporary = ((Form_pg_class) GETSTRUCT(tup))->relpersistence == RELPERSISTENCE_TEMP;
	ReleaseSysCache(tup);

	relation->name = relation->temporary ? pstrdup(quote_identifier(get_rel_name(relid))) :
		quote_relation(relid);
	size = size_of(guard, relid, relation->relkind);
	relation->rows = size->rows;
	relation->bytes = size->bytes;
	relation->created_here = relation->new_here = guard->live && size->created;
	judge_size(relation);
	return relation;
}

GuardRelation *
guard_relation(Guard *guard, const RangeVar *name)
{
	GuardRelation *relation;
	GuardNameState state;
	Oid			relid = InvalidOid;
	bool		temporary;

	/* a name of another database fails as soon as it is run */
	if (name->catalogname && strcmp(name->catalogname, get_database_name(MyDatabaseId)) != 0)
	{
		state = NAME_UNTOUCHED;
		temporary = false;
	}
	else
		state = guard_name_find(guard, name, &relid, &temporary);
	if (OidIsValid(relid))
		return guard_relation_by_oid(guard, relid);

	/* two names that only the run knows look alike and are not the same */
	if (strstr(name->relname, RUN_TIME_VALUE) ||
		(name->schemaname && strstr(name->schemaname, RUN_TIME_VALUE)))
		state = NAME_UNTOUCHED;

	relation = palloc0(sizeof(GuardRelation));
	relation->name = quote_qualified_identifier(name->schemaname, name->relname);
	relation->temporary = temporary;
	relation->created_here = state == NAME_CREATED;
	relation->new_here = state == NAME_CREATED || state == NAME_CREATED_FILLED;
	relation->relkind = relation->new_here ? RELKIND_RELATION : 0;
	relation->rows = relation->bytes = relation->created_here ? 0 : -1;
	relation->large = !relation->created_here;
	return relation;
}

/* 1200000 as 1,200,000 */
static char *
grouped(double number)
{
	char	   *digits = psprintf("%.0f", number);
	StringInfoData out;
	int			len = strlen(digits);

	initStringInfo(&out);
	for (int i = 0; i < len; i++)
	{
		if (i > 0 && (len - i) % 3 == 0)
			appendStringInfoChar(&out, ',');
		appendStringInfoChar(&out, digits[i]);
	}
	return out.data;
}

char *
guard_relation_size(const GuardRelation *relation)
{
	char	   *pretty;

	if (relation->rows < 0 || relation->bytes < 0)
		return pstrdup("size not known");
	pretty = text_to_cstring(DatumGetTextPP(DirectFunctionCall1(pg_size_pretty,
																Int64GetDatum(relation->bytes))));
	if (relation->relkind == RELKIND_INDEX || relation->relkind == RELKIND_PARTITIONED_INDEX)
		return pretty;
	return psprintf("%s row%s, %s", grouped(relation->rows),
					relation->rows == 1 ? "" : "s", pretty);
}
