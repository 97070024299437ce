-- what the registry of backfills promises, and every state of their jobs;
-- incomplete because of locked rows is in specs/backfill_locked
\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
SET client_min_messages = warning;
SELECT plan(41);

SELECT has_table('evmig', t, t) FROM unnest('{backfill, job_tenant, job_undo}'::name[]) t;
SELECT has_view('evmig_job_tenants');
SELECT function_returns(f, r) FROM (VALUES ('evmig_backfill_register', 'void'), ('evmig_backfill_replace', 'void'),
	('evmig_backfill_unregister', 'void'), ('evmig_backfill_start', 'bigint'), ('evmig_backfill_undo', 'bigint'),
	('evmig_backfill_start_all', 'setof bigint')) v(f, r);
SELECT ok(extconfig @> ARRAY['evmig.backfill'::regclass::oid], 'definitions are dumped') FROM pg_extension WHERE extname = 'evmig';
SELECT is(relrowsecurity, true, relname || ' hides rows of others') FROM pg_class
WHERE oid IN ('evmig.backfill'::regclass, 'evmig.job_tenant'::regclass, 'evmig.job_undo'::regclass) ORDER BY relname;

CREATE TABLE backfill_tap (id int PRIMARY KEY, a int, b text);
INSERT INTO backfill_tap SELECT g FROM generate_series(1, 500) g;
CREATE PROCEDURE backfill_await(b text, s text) LANGUAGE plpgsql AS $$
BEGIN LOOP EXIT WHEN (SELECT state FROM evmig_jobs WHERE name = b ORDER BY job_id DESC LIMIT 1) = s; COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$;

-- registry
SELECT lives_ok($$ SELECT evmig_backfill_register('tap', 'backfill_tap', 'a = 1', 'a IS NULL') $$, 'registers');
SELECT lives_ok($$ SELECT evmig_backfill_register('tap', 'backfill_tap', 'a = 1', 'a IS NULL') $$, 'the same again is a no-op');
SELECT throws_ok($$ SELECT evmig_backfill_register('tap', 'backfill_tap', 'a = 2', 'a IS NULL') $$, '42710', NULL, 'another one is refused');
SELECT throws_ok($$ SELECT evmig_backfill_register('x', 'backfill_tap', 'a = 1; DROP TABLE backfill_tap', 'true') $$, '42601', NULL, 'two statements');
SELECT throws_ok($$ SELECT evmig_backfill_register('x', 'backfill_tap', 'a = 1 --', 'true') $$, '42601', NULL, 'a comment that swallows the rest');
SELECT throws_ok($$ SELECT evmig_backfill_register('x', 'backfill_tap', 'a = nope', 'true') $$, '42703', NULL, 'unknown column');
SELECT throws_ok($$ SELECT evmig_backfill_register('x', 'backfill_tap', 'a = true', 'true') $$, '42804', NULL, 'wrong type');
SELECT throws_ok($$ SELECT evmig_backfill_register('x', 'backfill_tap', 'a = count(*)', 'true') $$, '42803', NULL, 'aggregate');
SELECT throws_ok($$ SELECT evmig_backfill_start('nope') $$, '42704', NULL, 'unknown name');
SELECT results_eq($$ SELECT name, set_list, where_clause, priority FROM evmig.backfill $$,
	$$ VALUES ('tap', 'a = 1', 'a IS NULL', 'medium') $$, 'nothing else was registered');

-- queued, and interrupted: marked as running while nobody is at work on it
BEGIN;
SELECT evmig_backfill_start('tap') AS job \gset
SELECT is(state, 'queued', 'queued until the transaction commits') FROM evmig_jobs WHERE job_id = :job;
UPDATE evmig.job SET state = 'running' WHERE job_id = :job;
SELECT is(j.state || ' ' || p.state, 'interrupted interrupted', 'interrupted without a worker')
FROM evmig_jobs j JOIN evmig_progress p USING (job_id) WHERE job_id = :job;
ROLLBACK;

-- succeeded
SELECT evmig_backfill_start('tap') AS job \gset
CALL evmig_wait(:job);
SELECT results_eq(format('SELECT state, rows_done, rows_unchanged, rows_failed, remaining FROM evmig_jobs WHERE job_id = %s', :job),
	$$ VALUES ('succeeded', 500::bigint, 0::bigint, 0::bigint, 0::bigint) $$, 'succeeded');
SELECT is(count(*), 500::bigint, 'each row was written') FROM backfill_tap WHERE a = 1;
SELECT is_empty('SELECT evmig_backfill_start_all()', 'what has just succeeded is not due');

-- failed
SELECT evmig_backfill_replace('tap', 'backfill_tap', 'a = 1 / (id - 250)', 'a = 1', sleep_ms => 0);
SELECT evmig_backfill_start('tap') AS job \gset
CALL backfill_await('tap', 'failed');
SELECT is(sqlstate, '22012', 'failed with the row''s error') FROM evmig_jobs WHERE job_id = :job;
SELECT results_eq(format('SELECT row_key, sqlstate FROM evmig_failures WHERE job_id = %s', :job),
	$$ VALUES ('{"id": "250"}', '22012') $$, 'the row is known');
SELECT is_empty('SELECT evmig_backfill_start_all()', 'what failed is left alone');

-- incomplete
UPDATE backfill_tap SET a = NULL;
SELECT evmig_backfill_replace('tap', 'backfill_tap', 'a = 1 / (id - 250)', 'a IS NULL', sleep_ms => 0, max_failures => 1);
SELECT evmig_backfill_start('tap') AS job \gset
CALL backfill_await('tap', 'incomplete');
SELECT results_eq(format('SELECT rows_done, rows_failed, remaining FROM evmig_jobs WHERE job_id = %s', :job),
	$$ VALUES (499::bigint, 1::bigint, 1::bigint) $$, 'not done while a row is left, though so many may fail');
SELECT is_empty('SELECT evmig_backfill_start_all()', 'what is incomplete is not due before the recheck interval');

-- paused, running, cancelled
UPDATE backfill_tap SET a = NULL;
SELECT evmig_backfill_replace('tap', 'backfill_tap', 'a = 1', 'a IS NULL', batch_size => 10, adaptive => false, sleep_ms => 3600000);
SELECT evmig_backfill_start('tap') AS job \gset
CALL backfill_await('tap', 'running');
SELECT throws_ok($$ SELECT evmig_backfill_replace('tap', 'backfill_tap', 'a = 2', 'a IS NULL') $$, '55006', NULL, 'not replaced while a job runs');
SELECT throws_ok($$ SELECT evmig_backfill_unregister('tap') $$, '55006', NULL, 'nor unregistered');
SELECT evmig_job_pause(:job);
CALL backfill_await('tap', 'paused');
SELECT is_empty('SELECT evmig_backfill_start_all()', 'what is paused is left alone');
SELECT is(evmig_backfill_start('tap'), :job::bigint, 'started by name it is resumed');
CALL backfill_await('tap', 'running');
SELECT evmig_job_cancel(:job);
CALL backfill_await('tap', 'cancelled');
SELECT is_empty('SELECT evmig_backfill_start_all()', 'what is cancelled is left alone');
SELECT is(rows_done, (SELECT count(*) FROM backfill_tap WHERE a = 1), 'its counter is exact') FROM evmig_jobs WHERE job_id = :job;
SELECT lives_ok($$ SELECT evmig_backfill_unregister('tap') $$, 'unregisters');

DROP TABLE backfill_tap;
DROP PROCEDURE backfill_await(text, text);
SELECT * FROM finish();
