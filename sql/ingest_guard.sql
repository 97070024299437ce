--
-- The ingest guard: rows without a key, and who may set it up
--
\set SHOW_CONTEXT never
\pset null '(null)'
CREATE ROLE regress_ig_owner LOGIN;
CREATE ROLE regress_ig_writer LOGIN;
CREATE SCHEMA ingest_guard;
GRANT ALL ON SCHEMA ingest_guard TO regress_ig_owner;
GRANT USAGE ON SCHEMA ingest_guard TO regress_ig_writer;
SET search_path = ingest_guard, public;

-- fill, the default
SET ROLE regress_ig_owner;
CREATE TABLE events (id int PRIMARY KEY, request_id uuid, payload text);
GRANT SELECT, INSERT, UPDATE ON events TO regress_ig_writer;
INSERT INTO events VALUES (1, NULL, 'before the guard');
SELECT evmig_ingest_guard('events');
SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'events'::regclass;
SET ROLE regress_ig_writer;
INSERT INTO events VALUES (2, NULL, 'no key'), (3, '00000000-0000-0000-0000-000000000003', 'own key');
INSERT INTO events (id) VALUES (4);
UPDATE events SET payload = 'changed' WHERE id = 1;
UPDATE events SET request_id = NULL WHERE id = 3;
SELECT id, request_id IS NULL AS missing, request_id = '00000000-0000-0000-0000-000000000003' AS own FROM events ORDER BY id;
INSERT INTO events VALUES (5, NULL) RETURNING request_id IS NOT NULL AS filled;
RESET ROLE;
SET session_replication_role = replica;
INSERT INTO events VALUES (6, NULL) RETURNING request_id IS NOT NULL AS filled;
RESET session_replication_role;
COPY events (id, request_id) FROM stdin;
7	\N
8	00000000-0000-0000-0000-000000000008
\.
SELECT count(*), count(request_id), count(DISTINCT request_id) FROM events;

-- an earlier trigger of the application wins
SET ROLE regress_ig_owner;
CREATE FUNCTION own_key() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN NEW.request_id := coalesce(NEW.request_id, '00000000-0000-0000-0000-00000000000a'); RETURN NEW; END$$;
CREATE TRIGGER own BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION own_key();
INSERT INTO events VALUES (9, NULL) RETURNING request_id;
DROP TRIGGER own ON events;

-- reject
SELECT evmig_ingest_guard('events', mode => 'reject');
ALTER TABLE events DISABLE TRIGGER USER;
INSERT INTO events VALUES (10, NULL);
ALTER TABLE events ENABLE ALWAYS TRIGGER "~evmig_ingest_guard";
SET application_name = 'nightly import';
INSERT INTO events VALUES (11, NULL);
\echo :LAST_ERROR_SQLSTATE
UPDATE events SET request_id = NULL WHERE id = 2;
UPDATE events SET payload = 'an old row is filled' WHERE id = 10 RETURNING request_id IS NOT NULL AS filled;
RESET application_name;

-- report
SELECT evmig_ingest_guard('events', mode => 'report');
RESET ROLE;
SET SESSION AUTHORIZATION regress_ig_writer;
SET application_name = 'mobile';
INSERT INTO events VALUES (20, NULL), (21, NULL);
SET application_name = 'o''x';
BEGIN;
INSERT INTO events VALUES (22, NULL);
SAVEPOINT a;
INSERT INTO events VALUES (23, NULL);
ROLLBACK TO a;
SAVEPOINT b;
INSERT INTO events VALUES (24, NULL);
SAVEPOINT c;
INSERT INTO events VALUES (25, NULL);
RELEASE b;
COMMIT;
BEGIN;
INSERT INTO events VALUES (26, NULL);
ROLLBACK;
BEGIN;
INSERT INTO events VALUES (27, NULL);
SET TRANSACTION READ ONLY;
COMMIT;
SELECT * FROM evmig_ingest_culprits;	-- for the table's owner only
RESET SESSION AUTHORIZATION;
RESET application_name;
SET ROLE regress_ig_owner;
SELECT target, application_name, role, query_id, rows_filled, first_seen <= last_seen AS ordered
FROM evmig_ingest_culprits ORDER BY application_name COLLATE "C";
SELECT count(*) FROM evmig.ingest_culprit;
DELETE FROM evmig.ingest_culprit;
RESET ROLE;
SET compute_query_id = on;
SET application_name = 'with query id';
INSERT INTO events VALUES (30, NULL);
INSERT INTO events VALUES (31, NULL);
RESET compute_query_id;
RESET application_name;
SELECT application_name, query_id IS NOT NULL AS has_id, rows_filled FROM evmig_ingest_culprits ORDER BY application_name COLLATE "C";
SELECT evmig_ingest_guard('events', mode => 'report');		-- sums up
SELECT application_name, rows_filled FROM evmig.ingest_culprit ORDER BY application_name COLLATE "C";

