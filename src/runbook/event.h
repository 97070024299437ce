/*-------------------------------------------------------------------------
 *
 * event.h
 *	  The evidence of a runbook: an append-only chain of events.
 *
 * Each event carries the sha256 of the one before it, and evmig.runbook that
 * of the last one, so that a changed, lost or slipped-in row shows.  Appends
 * are serialised by the lock on the runbook's row, which lasts until the
 * transaction ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_EVENT_H
#define EVMIG_EVENT_H

#include "base/compat.h"
#include "lib/stringinfo.h"

/* names of events */
#define EVENT_OPENED "opened"
#define EVENT_PREFLIGHT "preflight"
#define EVENT_AUDIT "audit"
#define EVENT_DECIDED "decided"
#define EVENT_ATTESTED "attested"
#define EVENT_WAIVED "waived"
#define EVENT_APPROVED "approved"
#define EVENT_EXECUTION "execution started"
#define EVENT_RESUMED "execution resumed"
#define EVENT_STARTED "step started"
#define EVENT_DONE "step done"
#define EVENT_FAILED "step failed"
#define EVENT_LIMITS "limits set"
#define EVENT_PAUSED "paused at a limit"
#define EVENT_INGEST_PAUSED "ingest paused"
#define EVENT_INGEST_RESUMED "ingest resumed"
#define EVENT_FINISHED "finished"
#define EVENT_ROLLBACK "rollback started"
#define EVENT_ROLLED_BACK "rolled back"

/*
 * Append an event as the current session.  subject: the step, item or check
 * that it is about, or NULL;
 * job: 0 for none; data: text of a JSON object or array, or NULL.  Inside SPI.
 */
extern void runbook_event(int64 runbook, const char *event, const char *subject,
						  int64 job, const char *data);

typedef struct ChainState
{
	int64		events;
	char	   *head;			/* hexadecimal, NULL without events */
	char	   *problem;		/* NULL: the chain is whole */
} ChainState;

/* Compute every hash again.  Inside SPI. */
extern void runbook_chain(int64 runbook, ChainState *chain);

/* ---- composing data: {"name": value, ...} ---- */

extern void json_begin(StringInfo buf);
extern void json_text(StringInfo buf, const char *name, const char *value);	/* NULL: null */
extern void json_int8(StringInfo buf, const char *name, int64 value);
extern void json_float8(StringInfo buf, const char *name, double value);
extern void json_bool(StringInfo buf, const char *name, bool value);
extern void json_raw(StringInfo buf, const char *name, const char *json);	/* NULL: null */
extern char *json_end(StringInfo buf);

#endif							/* EVMIG_EVENT_H */
