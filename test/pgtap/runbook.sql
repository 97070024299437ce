-- The contract of the runbook's functions: who may call what, when, and what it
-- leaves behind.
\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
SET client_min_messages = warning;
BEGIN;
SELECT plan(33);

CREATE ROLE tap_runbook_owner LOGIN;
CREATE ROLE tap_runbook_other;
CREATE SCHEMA "o'x" AUTHORIZATION tap_runbook_owner;
SET ROLE tap_runbook_owner;
CREATE TABLE "o'x"."Weird "".table" (id int PRIMARY KEY, "ключ" uuid, "when" date, "a|b" text);
INSERT INTO "o'x"."Weird "".table"
SELECT i, CASE WHEN i > 2 THEN md5((i / 2)::text)::uuid END, '2026-01-01', '<x>' FROM generate_series(1, 5) i;
INSERT INTO "o'x"."Weird "".table" SELECT i, gen_random_uuid(), '2026-01-01', '' FROM generate_series(6, 50) i;
CREATE FUNCTION pg_temp.open(how text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS
	$$ SELECT evmig_runbook_open('"o''x"."Weird "".table"', 'ключ', 'when', mode => how) $$;
CREATE FUNCTION pg_temp.attest(id bigint) RETURNS void LANGUAGE sql AS
	$$ SELECT evmig_runbook_attest(id, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item)) $$;

-- open
SELECT pg_temp.open() AS id \gset
SELECT is((SELECT (state, path, rows_to_remove)::text FROM evmig.runbook WHERE runbook_id = :id), '(open,A,1)', 'opened on path A with its figures');
SELECT is((SELECT array_agg(event ORDER BY seq) FROM evmig.runbook_event WHERE runbook_id = :id),
	ARRAY['opened', 'preflight', 'audit', 'decided'], 'preflight, audit and decision are recorded');
SELECT is((SELECT count(*)::int FROM evmig.job), 0, 'opening starts no job');
SELECT isnt(pg_temp.open('rekey'), :id::bigint, 'each runbook has a number of its own');
SELECT throws_ok($$ SELECT pg_temp.open('drop') $$, '22023', NULL, 'unknown mode');
SELECT throws_ok($$ SELECT evmig_runbook_open('"o''x"."Weird "".table"', 'key', 'when') $$, '42703', NULL, 'unknown key column');
SELECT throws_ok($$ SELECT evmig_runbook_open('pg_class') $$, '42809', NULL, 'a catalog table');

-- attest
SELECT throws_ok(format('SELECT evmig_runbook_approve(%s, NULL)', :id), '55000', NULL, 'no approval without attestations');
SELECT throws_ok(format('SELECT evmig_runbook_attest(%s, ''x'', ''y'')', :id), '42704', NULL, 'unknown item');
SELECT throws_ok(format('SELECT evmig_runbook_attest(%s, ''secrets'', '' '')', :id), '22023', NULL, 'no evidence');
SELECT throws_ok(format('SELECT evmig_runbook_attest(%s, ''secrets'', NULL)', :id), '22023', NULL, 'evidence NULL');
SELECT throws_ok(format('SELECT evmig_runbook_attest(%s, ''secrets'', ''y'', ''2001-01-01'')', :id), '22023', NULL, 'kept until the past');
SELECT throws_ok(format('SELECT evmig_runbook_attest(%s, ''[]'')', :id), '22023', NULL, 'not an object');
SELECT throws_ok(format('SELECT evmig_runbook_attest(%s, ''{"secrets": "x", "nope": "y"}'')', :id), '42704', NULL, 'one unknown item of several');
SELECT is((SELECT count(*)::int FROM evmig.runbook_event WHERE runbook_id = :id AND event = 'attested'), 0, 'all or none');
SELECT lives_ok(format('SELECT pg_temp.attest(%s)', :id), 'all at once');
SELECT is((SELECT count(*) FROM evmig.runbook_event WHERE runbook_id = :id AND event = 'attested'),
	(SELECT count(*) FROM evmig.runbook_item), 'each is an event');

-- waive
SELECT throws_ok(format('SELECT evmig_runbook_waive(%s, ''loser_share'', ''x'')', :id), '55000', NULL, 'a check that did not fail');
SELECT throws_ok(format('SELECT evmig_runbook_waive(%s, ''table'', ''x'')', :id), '55000', NULL, 'a check that is never waived');
SELECT throws_ok(format('SELECT evmig_runbook_waive(%s, ''loser_share'', '''')', :id), '22023', NULL, 'no reason');

-- approve
SELECT throws_ok(format('SELECT evmig_runbook_approve(%s, ''x'', ''C'')', :id), '22023', NULL, 'unknown path');
SELECT throws_ok(format('SELECT evmig_runbook_approve(%s, ''x'', ''B'')', :id), '55000', NULL, 'path B needs an empty table');
SELECT throws_ok(format('SELECT evmig_runbook_script(%s)', :id), '55000', NULL, 'no script without approval');
SELECT lives_ok(format('SELECT evmig_runbook_approve(%s, NULL)', :id), 'approved');
INSERT INTO "o'x"."Weird "".table" SELECT 50 + i, (SELECT "ключ" FROM "o'x"."Weird "".table" WHERE id = 6), '2026-01-01', '' FROM generate_series(1, 2) i;
SELECT throws_like(format('SELECT evmig_runbook_approve(%s, NULL)', :id), '%the rows to remove grew from 1 to 3', 'too many more rows to remove');
DELETE FROM "o'x"."Weird "".table" WHERE id > 50;

-- execute
SELECT throws_ok(format('CALL evmig_runbook_execute(%s)', :id), '25001', NULL, 'execute not in a transaction block');
SELECT throws_ok(format('CALL evmig_runbook_rollback(%s)', :id), '25001', NULL, 'rollback not in a transaction block');
SELECT throws_ok($$ CALL evmig_path_a('"o''x"."Weird "".table"', 'ключ', 'when') $$, '25001', NULL, 'path A not in a transaction block');
SELECT lives_ok($$ CALL evmig_path_a('"o''x"."Weird "".table"', 'ключ', 'when', dry_run => true) $$, 'its dry run is welcome anywhere');

-- report and script
SELECT matches(evmig_runbook_report(:id), '^# Runbook [0-9]+: "o''x"."Weird "".table"', 'report in Markdown');
SELECT is(evmig_runbook_report(:id, 'json')::jsonb #>> '{chain,whole}', 'true', 'report in JSON, the chain is whole');
SELECT matches(evmig_runbook_script(:id), 'UPDATE ONLY "o''x"."Weird "".table" t SET "ключ" = ', 'script');

-- others
SET ROLE tap_runbook_other;
SELECT throws_ok(format('SELECT evmig_runbook_report(%s)', :id), '42704', NULL, 'what you may not see does not exist');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
