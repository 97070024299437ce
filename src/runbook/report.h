/*-------------------------------------------------------------------------
 *
 * report.h
 *	  Parts of a runbook's report that stand in files of their own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_REPORT_H
#define EVMIG_REPORT_H

#include "lib/stringinfo.h"
#include "runbook/runbook.h"

/* Inside SPI. */
extern char *report_json(Runbook *rb);

/* What came of it, in a sentence; chain_problem: see runbook_chain().  Inside SPI. */
extern char *runbook_result(Runbook *rb, const char *chain_problem);

/*
 * Append what the application saw, from the samples of the target's KPIs, with
 * the runbook's steps as bands, and the rows done over time.
 */
extern void append_runbook_plots(StringInfo out, Runbook *rb);

/* The same for a job on a table, once it has started. */
extern void append_job_plots(StringInfo out, int64 id);

#endif							/* EVMIG_REPORT_H */
