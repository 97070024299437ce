--
-- The runbook: opened, attested, approved, executed, rolled back
--
\set VERBOSITY default
SET client_min_messages = warning;
CREATE ROLE runbook_author LOGIN;
CREATE ROLE runbook_approver LOGIN IN ROLE runbook_author;
CREATE ROLE runbook_stranger LOGIN;
CREATE SCHEMA runbook AUTHORIZATION runbook_author;
SET search_path = runbook, public;
-- numbers that do not depend on other tests
ALTER SEQUENCE evmig.runbook_runbook_id_seq RESTART 5001;
SET SESSION AUTHORIZATION runbook_author;
SET evmig.batch_sleep = 0;

CREATE TABLE business_events (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	request_id uuid, ts timestamptz DEFAULT '2026-01-01', payload text);
INSERT INTO business_events (request_id, payload)
SELECT CASE WHEN i % 20 = 0 THEN NULL WHEN i % 20 = 1 THEN md5('k' || i % 500)::uuid ELSE md5('k' || i)::uuid END, 'x'
FROM generate_series(1, 1000) i;
CREATE TABLE witness AS SELECT * FROM business_events;

-- ---- bad input: one clear error each
SELECT evmig_runbook_open('nowhere');
SELECT evmig_runbook_open(key_column => 'nowhere');
SELECT evmig_runbook_open(order_column => 'nowhere');
SELECT evmig_runbook_open(mode => 'delete');
SELECT evmig_runbook_open(generator => '42');
SELECT evmig_runbook_open('pg_class');
SELECT evmig_runbook_attest(-1, 'restore_point', 'x');
SELECT evmig_runbook_waive(-1, 'loser_share', 'x');
SELECT evmig_runbook_approve(-1, 'x');
SELECT evmig_runbook_report(-1);
SELECT evmig_runbook_script(-1);
CALL evmig_runbook_execute(-1);
CALL evmig_runbook_rollback(-1);
SELECT count(*) FROM evmig.runbook;

-- ---- open: preflight and audit are recorded
SELECT evmig_runbook_open(app_version => '1.2') AS id \gset
SELECT state, path, mode, harden, opened_by, rows_to_remove FROM evmig.runbook WHERE runbook_id = :id;
SELECT seq, event, subject, session_role FROM evmig.runbook_event WHERE runbook_id = :id ORDER BY seq;
SELECT data FROM evmig.runbook_event WHERE runbook_id = :id AND event IN ('audit', 'decided') ORDER BY seq;

-- ---- approval wants every attestation
SELECT split_part(evmig_runbook_report(:id), E'\n', 3) AS result;
SELECT evmig_runbook_approve(:id, 'too early');
CALL evmig_runbook_execute(:id);
SELECT evmig_runbook_script(:id);
CALL evmig_runbook_rollback(:id);
SELECT evmig_runbook_attest(:id, 'no_such_item', 'x');
SELECT evmig_runbook_attest(:id, 'restore_point', ' ');
SELECT evmig_runbook_attest(:id, 'restore_point', 'x', '2000-01-01');
SELECT evmig_runbook_attest(:id, '["restore_point"]');
SELECT evmig_runbook_attest(:id, '{"restore_point": 7}');
SELECT evmig_runbook_attest(:id, 'restore_point', 'base backup of today', now() + interval '1 day');
SELECT evmig_runbook_attest(:id, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item WHERE name <> 'restore_point'));
SELECT evmig_runbook_attest(:id, '{"restore_point": {"evidence": "again | `x`", "kept_until": "2099-01-01"}}');
SELECT evmig_runbook_approve(:id, 'fine', 'C');
-- path B is not possible while there are rows
SELECT evmig_runbook_approve(:id, 'wipe', 'B');
-- nobody else sees it
SET SESSION AUTHORIZATION runbook_stranger;
SELECT count(*) FROM evmig.runbook;
SELECT count(*) FROM evmig.runbook_event;
SELECT evmig_runbook_report(:id);
SELECT evmig_runbook_approve(:id, 'x');
CALL evmig_runbook_execute(:id);
SELECT evmig_runbook_open('runbook.business_events');

-- ---- the second person
RESET SESSION AUTHORIZATION;
SET evmig.require_second_person = on;
SET SESSION AUTHORIZATION runbook_author;
SELECT evmig_runbook_approve(:id, 'my own');
SET SESSION AUTHORIZATION runbook_approver;
SELECT evmig_runbook_approve(:id, 'looks fine');
SELECT state, approved_by, note FROM evmig.runbook WHERE runbook_id = :id;

