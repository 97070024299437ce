-- Migrations, indexes and backfills in their lanes: registering, order,
-- errors, privileges.
SET client_min_messages = warning;
CREATE ROLE deploy_owner;
CREATE ROLE deploy_other;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO deploy_owner', current_database()); END $$;
CREATE SCHEMA deploy_app AUTHORIZATION deploy_owner;
TRUNCATE evmig.deploy, evmig.deploy_item RESTART IDENTITY;
RESET client_min_messages;
SET search_path = deploy_app, public;
\set VERBOSITY terse

-- versions
SELECT evmig_migration_register('d1', 'CREATE TABLE deploy_leads (id int PRIMARY KEY, v int, tenant text)');
SELECT evmig_migration_register('d10', 'CREATE TABLE deploy_ten (a int)', 'the tenth');
SELECT evmig_migration_register('d2', 'ALTER TABLE deploy_leads ADD COLUMN direction text');
SELECT evmig_migration_register('d2', 'ALTER TABLE deploy_leads ADD COLUMN direction text');
SELECT evmig_migration_register('d2', 'ALTER TABLE deploy_leads ADD COLUMN call_direction text');
SELECT evmig_migration_register('d02', 'CREATE TABLE deploy_x (a int)');
SELECT evmig_migration_register('', 'CREATE TABLE deploy_x (a int)');
SELECT evmig_migration_register(E'a\tb', 'CREATE TABLE deploy_x (a int)');
SELECT evmig_migration_register(repeat('9', 201), 'CREATE TABLE deploy_x (a int)');
SELECT evmig_migration_register(NULL, 'CREATE TABLE deploy_x (a int)');
SELECT evmig_migration_register('d3', NULL);
SELECT evmig_migration_unregister(NULL);
SELECT evmig_migration_baseline(NULL);
SELECT evmig_migration_register('d3', '-- nothing');
SELECT evmig_migration_register('d3', 'BEGIN; CREATE TABLE deploy_x (a int); COMMIT');
SELECT evmig_migration_register('d9', 'CREATE TABLE deploy_nine (a int)');
SELECT evmig_migration_unregister('d9');
SELECT evmig_migration_unregister('d9');
\set VERBOSITY default
-- an error points into the text; what does not belong here is told where it does
SELECT evmig_migration_register('d3', E'CREATE TABLE deploy_x (a int);\nCREATE TABLE deploy_y (a int) \\g');
SELECT evmig_migration_register('d3', 'CREATE INDEX ON deploy_nowhere (a); DROP INDEX CONCURRENTLY deploy_nowhere_a; REINDEX INDEX CONCURRENTLY deploy_nowhere_a;
	ALTER TABLE deploy_nowhere ADD UNIQUE (a); UPDATE deploy_nowhere SET a = 1');
\set VERBOSITY terse
SELECT version, state, description, length(checksum) AS checksum FROM evmig.migration
	WHERE version LIKE 'd%' ORDER BY version_key;

-- nothing runs inside a transaction block, nor with a bad argument
BEGIN;
CALL evmig_deploy();
ROLLBACK;
CALL evmig_deploy('perhaps');
CALL evmig_deploy('warn', 'connections');
CALL evmig_deploy('warn', 'migrations', '{migrations,other}');
CALL evmig_deploy(NULL);
CALL evmig_deploy(phases => '{migrations,NULL}');

-- in natural order, each in its own transaction
CALL evmig_deploy(phases => '{migrations}');
SELECT version, state, applied_by FROM evmig.migration WHERE version LIKE 'd%' ORDER BY version_key;
SELECT phase, item, status, detail FROM evmig_deploy_report();
\d deploy_leads

-- a migration registers the index of its new column
SELECT evmig_index_register('deploy_new', 'CREATE INDEX ON deploy_ten (b)');
SELECT evmig_migration_register('d10.1', $$ALTER TABLE deploy_ten ADD COLUMN b int; SELECT evmig_index_register('deploy_new', 'CREATE INDEX ON deploy_ten (b)')$$);
SET client_min_messages = warning;
CALL evmig_deploy(wait_for => 'indexes', phases => '{migrations,indexes}');
RESET client_min_messages;
SELECT phase, item, status FROM evmig_deploy_report();
SELECT evmig_index_unregister('deploy_new');

-- final, in order
SELECT evmig_migration_register('d2', 'ALTER TABLE deploy_leads ADD COLUMN other text');
SELECT evmig_migration_unregister('d2');
SELECT evmig_migration_register('d5', 'CREATE TABLE deploy_five (a int)');
SELECT evmig_migration_register('d5', 'CREATE TABLE deploy_five (a int)', out_of_order => true);

-- the first failure ends it; what was applied stays
SELECT evmig_migration_register('d11', 'CREATE TABLE deploy_eleven (a int)');
\set VERBOSITY default
SELECT evmig_migration_register('d12', E'CREATE TABLE deploy_twelve (a int);\n\n  -- and then\n  ALTER TABLE deploy_nowhere ADD COLUMN b int');
SELECT evmig_migration_register('d13', 'CREATE TABLE deploy_thirteen (a int)');
CALL evmig_deploy(phases => '{migrations}');
SELECT phase, item, status FROM evmig_deploy_report();
-- an error in a function's body: its line in the text, or where that is not in it, the query
SELECT evmig_migration_register('d12', E'CREATE TABLE deploy_twelve (a int);\nCREATE FUNCTION deploy_f() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n\tRETRUN 1;\nEND $$');
CALL evmig_deploy(phases => '{migrations}');
SELECT evmig_migration_register('d12', E'CREATE TABLE deploy_twelve (a int);\nCREATE FUNCTION deploy_f() RETURNS int LANGUAGE sql AS \'\nSELECT length(\'\'x\'\') + nope\'');
CALL evmig_deploy(phases => '{migrations}');
SELECT to_regclass('deploy_eleven'), to_regclass('deploy_twelve'), to_regclass('deploy_thirteen');
\set VERBOSITY terse
SELECT evmig_migration_register('d12', 'CREATE TABLE deploy_twelve (a int)');
CALL evmig_deploy(phases => '{migrations}');

-- SET in a migration ends with it; the registrant's search_path counts
SET search_path = public;
SELECT evmig_migration_register('d14', 'SET search_path = deploy_app; SET statement_timeout = ''1min''; CREATE TABLE deploy_fourteen (a int)');
SET search_path = deploy_app, public;
CALL evmig_deploy(phases => '{migrations}');
SHOW search_path;
SHOW statement_timeout;
SELECT to_regclass('deploy_app.deploy_fourteen') IS NOT NULL AS there;

-- another tool's migrations
SELECT evmig_migration_register('d20', 'CREATE TABLE deploy_leads (id int)');
SELECT evmig_migration_register('d31', 'CREATE TABLE deploy_thirtyone (a int)');
SELECT evmig_migration_baseline('d30');
SELECT evmig_migration_baseline('d30');
SELECT evmig_migration_register('d29', 'CREATE TABLE deploy_x (a int)');
SELECT evmig_migration_register('d30', 'CREATE TABLE deploy_x (a int)');
CALL evmig_deploy(phases => '{migrations}');
SELECT version, state FROM evmig.migration WHERE version_key > 'd00214' AND version LIKE 'd%' ORDER BY version_key;

-- indexes; nobody else is to be at the table
ALTER TABLE deploy_leads SET (autovacuum_enabled = off);
INSERT INTO deploy_leads SELECT g, g % 10, 't' || g % 3 FROM generate_series(1, 100) g;
SELECT evmig_index_register('leads_v', 'CREATE INDEX ON deploy_leads (v) WHERE v > 3');
SELECT evmig_index_register('leads_v', 'create index concurrently leads_v on deploy_app.deploy_leads using btree (v) where (v > 3)');
SELECT evmig_index_register('leads_odd', 'CREATE UNIQUE INDEX "odd ""name" ON deploy_leads (lower(tenant), id DESC) INCLUDE (v)');
SELECT evmig_index_register('leads_dup', 'CREATE UNIQUE INDEX leads_dup ON deploy_leads (v)');
SELECT evmig_index_register('bad', 'CREATE INDEX ON deploy_leads (nosuch)');
SELECT evmig_index_register('bad', 'CREATE INDEX ON deploy_leads (v); DROP TABLE deploy_leads');
SELECT evmig_index_register('bad', 'SELECT 1');
SELECT evmig_index_register('bad', 'CREATE INDEX ON deploy_leads (random())');
SELECT evmig_index_register('', 'CREATE INDEX ON deploy_leads (v)');
SELECT evmig_index_register(NULL, 'CREATE INDEX ON deploy_leads (v)');
SELECT evmig_index_register('bad', NULL);
SELECT evmig_index_unregister(NULL);
SELECT evmig_index_unregister('leads_v', NULL);
SELECT name, index_name, is_unique, tail FROM evmig.index ORDER BY name;
-- what the failed build leaves is dropped, however long others take to let go of the table
SET evmig.step_lock_timeout = '180s';
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'indexes', phases => '{migrations,indexes}');
RESET client_min_messages;
RESET evmig.step_lock_timeout;
SELECT phase, item, status, regexp_replace(regexp_replace(detail, 'job \d+', 'job'), '=\(\d\)', '=(n)') AS detail FROM evmig_deploy_report();
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'deploy_leads'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";

