/*-------------------------------------------------------------------------
 *
 * lock_time.h
 *	  How long a migration may wait for locks: one deadline for all of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_LOCK_TIME_H
#define EVMIG_LOCK_TIME_H

#include "base/compat.h"
#include "datatype/timestamp.h"

/* At the library's start. */
extern void lock_time_init(void);

/*
 * From begin to end this session's waits for locks are those of one migration.
 * begin saves lock_timeout at the current GUC nest level, whose end restores
 * it; end raises nothing, and may be called twice.
 */
extern void lock_time_begin(void);
extern void lock_time_end(void);

/* Lower lock_timeout to what is left; one that the text has set counts where it is less. */
extern void lock_time_impose(void);

/* A statement is done that began then: does its transaction keep writers out of a table? */
extern void lock_time_statement_done(TimestampTz start);

/* Who the last wait was for, as describe_blockers(); NULL where that is not known. */
extern char *lock_time_blockers(void);

#endif							/* EVMIG_LOCK_TIME_H */
