-- evmig_preflight: every check has its failure
CREATE ROLE preflight_owner LOGIN;
CREATE ROLE preflight_other LOGIN;
CREATE SCHEMA preflight_test;
GRANT ALL ON SCHEMA preflight_test TO preflight_owner;
GRANT USAGE ON SCHEMA preflight_test TO preflight_other;
SET search_path = preflight_test, public;
\set rows 'SELECT check_name, status, detail, hint FROM evmig_preflight(\'business_events\') WHERE check_name'

CREATE TABLE business_events (id bigint PRIMARY KEY, request_id uuid, ts timestamptz, created_at date, body json);
INSERT INTO business_events SELECT i, md5(i::text)::uuid, now() FROM generate_series(1, 100) i;
ALTER TABLE business_events OWNER TO preflight_owner;
GRANT SELECT ON business_events TO preflight_other;

-- what depends on the server is measured here, and judged elsewhere
SELECT check_name,
	CASE WHEN check_name IN ('server', 'background_workers', 'long_transactions', 'prepared_transactions',
		'replication_slots', 'replica_lag', 'disk_space', 'wal_archiving', 'pgcrypto')
	THEN status IN ('pass', 'warn') AND detail <> '' ELSE status IN ('pass', 'manual') END AS fine
FROM evmig_preflight();
SELECT count(*) FROM evmig_preflight() WHERE (hint IS NULL AND status <> 'pass') OR detail IS NULL;
SELECT check_name, detail FROM evmig_preflight()
WHERE status = 'pass' AND check_name IN ('privileges', 'key_type', 'order_column', 'placeholder_keys', 'group_size', 'loser_share');

-- the questions are a table
SELECT check_name, status, detail FROM evmig_preflight() WHERE status = 'manual';
BEGIN;
DELETE FROM evmig.runbook_item WHERE name <> 'secrets';
UPDATE evmig.runbook_item SET question = 'Is the vault shut?';
INSERT INTO evmig.runbook_item VALUES ('four_eyes', 'Who looks on?');
INSERT INTO evmig.runbook_item VALUES ('four_eyes', 'Who else?');
ROLLBACK;
BEGIN;
INSERT INTO evmig.runbook_item VALUES ('secrets', 'Over what was shipped?');
SELECT name, question, shipped FROM evmig.runbook_item WHERE name = 'secrets';
ROLLBACK;
INSERT INTO evmig.runbook_item VALUES ('not a name', '?');
SET ROLE preflight_other;
INSERT INTO evmig.runbook_item VALUES ('mine', '?');
RESET ROLE;

-- privileges
REVOKE SELECT ON business_events FROM preflight_other;
SET ROLE preflight_other;
SELECT check_name, status, detail FROM evmig_preflight('business_events') WHERE check_name IN ('table', 'privileges');
RESET ROLE;
GRANT SELECT ON business_events TO preflight_other;
SET ROLE preflight_other;
:rows = 'privileges';
RESET ROLE;
REVOKE CREATE ON SCHEMA preflight_test FROM preflight_owner;
:rows IN ('privileges', 'archive_name');
GRANT CREATE ON SCHEMA preflight_test TO preflight_owner;
BEGIN TRANSACTION READ ONLY;
:rows = 'server';
COMMIT;

-- key and order column
SELECT check_name, status, detail, hint FROM evmig_preflight(order_column => 'nope') WHERE check_name = 'order_column';
SELECT check_name, status, detail, hint FROM evmig_preflight(order_column => 'body') WHERE check_name = 'order_column';
SELECT check_name, status, detail, hint FROM evmig_preflight(key_column => 'nope') WHERE status = 'fail';
CREATE TABLE types (t text, v varchar(36), short varchar(20), c char(10), i int, b bigint, y bytea, n numeric, d date,
	j json, g bigint GENERATED ALWAYS AS (1) STORED, a bigint GENERATED ALWAYS AS IDENTITY, ts int);
SELECT k, status, detail, hint FROM unnest('{t,v,short,c,i,b,y,n,d,j,g,a,ctid}'::name[]) k,
	evmig_preflight('types', k) WHERE check_name = 'key_type';

-- tables that will not do: rows, no error
CREATE VIEW a_view AS SELECT 1 AS request_id;
CREATE TABLE parts (request_id uuid, ts int) PARTITION BY LIST (ts);
CREATE TEMP TABLE temps (request_id uuid, ts int);
CREATE UNLOGGED TABLE unlogged (request_id uuid, ts int);
SELECT target, check_name, status, regexp_replace(detail, 'pg_temp_\d+', 'pg_temp') AS detail, hint
FROM unnest('{a_view,parts,temps,unlogged,pg_class}'::regclass[]) target, evmig_preflight(target)
WHERE check_name IN ('table', 'key_type');
SELECT * FROM evmig_preflight('no_such_table');
SELECT * FROM evmig_preflight(4294967295::oid::regclass);

-- row level security
ALTER TABLE business_events ENABLE ROW LEVEL SECURITY;
:rows = 'row_level_security';
SET ROLE preflight_other;
:rows IN ('row_level_security', 'loser_share');
RESET ROLE;
ALTER TABLE business_events FORCE ROW LEVEL SECURITY;
:rows = 'row_level_security';
ALTER TABLE business_events NO FORCE ROW LEVEL SECURITY;
ALTER TABLE business_events DISABLE ROW LEVEL SECURITY;

