--
-- evmig_unique_index: a unique index without blocking writers
--
SET client_min_messages = warning;
CREATE ROLE ux_owner LOGIN;
CREATE ROLE ux_other LOGIN;
CREATE SCHEMA ux AUTHORIZATION ux_owner;
GRANT USAGE ON SCHEMA ux TO PUBLIC;
SET search_path = ux, public;

-- the target's indexes, as a person sees them
CREATE VIEW shown AS
SELECT i.indrelid::regclass AS target, c.relname AS index, indisunique AS uniq, indisvalid AS valid
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'ux'::regnamespace ORDER BY 1, 2;
GRANT SELECT ON shown TO PUBLIC;

SET ROLE ux_owner;
CREATE TABLE events (id int, request_id text, ts timestamptz DEFAULT now());
INSERT INTO events SELECT g, 'k' || g FROM generate_series(1, 1000) g;

-- the plain case, with what the caller must know
RESET client_min_messages;
SELECT evmig_unique_index('events') AS job \gset
SET client_min_messages = warning;
CALL evmig_wait(:job);
SELECT kind, target, state, run_as, result, message FROM evmig_jobs WHERE job_id = :job;
SELECT * FROM shown;
INSERT INTO events VALUES (0, 'k1');

-- one that fits is success, whatever its name, and nothing is said
RESET client_min_messages;
SELECT evmig_unique_index('events', index_name => 'another') AS job \gset
SET client_min_messages = warning;
CALL evmig_wait(:job);
SELECT state, result FROM evmig_jobs WHERE job_id = :job;
SELECT * FROM shown;
DROP INDEX ux_events_request_id;

-- what does not enforce that the key alone is unique is no reason to stop
CREATE UNIQUE INDEX part ON events (request_id) WHERE id > 10;
CREATE UNIQUE INDEX expr ON events (lower(request_id));
CREATE UNIQUE INDEX pairs ON events (request_id, id);
CREATE INDEX plain ON events (request_id);
CREATE UNIQUE INDEX pattern ON events (request_id text_pattern_ops);
CREATE UNIQUE INDEX collated ON events (request_id COLLATE "C");
ALTER TABLE events ADD CONSTRAINT deferred UNIQUE (request_id) DEFERRABLE;
SELECT evmig_unique_index('events', index_name => 'mine') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM shown;

-- names that need quoting, and long ones
CREATE TABLE "Weird "".table" (id int, "o'x Ключ" uuid DEFAULT gen_random_uuid(), ts timestamptz);
INSERT INTO "Weird "".table" SELECT g FROM generate_series(1, 10) g;
SELECT evmig_unique_index('"Weird "".table"', 'o''x Ключ') AS job \gset
CALL evmig_wait(:job);
CREATE TABLE "t23456789012345678901234567890123456789012345678901234567890123" (request_id int);
SELECT evmig_unique_index('"t23456789012345678901234567890123456789012345678901234567890123"') AS job \gset
CALL evmig_wait(:job);
SELECT evmig_unique_index('"Weird "".table"', 'id', 'an "index" o''x') AS job \gset
CALL evmig_wait(:job);
SELECT index, length(index), uniq, valid FROM shown WHERE target <> 'events'::regclass;
DROP TABLE "Weird "".table", "t23456789012345678901234567890123456789012345678901234567890123", events;

-- duplicates without an order column: the build fails, leaves nothing and says why
CREATE TABLE events (id int, request_id text);
INSERT INTO events SELECT g, 'k' || g FROM generate_series(1, 100) g;
INSERT INTO events SELECT g, 'k' || g % 7 FROM generate_series(101, 120) g;
SELECT evmig_unique_index('events') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, sqlstate, message, detail, hint, result FROM evmig_jobs WHERE job_id = :job \gx
SELECT * FROM shown;

-- duplicates with an order column: deduped, and built again
SET evmig.max_loser_pct = 50;
ALTER TABLE events ADD ts timestamptz DEFAULT now();
SELECT evmig_unique_index('events') AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done, result ->> 'failed_builds' AS failed_builds FROM evmig_jobs WHERE job_id = :job;
SELECT count(*), count(DISTINCT request_id) FROM events;
SELECT count(*) FROM events_dupes_archived;
SELECT * FROM shown;
DROP INDEX ux_events_request_id;

-- by the rules of the last evmig_dedupe() on this key
INSERT INTO events SELECT g, 'k' || g % 7 FROM generate_series(201, 220) g;
SELECT evmig_dedupe('events', mode => 'rekey') AS job \gset
CALL evmig_wait(:job);
INSERT INTO events SELECT g, 'k' || g % 7 FROM generate_series(301, 303) g;
SELECT evmig_unique_index('events') AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done FROM evmig_jobs WHERE job_id = :job;
SELECT count(*), count(DISTINCT request_id) FROM events;
SELECT count(*) FROM evmig.rekey WHERE target = 'events'::regclass AND job_id = :job;
DROP INDEX ux_events_request_id;

-- no more often than evmig.index_retries
RESET evmig.max_loser_pct;
INSERT INTO events VALUES (401, 'k1');
SET evmig.index_retries = 0;
SELECT evmig_unique_index('events') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, sqlstate, message, detail, hint FROM evmig_jobs WHERE job_id = :job \gx
RESET evmig.index_retries;
SELECT * FROM shown;
DELETE FROM events WHERE id > 200;
INSERT INTO events SELECT g, 'k' || g % 7 FROM generate_series(101, 120) g;

