/*-------------------------------------------------------------------------
 *
 * step.h
 *	  The steps of a runbook, and the engine that walks through them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_STEP_H
#define EVMIG_STEP_H

#include "lib/stringinfo.h"
#include "runbook/runbook.h"

/*
 * One step.  What it did is known by its events, so the name is for ever.
 * All are called inside SPI and a transaction, as the current user.
 */
typedef struct Step
{
	const char *name;
	bool		(*wanted) (Runbook *rb);	/* NULL: always */

	/* is what it did still there?  NULL: done stays done */
	bool		(*holds) (Runbook *rb, Target *target);

	/*
	 * Do it, or start a job and return its id; 0: it is done.  Adds what is
	 * worth knowing to data (see json_text()).
	 */
	int64		(*start) (Runbook *rb, Target *target, StringInfo data);
	bool		repeated;		/* started again until it says 0 */
} Step;

typedef struct StepList
{
	const char *procedure;		/* that goes on when it is called again */
	int			n;
	const Step *steps;
} StepList;

extern const StepList path_a_steps;
extern const StepList path_b_steps;
extern const StepList rollback_steps;

/* the statement that a step amounts to, for the dry run and the report */
extern char *unique_index_statement(Target *target, bool concurrently);

/*
 * Walk through the steps in a procedure (spi_begin_nonatomic), from where the
 * events say that it stopped.  Commits between steps and while it waits.  A
 * failure is recorded and raised; it leaves everything as it is.
 */
extern void run_steps(Runbook *rb, const StepList *list);

/*
 * Run body(id) in a procedure with the runbook's session lock, so that no two
 * sessions execute one runbook; both the lock and current_runbook are
 * given back on every path.
 */
extern void with_runbook_locked(int64 id, void (*body) (int64 id));

/* execute.c: from an approved or interrupted runbook to its end */
extern void execute_runbook(int64 id);

#endif							/* EVMIG_STEP_H */
