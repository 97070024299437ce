-- Reports as one HTML page: everything is escaped, nothing comes from elsewhere.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE TABLE "<script>alert(1)</script>" (id int PRIMARY KEY, request_id uuid, ts timestamptz, "<b>v" text);
INSERT INTO "<script>alert(1)</script>"
	SELECT g, CASE WHEN g % 10 > 0 THEN md5(g::text)::uuid END, now(), 'a' FROM generate_series(1, 200) g;
CALL evmig_path_a('"<script>alert(1)</script>"', dry_run => false);
SELECT max(runbook_id) AS book FROM evmig.runbook \gset
DELETE FROM evmig.kpi_sample;	-- with the library preloaded there are some
SELECT evmig_runbook_report(:book, 'html') AS page \gset

-- the name stands in title, heading and tables, never as a tag
SELECT count(*) FROM regexp_matches(:'page', '&lt;script&gt;alert\(1\)', 'g') HAVING count(*) > 3;
SELECT :'page' LIKE '%<script%' AS script, :'page' ~ '(src|href)=' AS elsewhere,
	:'page' LIKE '<!DOCTYPE html>%</html>' || E'\n' AS whole;
SELECT s AS section FROM regexp_matches(:'page', 'section id="([a-z-]+)"', 'g') AS m(s);
-- the server's own parser: it is well-formed but for the doctype and void tags
SELECT xml_is_well_formed(regexp_replace(substr(:'page', 16), '<meta[^>]*>', '', 'g'));
SELECT :'page' LIKE '%latency was not measured%' AS not_measured, :'page' LIKE '%<p>No sample yet: %' AS no_sample;
-- audits stand side by side
SELECT r[1] AS heads FROM regexp_matches(:'page', '<section id="audits">.*?(<thead>.*?</thead>)') r;
SELECT r[1] AS line FROM regexp_matches(evmig_runbook_report(:book), '(\|[^\n]*NULL keys[^\n]*)') r;

-- with samples there are plots, with the steps as bands
INSERT INTO evmig.kpi_sample (target, label, sampled_at, figures)
	SELECT '"<script>alert(1)</script>"', '<i>label', started_at + g * interval '1 second',
		jsonb_build_object('p50_ms', g, 'p95_ms', CASE WHEN g <> 3 THEN 2 * g END, 'p99_ms', 4 * g, 'writes_per_s', 100, 'write_error_rate', 0)
	FROM evmig.runbook, generate_series(1, 5) g WHERE runbook_id = :book;
SELECT evmig_runbook_report(:book, 'html') AS page \gset
SELECT c AS caption FROM regexp_matches(:'page', '<figcaption>([^<]*)', 'g') AS m(c);
SELECT b AS band FROM regexp_matches(:'page', '<rect class="band[^>]*><title>([^<]*)', 'g') WITH ORDINALITY AS m(b, n) WHERE n <= 3;
-- each step has a bar
SELECT count(*) = (SELECT count(*) FROM evmig.runbook_event WHERE runbook_id = :book AND event = 'step started') AS bars
	FROM regexp_matches(:'page', '<rect class="bar"', 'g');
SELECT regexp_replace(r[1], '[0-9.]+ s', 'N s') AS label FROM regexp_matches(:'page', '>(verify, [^<]*)</text>') r;
-- a step without a job writes its events when it has ended, but began before
BEGIN;
INSERT INTO evmig.runbook_event (runbook_id, seq, at, event, subject, data, session_role, role, previous_sha256)
	SELECT :book, 1000 + n, '2026-01-01 00:02:00Z', e, 'verify', d::jsonb, 'o''x', 'o''x', ''
	FROM (VALUES (1, 'step started', NULL), (2, 'step done', '{"seconds": 100}')) v(n, e, d);
SELECT l AS line FROM regexp_split_to_table(evmig_runbook_report(:book), E'\n') l WHERE l ~ '^\| verify.*100';
SELECT evmig_runbook_report(:book, 'html') ~ '>verify, 1[0-9]{2}\.[0-9] s<' AS bar;
ROLLBACK;
-- a gap where a figure is missing
SELECT array_length(regexp_split_to_array(s[1], 'M'), 1) - 1 AS pieces
	FROM regexp_matches(:'page', '<path class="line s1" d="([^"]*)"><title>p95', 'g') s;
-- as many samples as a runbook of a week takes make no longer a line
BEGIN;
INSERT INTO evmig.kpi_sample (target, label, sampled_at, figures)
	SELECT '"<script>alert(1)</script>"', 'during', started_at + g * (finished_at - started_at) / 60000, '{"p95_ms": 1, "writes_per_s": 100}'
	FROM evmig.runbook, generate_series(1, 60000) g WHERE runbook_id = :book;
