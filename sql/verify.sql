-- evmig_verify: is the key as it should be, and is what was removed still there?
SET client_min_messages = warning;
CREATE ROLE verify_owner LOGIN;
CREATE ROLE verify_reader;
CREATE SCHEMA verify_test AUTHORIZATION verify_owner;
GRANT USAGE ON SCHEMA verify_test TO verify_reader;
SET ROLE verify_owner;
SET search_path = verify_test, public;
SET evmig.max_loser_pct = 100;
SET evmig.batch_sleep = 0;

CREATE TABLE business_events (id int PRIMARY KEY, request_id text, ts int, deleted boolean DEFAULT false);
SELECT * FROM evmig_verify();
INSERT INTO business_events SELECT i, 'k' || i % 7, i FROM generate_series(1, 20) i;
INSERT INTO business_events VALUES (21, NULL, 21);
SELECT * FROM evmig_verify();

-- archived, then restored by hand, then lost
SELECT evmig_dedupe() AS job \gset
CALL evmig_wait(:job);
UPDATE business_events SET request_id = 'k21' WHERE id = 21;
SELECT * FROM evmig_verify() WHERE check_name <> 'unique_index';
SELECT relation AS child FROM evmig.archive WHERE job_id = :job \gset
BEGIN;
DELETE FROM :child WHERE id = 20;
SELECT * FROM evmig_verify() WHERE NOT ok;
ROLLBACK;
BEGIN;
INSERT INTO :child SELECT * FROM :child LIMIT 1;
SELECT * FROM evmig_verify() WHERE NOT ok;
ROLLBACK;
BEGIN;
DELETE FROM business_events WHERE request_id = 'k1';
SELECT * FROM evmig_verify() WHERE NOT ok;
ROLLBACK;
BEGIN;
DROP TABLE business_events_dupes_archived CASCADE;
SELECT * FROM evmig_verify() WHERE NOT ok;
ROLLBACK;

-- a second job; one that re-keys counts none
INSERT INTO business_events SELECT i, 'k' || i % 7, i FROM generate_series(31, 40) i;
SELECT evmig_dedupe(mode => 'rekey', generator => 'gen_random_uuid()') AS job \gset
CALL evmig_wait(:job);
INSERT INTO business_events SELECT i, 'k' || i % 7, i FROM generate_series(41, 45) i;
SELECT evmig_dedupe() AS job \gset
CALL evmig_wait(:job);
SELECT * FROM evmig_verify() WHERE check_name <> 'unique_index';

-- put back, and purged: both are counted
SELECT evmig_restore(job => :job) AS job \gset
CALL evmig_wait(:job);
SELECT * FROM evmig_verify() WHERE check_name <> 'unique_index';
SELECT evmig_dedupe() AS job \gset
CALL evmig_wait(:job);
SELECT evmig_archive_purge(older_than => '0') > 0 AS purged;
SELECT check_name, expected::int = 23 AS all_of_them, ok FROM evmig_verify() WHERE check_name = 'archived_rows';
SELECT count(*) FROM business_events_dupes_archived;

-- beside a job at work: books and archive are read in one snapshot
CREATE TABLE busy (id int PRIMARY KEY, request_id text, ts int);
INSERT INTO busy SELECT i, i % 500, i FROM generate_series(1, 2000) i;
SET evmig.batch_size = 5;
SET evmig.adaptive = off;
SELECT evmig_dedupe('busy') AS job \gset
DO $$
DECLARE
	looks int := 0;
	wrong int := 0;
	bad boolean;
	ended boolean;
BEGIN
	LOOP
		ended := (SELECT state NOT IN ('queued', 'running') FROM evmig.job WHERE target = 'busy'::regclass);
		bad := (SELECT NOT ok FROM evmig_verify('busy') WHERE check_name = 'archived_rows');
		looks := looks + 1;
		wrong := wrong + bad::int;
		EXIT WHEN ended;
	END LOOP;
	RAISE WARNING 'looked more than once: %, wrong: %', looks > 1, wrong;
END
$$;
SELECT check_name, expected, actual, ok FROM evmig_verify('busy') WHERE check_name = 'archived_rows';
RESET evmig.batch_size;
RESET evmig.adaptive;

-- what the ingest guard archives is no job's, but needs its keeper
CREATE TABLE guarded (id int, request_id text, ts int);
INSERT INTO guarded VALUES (1, 'a', 1);
CREATE INDEX ON guarded (request_id);
SELECT evmig_ingest_guard('guarded', duplicates => 'archive');
INSERT INTO guarded VALUES (2, 'a', 2);
SELECT count(*) FROM guarded;
SELECT * FROM evmig_verify('guarded') WHERE check_name <> 'unique_index';
DELETE FROM guarded;
SELECT * FROM evmig_verify('guarded') WHERE check_name = 'archived_keys_without_keeper';
DROP TABLE guarded CASCADE;

-- which index is enough
CREATE INDEX plain ON business_events (request_id);
SELECT * FROM evmig_verify() WHERE check_name = 'unique_index';
CREATE UNIQUE INDEX partial ON business_events (request_id) WHERE NOT deleted;
SELECT * FROM evmig_verify() WHERE check_name = 'unique_index';
CREATE UNIQUE INDEX two ON business_events (request_id, deleted);
CREATE UNIQUE INDEX expression ON business_events (lower(request_id));
CREATE UNIQUE INDEX pattern ON business_events (request_id text_pattern_ops);
CREATE UNIQUE INDEX collated ON business_events (request_id COLLATE "POSIX");
ALTER TABLE business_events ADD CONSTRAINT deferred UNIQUE (request_id) DEFERRABLE INITIALLY DEFERRED;
SELECT count(*) FILTER (WHERE ok) AS ok FROM evmig_verify() WHERE check_name = 'unique_index';
CREATE UNIQUE INDEX "ux ""it" ON business_events (request_id) INCLUDE (ts);
SELECT * FROM evmig_verify();
RESET ROLE;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'verify_test."ux ""it"'::regclass;
SET ROLE verify_owner;
SELECT * FROM evmig_verify() WHERE check_name = 'unique_index';

-- who may ask
RESET ROLE;
SET ROLE verify_reader;
SELECT * FROM evmig_verify();
RESET ROLE;
GRANT SELECT ON verify_test.business_events TO verify_reader;
SET ROLE verify_reader;
SELECT * FROM evmig_verify();
RESET ROLE;
GRANT SELECT ON verify_test.business_events_dupes_archived TO verify_reader;
SET ROLE verify_reader;
SELECT check_name, ok FROM evmig_verify();
RESET ROLE;

-- bad input, names
SELECT * FROM evmig_verify('pg_class');
SELECT * FROM evmig_verify('business_events', 'nope');
CREATE TABLE "Weird "".table" ("o'x ""é" numeric UNIQUE);
INSERT INTO "Weird "".table" VALUES (1.0), (2);
SELECT * FROM evmig_verify('"Weird "".table"', 'o''x "é');

DROP SCHEMA verify_test CASCADE;
DROP ROLE verify_owner, verify_reader;