-- a renamed column stays guarded; a column cannot vanish or change beneath
SET ROLE regress_ig_owner;
ALTER TABLE events RENAME request_id TO event_key;
ALTER TABLE events ADD request_id text, ADD later int DEFAULT 7;
INSERT INTO events (id) VALUES (40) RETURNING event_key IS NOT NULL AS filled, request_id, later;
ALTER TABLE events ALTER event_key TYPE text;
ALTER TABLE events DROP event_key;

-- off
SELECT evmig_ingest_guard('events', 'event_key', 'off');
SELECT evmig_ingest_guard('events', 'event_key', 'off');
INSERT INTO events (id) VALUES (41) RETURNING event_key;
ALTER TABLE events DROP event_key;
DROP TABLE events;

-- odd names, a domain, text, and generators that need the owner's rights
CREATE DOMAIN key_domain AS text CHECK (length(VALUE) > 5);
CREATE TABLE "Weird "".täble" ("o'x" key_domain);
GRANT INSERT ON "Weird "".täble" TO regress_ig_writer;
SELECT evmig_ingest_guard('"Weird "".täble"', 'o''x');
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = '"Weird "".täble"'::regclass;
INSERT INTO "Weird "".täble" VALUES (NULL) RETURNING length("o'x");
CREATE FUNCTION "my Key"() RETURNS varchar LANGUAGE plpgsql AS
$$BEGIN RETURN current_user || '/' || current_setting('search_path') || '/' || nextval('numbers'); END$$;
CREATE SEQUENCE numbers;
SELECT evmig_ingest_guard('"Weird "".täble"', 'o''x', generator => '"my Key"()');
SET ROLE regress_ig_writer;
SET search_path = pg_temp;
INSERT INTO ingest_guard."Weird "".täble" VALUES (NULL);
SELECT current_user, current_setting('search_path');
RESET search_path;
SET search_path = ingest_guard, public;
SET ROLE regress_ig_owner;
SELECT "o'x" FROM "Weird "".täble" WHERE "o'x" LIKE 'regress%';
DROP FUNCTION "my Key";
DROP FUNCTION "my Key" CASCADE;
SELECT count(*) FROM pg_trigger WHERE tgrelid = '"Weird "".täble"'::regclass;

CREATE TABLE numbered (request_id bigint, short varchar(8), code char(40));
SELECT evmig_ingest_guard('numbered');
SELECT evmig_ingest_guard('numbered', generator => 'nextval(''numbers'')');
ALTER SEQUENCE numbers RESTART 1000;
GRANT INSERT ON numbered TO regress_ig_writer;
SET ROLE regress_ig_writer;
SELECT nextval('numbers');
INSERT INTO numbered SELECT NULL FROM generate_series(1, 3);
SET ROLE regress_ig_owner;
ALTER SEQUENCE numbers RENAME TO "other Numbers";
INSERT INTO numbered VALUES (NULL);
DROP SEQUENCE "other Numbers";
ALTER SEQUENCE "other Numbers" RENAME TO numbers;
SELECT request_id FROM numbered ORDER BY 1;
SELECT evmig_ingest_guard('numbered', 'code');
INSERT INTO numbered VALUES (1) RETURNING length(code);
SELECT evmig_ingest_guard('numbered', mode => 'off');