-- what a build that was cut off leaves is dropped first
\set VERBOSITY sqlstate
CREATE UNIQUE INDEX CONCURRENTLY ux_events_request_id ON events (request_id);
\set VERBOSITY default
SELECT * FROM shown;
DELETE FROM events WHERE id > 100;
SELECT evmig_unique_index('events') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM shown;
DROP INDEX ux_events_request_id;

-- a name that is taken, by an index or not, valid or not
CREATE INDEX ux_events_request_id ON events (request_id);
SELECT evmig_unique_index('events');
SELECT evmig_unique_index('events', index_name => 'shown');
SELECT evmig_unique_index('events', index_name => '');
DROP INDEX ux_events_request_id;
INSERT INTO events VALUES (1, 'k1');
\set VERBOSITY sqlstate
CREATE UNIQUE INDEX CONCURRENTLY ux_events_request_id ON events (id);
\set VERBOSITY default
SELECT evmig_unique_index('events');
DROP INDEX ux_events_request_id;
DELETE FROM events WHERE id = 1;

-- and one that is taken behind the job's back
BEGIN;
SELECT evmig_unique_index('events') AS job \gset
CREATE TABLE ux_events_request_id ();
COMMIT;
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message FROM evmig_jobs WHERE job_id = :job;
DROP TABLE ux_events_request_id;

-- rolled back: nothing is built
BEGIN;
SELECT evmig_unique_index('events') > 0 AS created;
ROLLBACK;
SELECT * FROM shown;

-- a second job on the table is refused with the first one's number
SELECT evmig_unique_index('events') AS job \gset
CALL evmig_wait(:job);
RESET ROLE;
INSERT INTO evmig.job (kind, name, target, target_name, filenumber, key_column, owner, run_as, integrity, state)
VALUES ('helper_index', 'x', 'events'::regclass, 'ux.events', pg_relation_filenode('events'), 'request_id',
	'ux_owner'::regrole, 'ux_owner'::regrole, true, 'paused') RETURNING job_id AS paused \gset
DO $$
BEGIN
	PERFORM evmig_unique_index('events');
EXCEPTION WHEN object_in_use THEN
	RAISE WARNING '%', regexp_replace(SQLERRM, '[0-9]+', 'n');
END $$;

-- the helper index: a plain one, kept apart by its name; an existing index on the key will do
UPDATE evmig.job SET spec = '{"index_name": "evmig_helper_events_request_id"}', state = 'queued' WHERE job_id = :paused;
SELECT evmig_jobs_recover() > 0 AS started;
CALL evmig_wait(:paused);
SELECT state, result FROM evmig_jobs WHERE job_id = :paused;
DROP INDEX ux_events_request_id;
UPDATE evmig.job SET state = 'queued' WHERE job_id = :paused;
SELECT evmig_jobs_recover() > 0 AS started;
CALL evmig_wait(:paused);
SELECT state, result FROM evmig_jobs WHERE job_id = :paused;
SELECT * FROM shown;

-- and dropped again; an index that was renamed meanwhile is not touched
UPDATE evmig.job SET kind = 'drop_index', integrity = false, state = 'queued', spec = jsonb_build_object(
	'index', 'evmig_helper_events_request_id'::regclass::oid::int8, 'index_name', 'before') WHERE job_id = :paused;
SELECT evmig_jobs_recover() > 0 AS started;
CREATE PROCEDURE ended(job bigint) LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM evmig_jobs WHERE job_id = job AND state IN ('queued', 'running', 'interrupted')) LOOP
		PERFORM pg_sleep(0.02);
		COMMIT;
	END LOOP;
END $$;
CALL ended(:paused);
SELECT state, message FROM evmig_jobs WHERE job_id = :paused;
UPDATE evmig.job SET state = 'queued', spec = spec || '{"index_name": "evmig_helper_events_request_id"}' WHERE job_id = :paused;
SELECT evmig_jobs_recover() > 0 AS started;
CALL ended(:paused);
SELECT state, message FROM evmig_jobs WHERE job_id = :paused;
SELECT * FROM shown;
DROP PROCEDURE ended;

-- privileges
SET ROLE ux_other;
SELECT evmig_unique_index('events');
RESET ROLE;
CREATE SCHEMA ux_closed;
CREATE TABLE ux_closed.events (request_id int);
GRANT USAGE ON SCHEMA ux_closed TO ux_owner;
ALTER TABLE ux_closed.events OWNER TO ux_owner;
SET ROLE ux_owner;
SELECT evmig_unique_index('ux_closed.events');

-- targets that will not do
SELECT evmig_unique_index('shown');
SELECT evmig_unique_index('events', 'nothing');
CREATE TABLE points (request_id point);
SELECT evmig_unique_index('points');
CREATE TEMP TABLE temps (request_id int);
SELECT evmig_unique_index('temps');
CREATE TABLE parts (request_id int) PARTITION BY RANGE (request_id);
SELECT evmig_unique_index('parts');
SET default_transaction_read_only = on;
SELECT evmig_unique_index('events');
SET default_transaction_read_only = off;
RESET ROLE;

DROP TABLE temps;
DROP SCHEMA ux, ux_closed CASCADE;
DELETE FROM evmig.job WHERE run_as = 'ux_owner'::regrole;
DROP OWNED BY ux_owner, ux_other;
DROP ROLE ux_owner, ux_other;
