/*-------------------------------------------------------------------------
 *
 * reference.c
 *	  Foreign keys that point at rows which are to be removed.
 *
 * The rows are locked FOR UPDATE by the caller, so nobody can add a reference
 * to one of them meanwhile.  Locks on referencing rows are taken with SKIP
 * LOCKED: a row whose references cannot all be locked waits for another pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_constraint.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/spi.h"
#include "base/sqltext.h"
#include "integrity/reference.h"

typedef struct ForeignKey
{
	char	   *lock;			/* lock the referencing rows */
	char	   *unlocked;		/* rows with more references than were locked */
	char	   *repoint;
} ForeignKey;

struct References
{
	OnReferenced policy;
	char	   *target;			/* quoted */
	char	   *referenced;		/* which of these rows are referenced; NULL: not asked */
	List	   *keys;			/* of ForeignKey, for REFERENCED_REPOINT */
};

OnReferenced
parse_on_referenced(const char *text)
{
	static const char *const names[] = {"error", "skip", "repoint", "cascade"};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(text, names[i]) == 0)
			return (OnReferenced) i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown value for on_referenced: \"%s\"", text),
			 errhint("Use error, skip, repoint or cascade.")));
}

/* ---- lists of TIDs ---- */

int
tid_compare(const void *a, const void *b)
{
	return ItemPointerCompare(unconstify(ItemPointerData *, (const ItemPointerData *) a),
							  unconstify(ItemPointerData *, (const ItemPointerData *) b));
}

ItemPointerData *
result_tids(int col, int *n)
{
	ItemPointerData *tids;

	*n = (int) spi_nrows();
	tids = palloc(sizeof(ItemPointerData) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		spi_tid(i, col, &tids[i]);
	return tids;
}

ItemPointerData *
loser_rows(const Loser *losers, int n)
{
	ItemPointerData *tids = palloc(sizeof(ItemPointerData) * Max(n, 1));

	for (int i = 0; i < n; i++)
		tids[i] = losers[i].row;
	return tids;
}

ItemPointerData *
loser_keepers(const Loser *losers, int n)
{
	ItemPointerData *tids = palloc(sizeof(ItemPointerData) * Max(n, 1));

	for (int i = 0; i < n; i++)
		tids[i] = losers[i].keeper;
	return tids;
}

int
losers_without(Loser *losers, int n, ItemPointerData *tids, int ntids)
{
	int			left = 0;

	qsort(tids, ntids, sizeof(ItemPointerData), tid_compare);
	for (int i = 0; i < n; i++)
		if (bsearch(&losers[i].row, tids, ntids, sizeof(ItemPointerData), tid_compare) == NULL)
			losers[left++] = losers[i];
	return left;
}

/* ---- loading ---- */

/* Refuse a foreign key whose own action would change referencing rows. */
static void
refuse_action(Target *target, const char *constraint, Oid relation, char action)
{
	const char *what = action == FKCONSTR_ACTION_CASCADE ? "CASCADE" :
		action == FKCONSTR_ACTION_SETNULL ? "SET NULL" : "SET DEFAULT";

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("foreign key \"%s\" of table %s points at table %s with ON DELETE %s",
					constraint, quote_relation(relation), target->quoted, what),
			 errdetail("Rows that reference a removed duplicate would be deleted or changed."),
			 errhint("Say on_referenced => 'repoint' to point them at the row that stays, 'skip' to leave such duplicates, or 'cascade' to let it happen.")));
}

static void
require_privileges(Oid relation, Oid role, AclMode mode)
{
	if (pg_class_aclmask(relation, role, mode, ACLMASK_ALL) != mode)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", get_rel_name(relation)),
				 errdetail("A foreign key of this table points at the duplicates, and the job runs as role \"%s\".",
						   GetUserNameFromId(role, false)),
				 errhint("GRANT %s ON %s TO %s.", mode & ACL_UPDATE ? "SELECT, UPDATE" : "SELECT",
						 quote_relation(relation),
						 quote_identifier(GetUserNameFromId(role, false)))));
}

