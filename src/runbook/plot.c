/*-------------------------------------------------------------------------
 *
 * plot.c
 *	  Time series as inline SVG.
 *
 * Colours come from the page's style (classes s0, s1, s2, band, axis), so that
 * the figure follows its light or dark scheme, and print.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/timestamp.h"

#include "base/markup.h"
#include "runbook/plot.h"

/* the drawing, in its own units */
#define WIDTH 900.0
#define HEIGHT 240.0
#define LEFT 60.0
#define RIGHT 12.0
#define TOP 34.0
#define BOTTOM 28.0
#define TICKS 4
#define TIME_TICKS 4
#define END_ROOM 45.0			/* that half a label needs at the right */
#define CLOCK_SIZE 64
#define BAND_LABEL_WIDTH 7.0	/* of a letter, roughly */
#define ROW_HEIGHT 20.0			/* of the bars of one label */
#define BAR_HEIGHT 14.0

/* x and y of a point */
static double
x_of(const Plot *plot, TimestampTz at)
{
	double		span = Max((double) (plot->to - plot->from), 1.0);
	double		share = (double) (at - plot->from) / span;

	return LEFT + Min(Max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT);
}

static double
y_of(double value, double top)
{
	return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
}

/* The next of 1, 2, 5, 10, ... at or above the value. */
static double
round_up(double value)
{
	double		unit;

	if (!(value > 0))
		return 1.0;
	unit = pow(10.0, floor(log10(value)));
	if (value <= unit)
		return unit;
	if (value <= 2 * unit)
		return 2 * unit;
	if (value <= 5 * unit)
		return 5 * unit;
	return 10 * unit;
}

static double
highest_value(const Plot *plot)
{
	double		highest = 0;

	for (int s = 0; s < plot->nseries; s++)
		for (int i = 0; i < plot->series[s].n; i++)
			if (plot->series[s].value[i] > highest)
				highest = plot->series[s].value[i];
	return highest;
}

