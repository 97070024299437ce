--
-- evmig_dedupe: one row of each key stays, the others are archived or re-keyed
--
\set VERBOSITY default
SET client_min_messages = warning;
CREATE ROLE dedupe_owner LOGIN;
CREATE ROLE dedupe_reader LOGIN;
CREATE SCHEMA dedupe AUTHORIZATION dedupe_owner;
GRANT USAGE ON SCHEMA dedupe TO dedupe_reader;
SET ROLE dedupe_owner;
SET search_path = dedupe, public;
SET evmig.max_loser_pct = 100;
SET evmig.batch_sleep = 0;
SET evmig.batch_size = 7;

-- ---- archive: the earliest by order column stays, NULL is last, then ctid
CREATE TABLE business_events (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	request_id text, ts timestamptz, payload text,
	size int GENERATED ALWAYS AS (length(payload)) STORED);
ALTER TABLE business_events ADD COLUMN gone int;
ALTER TABLE business_events DROP COLUMN gone;
ALTER TABLE business_events ADD COLUMN late numeric(6,2) DEFAULT 1;
INSERT INTO business_events (request_id, ts, payload)
SELECT 'k' || i % 40, CASE WHEN i % 7 > 0 THEN timestamptz '2026-01-01' - i * interval '1 minute' END, 'p' || i
FROM generate_series(1, 100) i;
INSERT INTO business_events (request_id, payload) SELECT NULL, 'null ' || i FROM generate_series(1, 5) i;
GRANT SELECT ON business_events TO dedupe_reader;
CREATE TEMP TABLE before AS SELECT * FROM business_events;
SELECT evmig_dedupe() AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done, remaining, result FROM evmig_jobs WHERE job_id = :job;
SELECT count(*), count(request_id), count(DISTINCT request_id) FROM business_events;
SELECT count(*) FROM business_events_dupes_archived;
-- every row is in exactly one of the two, unchanged
SELECT count(*) FROM (
	(SELECT id, request_id, ts, payload, size, late FROM business_events
	 UNION ALL SELECT id, request_id, ts, payload, size, late FROM business_events_dupes_archived)
	EXCEPT ALL SELECT id, request_id, ts, payload, size, late FROM before) x;
SELECT count(*) FROM (SELECT DISTINCT ON (request_id) id FROM before WHERE request_id IS NOT NULL
	ORDER BY request_id, ts NULLS LAST, id) keeper
WHERE NOT EXISTS (SELECT FROM business_events e WHERE e.id = keeper.id);
SELECT relation_name = format('dedupe.business_events_dupes_archived_%s', job_id) AS name,
	archived_rows, closed_at IS NOT NULL AS closed
FROM evmig.archive WHERE target = 'business_events'::regclass AND job_id = :job;
-- owner and privileges are the table's; the children are the owner's alone
SELECT c.relname ~ '_\d+$' AS child, pg_get_userbyid(c.relowner) AS owner,
	has_table_privilege('dedupe_reader', c.oid, 'SELECT') AS reader
FROM pg_class c WHERE relnamespace = 'dedupe'::regnamespace AND relname ~ 'dupes' ORDER BY 1;
-- identity and generated columns: the comment says how rows get back
SELECT obj_description('business_events_dupes_archived'::regclass);
SELECT substring(obj_description('business_events_dupes_archived'::regclass) FROM 'INSERT.*') AS back \gset
BEGIN;
:back;
SELECT count(*) FROM business_events;
ROLLBACK;
-- nothing to do is success; a column that came later is in the archive
ALTER TABLE business_events ADD COLUMN later int NOT NULL DEFAULT 5;
INSERT INTO business_events (request_id, ts, later) VALUES ('k1', '2027-01-01', 6);
SELECT evmig_dedupe('business_events', mode => 'archive') AS job \gset
CALL evmig_wait(:job);
SELECT later, count(*) FROM business_events_dupes_archived GROUP BY 1 ORDER BY 1;
SELECT evmig_dedupe('business_events') AS job \gset
CALL evmig_wait(:job);
SELECT state, rows_done, result FROM evmig_jobs WHERE job_id = :job;

-- ---- people's own statements work where nothing is in the way
CREATE TABLE plain (request_id uuid, ts timestamptz, x varchar(5) COLLATE "C");
INSERT INTO plain VALUES ('00000000-0000-0000-0000-000000000001', '2026-01-01', 'a'), ('00000000-0000-0000-0000-000000000001', NULL, 'b');
SELECT evmig_dedupe('plain') AS job \gset
CALL evmig_wait(:job);
SELECT x FROM plain_dupes_archived;
INSERT INTO plain SELECT * FROM plain_dupes_archived;
SELECT x FROM plain ORDER BY 1;
\d plain_dupes_archived

