/*-------------------------------------------------------------------------
 *
 * sample.h
 *	  Samples of the KPIs, kept and compared.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_KPI_SAMPLE_H
#define EVMIG_KPI_SAMPLE_H

#include "base/compat.h"

#include "kpi/kpi.h"

/* what a sample by hand covers, in microseconds */
#define SAMPLE_US INT64CONST(300000000)

/* key in a sample's figures, where its latencies were not measured */
#define LATENCY_SOURCE "latency_source"

/*
 * Keep the figures of the last us microseconds under a label; runbook 0 for
 * none.  Inside SPI, on a writable server; figures may be NULL.  Returns the
 * sample's number.
 */
extern int64 kpi_sample_take(Oid relid, const char *label, int64 runbook, int64 us,
							 KpiFigure figures[KPI_COLS]);

/* From _PG_init. */
extern void sample_init(void);

#endif							/* EVMIG_KPI_SAMPLE_H */
