--
-- Backfills: the settings that a batch runs under, whatever the application has set
--
SET client_min_messages = warning;
CREATE ROLE backfill_settings LOGIN;
CREATE ROLE backfill_group;
GRANT backfill_group TO backfill_settings;
CREATE SCHEMA backfill_settings AUTHORIZATION backfill_settings;
SET search_path = backfill_settings, public;
ALTER ROLE backfill_settings SET statement_timeout = '1ms';
ALTER ROLE backfill_settings SET lock_timeout = '1ms';
ALTER ROLE backfill_settings SET idle_in_transaction_session_timeout = '1ms';
ALTER ROLE backfill_settings SET idle_session_timeout = '1ms';
ALTER ROLE backfill_settings SET default_transaction_isolation = 'serializable';
ALTER ROLE backfill_settings SET default_transaction_read_only = on;
ALTER ROLE backfill_settings SET session_replication_role = 'replica';
ALTER ROLE backfill_settings SET role = 'backfill_group';
ALTER ROLE backfill_settings SET exit_on_error = on;
ALTER ROLE backfill_settings SET enable_tidscan = off;
ALTER ROLE backfill_settings SET plan_cache_mode = 'force_custom_plan';
ALTER ROLE backfill_settings SET search_path = backfill_settings, pg_catalog;

SET ROLE backfill_settings;
CREATE TABLE due (id int PRIMARY KEY, n int);
INSERT INTO due SELECT g FROM generate_series(1, 100) g;
CREATE TABLE seen (at serial, who text, statement text, lock text, idle text, isolation text, origin text, tids text, plans text, path text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO backfill_settings.seen (who, statement, lock, idle, isolation, origin, tids, plans, path)
	VALUES (current_user, current_setting('statement_timeout'), current_setting('lock_timeout'),
		current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_isolation'),
		current_setting('session_replication_role'), current_setting('enable_tidscan'),
		current_setting('plan_cache_mode'), current_setting('search_path'));
	-- what a trigger leaves behind does not outlive its batch either
	SET default_transaction_read_only = on;
	SET default_transaction_isolation = 'serializable';
	SET lock_timeout = 7;
	SET ROLE backfill_group;
	RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE UPDATE ON due FOR EACH STATEMENT EXECUTE FUNCTION see();
-- the first statement waits for nobody, where it clashes the second one waits for evmig.ddl_lock_timeout
SELECT evmig_backfill_register('settings', 'due', 'n = 1', 'n IS NULL', batch_size => 20, adaptive => false, sleep_ms => 0);
SELECT evmig_backfill_start('settings') AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done FROM evmig_jobs WHERE job_id = :job;
SELECT count(*) AS batches, who, statement, lock, idle, isolation, origin, tids, plans, path FROM seen GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10;
RESET ROLE;
RESET default_transaction_read_only;

-- while it holds no row a batch waits long, with rows it does not; here a routine shows the latter
SET ROLE backfill_settings;
DROP TRIGGER see ON due;
CREATE TABLE called (lock text);
CREATE FUNCTION work(target regclass, tids tid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE changed bigint; BEGIN
	INSERT INTO called VALUES (current_setting('lock_timeout'));
	UPDATE due SET n = 2 WHERE ctid = ANY (tids); GET DIAGNOSTICS changed = ROW_COUNT; RETURN changed;
END $$;
SELECT evmig_backfill_register_call('held', 'due', 'work(regclass,tid[])', 'n = 1', sleep_ms => 0);
SELECT evmig_backfill_start('held') AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done FROM evmig_jobs WHERE job_id = :job;
SELECT DISTINCT lock FROM called;
SELECT name, setting, unit FROM pg_settings
WHERE name IN ('evmig.data_lock_timeout', 'evmig.data_statement_timeout', 'evmig.data_idle_timeout', 'evmig.ddl_lock_timeout') ORDER BY name;

-- a batch that takes too long ends the job, as its own setting says
SELECT evmig_backfill_register('slow', 'due', 'n = 3 + length(pg_sleep(20)::text)', 'n = 2', sleep_ms => 0);
SET evmig.data_statement_timeout = '100ms';
SELECT evmig_backfill_start('slow') AS job \gset
RESET evmig.data_statement_timeout;
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, rows_done, sqlstate, message FROM evmig_jobs WHERE job_id = :job;
RESET ROLE;

-- in the session of a procedure: what the role has set does not end it
ALTER ROLE backfill_settings RESET ALL;
ALTER DATABASE :DBNAME SET statement_timeout = '1s';
UPDATE due SET n = NULL;
CREATE FUNCTION nap() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 5 FROM (SELECT pg_sleep(0.02)) s';
GRANT EXECUTE ON FUNCTION nap() TO backfill_settings;
\c -
SET SESSION AUTHORIZATION backfill_settings;
SET search_path = backfill_settings, public;
SET client_min_messages = warning;
SELECT evmig_backfill_register('napping', 'due', 'n = nap()', 'n IS NULL', batch_size => 1, adaptive => false, sleep_ms => 0);
SHOW statement_timeout;
CALL evmig_backfill_run('napping');
SELECT state, rows_done FROM evmig_jobs WHERE name = 'napping';
SHOW statement_timeout;

-- nor do its batches escape a timeout of their own
UPDATE due SET n = 2;
SET evmig.data_statement_timeout = '100ms';
\set VERBOSITY sqlstate
CALL evmig_backfill_run('slow');
\set VERBOSITY default
SELECT state, message FROM evmig_jobs WHERE name = 'slow' ORDER BY job_id DESC LIMIT 1;
RESET evmig.data_statement_timeout;

-- what the caller has set for this session ends the CALL, and the job with it
SET statement_timeout = '2500ms';
SELECT evmig_backfill_register('slowly', 'due', 'n = 4 + length(pg_sleep(0.05)::text)', 'n = 2', batch_size => 1, adaptive => false, sleep_ms => 0);
\set VERBOSITY sqlstate
CALL evmig_backfill_run('slowly');
\set VERBOSITY default
SELECT state, rows_done BETWEEN 1 AND 99 AS some, rows_done = (SELECT count(*) FROM due WHERE n = 4) AS exact
FROM evmig_jobs WHERE name = 'slowly';
-- the session is as it was
SHOW statement_timeout;
SHOW evmig.batch_size;
SHOW lock_timeout;
SHOW plan_cache_mode;
RESET statement_timeout;

\c -
SET client_min_messages = warning;
ALTER DATABASE :DBNAME RESET statement_timeout;
SELECT evmig_backfill_unregister(name) FROM evmig.backfill WHERE target = 'backfill_settings.due'::regclass;
DROP SCHEMA backfill_settings CASCADE;
DELETE FROM evmig.job WHERE owner = 'backfill_settings'::regrole;
DROP OWNED BY backfill_settings, backfill_group;
DROP ROLE backfill_settings, backfill_group;
