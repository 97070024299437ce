-- The KPIs' functions: arguments, privileges, shares of valid and unique keys,
-- samples. What is measured needs the library preloaded: see test/t.
SET client_min_messages = warning;
CREATE ROLE kpi_owner;
CREATE ROLE kpi_reader;
CREATE ROLE kpi_stats;
CREATE ROLE kpi_none;
GRANT pg_read_all_stats TO kpi_stats;
CREATE SCHEMA "Kpi 's";
GRANT USAGE ON SCHEMA "Kpi 's" TO kpi_owner, kpi_reader, kpi_stats, kpi_none;
CREATE TABLE "Kpi 's"."Weird "".tablé" (id int, request_id uuid, ts timestamptz);
ALTER TABLE "Kpi 's"."Weird "".tablé" OWNER TO kpi_owner;
GRANT SELECT ON "Kpi 's"."Weird "".tablé" TO kpi_reader;
SET search_path = "Kpi 's", public;
CREATE TABLE plain (id int);
CREATE VIEW a_view AS SELECT 1 AS id;
CREATE TEMP TABLE passing (id int);
\set t '\'"Weird "".tablé"\''

-- who may
SET ROLE kpi_reader;
SELECT evmig_kpi_watch(:t);
SELECT evmig_kpi_note(:t, 'k', 1, 's');
SELECT evmig_kpi_sample(:t, 'x');
SELECT count(*) FROM evmig_kpi(:t);
SET ROLE kpi_stats;
SELECT count(*) FROM evmig_kpi(:t);
SET ROLE kpi_none;
SELECT count(*) FROM evmig_kpi(:t);
SELECT count(*) FROM evmig_kpi_detail(:t);
SELECT count(*) FROM evmig_kpi_compare(:t, 'a', 'b');
RESET ROLE;

-- what
SELECT evmig_kpi_watch('a_view');
SELECT evmig_kpi_watch('passing');
SELECT evmig_kpi_watch('no_such_table');
SELECT evmig_kpi_watch(0::regclass);
SELECT count(*) FROM evmig_kpi('plain', '0');
SELECT count(*) FROM evmig_kpi('plain', '-1 minute');
SELECT count(*) FROM evmig_kpi('plain', '11 minutes');
SELECT evmig_kpi_note('plain', '', 1, 's');
SELECT evmig_kpi_note('plain', 'k', NULL, 's');
SELECT evmig_kpi_note('plain', 'k', 1, NULL);
SELECT evmig_kpi_sample('plain', NULL);
SELECT * FROM evmig_kpi_compare('plain', 'before', 'after');
BEGIN READ ONLY;
SELECT evmig_kpi_watch('plain');
ROLLBACK;

-- the set of watched tables
SET ROLE kpi_owner;
SELECT evmig_kpi_watch(:t);
SELECT evmig_kpi_watch(:t);
SELECT target FROM evmig.kpi_watch;
RESET ROLE;
SELECT evmig_kpi_watch('plain');
SET ROLE kpi_owner;
SELECT target FROM evmig.kpi_watch;
RESET ROLE;
SELECT evmig_kpi_watch('plain', false);

-- shares of valid and unique keys: of the last audit
INSERT INTO "Weird "".tablé"
SELECT g, CASE WHEN g % 10 > 0 THEN md5((g % 95)::text)::uuid END, '2026-01-01' FROM generate_series(1, 100) g;
CREATE FUNCTION shares() RETURNS TABLE (valid numeric, uniq numeric) LANGUAGE sql AS $$
SELECT round(valid_request_id_pct::numeric, 3), round(unique_request_id_pct::numeric, 3) FROM evmig_kpi('"Weird "".tablé"') $$;
SELECT * FROM shares();
SELECT * FROM evmig_audit(:t);
SELECT * FROM shares();
-- the guard lets no NULL in from here on
SELECT evmig_ingest_guard(:t);
SELECT * FROM shares();
-- an audit in a read-only transaction is not remembered
DELETE FROM "Weird "".tablé" WHERE request_id IS NULL;
BEGIN READ ONLY;
SELECT null_request_ids FROM evmig_audit(:t);
COMMIT;
SELECT * FROM shares();
SELECT null_request_ids FROM evmig_audit(:t);
SELECT * FROM shares();
SELECT evmig_ingest_guard(:t, mode => 'off');
SELECT * FROM shares();

-- figures from outside
SELECT evmig_kpi_note(:t, 'errors "5xx"', 7, 'the tracker''s');
SELECT evmig_kpi_note(:t, 'errors "5xx"', 9, 'the tracker''s');
SELECT kpi, value, source FROM evmig_kpi_detail(:t) WHERE kpi LIKE 'errors "%';

-- samples, compared
SELECT evmig_kpi_sample(:t, 'o''x "before"') > 0;
SELECT label, sampled_by = session_user, figures -> 'valid_request_id_pct', figures -> 'notes' FROM evmig.kpi_sample;
INSERT INTO evmig.kpi_sample (target, label, figures) VALUES
(:t::regclass, 'before', '{"writes": 100, "rows_written": 100, "writes_per_s": 10, "write_errors": 0, "write_error_rate": 0, "p50_ms": 1, "p95_ms": 10, "p99_ms": 20, "max_ms": 100, "commit_p95_ms": null, "valid_request_id_pct": 99, "unique_request_id_pct": 99, "replica_lag_bytes": 0, "wal_bytes_per_s": 1000, "notes": {"a (x)": 1, "c (z)": "NaN"}}'),
(:t::regclass, 'after', '{"writes": 50, "rows_written": 109, "writes_per_s": 10, "write_errors": 3, "write_error_rate": 0, "p50_ms": 1.05, "p95_ms": 12, "p99_ms": 10, "max_ms": 100, "commit_p95_ms": 1, "valid_request_id_pct": 99.5, "unique_request_id_pct": 98.9, "replica_lag_bytes": 1, "wal_bytes_per_s": 900, "notes": {"a (x)": 2, "b (y)": 1, "c (z)": "NaN"}}');
SET ROLE kpi_reader;
SELECT kpi, before, after, round(change_pct::numeric, 2) AS change_pct, verdict FROM evmig_kpi_compare(:t, 'before', 'after');
SELECT count(*) FROM evmig.kpi_sample;
RESET ROLE;
-- the last sample of a label counts
INSERT INTO evmig.kpi_sample (target, label, figures) VALUES (:t::regclass, 'after', '{"p95_ms": 11}');
SELECT * FROM evmig_kpi_compare(:t, 'before', 'after') WHERE kpi = 'p95_ms';
-- latencies of another source are no measure of these
INSERT INTO evmig.kpi_sample (target, label, figures) VALUES (:t::regclass, 'after', '{"p95_ms": 11, "wal_bytes_per_s": 900, "latency_source": "pg_stat_statements"}');
SELECT * FROM evmig_kpi_compare(:t, 'before', 'after') WHERE after IS NOT NULL;
SELECT verdict FROM evmig_kpi_compare(:t, 'after', 'after') WHERE kpi = 'p95_ms';

DELETE FROM evmig.kpi_sample;
DELETE FROM evmig.kpi_note;
DELETE FROM evmig.kpi_audit;
SET ROLE kpi_owner;
SELECT evmig_kpi_watch(:t, false);
SELECT count(*) FROM evmig.kpi_watch;
RESET ROLE;
RESET search_path;
DROP SCHEMA "Kpi 's" CASCADE;
DROP ROLE kpi_owner, kpi_reader, kpi_stats, kpi_none;