-- another definition is a warning with both texts, an invalid one is built anew
DROP INDEX leads_v;
CREATE INDEX leads_v ON deploy_leads (v);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'deploy_app."odd ""name"'::regclass;
SELECT evmig_index_unregister('leads_dup');
SET client_min_messages = warning;
\set VERBOSITY default
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
\set VERBOSITY terse
RESET client_min_messages;
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'deploy_leads'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT evmig_index_unregister('leads_dup');
SELECT evmig_index_unregister('leads_v', true);
-- not to be found there, and dropped then
BEGIN;
SELECT evmig_index_unregister('leads_odd', true) > 0 AS dropped;
\set VERBOSITY sqlstate
SELECT evmig_index_register('leads_odd', 'CREATE UNIQUE INDEX "odd ""name" ON deploy_leads (lower(tenant), id DESC) INCLUDE (v)');
\set VERBOSITY terse
ROLLBACK;
SELECT evmig_index_unregister('leads_odd', true) AS drop_job \gset
SET client_min_messages = warning;
CALL evmig_wait(:drop_job);
RESET client_min_messages;
SELECT to_regclass('"odd ""name"');

-- backfills: one fails, the deployment does not
SELECT evmig_backfill_register('deploy_good', 'deploy_leads', 'call_direction = ''in''', 'call_direction IS NULL', sleep_ms => 0);
SELECT evmig_backfill_register('deploy_poisoned', 'deploy_leads', 'v = 10 / (id - 50)', 'v = 0', sleep_ms => 0);
-- whatever the session's settings
SET quote_all_identifiers = on;
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'backfills', phases => '{backfills}');
RESET client_min_messages;
RESET quote_all_identifiers;
SELECT phase, item, status FROM evmig_deploy_report() ORDER BY item;
SELECT substring(evmig_deploy_summary() FROM '^# Deployment \d+: ([^\n]+)') AS verdict;
SELECT evmig_deploy_summary(format => 'json')::jsonb ->> 'verdict' AS verdict;
-- a name is text in each format
UPDATE evmig.deploy_item SET item = '<script>|"' || item WHERE item = 'deploy_poisoned';
SELECT substring(evmig_deploy_summary() FROM '^# Deployment \d+: ([^\n]+)') AS markdown,
	substring(evmig_deploy_summary(format => 'html') FROM '<h1>Deployment \d+: ([^\n]+)</h1>') AS html;
