/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  What the parts of the guard share: a text under inspection, its
 *	  findings, and what the source has done so far.
 *
 * split.c cuts a source into statements, walk.c parses each and looks for
 * data changes, locks*.c for locks, routine.c and plpgsql.c follow what is
 * called; all report findings here.  Everything lives in guard->context; what
 * one statement needs in guard->statement_context, which is reset after it, so
 * that memory follows the largest statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_GUARD_H
#define EVMIG_GUARD_H

#include "base/compat.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"
#include "parser/parser.h"
#include "utils/hsearch.h"

/*
 * What evmig_guard_assert and the live guard raise.  Class VG is none of the
 * standard's nor of the server's.
 */
#define ERRCODE_EVMIG_GUARD MAKE_SQLSTATE('V', 'G', '0', '0', '1')

/* the rooms' settings; guard_settings() defines them */
extern void guard_settings(void);

typedef enum GuardSeverity
{
	GUARD_INFO,
	GUARD_WARNING,
	GUARD_ERROR
} GuardSeverity;

typedef struct GuardRule GuardRule; /* rules.h */

/*
 * A text that is being inspected.  The source itself is the first frame; a
 * DO block's or function's body, a dynamic statement, a literal in another
 * language are frames within it.  Positions are byte offsets in the frame's
 * text; guard_source_offset() says where that is in the source.
 */
typedef struct GuardFrame
{
	struct GuardFrame *parent;
	const char *text;			/* NUL-terminated */
	int			len;
	int			base;			/* offset in the source of text[0]; -1: the text
								 * does not stand in the source as it is */
	const int  *map;			/* base = -1: source offset of each byte, or */
	int			anchor;			/* map = NULL: where all of it is reported */
	const char *via;			/* "function f(integer)"; NULL at top level */
	bool		conditional;	/* whether it runs is not known (IF, CASE, a handler) */
	char		volatility;		/* PROVOLATILE_..., of the routine whose text it is;
								 * '\0': that of the frame around it */
} GuardFrame;

/* stands for a value that only the run knows: an identifier, so that SQL parses */
#define RUN_TIME_VALUE "run_time_value"

typedef struct GuardFinding
{
	const GuardRule *rule;
	GuardSeverity severity;
	int			offset;			/* in the source, bytes */
	int			statement_offset;	/* of the top-level statement, the same */
	int			sequence;		/* order of reporting */
	char	   *relation;		/* NULL: none */
	char	   *lock_mode;		/* as in pg_locks: AccessExclusiveLock; NULL: none */
	char	   *blocks;			/* "reads, writes, ddl"; NULL: nothing */
	char	   *message;
	char	   *hint;
	char	   *statement;		/* the top-level statement, shortened to 1,000 bytes */
	char	   *fingerprint;	/* of rule, normalised statement and source */
	bool		grandfathered;
	bool		allowed;		/* by evmig:allow with a reason: not shown */
} GuardFinding;

/* one rule of one evmig:allow; allow.c */
typedef struct GuardAllow GuardAllow;

/* what is known about a relation that a statement names; catalog.h */
typedef struct GuardRelation GuardRelation;

/* the transaction that the source's statements would run in */
typedef struct GuardTransaction
{
	bool		open;			/* BEGIN seen, or the source is run in one */
	bool		explicit_begin;
	int			begin_offset;
	int			begin_len;
	List	   *locks;			/* LockHeld: strong locks taken in it (locks_session.h) */
	List	   *not_valid;		/* char *: constraints added NOT VALID in it */
	List	   *enum_values;	/* char *, added in it */
	int			lock_timeout;	/* ms; -1: not set by the source; 0: switched off */
	bool		local_timeout;	/* by SET LOCAL */
	int			statement_timeout;
} GuardTransaction;

