--
-- evmig_harden: NOT NULL without a long lock
--
SET client_min_messages = warning;
CREATE ROLE harden_owner LOGIN;
CREATE ROLE harden_other LOGIN;
CREATE SCHEMA harden AUTHORIZATION harden_owner;
GRANT USAGE ON SCHEMA harden TO PUBLIC;
SET search_path = harden, public;
CREATE VIEW shown AS
SELECT a.attrelid::regclass AS target, a.attname, a.attnotnull, c.conname, c.convalidated, pg_get_constraintdef(c.oid) AS def
FROM pg_attribute a
LEFT JOIN pg_constraint c ON c.conrelid = a.attrelid AND c.contype = 'c' AND c.conkey = ARRAY[a.attnum]
WHERE a.attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'harden'::regnamespace AND relkind = 'r')
	AND a.attnum = 2
ORDER BY 1, 4;
GRANT SELECT ON shown TO PUBLIC;

SET ROLE harden_owner;
CREATE TABLE events (id int, request_id uuid DEFAULT gen_random_uuid());
INSERT INTO events SELECT g FROM generate_series(1, 1000) g;
SELECT evmig_harden('events') AS job \gset
CALL evmig_wait(:job);
SELECT kind, target, state, run_as, remaining, message FROM evmig_jobs WHERE job_id = :job;
SELECT * FROM shown;

-- nothing to do
SELECT evmig_harden('events') AS job \gset
CALL evmig_wait(:job);
SELECT state FROM evmig_jobs WHERE job_id = :job;

-- names that need quoting, 63 bytes, and a row type
CREATE TYPE pair AS (a int, b int);
CREATE TABLE "Weird "".table" (id int, "o'x Ключ" pair);
INSERT INTO "Weird "".table" VALUES (1, (1, NULL)), (2, (NULL, NULL));
SELECT evmig_harden('"Weird "".table"', 'o''x Ключ') AS job \gset
CALL evmig_wait(:job);
CREATE TABLE long (id int, "k23456789012345678901234567890123456789012345678901234567890123" int);
SELECT evmig_harden('long', 'k23456789012345678901234567890123456789012345678901234567890123') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM shown;
DROP TABLE "Weird "".table", long;

-- NULLs: their number, and nothing changed
ALTER TABLE events ALTER request_id DROP NOT NULL;
UPDATE events SET request_id = NULL WHERE id <= 3;
SELECT evmig_harden('events') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, sqlstate, message, hint FROM evmig_jobs WHERE job_id = :job;
SELECT * FROM shown;

-- NULLs that got in before the check: it is withdrawn
ALTER TABLE events ADD CONSTRAINT evmig_request_id_not_null CHECK (request_id IS NOT NULL) NOT VALID;
SELECT evmig_harden('events') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message FROM evmig_jobs WHERE job_id = :job;
SELECT * FROM shown;
UPDATE events SET request_id = gen_random_uuid() WHERE request_id IS NULL;

-- goes on from wherever an earlier one stopped: not valid, valid, not null
ALTER TABLE events ADD CONSTRAINT evmig_request_id_not_null CHECK (request_id IS NOT NULL) NOT VALID;
SELECT evmig_harden('events') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM shown;
ALTER TABLE events ALTER request_id DROP NOT NULL;
ALTER TABLE events ADD CONSTRAINT evmig_request_id_not_null CHECK (request_id IS NOT NULL);
SELECT evmig_harden('events') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM shown;
ALTER TABLE events ADD CONSTRAINT evmig_request_id_not_null CHECK (request_id IS NOT NULL);
SELECT evmig_harden('events') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM shown;

-- somebody else's constraint of that name
ALTER TABLE events ALTER request_id DROP NOT NULL;
ALTER TABLE events ADD CONSTRAINT evmig_request_id_not_null CHECK (id > 0);
SELECT evmig_harden('events');
ALTER TABLE events DROP CONSTRAINT evmig_request_id_not_null;

-- rolled back: nothing happens
BEGIN;
SELECT evmig_harden('events') > 0 AS created;
ROLLBACK;
SELECT * FROM shown;

-- bad input
SELECT evmig_harden('shown');
SELECT evmig_harden('events', 'nothing');
SET default_transaction_read_only = on;
SELECT evmig_harden('events');
SET default_transaction_read_only = off;
RESET ROLE;
SET ROLE harden_other;
SELECT evmig_harden('events');
RESET ROLE;

DROP SCHEMA harden CASCADE;
DELETE FROM evmig.job WHERE run_as = 'harden_owner'::regrole;
DROP OWNED BY harden_owner, harden_other;
DROP ROLE harden_owner, harden_other;
