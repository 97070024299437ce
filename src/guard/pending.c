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

const GuardRuleSet guard_lock_rules = {NULL, 0};
const GuardRuleSet guard_style_rules = {NULL, 0};

/* locks.c */
void
guard_locks(Guard *guard, Node *tree)
{
}

void
guard_locks_finish(Guard *guard)
{
}
