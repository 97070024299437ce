/*-------------------------------------------------------------------------
 *
 * kinds.h
 *	  The table of job kinds.  Adding a kind is one file and one row here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KINDS_H
#define EVMIG_KINDS_H

#include "job/job.h"

extern const JobKind request_id_kind;	/* integrity/request_id.c */
extern const JobKind dedupe_kind;	/* integrity/dedupe.c */
extern const JobKind restore_kind;	/* integrity/restore.c */

/* defined in src/kinds.c; ends with NULL */
extern const JobKind *const job_kinds[];

/* Raises undefined_object for a name that this library does not know. */
extern const JobKind *job_kind(const char *name);

#endif							/* EVMIG_KINDS_H */
