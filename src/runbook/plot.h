/*-------------------------------------------------------------------------
 *
 * plot.h
 *	  Time series as inline SVG.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_PLOT_H
#define EVMIG_PLOT_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

#define PLOT_MAX_SERIES 3

typedef struct PlotSeries
{
	const char *name;
	int			n;
	TimestampTz *at;			/* ascending */
	double	   *value;			/* NaN: a gap */
} PlotSeries;

/* something that took its time, shown as a band behind the lines */
typedef struct PlotBand
{
	const char *label;
	TimestampTz from;
	TimestampTz to;
	bool		open;			/* it has not ended; to is no news */
} PlotBand;

typedef struct Plot
{
	const char *title;
	const char *unit;			/* of the values */
	int			nseries;
	PlotSeries	series[PLOT_MAX_SERIES];
	int			nbands;
	PlotBand   *bands;
	TimestampTz from;			/* the time axis */
	TimestampTz to;
} Plot;

/*
 * Append a figure: lines over bands with axes and a legend, no script.  Lines
 * differ by dashes as well as by colour.  Texts are escaped.
 */
extern void append_plot(StringInfo out, const Plot *plot);

/*
 * Append a figure of the bands alone, as bars with their labels and durations;
 * those of one label share a row.
 */
extern void append_bars(StringInfo out, const Plot *plot);

#endif							/* EVMIG_PLOT_H */
