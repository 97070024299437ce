-- what evmig_dedupe, evmig_restore and evmig_archive_purge promise
\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
SET client_min_messages = warning;
SET evmig.max_loser_pct = 100;
SET evmig.batch_sleep = 0;
SELECT plan(27);

SELECT has_function('evmig_dedupe', ARRAY['regclass', 'name', 'name', 'text', 'text', 'text']);
SELECT function_returns('evmig_dedupe', ARRAY['regclass', 'name', 'name', 'text', 'text', 'text'], 'bigint');
SELECT has_function('evmig_restore', ARRAY['regclass', 'bigint', 'boolean']);
SELECT function_returns('evmig_restore', ARRAY['regclass', 'bigint', 'boolean'], 'bigint');
SELECT has_function('evmig_archive_purge', ARRAY['regclass', 'interval']);
SELECT function_returns('evmig_archive_purge', ARRAY['regclass', 'interval'], 'bigint');

-- the defaults: business_events, request_id, ts, archive
CREATE TABLE business_events (id int, request_id text, ts int);
INSERT INTO business_events VALUES (1, 'a', 3), (2, 'a', 1), (3, 'a', NULL), (4, NULL, 1), (5, NULL, 2), (6, 'b', 1);
CREATE TABLE before AS SELECT * FROM business_events;
SELECT evmig_dedupe() AS job \gset
CALL evmig_wait(:job);
SELECT results_eq('SELECT id FROM business_events ORDER BY id', 'VALUES (2), (4), (5), (6)',
	'the earliest stays, NULL is last, rows without a key are left alone');
SELECT bag_eq('SELECT * FROM business_events UNION ALL SELECT * FROM business_events_dupes_archived', 'SELECT * FROM before',
	'rows are conserved');
SELECT is((SELECT rows_done FROM evmig_jobs WHERE job_id = :job), 2::bigint, 'the job counts what it removed');
SELECT is((SELECT archived_rows FROM evmig.archive WHERE job_id = :job), 2::bigint, 'so does the archive');
SELECT is((SELECT DISTINCT tableoid::regclass::text FROM business_events_dupes_archived),
	format('business_events_dupes_archived_%s', :job), 'tableoid says which job');
SELECT table_owner_is('business_events_dupes_archived', current_user);
SELECT col_is_null('business_events_dupes_archived'::name, 'id'::name, 'the archive has no constraints');

-- restore
SELECT evmig_restore() AS job \gset
CALL evmig_wait(:job);
SELECT bag_eq('SELECT * FROM business_events', 'SELECT * FROM before', 'everything is back');
SELECT is_empty('SELECT FROM business_events_dupes_archived', 'and nothing is left in the archive');

-- purge
SELECT evmig_dedupe() AS job \gset
CALL evmig_wait(:job);
SELECT is(evmig_archive_purge(), 0::bigint, 'nothing is purged in the first 48 hours');
SELECT is(evmig_archive_purge(older_than => '0'), 2::bigint, 'a purge says how many rows');
SELECT is((SELECT archived_rows - restored_rows - purged_rows FROM evmig.archive WHERE job_id = :job), 0::bigint, 'and remembers it');
SELECT is_empty('SELECT FROM business_events_dupes_archived', 'the archive itself stays');

-- rekey and back
CREATE TABLE rk (id int PRIMARY KEY, request_id uuid, ts int);
INSERT INTO rk SELECT i, '11111111-1111-1111-1111-111111111111', i FROM generate_series(1, 5) i;
CREATE TABLE rk_before AS SELECT * FROM rk;
SELECT evmig_dedupe('rk', mode => 'rekey') AS job \gset
CALL evmig_wait(:job);
SELECT is((SELECT count(DISTINCT request_id) FROM rk), 5::bigint, 'each row has a key of its own');
SELECT bag_eq('SELECT id FROM rk WHERE id > 1', 'SELECT (row_identity ->> ''id'')::int FROM evmig.rekey WHERE target = ''rk''::regclass',
	'each change is logged');
SELECT evmig_restore('rk', :job) AS job \gset
CALL evmig_wait(:job);
SELECT bag_eq('SELECT * FROM rk', 'SELECT * FROM rk_before', 'the old keys are back');

-- errors
SELECT throws_ok($$ SELECT evmig_dedupe('rk', mode => 'none') $$, '22023');
SELECT throws_ok($$ SELECT evmig_dedupe('rk', on_referenced => 'none') $$, '22023');
SELECT throws_ok($$ SELECT evmig_restore('rk', 0) $$, '42704');
SELECT throws_ok($$ SELECT evmig_archive_purge('rk') $$, '25001', NULL, 'a purge is refused within a transaction of somebody else');
CREATE VIEW rk_dupes_archived AS SELECT 1;
SELECT throws_ok($$ SELECT evmig_dedupe('rk') $$, '42P07');

SELECT * FROM finish();
DROP VIEW rk_dupes_archived;
DROP TABLE business_events_dupes_archived CASCADE;
DROP TABLE business_events, before, rk, rk_before;
