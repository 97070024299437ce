/*-------------------------------------------------------------------------
 *
 * archive.h
 *	  The archive of removed duplicates: <table>_dupes_archived and its
 *	  children, one a job.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_ARCHIVE_H
#define EVMIG_ARCHIVE_H

#include "base/relation.h"

#define ARCHIVE_INGEST INT64CONST(0)	/* the child of the ingest guard */

/*
 * Make or bring up to date the target's archive and the child for one job
 * (ARCHIVE_INGEST: the ingest guard's); returns the child.  Runs as the
 * current user, who has the owner's privileges; inside SPI.  Raises
 * duplicate_table where the name is taken by something else.
 */
extern Oid	archive_child(Target *target, int64 job_id);

/* the child if it exists, else InvalidOid; inside SPI */
extern Oid	archive_child_find(Target *target, int64 job_id);

/*
 * "col, col, ..." of the target's columns that are stored in the archive, each
 * quoted and prefixed ("" or "d."); the same order for the same target.
 */
extern char *archive_columns(Target *target, const char *prefix);

/*
 * Of those, what can be put back from this archive: no generated columns, none
 * that the archive does not have.
 */
extern char *archive_restore_columns(Target *target, Oid archive, const char *prefix);

/*
 * Raise what archive_child() would, where that can be told before: a name that
 * is taken, no privilege to create it.  Inside SPI.
 */
extern void archive_check(Target *target);

#endif							/* EVMIG_ARCHIVE_H */
