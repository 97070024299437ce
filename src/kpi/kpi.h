/*-------------------------------------------------------------------------
 *
 * kpi.h
 *	  The KPIs of a table: what evmig_kpi returns, and where it comes from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_H
#define EVMIG_KPI_H

#include "base/compat.h"
#include "datatype/timestamp.h"

/* the columns of evmig_kpi, in their order */
typedef enum KpiId
{
	KPI_COL_WRITES,
	KPI_COL_ROWS_WRITTEN,
	KPI_COL_WRITES_PER_S,
	KPI_COL_WRITE_ERRORS,
	KPI_COL_WRITE_ERROR_RATE,
	KPI_COL_P50_MS,
	KPI_COL_P95_MS,
	KPI_COL_P99_MS,
	KPI_COL_MAX_MS,
	KPI_COL_COMMIT_P95_MS,
	KPI_COL_VALID_PCT,
	KPI_COL_UNIQUE_PCT,
	KPI_COL_REPLICA_LAG,
	KPI_COL_WAL_RATE,
	KPI_COL_ERRORS_LOGGED,
	KPI_COLS
} KpiId;

typedef struct KpiFigure
{
	bool		known;
	double		value;
	const char *source;			/* in a person's words */
	TimestampTz as_of;
} KpiFigure;

extern const char *const kpi_names[KPI_COLS];

/*
 * The figures of the last us microseconds; those that nobody knows are left
 * out.  Inside SPI.  Writes no message.
 */
extern void kpi_figures(Oid relid, int64 us, KpiFigure figures[KPI_COLS]);

/* quality.c: the shares of valid and unique keys; inside SPI */
extern void kpi_quality(Oid relid, KpiFigure *valid, KpiFigure *unique);
extern void quality_init(void);

/*
 * statements.c: latencies as pg_stat_statements has them; false where it has
 * none.  Inside SPI.
 */
extern bool kpi_from_statements(Oid relid, KpiFigure figures[KPI_COLS]);

/* Settings, shared memory and hooks; from _PG_init. */
extern void kpi_init(void);

#endif							/* EVMIG_KPI_H */
