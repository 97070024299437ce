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
	char	   *name;			/* as written or as resolved, for people */
	Oid			relid;			/* InvalidOid: not known here */
	char		relkind;		/* 0: not known */
	bool		temporary;
	bool		created_here;	/* by this source (or, live, this transaction), and
								 * empty then: no CREATE TABLE AS, no ATTACH */
	bool		large;			/* above evmig.guard_small_table; unknown counts as large */
	double		rows;			/* estimate, partitions included; -1: unknown */
	int64		bytes;			/* -1: unknown */
};

/* never NULL; cached for the statement */
extern GuardRelation *guard_relation(Guard *guard, const RangeVar *name);
extern GuardRelation *guard_relation_by_oid(Guard *guard, Oid relid);

/* "1,200,000 rows, 3 GB", "size not known" */
extern char *guard_relation_size(const GuardRelation *relation);

/* the source made, renamed or dropped a relation; from_elsewhere: it may hold rows */
extern void guard_relation_created(Guard *guard, const RangeVar *name, bool temporary,
								   bool from_elsewhere);
extern void guard_relation_renamed(Guard *guard, const RangeVar *name, const char *newname);
extern void guard_relation_dropped(Guard *guard, const RangeVar *name);

/* an evmig.guard_small_table value: rows such as 10000, or a size such as 10MB */
extern bool guard_small_table_parse(const char *text, double *rows, int64 *bytes);

#endif							/* EVMIG_GUARD_CATALOG_H */
