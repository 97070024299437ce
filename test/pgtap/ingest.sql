-- what evmig_ingest_guard and evmig_ingest_culprits promise
\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
SET client_min_messages = warning;
SELECT plan(26);

SELECT function_returns('evmig_ingest_guard', ARRAY['regclass', 'name', 'text', 'text', 'text'], 'void');
SELECT volatility_is('evmig_ingest_guard', ARRAY['regclass', 'name', 'text', 'text', 'text'], 'volatile');
SELECT isnt_strict('evmig_ingest_guard', ARRAY['regclass', 'name', 'text', 'text', 'text']);
SELECT ok(obj_description('evmig_ingest_guard(regclass,name,text,text,text)'::regprocedure) IS NOT NULL, 'it has a comment');
SELECT view_owner_is('evmig_ingest_culprits', current_user);
SELECT ok(NOT has_function_privilege('pg_read_all_data', 'evmig.ingest_guard()', 'EXECUTE'), 'its trigger function is nobody''s');
SELECT ok(NOT has_table_privilege('pg_read_all_data', 'evmig.ingest_culprit', 'INSERT, UPDATE, DELETE, TRUNCATE'), 'nor may anybody write the culprits');

CREATE TABLE business_events (id int, request_id uuid, ts timestamptz);
-- not within lives_ok(), whose subtransaction it refuses
SELECT is(evmig_ingest_guard()::text, '', 'the defaults come from the settings');
SELECT has_trigger('business_events', '~evmig_ingest_guard');
SELECT results_eq('SELECT tgenabled, tgtype::int FROM pg_trigger WHERE tgrelid = ''business_events''::regclass',
	$$ VALUES ('A'::"char", 1 | 2 | 4 | 16) $$, 'ALWAYS, BEFORE INSERT OR UPDATE FOR EACH ROW');
INSERT INTO business_events SELECT i FROM generate_series(1, 1000) i;
SELECT is((SELECT evmig_audit())::text, '(1000,0,0,0)', 'no NULL, each key of its own');
SELECT is(evmig_ingest_guard(mode => NULL, duplicates => NULL, generator => NULL)::text, '', 'NULL is the default');
SELECT is(evmig_ingest_guard(mode => 'off')::text, '', 'off');
SELECT hasnt_trigger('business_events', '~evmig_ingest_guard');
SELECT is(evmig_ingest_guard(mode => 'off')::text, '', 'off twice');

BEGIN;
SELECT throws_ok('SELECT evmig_ingest_guard()', '25001', NULL, 'not inside a transaction block');
ROLLBACK;

-- equality is what a unique index sees
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE collated (request_id text COLLATE no_case);
CREATE INDEX ON collated (request_id);
SELECT is(evmig_ingest_guard('collated', mode => 'reject', duplicates => 'reject')::text, '', 'reject');
SELECT lives_ok($$ INSERT INTO collated VALUES ('a'), ('á') $$, 'two keys');
SELECT throws_ok($$ INSERT INTO collated VALUES ('A') $$, '23505', NULL, 'a collation that ignores case');
SELECT throws_ok($$ INSERT INTO collated VALUES (NULL) $$, '23502', NULL, 'no key');
CREATE EXTENSION IF NOT EXISTS citext;
CREATE DOMAIN ci_key AS citext;
CREATE TABLE ci (request_id ci_key);
CREATE INDEX ON ci (request_id);
SELECT is(evmig_ingest_guard('ci', duplicates => 'reject')::text, '', 'fill and reject');
SELECT lives_ok($$ INSERT INTO ci VALUES ('a'), (NULL), (NULL) $$, 'NULLs are filled');
SELECT throws_ok($$ INSERT INTO ci VALUES ('A') $$, '23505', NULL, 'a domain over citext');

-- many savepoints, one culprit
SELECT is(evmig_ingest_guard(mode => 'report')::text, '', 'report');
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		BEGIN
			INSERT INTO business_events VALUES (i);
			IF i % 2 = 0 THEN RAISE division_by_zero; END IF;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END $$;
SELECT is((SELECT sum(rows_filled) FROM evmig_ingest_culprits WHERE target = 'business_events'::regclass), 500::numeric, 'what was rolled back is not counted');
SELECT is((SELECT count(*) FROM evmig.ingest_culprit WHERE target = 'business_events'::regclass), 1::bigint, 'one row a transaction and culprit');

SELECT * FROM finish();
DELETE FROM evmig.ingest_culprit WHERE target = 'business_events'::regclass;
DROP TABLE business_events, collated, ci;
DROP DOMAIN ci_key;
DROP COLLATION no_case;