-- what hangs on the table
CREATE INDEX "odd "" name" ON business_events (request_id);
:rows = 'key_indexes';
UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"odd "" name"'::regclass;
:rows = 'invalid_indexes';
DROP INDEX "odd "" name";
CREATE TABLE child (event_id bigint REFERENCES business_events ON DELETE CASCADE);
CREATE TABLE child_indexed (event_id bigint PRIMARY KEY REFERENCES business_events);
:rows = 'foreign_keys';
DROP TABLE child, child_indexed;
CREATE FUNCTION a_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER fires BEFORE UPDATE ON business_events FOR EACH ROW EXECUTE FUNCTION a_trigger();
CREATE TRIGGER sleeps BEFORE UPDATE ON business_events FOR EACH ROW EXECUTE FUNCTION a_trigger();
ALTER TABLE business_events DISABLE TRIGGER sleeps;
:rows = 'user_triggers';
DROP TRIGGER fires ON business_events;
:rows = 'user_triggers';
CREATE RULE no_delete AS ON DELETE TO business_events DO INSTEAD NOTHING;
:rows = 'rules';
DROP RULE no_delete ON business_events;
SET client_min_messages = error;
CREATE PUBLICATION preflight_pub FOR TABLE business_events;
RESET client_min_messages;
:rows = 'publications';
ALTER TABLE business_events REPLICA IDENTITY NOTHING;
:rows = 'publications';
ALTER TABLE business_events REPLICA IDENTITY FULL;
:rows = 'publications';
ALTER TABLE business_events REPLICA IDENTITY DEFAULT;
ALTER TABLE business_events DROP CONSTRAINT business_events_pkey;
:rows = 'publications';
ALTER PUBLICATION preflight_pub SET (publish = 'insert');
:rows = 'publications';
DROP PUBLICATION preflight_pub;
CREATE TABLE business_events_dupes_archived (x int);
:rows = 'archive_name';
DROP TABLE business_events_dupes_archived;

-- a prepared transaction that has locked the table, where the server has any
\set before pass
\set locked fail
\set elsewhere warn
SELECT current_setting('max_prepared_transactions')::int > 0 AS has_prepared \gset
\if :has_prepared
SELECT status AS before FROM evmig_preflight() WHERE check_name = 'prepared_transactions' \gset
BEGIN;
LOCK TABLE business_events IN ROW SHARE MODE;
CREATE TABLE made_by_prepared ();
PREPARE TRANSACTION 'preflight o''x';
SELECT status AS locked FROM evmig_preflight() WHERE check_name = 'prepared_transactions' \gset
SELECT status AS elsewhere FROM evmig_preflight('types') WHERE check_name = 'prepared_transactions' \gset
ROLLBACK PREPARED 'preflight o''x';
\endif
SELECT :'before' AS before, :'locked' AS locked, :'elsewhere' AS elsewhere;

-- duplicates that are not to be believed
BEGIN;
UPDATE business_events SET request_id = '00000000-0000-0000-0000-000000000000' WHERE id = 1;
:rows IN ('placeholder_keys', 'group_size', 'loser_share');
UPDATE business_events SET request_id = md5('1')::uuid WHERE id <= 12;
:rows IN ('placeholder_keys', 'group_size', 'loser_share');
SET LOCAL evmig.max_group_rows = 11;
SET LOCAL evmig.max_loser_pct = 10.99;
:rows IN ('placeholder_keys', 'group_size', 'loser_share');
SET LOCAL evmig.max_group_rows = 12;
SET LOCAL evmig.max_loser_pct = 11;
:rows IN ('placeholder_keys', 'group_size', 'loser_share');
ROLLBACK;
INSERT INTO types (t, y) VALUES ('', '\x'), ('  ', '\x00'), (E'\t', decode(repeat('00', 16), 'hex')),
	('00000000-0000-0000-0000-000000000000', '\x01'), ('o''x', '\x02'), (NULL, NULL);
SELECT k, status, detail, hint FROM unnest('{t,y,i}'::name[]) k, evmig_preflight('types', k)
WHERE check_name = 'placeholder_keys';

-- the change window
DO $$
DECLARE
	ok text[] := '{}';
	v record;
BEGIN
	FOR v IN SELECT * FROM (VALUES (-1, 1, 'pass'), (1, -1, 'warn'), (-3, -1, 'warn'), (1, 3, 'warn'), (-20, 1, 'pass'), (-1, 20, 'pass')) v (a, b, wanted)
	LOOP
		PERFORM set_config('evmig.change_window',
			to_char(now() + v.a * interval '1 h', 'HH24:MI') || '-' || to_char(now() + v.b * interval '1 h', 'HH24:MI'), true);
		ok := ok || (SELECT (status = v.wanted)::text FROM evmig_preflight() WHERE check_name = 'change_window');
	END LOOP;
	RAISE NOTICE 'as wanted: %', ok;
END
$$;
SET evmig.change_window = '25:00-26:00';
SET evmig.change_window = '09:00';
SET evmig.change_window = '09:60-10:00';
SET evmig.change_window = '9:00-10:00';
SET evmig.change_window = '00:00-24:00';
SELECT status, regexp_replace(detail, '^it is \d\d:\d\d \w+', 'it is now') AS detail FROM evmig_preflight() WHERE check_name = 'change_window';
RESET evmig.change_window;

-- names
CREATE TABLE "Weird "".table" ("o'x ""é" text, "ts "";" int);
INSERT INTO "Weird "".table" VALUES ('', 1), ('', 2);
SELECT check_name, status, detail, hint FROM evmig_preflight('"Weird "".table"', 'o''x "é', 'ts ";')
WHERE check_name IN ('key_type', 'order_column', 'placeholder_keys', 'loser_share');

SET client_min_messages = warning;
DROP SCHEMA preflight_test CASCADE;
DROP TABLE temps;
DROP ROLE preflight_owner, preflight_other;