static void
append_text(StringInfo out, const char *class, double x, double y, const char *anchor, const char *text)
{
	appendStringInfo(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
	append_html(out, text);
	appendStringInfoString(out, "</text>\n");
}

/* The first round number of seconds of which at most TIME_TICKS fit in. */
static int64
time_step(int64 seconds)
{
	static const int steps[] = {1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
	3600, 7200, 10800, 21600, 43200, SECS_PER_DAY};

	for (int i = 0; i < lengthof(steps); i++)
		if (seconds <= (int64) steps[i] * TIME_TICKS)
			return steps[i];
	return (seconds / TIME_TICKS / SECS_PER_DAY + 1) * SECS_PER_DAY;
}

/* The start itself, then "1 min 30 s" since it. */
static char *
time_label(const Plot *plot, int64 seconds)
{
	if (seconds == 0)
	{
		pg_time_t	start = timestamptz_to_time_t(plot->from);
		char	   *text = palloc(CLOCK_SIZE);

		pg_strftime(text, CLOCK_SIZE, "%Y-%m-%d %H:%M:%S UTC", pg_gmtime(&start));
		return text;
	}
	if (seconds < SECS_PER_MINUTE)
		return psprintf("%d s", (int) seconds);
	if (seconds < SECS_PER_HOUR)
		return seconds % SECS_PER_MINUTE == 0 ? psprintf("%d min", (int) (seconds / SECS_PER_MINUTE)) :
			psprintf("%d min %d s", (int) (seconds / SECS_PER_MINUTE), (int) (seconds % SECS_PER_MINUTE));
	return seconds % SECS_PER_HOUR == 0 ? psprintf("%d h", (int) (seconds / SECS_PER_HOUR)) :
		psprintf("%d h %d min", (int) (seconds / SECS_PER_HOUR), (int) (seconds / SECS_PER_MINUTE % MINS_PER_HOUR));
}

static void
append_time_axis(StringInfo out, const Plot *plot, double height)
{
	int64		span = (plot->to - plot->from) / USECS_PER_SEC;
	int64		step = time_step(span);

	for (int64 seconds = 0; seconds <= span; seconds += step)
	{
		double		x = x_of(plot, plot->from + seconds * USECS_PER_SEC);

		append_text(out, "tick", x, height - 8,
					seconds == 0 ? "start" : x > WIDTH - END_ROOM ? "end" : "middle", time_label(plot, seconds));
	}
}

static void
append_axes(StringInfo out, const Plot *plot, double top)
{
	for (int i = 0; i <= TICKS; i++)
	{
		double		value = top * i / TICKS;
		double		y = y_of(value, top);

		appendStringInfo(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
						 LEFT, WIDTH - RIGHT, y, y);
		append_text(out, "tick", LEFT - 6, y + 4, "end", psprintf("%g", value));
	}
	append_time_axis(out, plot, HEIGHT);
	append_text(out, "tick", LEFT - 6, TOP - 12, "end", plot->unit);
}

/* A label only where the band has room for it; the title says it anyway. */
static void
append_bands(StringInfo out, const Plot *plot)
{
	for (int i = 0; i < plot->nbands; i++)
	{
		const PlotBand *band = &plot->bands[i];
		double		x = x_of(plot, band->from);
		double		width = Max(x_of(plot, band->to) - x, 1.0);

		if (band->to < plot->from || band->from > plot->to)
			continue;
		appendStringInfo(out, "<rect class=\"band b%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>",
						 i % 2, x, TOP, width, HEIGHT - TOP - BOTTOM);
		append_html(out, band->label);
		appendStringInfoString(out, "</title></rect>\n");
		if (width > strlen(band->label) * BAND_LABEL_WIDTH)
			append_text(out, "band-label", x + 4, TOP + 12, "start", band->label);
	}
}

/* A new path begins behind each gap; a point alone is a dot. */
static void
append_line(StringInfo out, const Plot *plot, int s, double top)
{
	const PlotSeries *series = &plot->series[s];
	bool		drawing = false;

	appendStringInfo(out, "<path class=\"line s%d\" d=\"", s);
	for (int i = 0; i < series->n; i++)
	{
		if (isnan(series->value[i]))
		{
			drawing = false;
			continue;
		}
		appendStringInfo(out, "%c%.1f %.1f", drawing ? 'L' : 'M', x_of(plot, series->at[i]),
						 y_of(series->value[i], top));
		if (!drawing)
			appendStringInfoString(out, "h0");
		drawing = true;
	}
	appendStringInfoString(out, "\"><title>");
	append_html(out, series->name);
	appendStringInfoString(out, "</title></path>\n");
}

static void
append_legend(StringInfo out, const Plot *plot)
{
	double		x = LEFT + 40;

	if (plot->nseries < 2)
		return;
	for (int s = 0; s < plot->nseries; s++)
	{
		appendStringInfo(out, "<path class=\"line s%d\" d=\"M%.1f %.1fh26\"/>\n", s, x, TOP - 16);
		append_text(out, "tick", x + 32, TOP - 12, "start", plot->series[s].name);
		x += 50 + strlen(plot->series[s].name) * BAND_LABEL_WIDTH;
	}
}

static void
append_head(StringInfo out, const char *title, double height)
{
	appendStringInfoString(out, "<figure class=\"plot\"><figcaption>");
	append_html(out, title);
	appendStringInfo(out, "</figcaption>\n<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", WIDTH, height);
	append_html(out, title);
	appendStringInfoString(out, "\">\n");
}

void
append_plot(StringInfo out, const Plot *plot)
{
	double		top = round_up(highest_value(plot));

	append_head(out, plot->title, HEIGHT);
	append_bands(out, plot);
	append_axes(out, plot, top);
	for (int s = 0; s < plot->nseries; s++)
		append_line(out, plot, s, top);
	append_legend(out, plot);
	appendStringInfoString(out, "</svg></figure>\n");
}

/* ---- bars ---- */

/* Beside its bar where there is room, else on it. */
static void
append_bar_label(StringInfo out, const char *label, double x, double width, double y)
{
	double		letters = pg_mbstrlen(label) * BAND_LABEL_WIDTH + 6;

	if (x + width + letters < WIDTH)
		append_text(out, "band-label", x + width + 6, y, "start", label);
	else if (x - letters > 0)
		append_text(out, "band-label", x - 6, y, "end", label);
	else
		append_text(out, "band-label", x + 4, y, "start", label);
}

static void
append_bar(StringInfo out, const Plot *plot, const PlotBand *band, int row)
{
	double		x = x_of(plot, band->from);

	appendStringInfo(out, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
					 x, row * ROW_HEIGHT, Max(x_of(plot, band->to) - x, 1.0), BAR_HEIGHT);
}

/* The label of a row, at the last of its bars, with the time of all. */
static void
append_row_label(StringInfo out, const Plot *plot, const int *rows, int row)
{
	const PlotBand *last = NULL;
	double		seconds = 0;
	double		x;

	for (int i = 0; i < plot->nbands; i++)
		if (rows[i] == row)
		{
			last = &plot->bands[i];
			seconds += (last->to - last->from) / (double) USECS_PER_SEC;
		}
	x = x_of(plot, last->from);
	append_bar_label(out, last->open ? psprintf("%s, not ended", last->label) :
					 psprintf("%s, %.1f s", last->label, seconds),
					 x, Max(x_of(plot, last->to) - x, 1.0), row * ROW_HEIGHT + BAR_HEIGHT - 3);
}

void
append_bars(StringInfo out, const Plot *plot)
{
	int		   *rows = palloc(sizeof(int) * Max(plot->nbands, 1));
	int			nrows = 0;
	double		height;

	for (int i = 0; i < plot->nbands; i++)
	{
		rows[i] = -1;
		for (int j = 0; j < i && rows[i] < 0; j++)
			if (strcmp(plot->bands[i].label, plot->bands[j].label) == 0)
				rows[i] = rows[j];
		if (rows[i] < 0)
			rows[i] = nrows++;
	}
	height = nrows * ROW_HEIGHT + BOTTOM;
	append_head(out, plot->title, height);
	for (int i = 0; i < plot->nbands; i++)
		append_bar(out, plot, &plot->bands[i], rows[i]);
	for (int row = 0; row < nrows; row++)
		append_row_label(out, plot, rows, row);
	append_time_axis(out, plot, height);
	appendStringInfoString(out, "</svg></figure>\n");
}