-- bad input: one error each, nothing changed
SELECT evmig_ingest_guard('numbered', mode => 'fil');
SELECT evmig_ingest_guard('numbered', mode => 'reject', duplicates => 'drop');
SELECT evmig_ingest_guard('numbered', 'nope');
SELECT evmig_ingest_guard('numbered', generator => '1');
SELECT evmig_ingest_guard('numbered', generator => 'nextval(''numbers''), 2');
SELECT evmig_ingest_guard('numbered', generator => 'gen_random_uuid()');
SELECT evmig_ingest_guard('numbered', 'short');
SELECT evmig_ingest_guard('numbered', generator => 'CASE WHEN random() < 0 THEN 1::bigint END');
SELECT evmig_ingest_guard('numbered', generator => 'CASE WHEN random() < 0 THEN 1 ELSE 2 END');
CREATE VIEW a_view AS SELECT * FROM numbered;
SELECT evmig_ingest_guard('a_view');
BEGIN;
SELECT evmig_ingest_guard('numbered', generator => 'nextval(''numbers'')');
ROLLBACK;
SET default_transaction_read_only = on;
SELECT evmig_ingest_guard('numbered', generator => 'nextval(''numbers'')');
RESET default_transaction_read_only;
SET ROLE regress_ig_writer;
SELECT evmig_ingest_guard('numbered', generator => 'nextval(''numbers'')');
RESET ROLE;
SET evmig.require_runbook = on;
SELECT evmig_ingest_guard('numbered', generator => 'nextval(''numbers'')');
RESET evmig.require_runbook;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'numbered'::regclass;

-- a key that needs no generator
SET ROLE regress_ig_owner;
SELECT evmig_ingest_guard('numbered', mode => 'reject');
INSERT INTO numbered VALUES (NULL);
INSERT INTO numbered VALUES (77);

-- our trigger function is for our own triggers
CREATE TABLE other (request_id uuid);
CREATE TRIGGER mine BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION evmig.ingest_guard('fill', 'pass', 'public');
RESET ROLE;
CREATE TRIGGER mine AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION evmig.ingest_guard();
INSERT INTO other VALUES (NULL);
DROP TRIGGER mine ON other;
CREATE TRIGGER mine BEFORE INSERT ON other FOR EACH STATEMENT EXECUTE FUNCTION evmig.ingest_guard();
INSERT INTO other VALUES (NULL);
DROP TRIGGER mine ON other;
CREATE TRIGGER mine BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION evmig.ingest_guard('fill');
INSERT INTO other VALUES (NULL);
DROP TRIGGER mine ON other;
CREATE TRIGGER mine BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION evmig.ingest_guard('fill', 'pass', 'public');
INSERT INTO other VALUES (NULL);
DROP TRIGGER mine ON other;
SELECT evmig.ingest_guard();
CREATE TRIGGER "~evmig_ingest_guard" BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT evmig_ingest_guard('other');
SELECT evmig_ingest_guard('other', mode => 'off');
DROP TABLE other;

-- a guarded table can become a partition, and keeps its guard
CREATE TABLE parent (id int, request_id uuid) PARTITION BY LIST (id);
CREATE TABLE leaf (id int, request_id uuid);
SELECT evmig_ingest_guard('leaf');
ALTER TABLE parent ATTACH PARTITION leaf FOR VALUES IN (1);
INSERT INTO parent VALUES (1, NULL) RETURNING request_id IS NOT NULL AS filled;
SELECT evmig_ingest_guard('leaf', mode => 'off');
DROP TABLE parent;

DELETE FROM evmig.ingest_culprit;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA ingest_guard CASCADE;
DROP ROLE regress_ig_owner, regress_ig_writer;