typedef struct Guard
{
	MemoryContext context;
	MemoryContext statement_context;
	GuardFrame *source;			/* the text as given */
	const char *name;			/* of the source, NULL: none */
	bool		live;			/* judging a statement of this session (enforce.c) */
	int			target_version; /* server_version_num that rules go by */

	/* the statement at hand; offsets are the source's */
	GuardFrame *frame;
	int			statement_offset;
	int			statement_len;
	int			tree_offset;	/* where the tree at hand starts in its frame */
	Node	   *tree;			/* the top-level statement's raw parse tree; NULL: none */

	/* report.c */
	List	   *findings;		/* GuardFinding */
	HTAB	   *reported;		/* the same, to report each once */
	char	   *statement_text; /* of the statement at hand, once asked for */
	char	   *statement_digest;	/* the same */
	int			seen_offset;	/* guard_line_col() counts on from here */
	int			seen_line;
	int			seen_col;

	List	   *allows;			/* GuardAllow */
	List	   *backfills;		/* names that comments may give; comment.c */
	int			statements;		/* of the source, that were inspected */

	/* what the source did before the statement at hand */
	struct GuardNames *names;	/* relations that it made itself; names.c */
	HTAB	   *sizes;			/* of relations; catalog.c */
	HTAB	   *routines;		/* that it defined; routine.c */
	HTAB	   *operators;		/* functions of the database's, by name; stored.c */
	HTAB	   *prepared;		/* PREPAREd statements by name; walk.c */
	GuardTransaction tx;
	struct LockSession *session;	/* beyond the transaction; locks_session.c */

	/* of style.c: settings that the source has set, as bits */
	int			style_set;

	List	   *referred;		/* of data.c: names of tables that it made and older ones refer to */

	/* findings that what follows may make pointless: no-primary-key, lock-timeout-ineffective */
	List	   *keyless;
	List	   *timeouts_off;

	/* of routine.c: those being followed, so that cycles end, and those done */
	List	   *following;
	HTAB	   *followed;		/* of the source's own */
	HTAB	   *followed_stored;	/* of the database's, for the statement at */
	int			followed_for;
	List	   *rewrites;		/* of rewrite.c: views and rules that the source made */
	List	   *unvalidated;	/* of validate.c: constraints that the source added NOT VALID */
	List	   *variables;		/* of plpgsql.c: what those of the body at hand may hold */
	List	   *values;			/* names of variables and arguments, in the body at hand */
	bool		argument_asked; /* a text depends on what the routine was given */
} Guard;

/* ---- guard.c ---- */

/*
 * Inspect a source of len bytes in the server's encoding; lang is "sql",
 * "text" or "auto".  Returns the guard with its findings in order of position,
 * in the current memory context.  Runs nothing of the source; takes
 * AccessShareLock only conditionally, so never waits for the application.
 */
extern Guard *guard_inspect(const char *text, int len, const char *name, const char *lang);

/* the same in two steps, for findings about the text itself between them */
extern Guard *guard_begin(const char *text, int len, const char *name);
extern void guard_run(Guard *guard, const char *lang);

/* findings that are errors, neither allowed nor grandfathered */
extern int	guard_count_new_errors(Guard *guard);

/* ---- report.c ---- */

/*
 * Report a finding of a rule (by its id) at a byte offset of the current
 * frame; -1 is where the statement starts.  relation, lock_mode and hint may
 * be NULL; hint NULL is the rule's own safe way.  The rule's severity counts
 * unless guard_report_as() gives another.  "through function f(integer)" is
 * added to the message where frames are nested.  Reported once for each
 * rule, offset and relation.
 */
extern GuardFinding *guard_report(Guard *guard, const char *rule, int offset,
								  const char *relation, const char *hint,
								  const char *format,...) pg_attribute_printf(6, 7);
extern GuardFinding *guard_report_as(Guard *guard, GuardSeverity severity, const char *rule,
									 int offset, const char *relation, const char *hint,
									 const char *format,...) pg_attribute_printf(7, 8);

/*
 * Keep a finding, in one of the guard's lists, that what follows may make
 * pointless; and take it back.
 */
extern void guard_withdrawable(Guard *guard, List **list, GuardFinding *finding);
extern void guard_withdraw(Guard *guard, GuardFinding *finding);

extern void guard_finding_lock(GuardFinding *finding, LOCKMODE mode);

/* set the top-level statement that findings belong to; offsets are the source's */
extern void guard_statement(Guard *guard, int offset, int len);

/*
 * Does the text belong to a routine that is not VOLATILE?  Then its own
 * statements read only, or fail; what they call may still write.
 */
extern bool guard_reads_only(const Guard *guard);

extern int	guard_source_offset(Guard *guard, int offset);	/* of the current frame's */
extern void guard_line_col(Guard *guard, int offset, int *line, int *col);	/* col in characters, from 1 */

/* ---- fingerprint.c ---- */

/* hex of a hash of the statement's tokens (comments and spacing left out), rule and source */
extern char *guard_fingerprint(Guard *guard, const char *rule);

/* the part of it that the statement makes, for guard->statement_digest */
extern char *guard_digest(const char *text, int len);

/* ---- parse.c: the server's lexer and parser, whose errors are findings ---- */

typedef struct GuardSyntaxError
{
	char	   *message;
	int			offset;			/* bytes, in the text; -1: none */
} GuardSyntaxError;

/*
 * Parse a text; false, and why, where the parser refuses it.  Raises only
 * what is no fault of the text: cancel, out of memory.
 */
extern bool guard_parse(const char *text, RawParseMode mode, List **trees,
						GuardSyntaxError *error);

/* the lexer's token codes, which gram.h keeps to itself; keywords are larger */
typedef enum GuardTokenCode
{
	TOKEN_END = 0,
	TOKEN_IDENT = 258,
	TOKEN_UIDENT,
	TOKEN_FCONST,
	TOKEN_SCONST,
	TOKEN_USCONST,
	TOKEN_BCONST,
	TOKEN_XCONST,
	TOKEN_OP,
	TOKEN_ICONST,
	TOKEN_PARAM,
	TOKEN_TYPECAST,
	TOKEN_DOT_DOT,
	TOKEN_COLON_EQUALS,
	TOKEN_EQUALS_GREATER,
	TOKEN_LESS_EQUALS,
	TOKEN_GREATER_EQUALS,
	TOKEN_NOT_EQUALS			/* the last before the keywords */
} GuardTokenCode;