SELECT s ->> 'state' AS state, s ->> 'deployed_by' = current_user AS by, (s ->> 'finished_at')::timestamptz >= (s ->> 'started_at')::timestamptz AS ended,
	s ->> 'quiesce' AS quiesce, s ->> 'wait_for' AS wait_for FROM (SELECT evmig_deploy_summary(format => 'json')::jsonb AS s) x;
SELECT evmig_deploy_summary(format => 'html') LIKE '<!DOCTYPE html>%</html>%' AS html;
SELECT evmig_deploy_summary(format => 'pdf');
SELECT evmig_deploy_summary(0);
SELECT evmig_deploy_report(0);

-- one that cannot start says why: never run, and run before under another definition
SELECT evmig_backfill_register('deploy_lost', 'deploy_leads', 'tenant = ''x''', 'tenant IS NULL', sleep_ms => 0);
SELECT evmig_backfill_replace('deploy_good', 'deploy_leads', 'tenant = ''y''', 'tenant IS NULL', sleep_ms => 0);
ALTER TABLE deploy_leads RENAME COLUMN tenant TO tenants;
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'backfills', phases => '{backfills}');
RESET client_min_messages;
SELECT item, status, detail FROM evmig_deploy_report() WHERE item <> 'deploy_poisoned' ORDER BY item;
SELECT evmig_deploy_summary() LIKE '%| deploy\_lost | warning | 0.00 | not started: column "tenant" does not exist |%' AS markdown,
	evmig_deploy_summary(format => 'html') LIKE '%<td>deploy_lost</td><td>warning</td><td>0.00</td><td>not started: column &quot;tenant&quot; does not exist</td>%' AS html,
	evmig_deploy_summary(format => 'json')::jsonb @@ '$.items[*].detail == "not started: column \"tenant\" does not exist"' AS json;
SELECT evmig_backfill_unregister('deploy_lost');

-- rights: a migration runs as the role that registered it
SET ROLE deploy_other;
SELECT evmig_migration_register('d40', 'CREATE TABLE deploy_forty (a int)');
CALL evmig_deploy();
SELECT * FROM evmig_deploy_report();
SELECT count(*) FROM evmig.migration;
SELECT evmig_index_register('theirs', 'CREATE INDEX ON deploy_app.deploy_leads (v)');
RESET ROLE;
SET ROLE deploy_owner;
SELECT evmig_migration_register('d40', 'CREATE TABLE deploy_forty (a int)');
SELECT evmig_migration_register('d41', 'RESET ROLE; CREATE TABLE deploy_fortyone (a int)');
RESET ROLE;
CALL evmig_deploy(phases => '{migrations}');
SELECT relname, relowner::regrole FROM pg_class WHERE relname IN ('deploy_forty', 'deploy_fortyone');
SELECT evmig_migration_register('d41', 'CREATE TABLE deploy_fortyone (a int)');
SET ROLE deploy_owner;
CALL evmig_deploy(phases => '{migrations}');
RESET ROLE;

SET client_min_messages = warning;
SELECT evmig_backfill_unregister('deploy_good'), evmig_backfill_unregister('deploy_poisoned');
DELETE FROM evmig.index;
DELETE FROM evmig.deploy_item;
DELETE FROM evmig.deploy;
DELETE FROM evmig.migration WHERE version LIKE 'd%';
DROP SCHEMA deploy_app CASCADE;
RESET search_path;
DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM deploy_owner', current_database()); END $$;
DROP ROLE deploy_owner, deploy_other;
