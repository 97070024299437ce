-- The log of pgbench (from standard input) of a session that inserts (script 0)
-- and toggles the watch (script 1); it begins watched.
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS result (name text, pct numeric, low numeric, high numeric);
CREATE TEMP TABLE log (client int, n bigint, us float8, script int, epoch bigint, epoch_us bigint);
\copy log FROM pstdin WITH (DELIMITER ' ')

-- stretches of INSERTs between two toggles, without the first ones, which look
-- everything up anew; of each the mean of the middle half
CREATE TEMP TABLE stretch AS
WITH run AS (SELECT n, us, script, count(*) FILTER (WHERE script = 1) OVER (ORDER BY n) AS run FROM log),
	numbered AS (SELECT run, us, row_number() OVER (PARTITION BY run ORDER BY n) AS i FROM run WHERE script = 0),
	ranked AS (SELECT run, us, percent_rank() OVER (PARTITION BY run ORDER BY us) AS rank,
		count(*) OVER (PARTITION BY run) AS length FROM numbered WHERE i > 5)
SELECT run, run % 2 = 0 AS watched, avg(us) AS us FROM ranked
WHERE length >= 20 AND rank BETWEEN 0.25 AND 0.75 GROUP BY run;

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
