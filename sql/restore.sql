--
-- evmig_restore puts back what a dedupe removed; evmig_archive_purge drops it
--
SET client_min_messages = warning;
CREATE ROLE restore_owner LOGIN;
CREATE ROLE restore_other LOGIN;
CREATE SCHEMA restore AUTHORIZATION restore_owner;
GRANT USAGE ON SCHEMA restore TO restore_other;
SET ROLE restore_owner;
SET search_path = restore, public;
SET evmig.max_loser_pct = 100;
SET evmig.batch_sleep = 0;
SET evmig.batch_size = 7;

-- ---- archived rows, identity and generated columns included
CREATE TABLE "Weird "".tàble" (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	"re'quest" text, ts int, payload text,
	size int GENERATED ALWAYS AS (length(payload)) STORED);
INSERT INTO "Weird "".tàble" ("re'quest", ts, payload) SELECT 'k' || i % 10, i, repeat('x', i) FROM generate_series(1, 40) i;
CREATE TEMP TABLE before AS SELECT * FROM "Weird "".tàble";
SELECT evmig_dedupe('"Weird "".tàble"', 're''quest') AS job \gset
CALL evmig_wait(:job);
SELECT count(*) FROM "Weird "".tàble";
-- a column that came meanwhile takes the value that the table's own rows show
ALTER TABLE "Weird "".tàble" ADD COLUMN later int NOT NULL DEFAULT 7;
INSERT INTO "Weird "".tàble" ("re'quest", ts, later) VALUES ('k1', 100, 8);
SELECT evmig_dedupe('"Weird "".tàble"', 're''quest') AS job2 \gset
CALL evmig_wait(:job2);
SELECT evmig_restore('"Weird "".tàble"') AS back \gset
CALL evmig_wait(:back);
SELECT state, rows_done, message FROM evmig_jobs WHERE job_id = :back;
SELECT count(*) FROM (SELECT id, "re'quest", ts, payload, size FROM "Weird "".tàble" WHERE later = 7
	EXCEPT ALL SELECT * FROM before) x;
SELECT later, count(*) FROM "Weird "".tàble" GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM "Weird "".tàble_dupes_archived";
SELECT archived_rows, restored_rows, purged_rows FROM evmig.archive
WHERE target = '"Weird "".tàble"'::regclass ORDER BY archive_id;
-- once more: nothing is left
SELECT evmig_restore('"Weird "".tàble"', :job) AS back \gset
CALL evmig_wait(:back);
SELECT state, rows_done FROM evmig_jobs WHERE job_id = :back;

-- ---- one job of several
CREATE TABLE ev (id serial PRIMARY KEY, request_id text, ts int);
INSERT INTO ev (request_id, ts) VALUES ('a', 1), ('a', 2), ('b', 1);
SELECT evmig_dedupe('ev') AS job1 \gset
CALL evmig_wait(:job1);
INSERT INTO ev (request_id, ts) VALUES ('b', 2), ('b', 3);
SELECT evmig_dedupe('ev') AS job2 \gset
CALL evmig_wait(:job2);
SELECT evmig_restore('ev', :job1) AS back \gset
CALL evmig_wait(:back);
SELECT id, request_id, ts FROM ev ORDER BY id;
SELECT job_id = :job2 AS second, archived_rows - restored_rows AS there FROM evmig.archive WHERE target = 'ev'::regclass ORDER BY 1;
SELECT evmig_restore('ev', 123456789);

