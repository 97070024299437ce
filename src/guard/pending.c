/*-------------------------------------------------------------------------
 *
 * pending.c
 *	  Parts of the guard that inspect nothing yet; each goes as its file comes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/guard.h"
#include "guard/rules.h"

const GuardRuleSet guard_style_rules = {NULL, 0};
