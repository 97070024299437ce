--
-- Governor: limits, what bites, settings of one job, stopping everything
--
SET client_min_messages = warning;
LOAD 'evmig';
CREATE ROLE governor_owner LOGIN;
CREATE ROLE governor_other LOGIN;
CREATE SCHEMA governor AUTHORIZATION governor_owner;
GRANT USAGE ON SCHEMA governor TO PUBLIC;
SET search_path = governor, public;

-- wait until a query returns true; fails after three minutes
CREATE PROCEDURE await(query text) LANGUAGE plpgsql AS $$
DECLARE
	met boolean;
BEGIN
	FOR i IN 1..1800 LOOP
		EXECUTE query INTO met;
		COMMIT;
		IF met THEN RETURN; END IF;
		PERFORM pg_sleep(0.1);
	END LOOP;
	RAISE EXCEPTION 'never: %', query;
END $$;
GRANT EXECUTE ON PROCEDURE await TO PUBLIC;

SET ROLE governor_owner;
CREATE TABLE "Weird "".table" (id int, "o'x Ключ" uuid);
INSERT INTO "Weird "".table" SELECT g FROM generate_series(1, 100000) g;
CREATE TABLE knob (value numeric);
INSERT INTO knob VALUES (0);
CREATE VIEW progress AS SELECT throttle, rows_done, throttled, state FROM evmig_progress
	WHERE target = '"Weird "".table"'::regclass;

-- every signal has two limits
RESET ROLE;
SELECT name, setting, unit, context FROM pg_settings
WHERE name LIKE 'evmig.throttle%' ORDER BY name COLLATE "C";
SELECT name, setting, context FROM pg_settings WHERE name IN ('evmig.databases', 'evmig.max_workers') ORDER BY name;
SET evmig.max_workers = 60;
SET evmig.throttle_replica_lag_bytes_soft = '1 GB';
SHOW evmig.throttle_replica_lag_bytes_soft;
\set VERBOSITY sqlstate
SET evmig.throttle_replica_lag_bytes_soft = -1;
\set VERBOSITY default
SET evmig.throttle_replica_lag_hard = '1 furlong';
RESET evmig.throttle_replica_lag_bytes_soft;
SET ROLE governor_owner;

-- a query of the user's: between the limits it slows down
SET evmig.adaptive = off;
SET evmig.batch_size = 10;
SET evmig.batch_sleep = '20ms';
SET evmig.throttle_query = 'SELECT value FROM governor.knob';
SET evmig.throttle_query_soft = 10;
SET evmig.throttle_query_hard = 20;
UPDATE knob SET value = 15;
SELECT evmig_backfill_request_id('"Weird "".table"', 'o''x Ключ') AS job \gset
CALL await('SELECT throttle IS NOT NULL FROM governor.progress');
SELECT throttle FROM progress;

-- at the hard one it pauses, and nothing is done any more
UPDATE knob SET value = 25.5;
CALL await($$SELECT throttle ~ 'paused' FROM governor.progress$$);
SELECT throttle, state FROM progress;
SELECT rows_done AS before FROM progress \gset
CALL await('SELECT throttled > ''2 s'' FROM governor.progress');
SELECT rows_done - :before AS done_while_paused FROM progress;

-- it goes on by itself
UPDATE knob SET value = 3;
CALL await('SELECT throttle IS NULL FROM governor.progress');
CALL await('SELECT rows_done > ' || :before || ' FROM governor.progress');

-- limits of one job can be changed while it is at work
UPDATE knob SET value = 15;
CALL await('SELECT throttle IS NOT NULL FROM governor.progress');
SELECT evmig_job_set(:job, 'throttle_query_hard', '12');
CALL await($$SELECT throttle ~ 'paused' FROM governor.progress$$);
SELECT throttle FROM progress;
SELECT evmig_job_set(:job, 'evmig.throttle_query_soft', '100');
SELECT evmig_job_set(:job, 'throttle_query_hard', '200');
CALL await('SELECT throttle IS NULL FROM governor.progress');
-- NULL: as the server has it, so off
SELECT evmig_job_set(:job, 'throttle_query_soft', NULL);
SELECT evmig_job_set(:job, 'throttle_query_hard', NULL);
UPDATE knob SET value = 1000;
SELECT settings ->> 'evmig.throttle_query_hard' AS hard, settings_version FROM evmig.job WHERE job_id = :job;