-- ---- odd names
CREATE TABLE "Weird "".tàble" ("k'ey ""ü" text, "o'x" int, "select" text);
INSERT INTO "Weird "".tàble" SELECT 'a' || i % 2, i, 'x' FROM generate_series(1, 6) i;
SELECT evmig_dedupe('"Weird "".tàble"', 'k''ey "ü', 'o''x') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM "Weird "".tàble" ORDER BY 2;
SELECT count(*) FROM "Weird "".tàble_dupes_archived";
CREATE TABLE a23456789012345678901234567890123456789012345678901234567890123 (request_id text, ts int);
INSERT INTO a23456789012345678901234567890123456789012345678901234567890123 VALUES ('a', 1), ('a', 2);
SELECT evmig_dedupe('a23456789012345678901234567890123456789012345678901234567890123') AS job \gset
CALL evmig_wait(:job);
SELECT target_name, relation_name = 'dedupe.' || left('a234567890123456789012345678901234567890123456789012345678', 62 - length('_dupes_archived_' || :job) + 1) || '_dupes_archived_' || :job AS shortened
FROM evmig.archive WHERE job_id = :job;

-- ---- rekey: new keys, logged with the old ones
CREATE TABLE rk (id int, part int, request_id uuid, ts int, PRIMARY KEY (part, id));
INSERT INTO rk SELECT i, 1, '11111111-1111-1111-1111-111111111111', i FROM generate_series(1, 20) i;
SELECT evmig_dedupe('rk', mode => 'rekey') AS job \gset
CALL evmig_wait(:job);
SELECT result - 'passes' AS result FROM evmig_jobs WHERE job_id = :job;
SELECT count(*), count(DISTINCT request_id), min(id) FILTER (WHERE request_id = '11111111-1111-1111-1111-111111111111') FROM rk;
SELECT count(*) FROM evmig.rekey r JOIN rk ON r.row_identity = jsonb_build_object('id', rk.id, 'part', rk.part)
	AND r.new_key = rk.request_id::text
WHERE r.job_id = :job AND r.old_key = '11111111-1111-1111-1111-111111111111';
SELECT to_regclass('rk_dupes_archived');
-- a generator of its own, and no primary key
CREATE SEQUENCE rk_seq START 1000;
CREATE TABLE rk_int (request_id bigint, ts int);
INSERT INTO rk_int SELECT 1, i FROM generate_series(1, 3) i;
SELECT evmig_dedupe('rk_int', mode => 'rekey');
SELECT evmig_dedupe('rk_int', mode => 'rekey', generator => 'nextval(''rk_seq'')') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM rk_int ORDER BY ts;
SELECT old_key, new_key, jsonb_object_keys(row_identity) FROM evmig.rekey WHERE job_id = :job ORDER BY new_key;

-- ---- auto: exact repeats are archived, what differs gets a new key
CREATE TABLE au (id serial PRIMARY KEY, request_id text, ts int, j json, n numeric);
INSERT INTO au (request_id, ts, j, n) VALUES
	('a', 1, '{}', NULL), ('a', 2, '{}', NULL), ('a', 3, '{"x": 1}', NULL), ('a', 4, '{}', 0),
	('b', 1, NULL, 1), ('b', 2, NULL, 1);
SELECT evmig_dedupe('au', mode => 'auto') AS job \gset
CALL evmig_wait(:job);
SELECT result - 'passes' AS result FROM evmig_jobs WHERE job_id = :job;
SELECT id, CASE WHEN length(request_id) = 36 THEN 'new' ELSE request_id END AS key FROM au ORDER BY id;
SELECT id FROM au_dupes_archived ORDER BY id;

-- ---- foreign keys
CREATE TABLE parent (id int PRIMARY KEY, request_id text, ts int);
CREATE TABLE child (n int PRIMARY KEY, parent_id int REFERENCES parent);
INSERT INTO parent VALUES (1, 'a', 1), (2, 'a', 2), (3, 'a', 3), (4, 'b', 1);
INSERT INTO child VALUES (1, 2), (2, 4), (3, NULL), (4, 2);
SELECT evmig_dedupe('parent') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message, detail, hint FROM evmig_jobs WHERE job_id = :job \gx
SELECT count(*) FROM parent;
SELECT evmig_dedupe('parent', on_referenced => 'cascade') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message, detail, hint FROM evmig_jobs WHERE job_id = :job \gx
SELECT evmig_dedupe('parent', on_referenced => 'skip') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message, detail, hint FROM evmig_jobs WHERE job_id = :job \gx
SELECT state, rows_done, rows_skipped, remaining FROM evmig_jobs WHERE job_id = :job;
SELECT row_tid, row_key, sqlstate, message FROM evmig_failures WHERE job_id = :job;
SELECT id FROM parent ORDER BY 1;
SELECT evmig_dedupe('parent', on_referenced => 'repoint') AS job \gset
CALL evmig_wait(:job);
SELECT id FROM parent ORDER BY 1;
SELECT * FROM child ORDER BY 1;
ALTER TABLE child DROP CONSTRAINT child_parent_id_fkey,
	ADD CONSTRAINT "child's" FOREIGN KEY (parent_id) REFERENCES parent ON DELETE CASCADE;