-- ---- an approval does not last for ever
RESET SESSION AUTHORIZATION;
UPDATE evmig.runbook SET approved_at = approved_at - interval '1 day 1 minute' WHERE runbook_id = :id;
SET SESSION AUTHORIZATION runbook_author;
\set VERBOSITY terse
CALL evmig_runbook_execute(:id);
\set VERBOSITY default
RESET SESSION AUTHORIZATION;
UPDATE evmig.runbook SET approved_at = approved_at + interval '1 day 1 minute' WHERE runbook_id = :id;

-- ---- nor for more rows than were looked at: 11 more are more than a fifth of 25
SET SESSION AUTHORIZATION runbook_author;
INSERT INTO business_events (request_id, payload) SELECT request_id, 'x' FROM witness WHERE id BETWEEN 22 AND 32;
CALL evmig_runbook_execute(:id);
DELETE FROM business_events WHERE id > 1000;

-- ---- not inside a transaction block
BEGIN;
CALL evmig_runbook_execute(:id);
ROLLBACK;

SELECT split_part(evmig_runbook_report(:id), E'\n', 3) AS result;

-- ---- executed; with require_runbook nothing else may change the table
RESET SESSION AUTHORIZATION;
SET evmig.require_runbook = on;
SET SESSION AUTHORIZATION runbook_author;
SELECT evmig_dedupe();
CALL evmig_path_a();
CALL evmig_runbook_execute(:id);
SELECT evmig_ingest_guard(mode => 'off');
SELECT state, started_at IS NOT NULL AS started, finished_at IS NOT NULL AS finished FROM evmig.runbook WHERE runbook_id = :id;
SELECT event, subject, job_id IS NOT NULL AS job, data - 'seconds' - 'generator' - 'checks' - 'batches' - 'result' AS data
FROM evmig.runbook_event WHERE runbook_id = :id AND event ~ 'step|exec|finish' ORDER BY seq;
SELECT * FROM evmig_audit();
SELECT count(*) FROM business_events_dupes_archived;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'business_events'::regclass AND attname = 'request_id';
SELECT indexrelid::regclass, indisunique, indisvalid FROM pg_index WHERE indrelid = 'business_events'::regclass ORDER BY 1;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'business_events'::regclass;
-- no row is lost, no key that was there has changed
SELECT count(*) FROM (SELECT * FROM witness WHERE request_id IS NOT NULL
	EXCEPT SELECT * FROM business_events EXCEPT SELECT * FROM business_events_dupes_archived) x;
INSERT INTO business_events (payload) VALUES ('the guard fills') RETURNING request_id IS NOT NULL AS filled;
-- done is done
SET client_min_messages = notice;
CALL evmig_runbook_execute(:id);
SET client_min_messages = warning;
SELECT evmig_runbook_approve(:id, 'again');
SELECT evmig_runbook_waive(:id, 'loser_share', 'late');

-- ---- the report
SELECT count(*) FILTER (WHERE line ~ '^## ') AS sections,
	count(*) FILTER (WHERE line ~ 'the chain is whole') AS whole,
	count(*) FILTER (WHERE line ~ '^\| restore_point \| again \\\| \\`x\\`') AS escaped,
	count(*) FILTER (WHERE line ~ '^\| (verify|dedupe|harden) \| done') AS steps
FROM string_to_table(evmig_runbook_report(:id), E'\n') line;
SELECT r -> 'chain' -> 'whole' AS whole, r -> 'runbook' ->> 'state' AS state,
	jsonb_array_length(r -> 'attestations') AS attestations,
	r #>> '{audits,0,figures,duplicate_rows}' AS before, r #>> '{audits,-1,figures,duplicate_rows}' AS after,
	(SELECT sum((a ->> 'rows')::int) FROM jsonb_array_elements(r -> 'archives') a) AS archived
FROM (SELECT evmig_runbook_report(:id, 'json')::jsonb AS r) x;
SELECT evmig_runbook_report(:id, 'pdf');

-- ---- rolled back: index, NOT NULL and guard go, archived rows return
SET client_min_messages = warning;
CALL evmig_runbook_rollback(:id);
SELECT state FROM evmig.runbook WHERE runbook_id = :id;
SELECT count(*), count(request_id), count(DISTINCT request_id) FROM business_events;
SELECT count(*) FROM (SELECT * FROM witness WHERE request_id IS NOT NULL EXCEPT SELECT * FROM business_events) x;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'business_events'::regclass AND attname = 'request_id';
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'business_events'::regclass;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'business_events'::regclass;
SELECT event, subject FROM evmig.runbook_event WHERE runbook_id = :id AND event <> 'step started'
	AND (event ~ 'roll' OR subject ~ 'roll') ORDER BY seq;
SET client_min_messages = notice;
CALL evmig_runbook_rollback(:id);
SET client_min_messages = warning;
CALL evmig_runbook_execute(:id);
DROP TABLE business_events, business_events_dupes_archived, witness CASCADE;
RESET SESSION AUTHORIZATION;
RESET evmig.require_runbook;
RESET evmig.require_second_person;

