--
-- Jobs: what a person sees and may do
--
SET client_min_messages = warning;
CREATE ROLE jobs_owner LOGIN;
CREATE ROLE jobs_other LOGIN;
CREATE ROLE jobs_group NOLOGIN;
CREATE ROLE jobs_member LOGIN IN ROLE jobs_group;
CREATE SCHEMA jobs AUTHORIZATION jobs_owner;
GRANT USAGE ON SCHEMA jobs TO PUBLIC;
GRANT CREATE ON SCHEMA jobs TO jobs_group;
SET search_path = jobs, public;

SET ROLE jobs_owner;
CREATE TABLE events (id int PRIMARY KEY, request_id uuid, ts timestamptz, n int DEFAULT 1);
INSERT INTO events SELECT g, CASE WHEN g % 4 > 0 THEN gen_random_uuid() END, now() FROM generate_series(1, 1000) g;

-- a job runs as the owner, changes what it should and nothing else
SELECT evmig_backfill_request_id('events') AS job \gset
CALL evmig_wait(:job);
SELECT kind, target, state, owner, run_as, rows_done, rows_skipped, remaining, message
FROM evmig_jobs WHERE job_id = :job;
SELECT count(*) AS nulls FROM events WHERE request_id IS NULL;
SELECT count(DISTINCT request_id) AS keys FROM events;

-- nothing left to do: succeeds and changes nothing
SELECT evmig_backfill_request_id('events') AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done FROM evmig_jobs WHERE job_id = :job;

-- placeholders are filled too, and only those that were named
UPDATE events SET request_id = '00000000-0000-0000-0000-000000000000' WHERE id <= 3;
UPDATE events SET request_id = '11111111-1111-1111-1111-111111111111' WHERE id BETWEEN 4 AND 5;
SELECT evmig_backfill_request_id('events', treat_as_null => '{00000000-0000-0000-0000-000000000000}') AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done FROM evmig_jobs WHERE job_id = :job;
SELECT count(*) FROM events WHERE request_id IN ('00000000-0000-0000-0000-000000000000', '11111111-1111-1111-1111-111111111111');

-- a job of others is not visible and cannot be steered
RESET ROLE;
SET ROLE jobs_other;
SELECT count(*) FROM evmig_jobs WHERE target = 'events'::regclass;
\set VERBOSITY sqlstate
SELECT evmig_job_cancel(:job);
SELECT evmig_job_pause(:job);
SELECT evmig_job_resume(:job);
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT evmig_backfill_request_id('events');
UPDATE evmig.job SET state = 'queued';
RESET ROLE;

-- rolled back: no job
BEGIN;
SELECT evmig_backfill_request_id('events') > 0 AS created;
ROLLBACK;
SELECT count(*) FROM evmig_jobs WHERE target = 'events'::regclass AND state NOT IN ('succeeded');

-- a subtransaction that is rolled back leaves none either, the rest goes on
BEGIN;
SAVEPOINT s;
SELECT evmig_backfill_request_id('events') > 0 AS created;
ROLLBACK TO s;
SELECT evmig_backfill_request_id('events') AS job \gset
COMMIT;
CALL evmig_wait(:job);
SELECT count(*) FROM evmig_jobs WHERE target = 'events'::regclass AND state NOT IN ('succeeded');

-- what makes no sense
\set VERBOSITY sqlstate
SELECT evmig_job_resume(:job);
SELECT evmig_job_cancel(:job);
\set VERBOSITY default
SELECT evmig_job_cancel(0);
CALL evmig_wait(NULL);
CALL evmig_wait(:job, '-1 s');
BEGIN;
CALL evmig_wait(:job);
ROLLBACK;
CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL evmig_wait(1); END $$;
SELECT f();

-- owner that cannot log in: the member who asks, never a superuser
SET ROLE jobs_group;
CREATE TABLE grouped (id int, request_id uuid, ts timestamptz);
INSERT INTO grouped VALUES (1, NULL, now());
RESET ROLE;
SELECT evmig_backfill_request_id('grouped');
SET SESSION AUTHORIZATION jobs_member;
SELECT evmig_backfill_request_id('grouped') AS job \gset
CALL evmig_wait(:job);
SELECT state, owner, run_as, rows_done FROM evmig_jobs WHERE job_id = :job;
RESET SESSION AUTHORIZATION;

