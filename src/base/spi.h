/*-------------------------------------------------------------------------
 *
 * spi.h
 *	  The one way to run SQL from C in this extension.
 *
 * Statements run between spi_begin() and spi_end().  The caller stays in its
 * own memory context, and text results are allocated in the one that was
 * current at spi_begin(), so both outlive spi_end(); a result's other values
 * do not.  Any failure raises an error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_SPI_H
#define EVMIG_SPI_H

#include "base/compat.h"
#include "storage/itemptr.h"
#include "utils/timestamp.h"

#define SQL_MAX_ARGS 20

/* Arguments $1.. of a statement; start from {0} and add in order. */
typedef struct SqlArgs
{
	int			n;
	Oid			types[SQL_MAX_ARGS];
	Datum		values[SQL_MAX_ARGS];
	char		nulls[SQL_MAX_ARGS];
} SqlArgs;

extern void arg_datum(SqlArgs *args, Oid type, Datum value, bool isnull);
extern void arg_int8(SqlArgs *args, int64 value);
extern void arg_int4(SqlArgs *args, int32 value);
extern void arg_float8(SqlArgs *args, double value);
extern void arg_bool(SqlArgs *args, bool value);
extern void arg_oid(SqlArgs *args, Oid value);	/* InvalidOid is NULL */
extern void arg_text(SqlArgs *args, const char *value);	/* NULL is NULL */
extern void arg_jsonb(SqlArgs *args, const char *json);	/* text of a jsonb */
extern void arg_time(SqlArgs *args, TimestampTz value);	/* 0 is NULL */
extern void arg_texts(SqlArgs *args, char *const *values, int n);	/* text[]; NULLs */
extern void arg_tids(SqlArgs *args, const ItemPointerData *tids, int n);

/*
 * Above 0 while a statement of this extension runs, with all that it calls and
 * fires.  Cursors do not count: they only read.
 */
extern int	spi_own_depth;

extern void spi_begin(void);
extern void spi_begin_nonatomic(void);	/* for procedures that commit */
extern void spi_end(void);

/* nonatomic only: end the transaction and begin another; no snapshot is left */
extern void spi_commit(void);
extern void spi_rollback(void);

/*
 * Run one statement as the current user under the current search_path;
 * returns the number of rows.  spi_run_cached keeps the plan for the life of
 * the backend, for statements of a loop.  limit 0 is "all rows".
 */
extern uint64 spi_run(const char *sql, SqlArgs *args);
extern uint64 spi_run_cached(const char *sql, SqlArgs *args);
extern uint64 spi_read(const char *sql, SqlArgs *args, long limit);

/*
 * Run one statement of a user's text as if the session had sent it: it does not
 * count in spi_own_depth, and its rows are thrown away.
 */
extern void spi_run_text(const char *sql);

/*
 * Run one as the extension's owner under search_path = pg_catalog, pg_temp:
 * only for our own constant statements on tables in schema evmig and on
 * system views.  Runs nobody else's code.  Plans are cached.
 */
extern uint64 spi_catalog(const char *sql, SqlArgs *args);

/*
 * Check the syntax of one statement and plan it, without running it; raises
 * what the server raises.
 */
extern void spi_check(const char *sql, SqlArgs *args);

/* the last statement's result; rows and columns count from 0 */
extern uint64 spi_nrows(void);
extern bool spi_isnull(uint64 row, int col);
extern bool spi_is_number(int col);	/* of a type that spi_float8() reads */
extern char *spi_text(uint64 row, int col); /* NULL for NULL */
extern int64 spi_int8(uint64 row, int col); /* 0 for NULL; any integer type */
extern double spi_float8(uint64 row, int col);	/* 0 for NULL */
extern bool spi_bool(uint64 row, int col);	/* false for NULL */
extern Oid	spi_oid(uint64 row, int col);	/* InvalidOid for NULL */
extern TimestampTz spi_time(uint64 row, int col);	/* 0 for NULL */
extern void spi_tid(uint64 row, int col, ItemPointer tid);	/* copies; invalid for NULL */

/*
 * Rows of the last result as a relation that later statements can read by a
 * name, until spi_rows_end() or the end of the SPI connection.  Begin while
 * the result is the last one, add rows of it, then publish.
 */
typedef struct SpiRows SpiRows;
extern SpiRows *spi_rows_begin(const char *name);
extern void spi_rows_add(SpiRows *rows, uint64 row);
extern void spi_rows_publish(SpiRows *rows);
extern void spi_rows_end(SpiRows *rows);

/* a read-only cursor over a big result, fetched n rows at a time */
typedef struct SpiCursor SpiCursor;
extern SpiCursor *spi_cursor_open(const char *sql, SqlArgs *args);
extern uint64 spi_cursor_fetch(SpiCursor *cursor, long n);	/* 0 at the end */
extern void spi_cursor_close(SpiCursor *cursor);

#endif							/* EVMIG_SPI_H */
