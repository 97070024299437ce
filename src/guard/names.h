/*-------------------------------------------------------------------------
 *
 * names.h
 *	  Shared by names.c, which knows what a name means, and names_made.c,
 *	  which knows what a statement does to names.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_NAMES_H
#define EVMIG_GUARD_NAMES_H

#include "guard/catalog.h"

#define TEMP_SCHEMA "pg_temp"

/* What a name means from here on; name "": the schema itself.  Undone by a rollback. */
extern void names_set(Guard *guard, const char *schema, const char *name,
					  GuardNameState state, Oid relid, bool temporary);

/* It is gone when the transaction that the source began commits: ON COMMIT DROP. */
extern void names_until_commit(Guard *guard, const char *schema, const char *name);

/* One schema's relation of that name; false where there is none. */
extern bool names_find_in_schema(Guard *guard, const char *schema, const char *name,
								 GuardNameState *state, Oid *relid, bool *temporary);

/* Where CREATE would put it: the first schema of the path that exists. */
extern const char *names_creation_schema(Guard *guard, const RangeVar *name);

/* schema in which a name is found, NULL: in none */
extern const char *names_schema_of(Guard *guard, const RangeVar *name);

#endif							/* EVMIG_GUARD_NAMES_H */
