--
-- The ingest guard: incoming rows whose key is taken
--
\set SHOW_CONTEXT never
\pset null '(null)'
CREATE ROLE regress_id_owner LOGIN;
CREATE ROLE regress_id_writer LOGIN;
CREATE SCHEMA ingest_duplicates;
GRANT ALL ON SCHEMA ingest_duplicates TO regress_id_owner;
GRANT USAGE ON SCHEMA ingest_duplicates TO regress_id_writer;
SET search_path = ingest_duplicates, public;
SET ROLE regress_id_owner;

-- odd names, a generated and a dropped column
CREATE TABLE "o'x" (id int PRIMARY KEY, gone int, "Key" text, payload text, twice int GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE "o'x" DROP gone;
GRANT INSERT, SELECT, UPDATE ON "o'x" TO regress_id_writer;

-- nothing happens to duplicates as long as there is no index to find them by
SELECT evmig_ingest_guard('"o''x"', 'Key', duplicates => 'archive');
INSERT INTO "o'x" VALUES (1, 'a', 'first'), (2, 'a', 'second');
CREATE INDEX partial ON "o'x" ("Key") WHERE id > 0;
CREATE INDEX two ON "o'x" ("Key", id);
CREATE INDEX other_order ON "o'x" ("Key" COLLATE "POSIX");
CREATE INDEX hashed ON "o'x" USING hash ("Key");
CREATE INDEX expression ON "o'x" (lower("Key"));
INSERT INTO "o'x" VALUES (3, 'a', 'third');
CREATE INDEX usable ON "o'x" ("Key");

-- archive: with the owner's rights, in the writer's transaction
SET ROLE regress_id_writer;
INSERT INTO "o'x" VALUES (4, 'a', 'fourth'), (5, 'b', 'first of b'), (6, 'b', 'in the same statement');
INSERT INTO "o'x" VALUES (7, 'b', 'not returned') RETURNING id;
INSERT INTO "o'x" VALUES (8, NULL, 'no key'), (9, NULL, 'no key either');
INSERT INTO "o'x" SELECT g, 'k' || g % 3, 'series' FROM generate_series(10, 20) g;
BEGIN;
INSERT INTO "o'x" VALUES (21, 'a', 'rolled back');
ROLLBACK;
BEGIN;
INSERT INTO "o'x" VALUES (22, 'c', 'rolled back');
SAVEPOINT s;
INSERT INTO "o'x" VALUES (23, 'c', 'rolled back');
ROLLBACK TO s;
INSERT INTO "o'x" VALUES (24, 'c', 'rolled back');
ROLLBACK;
INSERT INTO "o'x" VALUES (25, 'c', 'kept');
UPDATE "o'x" SET "Key" = 'a' WHERE id = 5;		-- cannot be put away: passes
UPDATE "o'x" SET payload = payload || '!' WHERE "Key" = 'a';
COPY "o'x" (id, "Key", payload) FROM stdin;
30	d	copied
31	d	copied twice
\.
SELECT count(*) FROM "o'x_dupes_archived";
SET ROLE regress_id_owner;
SELECT id, CASE WHEN length("Key") = 36 THEN 'filled' ELSE "Key" END AS key, payload, twice FROM "o'x" ORDER BY id;
SELECT tableoid::regclass, * FROM "o'x_dupes_archived" ORDER BY id;

-- a column more than the archive has: the writer does not fail
ALTER TABLE "o'x" ADD more int;
INSERT INTO "o'x" VALUES (40, 'd', 'passes', DEFAULT, 1);
SELECT evmig_ingest_guard('"o''x"', 'Key', duplicates => 'archive');
INSERT INTO "o'x" VALUES (41, 'd', 'archived', DEFAULT, 2);
-- nor where the archive was dropped
DROP TABLE "o'x_dupes_archived" CASCADE;
INSERT INTO "o'x" VALUES (42, 'd', 'passes', DEFAULT, 3);
SELECT id, payload, more FROM "o'x" WHERE more IS NOT NULL ORDER BY id;

-- who deletes the first row before sends it again
BEGIN;
DELETE FROM "o'x" WHERE "Key" = 'k1';
INSERT INTO "o'x" VALUES (50, 'k1', 'again');
COMMIT;
SELECT id FROM "o'x" WHERE "Key" = 'k1';

-- rekey: what is logged is what evmig_restore looks for
SELECT evmig_ingest_guard('"o''x"', 'Key', duplicates => 'rekey', generator => '''new-'' || gen_random_uuid()');
SET ROLE regress_id_writer;
INSERT INTO "o'x" VALUES (60, 'k1', 'rekeyed') RETURNING "Key" LIKE 'new-%' AS rekeyed;
UPDATE "o'x" SET "Key" = 'k1' WHERE id = 60 RETURNING "Key" LIKE 'new-%' AS rekeyed;
UPDATE "o'x" SET "Key" = 'k1', payload = 'same key' WHERE id = 50 RETURNING "Key";
SET ROLE regress_id_owner;
SELECT job_id, target, row_identity, old_key, new_key LIKE 'new-%' AS new, new_key = (SELECT "Key" FROM "o'x" WHERE id = 60) AS last
FROM evmig.rekey WHERE target = '"o''x"'::regclass ORDER BY rekey_id;
SELECT id FROM "o'x" t, evmig.rekey r WHERE r.target = '"o''x"'::regclass AND to_jsonb(t.*) @> r.row_identity AND t."Key" = r.new_key;
CREATE TABLE no_pk (request_id int);
CREATE SEQUENCE new_keys START 100;
SELECT evmig_ingest_guard('no_pk', duplicates => 'rekey', generator => 'nextval(''new_keys'')');
CREATE INDEX ON no_pk (request_id);
INSERT INTO no_pk VALUES (1), (1) RETURNING *;
SELECT row_identity, old_key, new_key FROM evmig.rekey WHERE target = 'no_pk'::regclass;

-- reject
SELECT evmig_ingest_guard('"o''x"', 'Key', mode => 'reject', duplicates => 'reject');
SET ROLE regress_id_writer;
INSERT INTO "o'x" VALUES (70, 'k1');
\echo :LAST_ERROR_SQLSTATE
UPDATE "o'x" SET "Key" = 'k1' WHERE id = 60;
INSERT INTO "o'x" VALUES (71, NULL);
INSERT INTO "o'x" VALUES (72, 'new');
SET ROLE regress_id_owner;
DROP TABLE "o'x";

-- equality is the index's, of whatever type
CREATE TABLE numbers (request_id bigint, n int);
CREATE INDEX ON numbers (request_id);
SELECT evmig_ingest_guard('numbers', mode => 'reject', duplicates => 'reject');
INSERT INTO numbers VALUES (1, 1), (1, 2);
INSERT INTO numbers VALUES (1, 1);
INSERT INTO numbers VALUES (1, 2);
-- duplicates that are there already do not stop an update of another column
ALTER TABLE numbers DISABLE TRIGGER USER;
INSERT INTO numbers VALUES (1, 3);
ALTER TABLE numbers ENABLE ALWAYS TRIGGER "~evmig_ingest_guard";
UPDATE numbers SET n = 4 WHERE n = 3;
SELECT * FROM numbers ORDER BY n;
CREATE TABLE decimals (request_id numeric);
CREATE UNIQUE INDEX ON decimals (request_id);
SELECT evmig_ingest_guard('decimals', mode => 'reject', duplicates => 'archive');
INSERT INTO decimals VALUES (1.0), (1.00), (2);
SELECT * FROM decimals ORDER BY 1;
SELECT * FROM decimals_dupes_archived;
CREATE TYPE pair AS (a int, b text);
CREATE TABLE pairs (request_id pair);
CREATE INDEX ON pairs (request_id);
SELECT evmig_ingest_guard('pairs', mode => 'reject', duplicates => 'reject');
INSERT INTO pairs VALUES (ROW(1, 'x')), (ROW(1, 'y'));
INSERT INTO pairs VALUES (ROW(1, 'x'));
CREATE TABLE arrays (request_id text[]);
CREATE INDEX ON arrays (request_id);
SELECT evmig_ingest_guard('arrays', mode => 'reject', duplicates => 'reject');
INSERT INTO arrays VALUES ('{a}'), ('{b}'), ('{a}');
RESET ROLE;

-- past evmig.ingest_key_locks no more locks are taken, duplicates are found still
CREATE TABLE bulk (request_id uuid, n int);
CREATE INDEX ON bulk (request_id);
SELECT evmig_ingest_guard('bulk', duplicates => 'archive');
BEGIN;
INSERT INTO bulk SELECT md5((g % 10000)::text)::uuid, g FROM generate_series(1, 20000) g;
SELECT count(*) = current_setting('evmig.ingest_key_locks')::int AS as_many_as_allowed
FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND classid = 'bulk'::regclass;
COMMIT;
SELECT (SELECT count(*) FROM bulk), (SELECT count(*) FROM bulk_dupes_archived);

\set VERBOSITY terse
SET client_min_messages = warning;
DELETE FROM evmig.rekey WHERE key_column IN ('Key', 'request_id');
DROP SCHEMA ingest_duplicates CASCADE;
DROP ROLE regress_id_owner, regress_id_writer;