/* the row that is to go (l), looked up by TID */
#define LOSER_ROWS(target) \
	psprintf("pg_catalog.unnest($1) AS p(loser) JOIN ONLY %s l" \
			 " ON l.ctid OPERATOR(pg_catalog.=) p.loser", (target))

static ForeignKey *
compose_repoint(Target *target, const char *from, const char *join, const char *set_list)
{
	ForeignKey *key = palloc0(sizeof(ForeignKey));
	char	   *rows = LOSER_ROWS(target->quoted);

	key->lock = psprintf("SELECT p.loser FROM %s JOIN %s c ON %s FOR UPDATE OF c SKIP LOCKED",
						 rows, from, join);
	key->unlocked = psprintf("SELECT p.loser FROM %s JOIN %s c ON %s GROUP BY p.loser"
							 " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>)"
							 " (SELECT pg_catalog.count(*) FROM pg_catalog.unnest($2) AS x(loser)"
							 " WHERE x.loser OPERATOR(pg_catalog.=) p.loser)", rows, from, join);
	key->repoint = psprintf("UPDATE %s c SET %s"
							" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS p(loser, keeper)"
							" JOIN ONLY %s l ON l.ctid OPERATOR(pg_catalog.=) p.loser"
							" JOIN ONLY %s k ON k.ctid OPERATOR(pg_catalog.=) p.keeper"
							" WHERE %s", from, set_list, target->quoted, target->quoted, join);
	return key;
}

References *
references_load(Target *target, OnReferenced policy, Oid role, MemoryContext context)
{
	MemoryContext oldcontext;
	References *refs;
	SqlArgs		args = {0};
	StringInfoData referenced;
	int			n;

	arg_oid(&args, target->relid);
	n = (int) spi_catalog("SELECT c.conname::text, c.conrelid, r.relkind = 'p', c.confdeltype::text, j.cond, j.sets"
						  " FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid,"
						  " LATERAL (SELECT pg_catalog.string_agg(pg_catalog.format('l.%I OPERATOR(%I.%s) c.%I',"
						  "   p.attname, s.nspname, o.oprname, f.attname), ' AND ') AS cond,"
						  "  pg_catalog.string_agg(pg_catalog.format('%I = k.%I', f.attname, p.attname), ', ') AS sets"
						  "  FROM ROWS FROM (pg_catalog.unnest(c.conkey), pg_catalog.unnest(c.confkey),"
						  "   pg_catalog.unnest(c.conpfeqop)) AS u(fk, pk, op)"
						  "  JOIN pg_catalog.pg_attribute f ON f.attrelid = c.conrelid AND f.attnum = u.fk"
						  "  JOIN pg_catalog.pg_attribute p ON p.attrelid = c.confrelid AND p.attnum = u.pk"
						  "  JOIN pg_catalog.pg_operator o ON o.oid = u.op"
						  "  JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace) j"
						  " WHERE c.contype = 'f' AND c.confrelid = $1 AND c.conparentid = 0"
						  " ORDER BY 1, 2", &args);
	if (n == 0)
		return NULL;

	oldcontext = MemoryContextSwitchTo(context);
	refs = palloc0(sizeof(References));
	refs->policy = policy;
	refs->target = pstrdup(target->quoted);
	initStringInfo(&referenced);
	for (int i = 0; i < n; i++)
	{
		Oid			relation = spi_oid(i, 1);
		char		action = spi_text(i, 3)[0];
		bool		plain = action == FKCONSTR_ACTION_NOACTION || action == FKCONSTR_ACTION_RESTRICT;
		char	   *join = pstrdup(spi_text(i, 4));
		char	   *from = psprintf("%s%s", spi_bool(i, 2) ? "" : "ONLY ", quote_relation(relation));

		if (policy == REFERENCED_ERROR && !plain)
			refuse_action(target, spi_text(i, 0), relation, action);
		require_privileges(relation, role,
						   policy == REFERENCED_REPOINT ? ACL_SELECT | ACL_UPDATE : ACL_SELECT);

		/* a row that references itself goes without a trace */
		if (relation == target->relid)
			join = psprintf("%s AND l.ctid OPERATOR(pg_catalog.<>) c.ctid", join);
		if (policy == REFERENCED_REPOINT)
			refs->keys = lappend(refs->keys,
								 compose_repoint(target, from, join, spi_text(i, 5)));
		else if (policy != REFERENCED_CASCADE || plain)
			appendStringInfo(&referenced, "%sSELECT p.loser FROM %s WHERE EXISTS (SELECT FROM %s c WHERE %s)",
							 referenced.len ? " UNION " : "", LOSER_ROWS(target->quoted), from, join);
	}
	refs->referenced = referenced.len ? referenced.data : NULL;
	MemoryContextSwitchTo(oldcontext);
	return refs;
}

