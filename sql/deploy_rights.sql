-- Whose rights a migration has, whatever it tries; and who sees what.
SET client_min_messages = warning;
CREATE ROLE deploy_dev;
CREATE ROLE deploy_other;
CREATE ROLE deploy_none;
DO $$ BEGIN EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO deploy_dev, deploy_other', current_database()); END $$;
CREATE SCHEMA deploy_dev AUTHORIZATION deploy_dev;
GRANT CREATE, USAGE ON SCHEMA deploy_dev TO PUBLIC;
TRUNCATE evmig.deploy, evmig.deploy_item RESTART IDENTITY;
RESET client_min_messages;
SET search_path = deploy_dev, public;
\set VERBOSITY terse

-- the session's authorization is no way out
SET SESSION AUTHORIZATION deploy_dev;
SELECT evmig_migration_register('r1', 'RESET SESSION AUTHORIZATION; CREATE TABLE r_one (a int)');
CALL evmig_deploy(phases => '{migrations}');
SELECT evmig_migration_register('r1', 'DO $$ BEGIN PERFORM set_config(''session_authorization'', ''postgres'', false); END $$; CREATE TABLE r_one (a int)');
CALL evmig_deploy(phases => '{migrations}');
SELECT evmig_migration_register('r1', 'DO $$ BEGIN SET ROLE NONE; END $$; CREATE TABLE r_one (a int)');
CALL evmig_deploy(phases => '{migrations}');
RESET SESSION AUTHORIZATION;
CALL evmig_deploy(phases => '{migrations}');
SELECT to_regclass('r_one') IS NULL AS not_there;