-- ---- duplicates that differ: the mode must be said; auto settles both kinds
SET SESSION AUTHORIZATION runbook_author;
CREATE TABLE events (id int PRIMARY KEY, request_id text, ts timestamptz DEFAULT '2026-01-01', payload text);
INSERT INTO events SELECT i, 'k' || i, '2026-01-01', 'p' FROM generate_series(1, 100) i;
INSERT INTO events VALUES (101, 'k1', '2026-01-02', 'p'), (102, 'k2', '2026-01-02', 'another');
SELECT evmig_runbook_open('events');
SELECT evmig_runbook_open('events', mode => 'auto', harden => false) AS id \gset
SELECT evmig_runbook_attest(:id, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item));
SELECT evmig_runbook_approve(:id, NULL);
CALL evmig_runbook_execute(:id);
SELECT id, request_id LIKE 'k%' AS kept FROM events WHERE id IN (1, 2, 102) ORDER BY id;
SELECT id FROM events_dupes_archived;
SELECT old_key FROM evmig.rekey WHERE target = 'events'::regclass;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'request_id';
CALL evmig_runbook_rollback(:id);
SELECT id, request_id FROM events WHERE id IN (1, 2, 101, 102) ORDER BY id;
DROP TABLE events, events_dupes_archived CASCADE;

-- ---- waivers: only what fails, and may be passed over
CREATE TABLE "Weird "".table" ("key'x" bigint, "when" date, "näme|`x`" text);
INSERT INTO "Weird "".table" SELECT i % 5, '2026-01-01', 'p' FROM generate_series(1, 20) i;
INSERT INTO "Weird "".table" VALUES (NULL, '2026-01-01', 'p');
CREATE SEQUENCE keys START 1000;
SELECT evmig_runbook_open('"Weird "".table"', 'key''x', 'when');
SELECT evmig_runbook_open('"Weird "".table"', 'key''x', 'when', generator => 'nextval(''keys'')') AS id \gset
SELECT evmig_runbook_attest(:id, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item));
SELECT evmig_runbook_approve(:id, 'x');
SELECT evmig_runbook_waive(:id, 'group_size', 'x');
SELECT evmig_runbook_waive(:id, 'privileges', 'x');
SELECT evmig_runbook_waive(:id, 'loser_share', NULL);
SELECT evmig_runbook_waive(:id, 'loser_share', 'a test: most rows are repeats');
SELECT evmig_runbook_approve(:id, 'x');
CALL evmig_runbook_execute(:id);
SELECT * FROM evmig_audit('"Weird "".table"', 'key''x');
SELECT count(*) FROM "Weird "".table_dupes_archived";
SELECT count(*) FROM "Weird "".table" WHERE "key'x" >= 1000;
DROP TABLE "Weird "".table", "Weird "".table_dupes_archived" CASCADE;
DROP SEQUENCE keys;

-- ---- path B: the empty table, by two people
CREATE TABLE empty (id int PRIMARY KEY, request_id uuid, ts timestamptz);
CREATE TABLE child (id int REFERENCES empty);
SELECT evmig_runbook_open('empty') AS id \gset
SELECT data FROM evmig.runbook_event WHERE runbook_id = :id AND event = 'decided';
SELECT evmig_runbook_attest(:id, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item));
SELECT evmig_runbook_approve(:id, 'reset', 'B');
SET SESSION AUTHORIZATION runbook_approver;
SELECT evmig_runbook_approve(:id, '', 'B');
SELECT evmig_runbook_approve(:id, 'reset', 'B');
-- a row came in
INSERT INTO empty VALUES (1);
CALL evmig_runbook_execute(:id);
DELETE FROM empty;
CALL evmig_runbook_execute(:id);
SELECT indexrelid::regclass, indisunique FROM pg_index WHERE indrelid = 'empty'::regclass ORDER BY 1;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'empty'::regclass AND attname = 'request_id';
CALL evmig_runbook_rollback(:id);
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'empty'::regclass;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'empty'::regclass AND attname = 'request_id';
DROP TABLE child, empty;

RESET SESSION AUTHORIZATION;
DROP SCHEMA runbook CASCADE;
DROP ROLE runbook_author, runbook_approver, runbook_stranger;

-- the story outlives the table and the role that opened it
SELECT runbook_id = :id AS last, split_part(evmig_runbook_report(runbook_id), E'\n', 3) AS result
	FROM evmig.runbook WHERE runbook_id = :id;
SELECT DISTINCT regexp_replace(split_part(evmig_runbook_report(runbook_id), E'\n', 3), '[0-9.]+ s:', 'N s:') AS result
	FROM evmig.runbook WHERE target_schema = 'runbook' ORDER BY 1;