-- ---- a unique index is in the way
SELECT evmig_dedupe('ev') AS job3 \gset
CALL evmig_wait(:job3);
CREATE UNIQUE INDEX "ev's key" ON ev (request_id);
SELECT evmig_restore('ev');
SELECT evmig_restore('ev', drop_index => true) AS back \gset
CALL evmig_wait(:back);
SELECT count(*) FROM ev;
SELECT count(*) FROM pg_index WHERE indrelid = 'ev'::regclass AND NOT indisprimary;
-- a constraint cannot be dropped concurrently
SELECT evmig_dedupe('ev') AS job4 \gset
CALL evmig_wait(:job4);
ALTER TABLE ev ADD CONSTRAINT ev_unique UNIQUE (request_id);
SELECT evmig_restore('ev', drop_index => true);
ALTER TABLE ev DROP CONSTRAINT ev_unique;
-- an ingest guard that settles duplicates, too
SELECT evmig_ingest_guard('ev', duplicates => 'archive');
SELECT evmig_restore('ev');
SELECT evmig_ingest_guard('ev', mode => 'off');
-- a trigger that keeps rows out: nothing is taken from the archive
CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep_out BEFORE INSERT ON ev FOR EACH ROW EXECUTE FUNCTION keep_out();
SELECT evmig_restore('ev') AS back \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:back);
\set VERBOSITY default
SELECT state, message, detail, hint FROM evmig_jobs WHERE job_id = :back \gx
SELECT count(*) FROM ev_dupes_archived;
DROP TRIGGER keep_out ON ev;

-- ---- old keys, where the row still has the new one
CREATE TABLE rk (id int PRIMARY KEY, request_id uuid, ts int, t int);
INSERT INTO rk SELECT i, '11111111-1111-1111-1111-111111111111', i FROM generate_series(1, 20) i;
SELECT evmig_dedupe('rk', mode => 'rekey') AS job \gset
CALL evmig_wait(:job);
UPDATE rk SET request_id = '22222222-2222-2222-2222-222222222222' WHERE id = 5;
DELETE FROM rk WHERE id = 6;
SELECT evmig_restore('rk', :job) AS back \gset
CALL evmig_wait(:back);
SELECT state, rows_done, message FROM evmig_jobs WHERE job_id = :back;
SELECT request_id, count(*) FROM rk GROUP BY 1 ORDER BY 1;
SELECT restored_at IS NULL AS open, count(*) FROM evmig.rekey WHERE job_id = :job GROUP BY 1 ORDER BY 1;

-- ---- purge
SELECT evmig_archive_purge('ev');
SELECT evmig_archive_purge('ev', '-1 hour');
BEGIN;
SELECT evmig_archive_purge('ev', '0');
ROLLBACK;
RESET ROLE;
UPDATE evmig.archive SET kept_until = '2999-01-01 00:00+00' WHERE job_id = :job4;
SET ROLE restore_owner;
SET timezone = 'UTC';
\set VERBOSITY sqlstate
SELECT evmig_archive_purge('ev', '0');
\set VERBOSITY default
RESET ROLE;
UPDATE evmig.archive SET kept_until = NULL WHERE job_id = :job4;
SET ROLE restore_other;
SELECT evmig_archive_purge('ev', '0');
SET ROLE restore_owner;
SELECT count(*) FROM ev_dupes_archived;
SELECT evmig_archive_purge('ev', '0');
SELECT count(*) FROM ev_dupes_archived;
SELECT count(*), count(purged_at), sum(archived_rows), sum(restored_rows), sum(purged_rows), count(relation)
FROM evmig.archive WHERE target = 'ev'::regclass;
SELECT evmig_archive_purge('ev', '0');
-- only what was verified
CREATE TABLE kept (request_id text, ts int);
INSERT INTO kept VALUES ('a', 1), ('a', 2), ('a', 3);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.ts = 3 THEN RETURN NULL; END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER keep BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION keep();
SELECT evmig_dedupe('kept') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT evmig_archive_purge('kept', '0');
SELECT count(*) FROM kept_dupes_archived;
DROP TRIGGER keep ON kept;
SELECT evmig_dedupe('kept') AS job \gset
CALL evmig_wait(:job);
SELECT evmig_archive_purge('kept', '0');

RESET ROLE;
RESET search_path;
DROP SCHEMA restore CASCADE;
DROP OWNED BY restore_owner, restore_other;
DROP ROLE restore_owner, restore_other;
