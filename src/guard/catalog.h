/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  What only a live server knows: which relation a name means, how large
 *	  it is, and what the source itself made before.
 *
 * Reads catalogs only; never waits for a lock of the application.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_CATALOG_H
#define EVMIG_GUARD_CATALOG_H

#include "guard/guard.h"

struct GuardRelation
{
	char	   *name;			/* quoted, for people and for SQL: qualified where known */
	Oid			relid;			/* InvalidOid: not known here */
	char		relkind;		/* 0: not known */
	bool		temporary;
	bool		created_here;	/* by this source (or, live, this transaction), and
								 * empty then: no CREATE TABLE AS, no ATTACH */
	bool		new_here;		/* made by it, with or without rows: nobody else uses it */
	bool		large;			/* above evmig.guard_small_table; unknown counts as large */
	double		rows;			/* estimate, partitions included; -1: unknown */
	int64		bytes;			/* with TOAST and partitions; -1: unknown */
};

/* ---- catalog.c ---- */

/* evmig.guard_small_table, and its check hook, for guard_settings() */
#define GUARD_SMALL_TABLE "10MB"
extern char *guard_small_table;
extern bool guard_small_table_check(char **newval, void **extra, GucSource source);

/* an evmig.guard_small_table value: rows such as 10000, or a size such as 10MB */
extern bool guard_small_table_parse(const char *text, double *rows, int64 *bytes);

/* Never NULL.  Sizes are looked up once for an inspection. */
extern GuardRelation *guard_relation(Guard *guard, const RangeVar *name);
extern GuardRelation *guard_relation_by_oid(Guard *guard, Oid relid);

/* "1,200,000 rows, 3 GB", "size not known" */
extern char *guard_relation_size(const GuardRelation *relation);

/* ---- names.c ---- */

/*
 * Note what a statement of the source makes, renames, drops, or does to the
 * search_path.  guard_locks() calls it behind its rules; nobody else has to.
 */
extern void guard_names_statement(Guard *guard, Node *tree);

/* a new search_path, as set_config() takes it; NULL: the session's */
extern void guard_names_search_path(Guard *guard, const char *path, bool local);

/*
 * The transaction's ends; rollback to a mark undoes what came after it.  ended:
 * by COMMIT, and not just by the end of a statement outside a transaction (then
 * a tool may run the source in one).
 */
extern int	guard_names_mark(Guard *guard);
extern void guard_names_rollback(Guard *guard, int mark);
extern void guard_names_commit(Guard *guard, bool ended);

/* what the source did to a name */
typedef enum GuardNameState
{
	NAME_UNTOUCHED,
	NAME_CREATED,
	NAME_CREATED_FILLED,		/* made, but may hold rows from elsewhere */
	NAME_RENAMED,				/* another relation of the catalog has it now */
	NAME_DROPPED
} GuardNameState;

/*
 * Find a name as the server would at this point of the source.  NAME_CREATED
 * and NAME_CREATED_FILLED come with no relid; else relid is InvalidOid where
 * there is no such relation.
 */
extern GuardNameState guard_name_find(Guard *guard, const RangeVar *name,
									  Oid *relid, bool *temporary);

#endif							/* EVMIG_GUARD_CATALOG_H */
