/*-------------------------------------------------------------------------
 *
 * preflight.h
 *	  Shared by the files that measure what evmig_preflight reports.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_PREFLIGHT_H
#define EVMIG_PREFLIGHT_H

#include "base/relation.h"
#include "integrity/audit.h"

typedef struct Preflight
{
	/* what was asked for; NULL: the default */
	Oid			relid;
	const char *key_name;
	const char *order_name;

	/* what earlier checks found; NULL or false where they failed */
	Target	   *table;			/* without columns */
	Target	   *target;			/* with its key column */
	bool		audited;
	AuditFigures figures;
	AuditCheck	plausibility[AUDIT_CHECKS];

	/* where rows go */
	const char *check;			/* its name, for the row */
	struct ReturnSetInfo *rsinfo;
} Preflight;

/*
 * One check: inside SPI, calls preflight_row() once.  An error that it raises
 * becomes a row of status "fail".
 */
typedef void (*PreflightMeasure) (Preflight *p);

#define PASS "pass"
#define WARN "warn"
#define FAIL "fail"

/* Report on the check at hand; hint may be NULL. */
extern void preflight_row(Preflight *p, const char *status, const char *detail,
						  const char *hint);

/* preflight_table.c */
extern void preflight_table(Preflight *p);
extern void preflight_privileges(Preflight *p);
extern void preflight_key_type(Preflight *p);
extern void preflight_order_column(Preflight *p);
extern void preflight_row_security(Preflight *p);
extern void preflight_archive_name(Preflight *p);
extern void preflight_jobs(Preflight *p);
extern void preflight_key_indexes(Preflight *p);
extern void preflight_invalid_indexes(Preflight *p);
extern void preflight_foreign_keys(Preflight *p);
extern void preflight_triggers(Preflight *p);
extern void preflight_rules(Preflight *p);
extern void preflight_publications(Preflight *p);
extern void preflight_plausibility(Preflight *p);

/* preflight_server.c */
extern void preflight_server(Preflight *p);
extern void preflight_pgcrypto(Preflight *p);
extern void preflight_workers(Preflight *p);
extern void preflight_long_transactions(Preflight *p);
extern void preflight_prepared_transactions(Preflight *p);
extern void preflight_slots(Preflight *p);
extern void preflight_replicas(Preflight *p);
extern void preflight_disk_space(Preflight *p);
extern void preflight_archiving(Preflight *p);
extern void preflight_change_window(Preflight *p);
extern void preflight_guard(Preflight *p);

#endif							/* EVMIG_PREFLIGHT_H */