INSERT INTO parent VALUES (5, 'b', 5);
INSERT INTO child VALUES (5, 5);
SELECT evmig_dedupe('parent');
SELECT evmig_dedupe('parent', on_referenced => 'cascade') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM child ORDER BY 1;
-- a table that references itself
CREATE TABLE tree (id int PRIMARY KEY, request_id text, ts int, up int REFERENCES tree);
INSERT INTO tree VALUES (1, 'a', 1, 1), (2, 'a', 2, 1), (3, 'a', 3, 2), (4, 'b', 1, 3);
SELECT evmig_dedupe('tree', on_referenced => 'repoint') AS job \gset
CALL evmig_wait(:job);
SELECT * FROM tree ORDER BY 1;
-- the job's role must see who references
RESET ROLE;
CREATE TABLE dedupe.others (parent_id int REFERENCES dedupe.parent);
SET ROLE dedupe_owner;
SELECT evmig_dedupe('parent', on_referenced => 'repoint');
RESET ROLE;
DROP TABLE dedupe.others;
SET ROLE dedupe_owner;

-- ---- a trigger that keeps rows
CREATE TABLE kept (request_id text, ts int);
INSERT INTO kept VALUES ('a', 1), ('a', 2), ('a', 3), ('a', 4);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.ts = 3 THEN RETURN NULL; END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER keep BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION keep();
SELECT evmig_dedupe('kept') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message, detail, hint FROM evmig_jobs WHERE job_id = :job \gx
SELECT state, rows_done, remaining, result FROM evmig_jobs WHERE job_id = :job;
SELECT count(*) FROM kept_dupes_archived;
-- one on the archive that loses rows: nothing is deleted
DROP TRIGGER keep ON kept;
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION on_create() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity ~ 'kept_dupes_archived_\d+$') THEN
		EXECUTE format('CREATE TRIGGER lose BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION dedupe.lose()',
			(SELECT object_identity FROM pg_event_trigger_ddl_commands()));
	END IF;
END $$;
RESET ROLE;
CREATE EVENT TRIGGER dedupe_on_create ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION dedupe.on_create();
SET ROLE dedupe_owner;
SELECT evmig_dedupe('kept') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message, detail FROM evmig_jobs WHERE job_id = :job \gx
RESET ROLE;
DROP EVENT TRIGGER dedupe_on_create;
SET ROLE dedupe_owner;
SELECT count(*) FROM kept;

-- ---- bad input: one clear error each, nothing changed
CREATE TABLE bad (request_id text, ts int, j json);
INSERT INTO bad VALUES ('a', 1), ('a', 2);
SELECT evmig_dedupe('bad', mode => 'purge');
SELECT evmig_dedupe('bad', on_referenced => 'ignore');
SELECT evmig_dedupe('bad', order_column => 'j');
SELECT evmig_dedupe('bad', order_column => 'request_id');
SELECT evmig_dedupe('bad', order_column => 'nope');
SELECT evmig_dedupe('bad', mode => 'rekey', generator => '''x''');
CREATE VIEW bad_dupes_archived AS SELECT 1;
SELECT evmig_dedupe('bad');
DROP VIEW bad_dupes_archived;
CREATE TABLE bad_dupes_archived (LIKE bad);
SELECT evmig_dedupe('bad');
DROP TABLE bad_dupes_archived;
SET evmig.max_loser_pct = 10;
SELECT evmig_dedupe('bad') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, message, detail, hint FROM evmig_jobs WHERE job_id = :job \gx
SET evmig.max_loser_pct = 100;
SET ROLE dedupe_reader;
SELECT evmig_dedupe('bad');
SELECT count(*) FROM evmig.archive;
SELECT count(*) FROM evmig.rekey;
INSERT INTO evmig.rekey (target) VALUES ('bad'::regclass);
RESET ROLE;
REVOKE CREATE ON SCHEMA dedupe FROM dedupe_owner;
ALTER SCHEMA dedupe OWNER TO CURRENT_USER;
GRANT USAGE ON SCHEMA dedupe TO dedupe_owner;
SET ROLE dedupe_owner;
SELECT evmig_dedupe('bad');
SELECT count(*) FROM bad;

RESET ROLE;
RESET search_path;
DROP SCHEMA dedupe CASCADE;
DROP OWNED BY dedupe_owner, dedupe_reader;
DROP ROLE dedupe_owner, dedupe_reader;
