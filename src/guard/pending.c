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

/* routine.c, plpgsql.c, dynamic.c */
void
guard_routine_defined(Guard *guard, CreateFunctionStmt *stmt)
{
}

void
guard_call(Guard *guard, FuncCall *call)
{
}

void
guard_do(Guard *guard, DoStmt *stmt)
{
}

void
guard_dynamic(Guard *guard, Node *expr, const char *by)
{
}

/* locks.c */
void
guard_locks(Guard *guard, Node *tree)
{
}

void
guard_locks_finish(Guard *guard)
{
}
