/*-------------------------------------------------------------------------
 *
 * generator.h
 *	  A key generator, compiled once and evaluated as the table's owner.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GENERATOR_H
#define EVMIG_GENERATOR_H

#include "base/compat.h"
#include "nodes/execnodes.h"
#include "utils/plancache.h"

/* what a generator is made for */
typedef struct GeneratorTarget
{
	Oid			owner;			/* whose rights it has */
	Oid			type;
	int32		typmod;
	Oid			collation;
} GeneratorTarget;

/* ready to run; lives as long as the memory context it was started in */
typedef struct KeyGenerator
{
	ExprState  *state;
	ExprContext *econtext;
	Oid			owner;
	bool		harmless;		/* core functions only: nobody's code, no rights */
	const char *path;			/* search_path of the functions it calls */
} KeyGenerator;

/*
 * Compile a generator from its parse tree: cast to the key's type, planned.
 * The result is long-lived; it is of no use once its is_valid is false, and
 * then to be freed with FreeCachedExpression().
 */
extern CachedExpression *generator_compile(Node *expr, const GeneratorTarget *target);

extern KeyGenerator *generator_start(CachedExpression *compiled,
									 const GeneratorTarget *target, const char *path);

/*
 * The next key, in the generator's own memory: valid until the next call.
 * Raises null_value_not_allowed for a NULL.
 */
extern Datum generator_next(KeyGenerator *generator, const char *relname);

/* The current search_path by names, pg_temp last. */
extern char *generator_path(void);

#endif							/* EVMIG_GENERATOR_H */