-- a query that fails, or that does not return a number, is not taken for "all is well"
SELECT evmig_job_set(:job, 'throttle_query', 'SELECT 1 / 0');
SELECT evmig_job_set(:job, 'throttle_query_hard', '20');
CALL await($$SELECT throttle ~ 'could not be read' FROM governor.progress$$);
SELECT throttle FROM progress;
SELECT evmig_job_set(:job, 'throttle_query', 'SELECT ''much''');
CALL await($$SELECT throttle ~ 'number' FROM governor.progress$$);
SELECT throttle FROM progress;
-- it reads only, briefly, and what it sets is undone
SELECT evmig_job_set(:job, 'throttle_query', 'UPDATE governor.knob SET value = 0 RETURNING value');
CALL await($$SELECT throttle ~ 'read-only' FROM governor.progress$$);
SELECT value FROM knob;
SELECT evmig_job_set(:job, 'throttle_query', 'SELECT 1 FROM pg_sleep(60)');
CALL await($$SELECT throttle ~ 'statement timeout' FROM governor.progress$$);
SELECT evmig_job_set(:job, 'throttle_query',
	$$SELECT CASE WHEN current_setting('evmig.batch_size') = '7' THEN 100 WHEN set_config('evmig.batch_size', '7', false) = '7' THEN 1 END$$);
CALL await('SELECT throttle IS NULL FROM governor.progress');
SELECT rows_done AS before FROM progress \gset
CALL await('SELECT rows_done >= 100 + ' || :before || ' FROM governor.progress');
SELECT throttle FROM progress;
-- with the job's rights, not with ours
RESET ROLE;
CREATE TABLE secret (value int);
INSERT INTO secret VALUES (1);
SELECT evmig_job_set(:job, 'throttle_query', 'SELECT value FROM governor.secret');
CALL await($$SELECT throttle ~ 'could not' FROM governor.progress$$);
SELECT throttle FROM progress;

-- bad input changes nothing
SET ROLE governor_owner;
SELECT evmig_job_set(:job, 'nope', '1');
SELECT evmig_job_set(:job, 'search_path', 'public');
SELECT evmig_job_set(:job, 'duty_cycle', '2');
SELECT evmig_job_set(:job, 'batch_sleep', '1 furlong');
SELECT evmig_job_set(:job, 'max_workers', '4');
SELECT evmig_job_set(:job, 'require_runbook', 'off');
SELECT evmig_job_set(:job, NULL, '4');
SELECT evmig_job_set(0, 'duty_cycle', '1');
SELECT settings ? 'evmig.nope' AS nope, settings ? 'evmig.duty_cycle' AS duty_cycle FROM evmig.job WHERE job_id = :job;
RESET ROLE;
SET ROLE governor_other;
\set VERBOSITY sqlstate
SELECT evmig_job_set(:job, 'duty_cycle', '1');
\set VERBOSITY default
-- others' jobs go on
SELECT evmig_stop_all();
RESET ROLE;

-- stop everything, also what is paused by a signal
SET ROLE governor_owner;
SELECT state FROM progress;
BEGIN;
SELECT evmig_stop_all();
ROLLBACK;
SELECT state FROM progress;
SELECT evmig_stop_all();
CALL await($$SELECT state = 'cancelled' FROM governor.progress$$);
SELECT throttle, state FROM progress;
SELECT evmig_stop_all();
\set VERBOSITY sqlstate
SELECT evmig_job_set(:job, 'duty_cycle', '1');
\set VERBOSITY default
RESET ROLE;

BEGIN READ ONLY;
SELECT evmig_stop_all();
ROLLBACK;

-- a value that the database's owner set is not run as somebody else
ALTER DATABASE :DBNAME SET evmig.throttle_query = 'SELECT 1000';
ALTER DATABASE :DBNAME SET evmig.throttle_query_hard = 10;
SET ROLE governor_owner;
RESET evmig.throttle_query;
RESET evmig.throttle_query_hard;
RESET evmig.throttle_query_soft;
SELECT evmig_backfill_request_id('"Weird "".table"', 'o''x Ключ') AS job \gset
CALL await('SELECT throttle IS NOT NULL FROM evmig_progress WHERE job_id = ' || :job);
SELECT throttle FROM evmig_progress WHERE job_id = :job;
SELECT evmig_stop_all();
RESET ROLE;
ALTER DATABASE :DBNAME RESET evmig.throttle_query;
ALTER DATABASE :DBNAME RESET evmig.throttle_query_hard;
CALL await('SELECT state = ''cancelled'' FROM evmig_progress WHERE job_id = ' || :job);

RESET search_path;
DROP SCHEMA governor CASCADE;
DROP OWNED BY governor_owner, governor_other;
DELETE FROM evmig.job WHERE owner = 'governor_owner'::regrole;
DROP ROLE governor_owner, governor_other;