/* ---- settling ---- */

static void
fail_referenced(References *refs, int n)
{
	ereport(ERROR,
			(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
			 errmsg("duplicates in table %s are referenced by other rows", refs->target),
			 errdetail_plural("%d row that would be removed is referenced.",
							  "%d rows that would be removed are referenced.", n, n),
			 refs->policy == REFERENCED_CASCADE ?
			 errhint("The foreign key has no ON DELETE action; say on_referenced => 'repoint' to point the rows at the one that stays, or 'skip' to leave such duplicates.") :
			 errhint("Say on_referenced => 'repoint' to point them at the row that stays, or 'skip' to leave such duplicates.")));
}

void
references_check(References *refs, const Loser *losers, int n)
{
	SqlArgs		args = {0};
	uint64		found;

	if (refs == NULL || refs->referenced == NULL || refs->policy == REFERENCED_SKIP)
		return;
	arg_tids(&args, loser_rows(losers, n), n);
	found = spi_run_cached(refs->referenced, &args);
	if (found > 0)
		fail_referenced(refs, (int) found);
}

ItemPointerData *
references_held(References *refs, const Loser *losers, int n, int *nheld)
{
	SqlArgs		args = {0};

	*nheld = 0;
	if (refs == NULL || refs->referenced == NULL)
		return NULL;
	arg_tids(&args, loser_rows(losers, n), n);
	spi_run_cached(refs->referenced, &args);
	return result_tids(0, nheld);
}

/* Point the references to these rows at their keepers, as far as nobody holds them. */
static int
repoint(ForeignKey *key, Loser *losers, int n)
{
	SqlArgs		rows = {0};
	SqlArgs		pairs = {0};
	ItemPointerData *tids;
	int			ntids;

	arg_tids(&rows, loser_rows(losers, n), n);
	if (spi_run_cached(key->lock, &rows) == 0)
	{
		tids = NULL;
		ntids = 0;
	}
	else
		tids = result_tids(0, &ntids);

	/* with the snapshot of a later statement: who was not locked? */
	arg_tids(&rows, tids, ntids);
	if (spi_run_cached(key->unlocked, &rows) > 0)
	{
		int			nbusy;
		ItemPointerData *busy = result_tids(0, &nbusy);

		n = losers_without(losers, n, busy, nbusy);
	}
	if (ntids > 0 && n > 0)
	{
		arg_tids(&pairs, loser_rows(losers, n), n);
		arg_tids(&pairs, loser_keepers(losers, n), n);
		spi_run_cached(key->repoint, &pairs);
	}
	return n;
}

int
references_settle(References *refs, Loser *losers, int n, int64 *blocked)
{
	ListCell   *lc;

	if (refs == NULL)
		return n;
	if (refs->referenced)
	{
		SqlArgs		args = {0};

		arg_tids(&args, loser_rows(losers, n), n);
		if (spi_run_cached(refs->referenced, &args) > 0)
		{
			int			nheld;
			ItemPointerData *held = result_tids(0, &nheld);

			if (refs->policy != REFERENCED_SKIP)
				fail_referenced(refs, nheld);
			*blocked += nheld;
			n = losers_without(losers, n, held, nheld);
		}
	}
	foreach(lc, refs->keys)
		if (n > 0)
			n = repoint(lfirst(lc), losers, n);
	return n;
}
