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

extern const JobKind dedupe_kind;	/* integrity/dedupe.c */
extern const JobKind drop_index_kind;	/* integrity/build.c */
extern const JobKind harden_kind;	/* integrity/harden.c */
extern const JobKind helper_index_kind; /* integrity/build.c */
extern const JobKind request_id_kind;	/* integrity/request_id.c */
extern const JobKind restore_kind;	/* integrity/restore.c */
extern const JobKind unique_index_kind; /* integrity/build.c */

extern const JobKind backfill_kind; /* backfill/backfill.c */
extern const JobKind undo_kind; /* backfill/undo.c */

extern const JobKind registered_index_kind; /* deploy/index_job.c */
extern const JobKind index_drop_kind;	/* deploy/index_drop.c */

/* defined in src/kinds.c; ends with NULL */
extern const JobKind *const job_kinds[];

/* Raises undefined_object for a name that this library does not know. */
extern const JobKind *job_kind(const char *name);

#endif							/* EVMIG_KINDS_H */