SELECT length(evmig_runbook_report(:book, 'html')) - length(:'page') BETWEEN 5000 AND 50000 AS bounded;
ROLLBACK;

-- what the writers saw before, at worst and after, with figures from outside
INSERT INTO evmig.kpi_sample (target, label, runbook_id, sampled_at, figures)
	SELECT '"<script>alert(1)</script>"', l, :book, now() + n * interval '1 second', f::jsonb FROM (VALUES
		(1, 'before', '{"p95_ms": 7, "writes_per_s": 9}'),
		(2, 'before', '{"latency_source": "pg_stat_statements", "p95_ms": 0.5, "writes_per_s": 100, "errors_logged": 0, "notes": {"<i>tickets": 3}}'),
		(3, 'during', '{"p95_ms": 1.23456, "writes_per_s": 90, "errors_logged": 0}'),
		(4, 'during', '{"p95_ms": 1.1, "writes_per_s": 80, "errors_logged": 1}'),
		(5, 'after', '{"p95_ms": 0.55, "writes_per_s": 100, "errors_logged": 1, "replica_lag_bytes": null, "notes": {"<i>tickets": 2}}')) v(n, l, f);
SELECT l FROM regexp_split_to_table(evmig_runbook_report(:book), E'\n') l WHERE l ~ '^\| (Figure|latencies|writes|p95|errors|replica_lag_bytes|.*tickets)';
SELECT evmig_runbook_report(:book, 'html') LIKE '%<i>tickets%' AS tag;
-- for programs: numbers, times that jsonb writes, and the same keys in any case
SELECT f ->> 'kpi' AS kpi, f -> 'before' AS before, f -> 'during' AS during, f -> 'after' AS after, f -> 'change_pct' AS change_pct
	FROM jsonb_array_elements(evmig_runbook_report(:book, 'json')::jsonb #> '{application,figures}') f;
SELECT a - 'figures' = jsonb_build_object('before_at', b.sampled_at, 'after_at', e.sampled_at,
		'during', jsonb_build_object('samples', 2, 'from', b.sampled_at + interval '1 second', 'to', b.sampled_at + interval '2 seconds')) AS times
	FROM (SELECT evmig_runbook_report(:book, 'json')::jsonb -> 'application' AS a) j,
		(SELECT max(sampled_at) AS sampled_at FROM evmig.kpi_sample WHERE label = 'before') b,
		(SELECT max(sampled_at) AS sampled_at FROM evmig.kpi_sample WHERE label = 'after') e;
DELETE FROM evmig.kpi_sample WHERE runbook_id = :book;
SELECT evmig_runbook_report(:book, 'json')::jsonb -> 'application' AS not_measured;
SELECT r -> 'events' -> -1 ->> 'event' AS last, r #> '{events,-1,seq}' = r #> '{chain,events}' AS all_there
	FROM (SELECT evmig_runbook_report(:book, 'json')::jsonb AS r) j;

-- what stopped says so in its first line
CREATE TABLE stopped (id int PRIMARY KEY, request_id uuid, ts timestamptz);
INSERT INTO stopped VALUES (1, NULL, now());
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never <b>'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON stopped FOR EACH ROW EXECUTE FUNCTION refuse();
\set VERBOSITY sqlstate
CALL evmig_path_a('stopped', dry_run => false);
\set VERBOSITY terse
SELECT max(runbook_id) AS stopped FROM evmig.runbook \gset
SELECT regexp_replace(split_part(evmig_runbook_report(:stopped), E'\n', 3), '[0-9]+', 'N', 'g') AS result;
SELECT regexp_replace(r[1], '[0-9]+', 'N', 'g') AS result FROM regexp_matches(evmig_runbook_report(:stopped, 'html'), '<p class="result not">([^\n]*)') r;
SELECT regexp_replace(l, '[0-9: -]{19,}UTC|\m[0-9.]+\M', 'N', 'g') AS line FROM regexp_split_to_table(evmig_runbook_report(:stopped), E'\n') l WHERE l ~ '^\| backfill';
SELECT regexp_replace(evmig_runbook_report(:stopped, 'json')::jsonb ->> 'result', '[0-9]+', 'N', 'g') AS result;
DROP TABLE stopped CASCADE;
DROP FUNCTION refuse();

-- a job's
SELECT evmig_backfill_register('report <b>', '"<script>alert(1)</script>"', '"<b>v" = (10 / (id - 7))::text', '"<b>v" = ''a''',
	tenant_column => '<b>v', max_failures => 3);
SELECT evmig_backfill_start('report <b>') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY terse
DELETE FROM evmig.kpi_sample WHERE label LIKE 'job %';	-- as above
SELECT evmig_job_report(:job, 'html') AS page \gset
SELECT :'page' LIKE '%<script%' OR :'page' LIKE '%<b>%' AS tag, :'page' LIKE '%report &lt;b&gt;%' AS named,
	xml_is_well_formed(regexp_replace(substr(:'page', 16), '<meta[^>]*>', '', 'g'));
-- its rows over time, from its own samples
SELECT c AS caption FROM regexp_matches(:'page', '<figcaption>([^<]*)', 'g') AS m(c);
SELECT max(rows_done) FROM evmig.job_sample WHERE job_id = :job;
-- drawn by their times, which are not evenly spread
BEGIN;
UPDATE evmig.job SET started_at = '2026-01-01 00:00:00', finished_at = '2026-01-01 00:01:40' WHERE job_id = :job;
DELETE FROM evmig.job_sample WHERE job_id = :job;
INSERT INTO evmig.job_sample VALUES (:job, '2026-01-01 00:00:10', 20), (:job, '2026-01-01 00:00:12', 40), (:job, '2026-01-01 00:00:50', 100);
SELECT r[1] AS line FROM regexp_matches(evmig_job_report(:job, 'html'), '<path class="line s0" d="([^"]*)"><title>rows') r;
SELECT t[1] AS tick FROM regexp_matches(evmig_job_report(:job, 'html'), 'y="232.0"[^>]*>([^<]*)', 'g') t;
UPDATE evmig.job SET finished_at = started_at + interval '10 days 1 minute' WHERE job_id = :job;
SELECT string_agg(t[1], ', ') AS ticks FROM regexp_matches(evmig_job_report(:job, 'html'), 'y="232.0"[^>]*>([^<]*)', 'g') t;
-- rows that failed, up to a hundred
INSERT INTO evmig.job_failure SELECT :job, '(0,1)', g, '22012', 'm', '2026-01-01' FROM generate_series(1, 150) g;
SELECT count(*), string_agg(l, '') FILTER (WHERE l ~ '^\| \.') AS last
	FROM regexp_split_to_table(evmig_job_report(:job), E'\n') l WHERE l ~ '^\| (\\?\(|\.\.\.)';
ROLLBACK;
-- without a worker it will not end by itself
BEGIN;
UPDATE evmig.job SET state = 'running', finished_at = NULL, message = NULL WHERE job_id = :job;
SELECT split_part(evmig_job_report(:job), E'\n', 3) AS result, evmig_job_report(:job, 'html') LIKE '%<p class="result not">INTERRUPTED%' AS shown,
	evmig_job_report(:job, 'json')::jsonb #>> '{job,state}' AS json;
ROLLBACK;
SELECT line FROM regexp_split_to_table(evmig_job_report(:job), E'\n') line
	WHERE line ~ '^\| (kind|state|SET|rows (changed|that failed)|a ) ?';
SELECT split_part(evmig_job_report(:job), E'\n', 3) AS result, evmig_job_report(:job, 'html') LIKE '%<p class="result not">INCOMPLETE%' AS shown,
	evmig_job_report(:job, 'json')::jsonb ->> 'result' AS json;
SELECT (evmig_job_report(:job, 'json')::jsonb -> 'counters') - 'batches' AS counters,
	evmig_job_report(:job, 'json')::jsonb #>> '{failures,0,message}' AS failure;
-- what the Markdown says in words, the JSON has
SELECT j ->> 'state' AS state, j ->> 'set_list' AS set_list, j ->> 'where_clause' AS where_clause,
	j ->> 'owner' = session_user AS owner, j ->> 'run_as' = session_user AS run_as,
	(j ->> 'duration_s')::float8 > 0 AS took_its_time, j ? 'throttled_ms' AND j ? 'restarts' AND j ? 'settings' AND j ? 'remaining' AS rest
	FROM (SELECT evmig_job_report(:job, 'json')::jsonb -> 'job' AS j) r;

-- bad input, and a role that may not see it
SELECT evmig_job_report(:job, 'pdf');
SELECT evmig_job_report(0);
SELECT evmig_job_report(NULL);
SELECT evmig_runbook_report(:book, 'pdf');
CREATE ROLE report_other;
SET ROLE report_other;
\set VERBOSITY sqlstate
SELECT evmig_job_report(:job) IS NULL;
\set VERBOSITY terse
SELECT count(*) FROM evmig.kpi_sample;
SELECT count(*) FROM evmig.job_sample;
RESET ROLE;
DROP ROLE report_other;
SELECT evmig_backfill_unregister('report <b>');
DELETE FROM evmig.kpi_sample;
CALL evmig_runbook_rollback(:book);
DROP TABLE "<script>alert(1)</script>" CASCADE;
DROP TABLE IF EXISTS "<script>alert(1)</script>_dupes_archived" CASCADE;