-- names that need quoting
SET ROLE jobs_owner;
CREATE TABLE "Weird "".table" (id int, "o'x Ключ" text, ts timestamptz);
INSERT INTO "Weird "".table" VALUES (1, NULL, now()), (2, '', now()), (3, 'a', now());
SELECT evmig_backfill_request_id('"Weird "".table"', 'o''x Ключ', treat_as_null => '{""}') AS job \gset
CALL evmig_wait(:job);
SELECT target, state, rows_done FROM evmig_jobs WHERE job_id = :job;
SELECT count(*) FROM "Weird "".table" WHERE coalesce("o'x Ключ", '') = '';

-- a key type of its own needs a generator of its own
CREATE SEQUENCE seq START 1000;
CREATE TABLE numbered (id int, request_id bigint, ts timestamptz);
INSERT INTO numbered VALUES (1, NULL, now()), (2, 7, now());
SELECT evmig_backfill_request_id('numbered');
SELECT evmig_backfill_request_id('numbered', generator => 'nextval(''seq'')') AS job \gset
CALL evmig_wait(:job);
SELECT id, request_id >= 1000 AS filled FROM numbered ORDER BY id;

-- bad input: one clear error, nothing changed
SELECT evmig_backfill_request_id('events', 'nope');
SELECT evmig_backfill_request_id('nope');
SET evmig.target = 'jobs.nothing';
SELECT evmig_backfill_request_id();
RESET evmig.target;
SELECT evmig_backfill_request_id('events', 'ctid');
SELECT evmig_backfill_request_id('events', generator => '');
SELECT evmig_backfill_request_id('events', generator => 'gen_random_uuid(), 1');
SELECT evmig_backfill_request_id('events', generator => 'gen_random_uuid(); DROP TABLE events');
SELECT evmig_backfill_request_id('events', generator => 'gen_random_uuid() FROM events');
SELECT evmig_backfill_request_id('events', generator => 'request_id');
SELECT evmig_backfill_request_id('events', generator => 'nope()');
SELECT evmig_backfill_request_id('events', generator => 'random()');
SELECT evmig_backfill_request_id('events', generator => 'md5(''x'')::uuid');
SELECT evmig_backfill_request_id('events', generator => 'count(*)');
SELECT evmig_backfill_request_id('events', workers => 0);
SELECT evmig_backfill_request_id('events', workers => 1000);
SELECT evmig_backfill_request_id('events', treat_as_null => '{NULL}');
SELECT evmig_backfill_request_id('events', treat_as_null => '{x}');
CREATE VIEW v AS SELECT * FROM events;
SELECT evmig_backfill_request_id('v');
CREATE TABLE p (request_id uuid) PARTITION BY HASH (request_id);
SELECT evmig_backfill_request_id('p');
CREATE TEMP TABLE t (request_id uuid);
SELECT evmig_backfill_request_id('t');
CREATE TABLE parent (request_id uuid);
CREATE TABLE child () INHERITS (parent);
SELECT evmig_backfill_request_id('parent');
CREATE TABLE j (request_id json);
SELECT evmig_backfill_request_id('j', generator => 'to_json(random())');
CREATE TABLE g (a text, request_id text GENERATED ALWAYS AS (a || 'x') STORED);
SELECT evmig_backfill_request_id('g');
CREATE TABLE i (request_id bigint GENERATED ALWAYS AS IDENTITY);
SELECT evmig_backfill_request_id('i', generator => 'nextval(''seq'')');
ALTER TABLE numbered ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT evmig_backfill_request_id('numbered', generator => 'nextval(''seq'')');
SELECT evmig_backfill_request_id('pg_catalog.pg_class', 'relname');
SELECT evmig_backfill_request_id('evmig.job', 'name');
BEGIN READ ONLY;
SELECT evmig_backfill_request_id('events');
ROLLBACK;
RESET ROLE;

-- only within a runbook, where that is required
SET evmig.require_runbook = on;
SELECT evmig_backfill_request_id('events');
RESET evmig.require_runbook;
SET ROLE jobs_owner;
SET evmig.require_runbook = off;
RESET ROLE;

DROP SCHEMA jobs CASCADE;
DROP OWNED BY jobs_owner, jobs_other, jobs_group, jobs_member;
DROP ROLE jobs_owner, jobs_other, jobs_member, jobs_group;
