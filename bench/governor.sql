-- The log of pgbench, from standard input, by the phases that it fell into.
SET client_min_messages = warning;
CREATE TEMP TABLE log (client int, n bigint, us float8, script int, epoch bigint, epoch_us bigint, lag bigint);
\copy log from pstdin with (delimiter ' ')
-- the statement alone, without what it began late because the one before it was slow
WITH timed AS (SELECT (us - lag) / 1000 AS ms, to_timestamp(epoch + epoch_us / 1e6) AS at FROM log),
	figure AS (SELECT name, count(*) AS n,
			percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY ms) AS ms
		FROM timed JOIN phase ON at BETWEEN since AND until GROUP BY name),
	speed AS (SELECT name, sum(rows) / extract(epoch FROM sum(until - since)) AS rows_s FROM phase GROUP BY name)
SELECT format('%s: INSERTs %s, p50 %s ms, p95 %s ms (%s times that without a backfill), p99 %s ms%s', f.name, f.n,
	round(f.ms[1]::numeric, 2), round(f.ms[2]::numeric, 2), round((f.ms[2] / a.ms[2])::numeric, 1), round(f.ms[3]::numeric, 2),
	', backfill ' || round(s.rows_s) || ' rows/s')
FROM figure f JOIN speed s USING (name), figure a WHERE a.name = 'alone'
ORDER BY array_position(ARRAY['alone', 'unthrottled', 'governed'], f.name);
