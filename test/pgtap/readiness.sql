-- The six points of a production check hold, and each can fail.
SELECT plan(17);

SET client_min_messages = error;
CREATE SCHEMA readiness;
CREATE TABLE readiness.leads (id int PRIMARY KEY, direction text);
INSERT INTO readiness.leads SELECT g FROM generate_series(1, 1000) g;
SELECT evmig_backfill_register('readiness leads', 'readiness.leads', 'direction = ''in''', 'direction IS NULL', sleep_ms => 0);
CALL evmig_backfill_run('readiness leads');
CALL evmig_backfill_run('readiness leads');

SELECT is(result, 'pass', point || ': ' || evidence) FROM evmig_readiness();

-- the probe left nothing behind
SELECT is_empty($$ SELECT name FROM evmig.backfill WHERE name LIKE '%probe%' $$, 'the probe is gone');
-- each point can fail
BEGIN;
INSERT INTO evmig.deploy (deployed_by, quiesce, wait_for, phases, state) VALUES (current_user::regrole, 'warn', 'backfills', '{backfills}', 'failed');
INSERT INTO evmig.deploy_item (deploy_id, phase, item, status, seconds, job_id)
	SELECT (SELECT max(deploy_id) FROM evmig.deploy), 'backfills', name, 'started', 0, job_id FROM evmig.job WHERE name = 'readiness leads';
UPDATE evmig.job SET state = 'failed' WHERE name = 'readiness leads';
SELECT is(result, 'fail', 'a deployment that failed by its backfill fails') FROM evmig_readiness() WHERE point LIKE 'backfills cannot%';
ROLLBACK;
BEGIN;
ALTER TABLE readiness.leads DROP COLUMN direction;
SELECT is(result, 'fail', 'a backfill that can be run no more fails') FROM evmig_readiness() WHERE point LIKE 'batches skip%';
DROP TABLE readiness.leads;
SELECT matches(evidence, '"readiness leads" can be run no more: its table does not exist', 'and is named') FROM evmig_readiness() WHERE point LIKE 'batches skip%';
ROLLBACK;
BEGIN;
UPDATE evmig.job SET state = 'running' WHERE job_id = (SELECT max(job_id) FROM evmig.job WHERE name = 'readiness leads');
SELECT is(result, 'fail', 'a job that nobody has taken up fails') FROM evmig_readiness() WHERE point LIKE 'backfills are idem%';
ROLLBACK;
BEGIN;
UPDATE evmig.job_chunk SET last_rows = 1000000;
SELECT is(result, 'fail', 'a large batch fails') FROM evmig_readiness() WHERE point LIKE 'small%';
ROLLBACK;
BEGIN;
UPDATE evmig.job_chunk SET last_ms = 3600000;
SELECT is(result, 'fail', 'so does a long one') FROM evmig_readiness() WHERE point LIKE 'small%';
ROLLBACK;
-- timeouts that are not apart are seen
SET evmig.data_lock_timeout = 0;
SELECT is(result, 'fail', 'no lock_timeout for data fails') FROM evmig_readiness() WHERE point LIKE 'timeouts%';
RESET evmig.data_lock_timeout;
-- it is for who may deploy
CREATE ROLE readiness_other;
SET ROLE readiness_other;
SELECT throws_ok('SELECT * FROM evmig_readiness()', '42501', NULL, 'others may not ask');
RESET ROLE;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO readiness_other', current_database()); END $$;
SET ROLE readiness_other;
SELECT is(count(*) FILTER (WHERE result = 'fail'), 0::bigint, 'who may deploy may, without being a superuser') FROM evmig_readiness();
SELECT is(result, 'pass', point) FROM evmig_readiness() WHERE point LIKE 'the guard catches%';
RESET ROLE;

DROP OWNED BY readiness_other;
DROP ROLE readiness_other;
SELECT evmig_backfill_unregister('readiness leads');
DROP SCHEMA readiness CASCADE;
SELECT * FROM finish();
