-- Pausing the writers of a table, with the library preloaded or not.
SET client_min_messages = warning;
CREATE ROLE pause_owner;
CREATE ROLE pause_writer;
CREATE SCHEMA pause;
GRANT USAGE ON SCHEMA pause TO pause_owner, pause_writer;
SET search_path = pause, public;
CREATE TABLE "o'x "".é" (id int PRIMARY KEY, x text);
ALTER TABLE "o'x "".é" OWNER TO pause_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON "o'x "".é" TO pause_writer;
CREATE VIEW a_view AS SELECT 1 AS id;
CREATE TABLE a_parent (id int PRIMARY KEY);
INSERT INTO a_parent SELECT generate_series(1, 10);
ALTER TABLE "o'x "".é" ADD FOREIGN KEY (id) REFERENCES a_parent NOT VALID;
\set t '\'"o\'\'x "".é"\''
INSERT INTO "o'x "".é" VALUES (1, 'a');

-- who, and what
SET ROLE pause_writer;
SELECT evmig_ingest_pause(:t, 'r');
SELECT evmig_ingest_resume(:t);
RESET ROLE;
SELECT evmig_ingest_pause('a_view', 'r');
SELECT evmig_ingest_pause(:t, NULL);
SELECT evmig_ingest_pause(:t, '');
SELECT evmig_ingest_pause('no_such_table', 'r');
SET ROLE pause_owner;
SET evmig.ingest_pause_max = '1 day';
RESET ROLE;

-- paused: no write begins, reads go on
SET ROLE pause_owner;
SELECT evmig_ingest_pause(:t, 'for the ''change'' of tonight');
RESET ROLE;
SET ROLE pause_writer;
\set VERBOSITY terse
INSERT INTO "o'x "".é" VALUES (2);
UPDATE "o'x "".é" SET x = 'b';
DELETE FROM "o'x "".é";
MERGE INTO "o'x "".é" t USING (VALUES (3)) v(id) ON t.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id);
WITH a AS (INSERT INTO "o'x "".é" VALUES (4)) SELECT 1;
DO $$ BEGIN INSERT INTO pause."o'x "".é" VALUES (5); END $$;
BEGIN;
SAVEPOINT s;
INSERT INTO "o'x "".é" VALUES (6);
ROLLBACK TO s;
SELECT * FROM "o'x "".é";
COMMIT;
TRUNCATE "o'x "".é";
RESET ROLE;
TRUNCATE "o'x "".é", a_parent;
TRUNCATE a_parent CASCADE;
DO $$ BEGIN TRUNCATE pause.a_parent CASCADE; END $$;
SELECT (SELECT count(*) FROM "o'x "".é"), (SELECT count(*) FROM a_parent) AS parents;
SET ROLE pause_writer;
EXPLAIN (COSTS OFF) DELETE FROM "o'x "".é";
\set VERBOSITY sqlstate
INSERT INTO "o'x "".é" VALUES (7);
\set VERBOSITY default
-- who paused, why, how long; for owners
SELECT count(*) FROM evmig_ingest_pauses;
RESET ROLE;
SET ROLE pause_owner;
SELECT target, reason, paused_by = session_user AS by_us, until - paused_at AS max, active, ended_at, ended_by FROM evmig_ingest_pauses;
\set VERBOSITY terse
SELECT evmig_ingest_pause(:t, 'again');
\set VERBOSITY default

-- and on
SELECT evmig_ingest_resume(:t);
RESET ROLE;
SET client_min_messages = notice;
SELECT evmig_ingest_resume(:t);
SET client_min_messages = warning;
SET ROLE pause_writer;
INSERT INTO "o'x "".é" VALUES (8);
RESET ROLE;
SELECT target, active, ended_at > paused_at AS ended, ended_by = session_user AS by_us FROM evmig_ingest_pauses;
SELECT count(*) FROM pg_trigger WHERE tgrelid = :t::regclass AND NOT tgisinternal;

-- a pause that somebody forgot ends by itself
SET evmig.ingest_pause_max = '1s';
SELECT evmig_ingest_pause(:t, 'forgotten');
\set VERBOSITY terse
INSERT INTO "o'x "".é" VALUES (9);
\set VERBOSITY default
DO $$
BEGIN
	WHILE (SELECT bool_or(active) FROM evmig_ingest_pauses) LOOP
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
INSERT INTO "o'x "".é" VALUES (10);
SELECT reason, active, ended_at = until AS by_itself, ended_by FROM evmig_ingest_pauses ORDER BY paused_at;
-- and gives place to the next one
RESET evmig.ingest_pause_max;
SELECT evmig_ingest_pause(:t, 'next');
SELECT reason, active, ended_at = until AS by_itself, ended_by FROM evmig_ingest_pauses ORDER BY paused_at;

-- our own jobs pass
ALTER TABLE "o'x "".é" ADD request_id uuid;
ALTER ROLE pause_owner LOGIN;
SET ROLE pause_owner;
SELECT evmig_backfill_request_id(:t) AS job \gset
RESET ROLE;
CALL evmig_wait(:job);
SELECT id, request_id IS NULL AS missing FROM "o'x "".é" ORDER BY id;
SELECT evmig_ingest_resume(:t);

-- a partition that is paused, and its parent
CREATE TABLE parts (id int) PARTITION BY LIST (id);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2);
INSERT INTO parts VALUES (1), (2);
SELECT evmig_ingest_pause('part1', 'one of them');
\set VERBOSITY terse
TRUNCATE parts;
TRUNCATE part1;
TRUNCATE part2;
SELECT * FROM parts;
SELECT evmig_ingest_resume('part1');
TRUNCATE parts;
SELECT * FROM parts;
-- and who may not truncate is told just that
GRANT TRUNCATE ON "o'x "".é" TO pause_writer;
SELECT evmig_ingest_pause(:t, 'again');
SET ROLE pause_writer;
TRUNCATE "o'x "".é";
TRUNCATE parts, "o'x "".é";
RESET ROLE;
SELECT evmig_ingest_resume(:t);
SET ROLE pause_writer;
TRUNCATE "o'x "".é";
RESET ROLE;
SELECT count(*) FROM "o'x "".é";
\set VERBOSITY default

DELETE FROM evmig.ingest_pause;
DELETE FROM evmig.job;
RESET search_path;
DROP SCHEMA pause CASCADE;
DROP ROLE pause_owner, pause_writer;
