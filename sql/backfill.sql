--
-- Backfills: what can be registered, by whom, and what is refused
--
SET client_min_messages = warning;
CREATE ROLE backfill_owner LOGIN;
CREATE ROLE backfill_other LOGIN;
CREATE SCHEMA backfill AUTHORIZATION backfill_owner;
GRANT USAGE ON SCHEMA backfill TO PUBLIC;
SET search_path = backfill, public;

SET ROLE backfill_owner;
CREATE TABLE leads (id int PRIMARY KEY, tenant_id int, last_call_direction text, n int DEFAULT 0,
	code varchar(3), tags varchar(3)[], total int GENERATED ALWAYS AS (n * 2) STORED, serial int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE call_log (lead_id int, direction text, created_at timestamptz);

-- as people write it; the same again is a no-op
SELECT evmig_backfill_register('leads_last_call_direction', 'leads', 'last_call_direction = (SELECT c.direction FROM call_log c WHERE c.lead_id = leads.id ORDER BY c.created_at DESC LIMIT 1)', 'last_call_direction IS NULL', priority => 'high', tenant_column => 'tenant_id');
SELECT evmig_backfill_register('leads_last_call_direction', 'leads', 'last_call_direction = (SELECT c.direction FROM call_log c WHERE c.lead_id = leads.id ORDER BY c.created_at DESC LIMIT 1)', 'last_call_direction IS NULL', priority => 'high', tenant_column => 'tenant_id');
SELECT name, target, owner, search_path, priority, tenant_column, batch_size, sleep_ms, adaptive, workers, max_failures, undo
FROM evmig.backfill;

-- another definition needs replace
SELECT evmig_backfill_register('leads_last_call_direction', 'leads', 'n = 1', 'n = 0');
SELECT evmig_backfill_replace('leads_last_call_direction', 'leads', 'n = 1', 'n = 0');
SELECT set_list, where_clause, priority FROM evmig.backfill;
SELECT evmig_backfill_replace('nope', 'leads', 'n = 1', 'n = 0');

-- settings of its own, for jobs to come
SELECT evmig_backfill_set('leads_last_call_direction', 'canary_pct', '5');
SELECT evmig_backfill_set('leads_last_call_direction', 'evmig.data_statement_timeout', '1min');
SELECT evmig_backfill_set('leads_last_call_direction', 'max_passes', '7');
SELECT evmig_backfill_set('leads_last_call_direction', 'max_passes', NULL);
SELECT evmig_backfill_set('leads_last_call_direction', 'batch_sleep', '1s');
SELECT evmig_backfill_set('leads_last_call_direction', 'adaptive', 'off');
SELECT evmig_backfill_set('leads_last_call_direction', 'batch_size', '0x10');
SELECT settings, batch_size, sleep_ms, adaptive FROM evmig.backfill;
SELECT evmig_backfill_replace('leads_last_call_direction', 'leads', 'n = 1', 'n = 0');
SELECT settings, batch_size, sleep_ms, adaptive FROM evmig.backfill;
SELECT item, detail FROM evmig_backfill_preview('leads_last_call_direction') WHERE topic = 'setting';
SHOW evmig.canary_pct;
BEGIN;
SET LOCAL evmig.canary_pct = 50;
SELECT evmig_backfill_start('leads_last_call_direction') AS job \gset
SELECT settings FROM evmig.job WHERE job_id = :job;
ROLLBACK;
SELECT evmig_backfill_set('leads_last_call_direction', 'nope', '1');
SELECT evmig_backfill_set('leads_last_call_direction', 'search_path', 'public');
SELECT evmig_backfill_set('leads_last_call_direction', 'duty_cycle', '2');
SELECT evmig_backfill_set('leads_last_call_direction', 'batch_size', '0');
SELECT evmig_backfill_set('leads_last_call_direction', 'batch_sleep', '1 furlong');
SELECT evmig_backfill_set('leads_last_call_direction', 'max_workers', '4');
SELECT evmig_backfill_set('leads_last_call_direction', 'require_runbook', 'off');
SELECT evmig_backfill_set('leads_last_call_direction', NULL, '4');
SELECT evmig_backfill_set(NULL, 'duty_cycle', '1');
SELECT evmig_backfill_set('nope', 'duty_cycle', '1');
SELECT evmig_backfill_set('leads_last_call_direction', 'canary_pct', NULL);
SELECT evmig_backfill_set('leads_last_call_direction', 'data_statement_timeout', NULL);

-- more than two clauses
SELECT evmig_backfill_register('x', 'leads', 'n = 1; DELETE FROM leads', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1;', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1 --', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true --');
SELECT evmig_backfill_register('x', 'leads', 'n = 1 /*', '*/ true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1 WHERE false', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1 FROM call_log', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1 RETURNING n', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'n = 1) OR (true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true ORDER BY 1');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true; DROP TABLE leads');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true, false');

-- errors point into the text
SELECT evmig_backfill_register('x', 'leads', 'n = ', 'true');
SELECT evmig_backfill_register('x', 'leads', '', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', '');
SELECT evmig_backfill_register('x', 'leads', 'n = nope', 'true');
SELECT evmig_backfill_register('x', 'leads', 'nope = 1', 'true');
SELECT evmig_backfill_register('x', 'leads', 'code = ''äöü'', n = nope', 'true');
SELECT evmig_backfill_register('x', 'leads', 'code = ''äöü''', 'code = ''äöü'' AND nope');
SELECT evmig_backfill_register('x', 'leads', 'n = true', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'n');
SELECT evmig_backfill_register('x', 'leads', 'n = count(*)', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'count(*) > 1');
SELECT evmig_backfill_register('x', 'leads', 'n = generate_series(1, 2)', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = (WITH d AS (DELETE FROM leads RETURNING id) SELECT max(id) FROM d)', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = $1', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1, n = 2', 'true');
SELECT evmig_backfill_register('x', 'leads', 'total = 1', 'true');
SELECT evmig_backfill_register('x', 'leads', 'serial = 1', 'true');

-- what a batch cannot compute before it writes
SELECT evmig_backfill_register('x', 'leads', '(n, id) = (SELECT 1)', 'true');
SELECT evmig_backfill_register('x', 'leads', '(n, code) = (SELECT 1, nope)', 'true');
SELECT evmig_backfill_register('x', 'leads', '(n, n) = (SELECT 1, 2)', 'true');
SELECT evmig_backfill_register('x', 'leads', '(n, code) = (SELECT ctid, id FROM call_log WHERE lead_id = leads.ctid)', 'true');
SELECT evmig_backfill_register('x', 'leads', '(n, code) = (SELECT 1, leads.xmin)', 'true');
SELECT evmig_backfill_register('x', 'leads', 'total = DEFAULT', 'true');
SELECT evmig_backfill_register('x', 'leads', 'serial = DEFAULT', 'true');
SELECT evmig_backfill_register('x', 'leads', 'tags[1] = ''a''', 'true');
SELECT evmig_backfill_register('x', 'leads', 'tags = ARRAY[id::text]', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = length(leads::text)', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'ctid < ''(5,0)''');
CREATE TEMP TABLE scratch (id int);
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'id IN (SELECT id FROM scratch)');

-- arguments
SELECT evmig_backfill_register('', 'leads', 'n = 1', 'true');
SELECT evmig_backfill_register(NULL, 'leads', 'n = 1', 'true');
SELECT evmig_backfill_register('x', NULL, 'n = 1', 'true');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', NULL);
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true', priority => 'urgent');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true', tenant_column => 'nope');
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true', batch_size => 0);
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true', sleep_ms => -1);
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true', workers => 1000);
SELECT evmig_backfill_register('x', 'leads', 'n = 1', 'true', max_failures => -1);
SELECT evmig_backfill_register('x', 'scratch', 'id = 1', 'true');
SELECT evmig_backfill_register('x', 'pg_class', 'relname = 1', 'true');
CREATE VIEW v AS SELECT 1 AS n;
SELECT evmig_backfill_register('x', 'v', 'n = 1', 'true');
CREATE FUNCTION wrong(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
SELECT evmig_backfill_register_call('x', 'leads', 'wrong(regclass)', 'true');
SELECT evmig_backfill_start('nope');
SELECT evmig_backfill_start('leads_last_call_direction', tenants => '{1}');
SELECT evmig_backfill_start('leads_last_call_direction', workers => 0);
SELECT evmig_backfill_start_all('urgent');
SELECT evmig_backfill_preview('nope');
SELECT evmig_backfill_undo(0);
SELECT count(*) FROM evmig.backfill;

-- others see nothing, and can do nothing
SET ROLE backfill_other;
SELECT count(*) FROM evmig.backfill;
SELECT evmig_backfill_register('y', 'leads', 'n = 1', 'true');
SELECT evmig_backfill_register('leads_last_call_direction', 'leads', 'n = 1', 'true');
SELECT evmig_backfill_start('leads_last_call_direction');
SELECT evmig_backfill_replace('leads_last_call_direction', 'leads', 'n = 1', 'true');
SELECT evmig_backfill_unregister('leads_last_call_direction');
SELECT evmig_backfill_set('leads_last_call_direction', 'duty_cycle', '1');
SELECT evmig_backfill_preview('leads_last_call_direction');
SELECT evmig_backfill_start_all();
DELETE FROM evmig.backfill;
SET ROLE backfill_owner;

-- what it would do
INSERT INTO leads (id, n) SELECT g, g % 2 FROM generate_series(1, 4) g;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER note AFTER UPDATE OF n ON leads FOR EACH ROW EXECUTE FUNCTION note();
SELECT topic, item, old_values, new_values, CASE WHEN topic = 'estimate' AND item <> 'rows' THEN '...' ELSE detail END AS detail
FROM evmig_backfill_preview('leads_last_call_direction');
SELECT id, n FROM leads ORDER BY id;
SELECT count(*) FROM evmig_jobs WHERE target = 'leads'::regclass;

SELECT evmig_backfill_unregister('leads_last_call_direction');
SELECT evmig_backfill_unregister('leads_last_call_direction');
RESET ROLE;
DROP SCHEMA backfill CASCADE;
DROP OWNED BY backfill_owner, backfill_other;
DROP ROLE backfill_owner, backfill_other;
