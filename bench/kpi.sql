-- The log of pgbench (from standard input) of a session that inserts, and every
-- so many times (stretch) toggles the watch; it begins watched.
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS result (name text, pct numeric, low numeric, high numeric);
CREATE TEMP TABLE log (client int, n bigint, us float8, script int, epoch bigint, epoch_us bigint);
\copy log FROM pstdin WITH (DELIMITER ' ')

-- stretches of INSERTs between two toggles, without the first quarter: after a
-- toggle everything is looked up anew, and who begins to watch clears megabytes,
-- which empties the processor's caches; of each the mean of the middle half
CREATE TEMP TABLE stretch AS
WITH numbered AS (SELECT row_number() OVER (ORDER BY n) AS i, us FROM log),
	ranked AS (SELECT i / :stretch AS run, us, percent_rank() OVER (PARTITION BY i / :stretch ORDER BY us) AS rank
		FROM numbered WHERE i % :stretch >= :stretch / 4)
SELECT run, run % 2 = 0 AS watched, avg(us) AS us FROM ranked WHERE rank BETWEEN 0.25 AND 0.75 GROUP BY run;

-- each between two others
CREATE TEMP TABLE pair AS
SELECT CASE WHEN s.watched THEN s.us ELSE (b.us + a.us) / 2 END AS watched,
	CASE WHEN s.watched THEN (b.us + a.us) / 2 ELSE s.us END AS plain
FROM stretch s JOIN stretch b ON b.run = s.run - 1 JOIN stretch a ON a.run = s.run + 1;

WITH q AS (SELECT count(*) AS n, percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY watched / plain - 1) AS ratio,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY watched - plain) AS us,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY plain) AS plain FROM pair),
	r AS (INSERT INTO result
		SELECT :'name', 100 * ratio[2], 100 * (ratio[2] - 1.57 * (ratio[3] - ratio[1]) / sqrt(n)),
			100 * (ratio[2] + 1.57 * (ratio[3] - ratio[1]) / sqrt(n)) FROM q RETURNING *)
SELECT format('%s: an INSERT takes %s us, watched %s us more: %s %% (%s to %s, %s comparisons)', r.name,
	round(q.plain::numeric), round(q.us::numeric, 2), round(r.pct, 2), round(r.low, 2), round(r.high, 2), q.n)
FROM q, r;