-- nor what is left behind for the session to find
CREATE TEMP TABLE mine (a int);
SET ROLE deploy_dev;
SELECT evmig_migration_register('r1', 'CREATE TEMP TABLE r_one (a int)');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');
SET ROLE deploy_dev;
\set VERBOSITY sqlstate
SELECT evmig_migration_register('r1', 'CREATE DOMAIN pg_temp.name AS text CHECK (VALUE <> '''')');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');
SELECT count(*) FROM pg_type WHERE typnamespace = pg_my_temp_schema() AND typname = 'name';
SET ROLE deploy_dev;
SELECT evmig_migration_register('r1', 'CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS ''SELECT 1''');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');
\set VERBOSITY terse
SET ROLE deploy_dev;
SELECT evmig_migration_register('r1', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');

-- nor what waits for the commit
SET ROLE deploy_dev;
CREATE TABLE r_seen (who name);
CREATE FUNCTION r_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO deploy_dev.r_seen VALUES (current_user); RETURN NULL; END $$;
CREATE TABLE r_table (a int);
CREATE CONSTRAINT TRIGGER r_note AFTER INSERT ON r_table DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION r_note();
SELECT evmig_migration_register('r1', 'INSERT INTO r_table VALUES (1)');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');
SELECT count(*) FROM r_table;
SET ROLE deploy_dev;
SELECT evmig_migration_register('r1', 'SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO r_table VALUES (1)');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');
SELECT who FROM r_seen;

-- nor does a setting stay
SET ROLE deploy_dev;
SELECT evmig_migration_register('r2', 'SET work_mem = 77; SELECT set_config(''lock_timeout'', ''88'', false); SET ROLE deploy_dev');
SELECT evmig_migration_register('r2', 'SET work_mem = 77; SELECT set_config(''lock_timeout'', ''88'', false); CREATE SCHEMA r_schema');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');
SELECT current_setting('work_mem') <> '77kB' AS work_mem, current_setting('lock_timeout') <> '88ms' AS lock_timeout,
	current_user = session_user AS role;
SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'r_schema';

-- a pending text is its registrant's
SET ROLE deploy_dev;
SELECT evmig_migration_register('r3', 'CREATE TABLE r_three (a int)');
SET ROLE deploy_other;
SELECT evmig_migration_register('r3', 'CREATE TABLE r_three (b int)');
SELECT evmig_migration_register('r3', 'CREATE TABLE r_three (a int)');
SELECT count(*) FROM evmig.migration;
CALL evmig_deploy(phases => '{migrations}');
SELECT item, status FROM evmig_deploy_report();
-- nor for others to take for applied
SELECT evmig_migration_baseline('r3');
SELECT evmig_migration_unregister('r3');
RESET ROLE;
SELECT version, state FROM evmig.migration WHERE version LIKE 'r3%';
DO $$ BEGIN EXECUTE format('GRANT deploy_dev TO deploy_other'); END $$;
SET ROLE deploy_other;
CALL evmig_deploy(phases => '{migrations}');
RESET ROLE;
SELECT relowner::regrole FROM pg_class WHERE relname = 'r_three';

-- nobody sees what others deployed
REVOKE deploy_dev FROM deploy_other;
CALL evmig_deploy(phases => '{migrations}');
SET ROLE deploy_other;
SELECT count(*) FROM evmig.migration;
SELECT DISTINCT deployed_by FROM evmig.deploy;
SELECT count(*) FROM evmig_deploy_report();
SELECT evmig_deploy_summary(format => 'json')::jsonb -> 'items' -> 0 ->> 'item' AS item;
RESET ROLE;
SELECT max(deploy_id) AS deploy FROM evmig.deploy \gset
SET ROLE deploy_other;
\set VERBOSITY sqlstate
SELECT * FROM evmig_deploy_report(:deploy);
SELECT evmig_deploy_summary(:deploy);
SET ROLE deploy_none;
SELECT evmig_migration_baseline('r9');
SELECT evmig_migration_unregister('r9');
CALL evmig_deploy();
\set VERBOSITY terse
RESET ROLE;

-- the role that registered it is gone
SET ROLE deploy_other;
SELECT evmig_migration_register('r4', 'CREATE TABLE r_four (a int)');
RESET ROLE;
SET client_min_messages = warning;
DROP OWNED BY deploy_other;
DROP ROLE deploy_other;
RESET client_min_messages;
CALL evmig_deploy(phases => '{migrations}');
SELECT evmig_migration_register('r4', 'CREATE TABLE r_four (a int)');
CALL evmig_deploy(phases => '{migrations}');

-- the live guard judges a migration's statements as the session's own
CREATE TABLE r_live (a int);
CREATE FUNCTION r_change() RETURNS void LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
SELECT evmig_migration_register('r5', 'SELECT r_change()');
CREATE OR REPLACE FUNCTION r_change() RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE r_live SET a = 1 WHERE a = 2; END $$;
SET evmig.guard = 'error';
CALL evmig_deploy(phases => '{migrations}');
SELECT evmig_migration_register('r5', 'ALTER TABLE r_live ADD COLUMN b int; CREATE TABLE r_five (a int); INSERT INTO r_five SELECT 1');
CALL evmig_deploy(phases => '{migrations}');
RESET evmig.guard;

-- what a migration cannot be
SELECT evmig_migration_register('r6', 'VACUUM r_live');
SELECT evmig_migration_register('r6', 'CREATE TABLE r_six (a int); ALTER SYSTEM SET work_mem = 64');
SELECT evmig_migration_register('r6', 'CREATE INDEX CONCURRENTLY ON r_live (a)');
SELECT evmig_migration_register('r6', 'CREATE TABLE r_six (a int); COPY r_six FROM STDIN');
SELECT evmig_migration_register('r6', 'COPY r_live TO STDOUT');
SELECT evmig_migration_register('r6', 'CREATE TABEL r_six (a int)');
SELECT evmig_migration_register('r6', 'DROP EXTENSION evmig');
CALL evmig_deploy(phases => '{migrations}');
SELECT evmig_migration_register('r6', 'DO $$ BEGIN COMMIT; END $$');
CALL evmig_deploy(phases => '{migrations}');
SELECT evmig_migration_register('r6', 'CALL evmig_deploy()');
CALL evmig_deploy(phases => '{migrations}');

SET client_min_messages = warning;
DELETE FROM evmig.deploy_item;
DELETE FROM evmig.deploy;
DELETE FROM evmig.migration WHERE version LIKE 'r%';
DROP SCHEMA deploy_dev, r_schema CASCADE;
RESET search_path;
DROP TABLE mine;
DROP OWNED BY deploy_dev;
DROP ROLE deploy_dev, deploy_none;