typedef struct GuardToken
{
	int			code;			/* GuardTokenCode, an ASCII character, or a keyword's */
	int			offset;
	const char *text;			/* identifier, string, number, operator or keyword */
	int			number;			/* of TOKEN_ICONST and TOKEN_PARAM */
} GuardToken;

/* called for each token; false ends the scan */
typedef bool (*GuardTokenVisitor) (const GuardToken *token, void *context);

/* Lex a text; false where the lexer refuses it (after some calls, perhaps). */
extern bool guard_lex(const char *text, GuardTokenVisitor visitor, void *context);

/* ---- walk.c: statements and data changes ---- */

/*
 * Inspect a text as SQL: split, parse, walk each statement.  For the source,
 * and for a body, a dynamic statement or a literal: those push a frame first.
 */
extern void guard_sql(Guard *guard, GuardFrame *frame);

/*
 * Inspect one raw parse tree whose locations count in the current frame's
 * text; offset is where its text starts there.
 */
extern void guard_tree(Guard *guard, Node *tree, int offset);

/* Look for data changes and calls in an expression or query that will be evaluated. */
extern void guard_expression(Guard *guard, Node *expr);

/*
 * True where a recursion must end before the stack does, which is a finding.
 * Cheap; for every recursion over what a user wrote.
 */
extern bool guard_too_deep(Guard *guard);

/* frames; pop restores the parent */
extern void guard_push(Guard *guard, GuardFrame *frame);
extern void guard_pop(Guard *guard);

/* ---- routine.c, plpgsql.c, dynamic.c: what a statement calls ---- */

extern void guard_routine_defined(Guard *guard, CreateFunctionStmt *stmt);
extern void guard_routine_made(Guard *guard, List *name);	/* an aggregate, a type */
extern void guard_aggregate_defined(Guard *guard, DefineStmt *stmt);
extern void guard_routines_dropped(Guard *guard, DropStmt *stmt);	/* of what kind ever */
extern void guard_routine_renamed(Guard *guard, RenameStmt *stmt);
extern void guard_call(Guard *guard, FuncCall *call);	/* also of CALL, operators' functions apart */
extern void guard_operator(Guard *guard, List *name, int location);
extern void guard_do(Guard *guard, DoStmt *stmt);

/* validate.c: constraints added NOT VALID, and validated later */
extern void guard_constraint_added(Guard *guard, const RangeVar *owner, Constraint *constraint);
extern void guard_constraint_validated(Guard *guard, const RangeVar *table, const char *name);
extern void guard_domain_altered(Guard *guard, AlterDomainStmt *stmt);

/* views and rules */
extern void guard_rule_defined(Guard *guard, RuleStmt *stmt);
extern void guard_view_defined(Guard *guard, ViewStmt *stmt);

/* a statement reads a relation (CMD_SELECT) or changes its rows */
extern void guard_rewrite(Guard *guard, const RangeVar *name, CmdType event);
extern void guard_rewrite_refresh(Guard *guard, const RangeVar *name);

/*
 * A PL/pgSQL body, which is pushed as the current frame; declaration is a
 * label and DECLARE section for the arguments, NULL for a DO block.
 */
extern void guard_plpgsql(Guard *guard, GuardFrame *body, const char *declaration);

/* a string expression that is executed (EXECUTE, dblink_exec, exec_dml) */
extern void guard_dynamic(Guard *guard, Node *expr, const char *by);

/* ---- locks.c: lock rules, for each statement of the source itself ---- */

/*
 * Called for each utility statement or query that will run, in any frame;
 * keeps guard->tx up to date.
 */
extern void guard_locks(Guard *guard, Node *tree);
extern void guard_locks_finish(Guard *guard);	/* at the end of the source: uncommitted-tx ... */

/* ---- baseline.c, comment.c, allow.c, text.c ---- */

/*
 * Comments: backfill-comment, evmig:allow; after all statements.  Those of a
 * text of SQL and of bodies in it, or one of another language that belongs to
 * the statement at [from, to) of the source (-1: to none).
 */
extern void guard_comments(Guard *guard, const GuardFrame *frame);
extern void guard_comment(Guard *guard, const char *comment, int len, int offset, int from, int to);
extern void guard_allow_finish(Guard *guard);	/* marks allowed findings, reports unused-allow */
extern void guard_baseline_apply(Guard *guard); /* marks grandfathered findings, in their order */

/* a source in another language, by its name or text: its string literals that parse as SQL */
extern bool guard_looks_like_text(const char *name, const char *text, int len);
extern void guard_text(Guard *guard, GuardFrame *frame);

#endif							/* EVMIG_GUARD_H */
