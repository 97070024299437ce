/*-------------------------------------------------------------------------
 *
 * rewrite.c
 *	  Views that a statement reads, and rules that it sets off: the source's
 *	  own, and those of the database (query.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/routine.h"

#include "catalog/pg_class.h"
#include "utils/builtins.h"

#include "guard/catalog.h"

/* a view or rule that the source made; in guard->context */
typedef struct SourceRule
{
	char	   *schema;			/* NULL: not given */
	char	   *relation;
	char	   *name;			/* "rule r", "view v" */
	CmdType		event;
	List	   *actions;		/* raw trees */
	GuardFrame	frame;			/* that they stand in */
	bool		followed;
} SourceRule;

/* ---- what the source makes ---- */

static void
note_rule(Guard *guard, const RangeVar *relation, const char *what, const char *name,
		  CmdType event, List *actions)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	SourceRule *rule = palloc0(sizeof(SourceRule));

	rule->schema = relation->schemaname ? pstrdup(relation->schemaname) : NULL;
	rule->relation = pstrdup(relation->relname);
	rule->name = psprintf("%s %s", what, quote_identifier(name));
	rule->event = event;
	rule->actions = copyObject(actions);
	rule->frame = guard_lasting_frame(guard->frame);
	guard->rewrites = lappend(guard->rewrites, rule);
	MemoryContextSwitchTo(old);
}

void
guard_rule_defined(Guard *guard, RuleStmt *stmt)
{
	note_rule(guard, stmt->relation, "rule", stmt->rulename, stmt->event, stmt->actions);
}

void
guard_view_defined(Guard *guard, ViewStmt *stmt)
{
	note_rule(guard, stmt->view, "view", stmt->view->relname, CMD_SELECT,
			  list_make1(stmt->query));
}

/* ---- what a statement runs ---- */

static void
follow_rule(Guard *guard, SourceRule *rule, const RangeVar *name)
{
	GuardFrame	frame = rule->frame;
	ListCell   *cell;
	int			line;
	int			col;

	if (rule->followed || guard_too_deep(guard))
		return;
	rule->followed = true;
	guard_line_col(guard, guard_source_offset(guard, name->location), &line, &col);
	frame.via = psprintf("%s, used at line %d", rule->name, line);
	guard_push(guard, &frame);
	foreach(cell, rule->actions)
		guard_embedded_tree(guard, lfirst(cell));
	guard_pop(guard);
}

/* the source's own; true: it made a view of that name, so that is meant */
static bool
follow_rules(Guard *guard, const RangeVar *name, CmdType event)
{
	bool		view = false;
	ListCell   *cell;

	foreach(cell, guard->rewrites)
	{
		SourceRule *rule = lfirst(cell);

		if (rule->event != event || strcmp(rule->relation, name->relname) != 0 ||
			(rule->schema && name->schemaname && strcmp(rule->schema, name->schemaname) != 0))
			continue;
		follow_rule(guard, rule, name);
		view |= event == CMD_SELECT;
	}
	return view;
}

void
guard_rewrite(Guard *guard, const RangeVar *name, CmdType event)
{
	GuardRelation *relation;
	GuardFrame	frame;

	if (guard->rewrites != NIL && follow_rules(guard, name, event))
		return;
	relation = guard_relation(guard, name);
	if (!OidIsValid(relation->relid) ||
		(event == CMD_SELECT && relation->relkind != RELKIND_VIEW))
		return;
	guard_push_stored(guard, &frame, name->location, NULL);
	guard_stored_rules(guard, relation->relid, event);
	guard_pop(guard);
}

void
guard_rewrite_refresh(Guard *guard, const RangeVar *name)
{
	GuardRelation *relation = guard_relation(guard, name);
	GuardFrame	frame;

	if (relation->relkind != RELKIND_MATVIEW)
		return;
	guard_push_stored(guard, &frame, name->location, NULL);
	guard_stored_rules(guard, relation->relid, CMD_SELECT);
	guard_pop(guard);
}
