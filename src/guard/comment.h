/*-------------------------------------------------------------------------
 *
 * comment.h
 *	  What comment.c and allow.c owe each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_COMMENT_H
#define EVMIG_GUARD_COMMENT_H

#include "guard/guard.h"

#define ALLOW "evmig:allow"

/*
 * A finding at "at" about a comment of len bytes at offset of the source.  What
 * the comment says makes its fingerprint: a statement's leaves comments out.
 */
extern GuardFinding *guard_report_comment(Guard *guard, const char *rule, const char *comment,
										  int len, int offset, int at, const char *message);

/*
 * "evmig:allow rule, rule: reason": len bytes, up to the end of the line, at
 * offset of the source; about the statement at [from, to) of it, -1: none.
 */
extern void guard_allow_read(Guard *guard, const char *text, int len, int offset, int from, int to);

#endif							/* EVMIG_GUARD_COMMENT_H */
