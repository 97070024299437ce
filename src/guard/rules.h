/*-------------------------------------------------------------------------
 *
 * rules.h
 *	  The guard's rules: one row of a table each (rules.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_RULES_H
#define EVMIG_GUARD_RULES_H

#include "guard/guard.h"

struct GuardRule
{
	const char *id;
	GuardSeverity severity;		/* where the catalog does not lower it */
	bool		data;			/* a data change; else a lock or a style */
	int			since;			/* major version from which it matters, 0: all */
	const char *detects;
	const char *danger;
	const char *safe;			/* the safe way */
};

/* the rules of one file; rules.c lists the sets */
typedef struct GuardRuleSet
{
	const GuardRule *rules;
	int			n;
} GuardRuleSet;

extern const GuardRuleSet guard_data_rules; /* rules.c: data and what could not be read */
extern const GuardRuleSet guard_lock_rules; /* rules_locks.c: shared/guard-rules.tsv's first */
extern const GuardRuleSet guard_style_rules;	/* rules_style.c: the later ones */

extern const GuardRule *guard_rule(const char *id); /* NULL: no such rule */

extern const char *guard_severity_name(GuardSeverity severity); /* as the SQL functions say it */

#endif							/* EVMIG_GUARD_RULES_H */
