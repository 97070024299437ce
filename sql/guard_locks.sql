-- The guard's lock rules: what fires, where, and what does not.
SET client_min_messages = warning;
CREATE SCHEMA guard_lk;
SET search_path = guard_lk, public;
-- ten rows would do: what counts as small is a setting
SET evmig.guard_small_table = '5';
CREATE TABLE big (id int, a text, b int, "Größe o'x" int);
INSERT INTO big SELECT n, n, n FROM generate_series(1, 10) n;
CREATE TABLE big2 (id int PRIMARY KEY, ref int);
INSERT INTO big2 SELECT n, n FROM generate_series(1, 10) n;
CREATE TABLE small (id int PRIMARY KEY, a text);
INSERT INTO small VALUES (1, 'a');
CREATE TABLE "Weird "".table" (id int);
INSERT INTO "Weird "".table" SELECT generate_series(1, 10);
CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO parted SELECT n, '2024-05-05' FROM generate_series(1, 10) n;
CREATE INDEX parted_at ON parted (at);
CREATE MATERIALIZED VIEW seen AS SELECT * FROM big;
CREATE VIEW big_view AS SELECT * FROM big2;
CREATE INDEX big_b ON big (b);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN amount AS int;
CREATE TABLE priced (price amount);
INSERT INTO priced SELECT generate_series(1, 10);
ANALYZE;

CREATE FUNCTION found(source text, wanted text DEFAULT '.') RETURNS TABLE (at text, rule text, severity text, relation text, lock text)
LANGUAGE sql AS $$
	SELECT line || ':' || col, rule, severity, relation, replace(lock_mode, 'Lock', '') || ' (' || coalesce(blocks, '') || ')' FROM evmig_guard(source)
	WHERE rule ~ wanted AND rule = ANY (string_to_array('add-column-volatile-default add-column-generated-stored add-column-auto-increment add-column-not-null-no-default set-not-null drop-not-null change-column-type change-type-rechecks-constraint drop-column rename-column multiple-alter-table add-fk-valid add-check-valid validate-in-same-tx add-unique-constraint add-primary-key pk-using-index-nullable add-exclusion fk-without-index drop-constraint drop-primary-key alter-domain-constraint index-not-concurrent drop-index-not-concurrent reindex-not-concurrent concurrently-in-tx drop-table drop-schema drop-cascade rename-table truncate truncate-cascade update-without-where delete-without-where set-logged cluster-vacuum-full create-trigger attach-partition partition-detach refresh-matview lock-timeout statement-after-ax wide-lock-window tx-nesting uncommitted-tx enum-add-value-in-tx', ' '))
	ORDER BY line, col, rule
$$;
CREATE TABLE rule_case (n serial, statement text);

-- one statement each; lock-timeout apart
INSERT INTO rule_case (statement) SELECT trim(t, E'\t') FROM regexp_split_to_table($$
	ALTER TABLE big ADD COLUMN u uuid DEFAULT gen_random_uuid()
	ALTER TABLE small ADD COLUMN u uuid DEFAULT gen_random_uuid()
	ALTER TABLE big ADD COLUMN u uuid DEFAULT not_here()
	ALTER TABLE not_here ADD COLUMN u uuid DEFAULT gen_random_uuid()
	ALTER TABLE IF EXISTS not_here ALTER COLUMN x TYPE bigint
	ALTER TABLE big ALTER COLUMN not_here TYPE bigint
	ALTER TABLE big ALTER COLUMN b TYPE not_here
	ALTER TABLE big ALTER COLUMN a TYPE int
	ALTER TABLE big ADD COLUMN n int NOT NULL
	ALTER TABLE small ADD COLUMN n int NOT NULL
	ALTER TABLE big ADD COLUMN n int NOT NULL DEFAULT 0
	ALTER TABLE big ADD COLUMN n int NOT NULL DEFAULT NULL
	ALTER TABLE big ADD COLUMN IF NOT EXISTS b int NOT NULL
	ALTER TABLE big ALTER b SET NOT NULL
	ALTER TABLE small ALTER a SET NOT NULL
	ALTER TABLE small ALTER id SET NOT NULL
	ALTER TABLE big ALTER "Größe o'x" SET NOT NULL
	ALTER TABLE "Weird "".table" ALTER id SET NOT NULL
	ALTER TABLE parted ALTER id SET NOT NULL
	ALTER TABLE big2 ALTER id DROP NOT NULL
	ALTER TABLE big ALTER a DROP NOT NULL
	ALTER TABLE big DROP COLUMN a
	ALTER TABLE big DROP COLUMN IF EXISTS not_here
	ALTER TABLE big RENAME COLUMN a TO aa
	ALTER TABLE big RENAME TO bigger
	ALTER VIEW big_view RENAME TO bigger_view
	ALTER TABLE big SET SCHEMA public
	ALTER TABLE big2 ADD FOREIGN KEY (ref) REFERENCES small
	ALTER TABLE big ADD FOREIGN KEY (b) REFERENCES big2 NOT VALID
	ALTER TABLE big ADD CHECK (b > 0)
	ALTER TABLE big ADD CHECK (b > 0) NOT VALID
	ALTER TABLE big ADD CONSTRAINT u UNIQUE (b)
	ALTER TABLE big ADD PRIMARY KEY (id)
	ALTER TABLE big ADD EXCLUDE (id WITH =)
	ALTER TABLE big2 DROP CONSTRAINT big2_pkey
	ALTER DOMAIN amount ADD CHECK (VALUE > 0)
	ALTER DOMAIN amount ADD CHECK (VALUE > 0) NOT VALID
	CREATE INDEX ON big (a)
	CREATE INDEX ON small (a)
	CREATE INDEX IF NOT EXISTS big_b ON big (a)
	CREATE INDEX ON parted (id)
	CREATE INDEX ON ONLY parted (id)
	CREATE INDEX CONCURRENTLY ON big (a)
	DROP INDEX big_b
	DROP INDEX parted_at
	DROP INDEX CONCURRENTLY big_b
	REINDEX TABLE big
	REINDEX INDEX big_b
	REINDEX (CONCURRENTLY) TABLE big
	REINDEX SCHEMA guard_lk
	DROP TABLE big
	DROP TABLE IF EXISTS small CASCADE
	DROP TABLE big2 CASCADE
	DROP VIEW big_view CASCADE
	DROP SCHEMA guard_lk CASCADE
	TRUNCATE big, small
	TRUNCATE big2 CASCADE
	UPDATE big SET a = 1
	UPDATE big SET a = 1 WHERE 1 = 1
	UPDATE big SET a = 1 WHERE true
	UPDATE big SET a = 1 WHERE b = 1
	UPDATE big SET a = s.a FROM small s
	DELETE FROM big
	WITH x AS (DELETE FROM big RETURNING *) SELECT * FROM x
	DELETE FROM small
	ALTER TABLE big SET UNLOGGED
	ALTER TABLE big SET LOGGED
	CLUSTER big USING big_b
	VACUUM FULL big
	VACUUM FULL
	VACUUM (FULL false) big
	VACUUM big
	CREATE TRIGGER t BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
	CREATE TRIGGER t INSTEAD OF INSERT ON big_view FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
	REFRESH MATERIALIZED VIEW seen
	REFRESH MATERIALIZED VIEW CONCURRENTLY seen
	ALTER TABLE big ALTER b SET DEFAULT random()
	ALTER TABLE big ALTER b SET STATISTICS 10
	ALTER TABLE big OWNER TO CURRENT_USER
	COMMENT ON TABLE big IS 'x'
	CREATE TABLE new_one (id int PRIMARY KEY)
	CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DROP TABLE guard_lk.big'$$, E'\n') t WHERE t ~ '\S';
\pset format unaligned
\pset tuples_only on
SELECT statement, string_agg(concat_ws(' ', E'\n   ', at, severity, rule, relation, lock), '')
FROM rule_case LEFT JOIN LATERAL found(statement) ON rule NOT IN ('lock-timeout', 'uncommitted-tx') GROUP BY n, statement ORDER BY n;

-- made by the source: nobody waits for it
SELECT * FROM found($$
CREATE TABLE mine (id int, a text);
INSERT INTO mine VALUES (1, 'x');
ALTER TABLE mine ADD COLUMN u uuid DEFAULT gen_random_uuid();
ALTER TABLE mine ADD PRIMARY KEY (id);
CREATE INDEX ON mine (a);
UPDATE mine SET a = 'y';
DROP TABLE mine;
CREATE TABLE copy AS SELECT * FROM big;
CREATE INDEX ON copy (id);
CREATE TEMP TABLE big AS SELECT 1 AS id;
CREATE INDEX ON big (id);
$$, 'index|column|constraint|key|without|lock');
-- but not what only may be, nor what comes back with a rollback
SELECT * FROM found($$
CREATE TABLE IF NOT EXISTS big (id int);
CREATE INDEX ON big (id);
BEGIN;
ALTER TABLE big RENAME TO elsewhere;
CREATE TABLE big (id int);
CREATE INDEX ON big (id);
CREATE INDEX ON elsewhere (id);
ROLLBACK;
CREATE INDEX ON big (id);
SET search_path = public;
CREATE INDEX ON big (id);
CREATE INDEX ON guard_lk.big (id);
RESET search_path;
CREATE INDEX ON big (id);
$$, 'index');

-- every action stands where it stands
SELECT * FROM found(E'ALTER TABLE ONLY guard_lk . big\n  ADD COLUMN é int DEFAULT 1, ALTER b SET NOT NULL,\n  ALTER "Größe o''x" SET NOT NULL, ADD CHECK (b IN (1, 2)), DROP COLUMN a;', '');

-- lock_timeout: once, until it is set
SELECT c.n, found.at, found.severity, found.relation FROM (VALUES
	(1, 'ALTER TABLE big ADD x int; ALTER TABLE big2 ADD x int;'),
	(2, 'ALTER TABLE small ADD x int; ALTER TABLE big ADD x int; ALTER TABLE big2 ADD x int;'),
	(3, 'SET lock_timeout = ''2s''; ALTER TABLE big ADD x int;'),
	(4, 'SET lock_timeout = 2000; ALTER TABLE big ADD x int; SET lock_timeout = 0; ALTER TABLE big2 ADD x int;'),
	(5, 'SET LOCAL lock_timeout = ''2s''; ALTER TABLE big ADD x int;'),
	(6, 'BEGIN; SET LOCAL lock_timeout = ''2s''; ALTER TABLE big ADD x int; COMMIT; ALTER TABLE big2 ADD x int;'),
	(7, 'BEGIN; SET lock_timeout = ''2s''; COMMIT; ALTER TABLE big2 ADD x int;'),
	(8, 'BEGIN; SET lock_timeout = ''2s''; ROLLBACK; ALTER TABLE big2 ADD x int;'),
	(9, 'SELECT set_config(''lock_timeout'', ''2s'', false); ALTER TABLE big2 ADD x int;'),
	(10, 'SELECT pg_catalog.set_config(''lock_timeout'', ''2s'', true); ALTER TABLE big2 ADD x int;'),
	(11, 'SET lock_timeout = ''2s''; RESET lock_timeout; ALTER TABLE big2 ADD x int;'),
	(12, 'SET lock_timeout = ''2s''; RESET ALL; ALTER TABLE big2 ADD x int;'),
	(13, 'ALTER ROLE CURRENT_USER SET lock_timeout = ''2s''; ALTER TABLE big2 ADD x int;'),
	(14, 'BEGIN; SAVEPOINT a; SET lock_timeout = ''2s''; ROLLBACK TO a; ALTER TABLE big2 ADD x int; COMMIT;'),
	(15, 'BEGIN; SET lock_timeout = ''2s''; SAVEPOINT a; ROLLBACK TO SAVEPOINT a; ALTER TABLE big2 ADD x int; COMMIT;'),
	(16, 'CREATE TABLE child (id int REFERENCES big2);'),
	(17, 'CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (''2026-01-01'') TO (''2027-01-01'');'),
	(18, 'CREATE INDEX CONCURRENTLY ON big (a); ALTER TABLE big VALIDATE CONSTRAINT x; COMMENT ON TABLE big IS '''';'),
	(19, 'LOCK TABLE big IN SHARE ROW EXCLUSIVE MODE; '),
	(20, 'LOCK TABLE big NOWAIT; LOCK TABLE big IN ROW SHARE MODE;'),
	(21, 'DO $d$ BEGIN SET LOCAL lock_timeout = ''2s''; ALTER TABLE big ADD x int; END $d$; ALTER TABLE big2 ADD x int;')
) c (n, source), LATERAL found(source, 'lock-timeout') ORDER BY n, at;
-- a default of the role protects every session of it
CREATE ROLE guard_lk_role SUPERUSER;
ALTER ROLE guard_lk_role SET lock_timeout = '1s';

-- transactions
SELECT c.n, found.at, found.rule, found.severity, found.relation, found.lock FROM (VALUES
	(1, E'BEGIN;\nALTER TABLE big ADD x int;\nSELECT count(*) FROM big2;\nSELECT 1;\nCOMMIT;\nSELECT 2;'),
	(2, E'ALTER TABLE big ADD x int;\nSELECT count(*) FROM big2;'),
	(3, E'BEGIN;\nALTER TABLE big ADD x int;\nALTER TABLE big2 ADD x int;\nCOMMIT;'),
	(4, E'BEGIN;\nALTER TABLE small ADD x int;\nSELECT 1;\nCOMMIT;'),
	(5, E'BEGIN;\nSAVEPOINT s;\nALTER TABLE big ADD x int;\nROLLBACK TO s;\nSELECT 1;\nCOMMIT;'),
	(6, E'BEGIN;\nALTER TABLE big ADD x int;\nSAVEPOINT s;\nROLLBACK TO s;\nSELECT 1;\nCOMMIT;'),
	(7, E'BEGIN;\nCREATE TABLE mine (id int);\nALTER TABLE mine ADD x int;\nSELECT 1;\nCOMMIT;'),
	(8, E'BEGIN;\nALTER TABLE big ADD CONSTRAINT c CHECK (b > 0) NOT VALID;\nALTER TABLE big VALIDATE CONSTRAINT c;\nCOMMIT;'),
	(9, E'ALTER TABLE big ADD CONSTRAINT c CHECK (b > 0) NOT VALID;\nALTER TABLE big VALIDATE CONSTRAINT c;'),
	(10, E'ALTER TABLE big ADD CONSTRAINT c CHECK (b > 0) NOT VALID, VALIDATE CONSTRAINT c;'),
	(11, E'BEGIN;\nALTER TABLE big ADD x int;\nALTER TABLE big VALIDATE CONSTRAINT old;\nCOMMIT;'),
	(12, E'BEGIN;\nALTER TABLE big VALIDATE CONSTRAINT old;\nCOMMIT;'),
	(13, E'DO $d$ BEGIN\n ALTER TABLE big ADD CONSTRAINT c CHECK (b > 0) NOT VALID;\n ALTER TABLE big VALIDATE CONSTRAINT c;\nEND $d$;'),
	(14, E'BEGIN;\nCREATE INDEX CONCURRENTLY ON big (a);\nDROP INDEX CONCURRENTLY big_b;\nREINDEX TABLE CONCURRENTLY big;\nCOMMIT;'),
	(15, E'DO $d$ BEGIN\n CREATE INDEX CONCURRENTLY ON big (a);\nEND $d$;'),
	(16, E'COMMIT;'),
	(17, E'BEGIN;\nBEGIN;\nCOMMIT;'),
	(18, E'ROLLBACK;\nBEGIN;\nSELECT 1;'),
	(19, E'BEGIN;\nROLLBACK AND CHAIN;\nSELECT 1;\nCOMMIT;'),
	(20, E'BEGIN;\nALTER TYPE mood ADD VALUE ''meh'';\nSELECT ''other'';\nINSERT INTO big (a) VALUES (''meh'');\nCOMMIT;\nSELECT ''meh'';'),
	(21, E'ALTER TYPE mood ADD VALUE ''meh'';\nSELECT ''meh'';'),
	(22, E'BEGIN;\nCREATE TYPE m2 AS ENUM (''a'');\nALTER TYPE m2 ADD VALUE ''meh'';\nSELECT ''meh'';\nCOMMIT;'),
	(23, E'ALTER TABLE big ADD x int;\nALTER TABLE big ADD y int;\nSELECT 1;\nALTER TABLE big ADD z int;'),
	(24, E'BEGIN;\nALTER TABLE big ADD x int;\nSELECT 1;\nALTER TABLE big ADD y int;\nCOMMIT;'),
	(25, E'ALTER TABLE big ADD CONSTRAINT nn CHECK (b IS NOT NULL) NOT VALID;\nALTER TABLE big VALIDATE CONSTRAINT nn;\nALTER TABLE big ALTER b SET NOT NULL;\nALTER TABLE big DROP CONSTRAINT nn;'),
	(26, E'ALTER TABLE big ADD CONSTRAINT nn CHECK (b IS NOT NULL) NOT VALID;\nALTER TABLE big ALTER b SET NOT NULL;'),
	(27, E'ALTER TABLE big ADD CONSTRAINT nn CHECK (b IS NOT NULL) NOT VALID;\nALTER TABLE big VALIDATE CONSTRAINT nn;\nALTER TABLE big DROP CONSTRAINT nn;\nALTER TABLE big ALTER b SET NOT NULL;'),
	(28, E'BEGIN;\nALTER TABLE big ADD CONSTRAINT nn CHECK (b IS NOT NULL);\nROLLBACK;\nALTER TABLE big ALTER b SET NOT NULL;'),
	(29, E'CREATE UNIQUE INDEX CONCURRENTLY k ON big (b);\nALTER TABLE big ADD PRIMARY KEY USING INDEX k;'),
	(30, E'CREATE INDEX CONCURRENTLY ON big2 (ref);\nALTER TABLE big2 ADD CONSTRAINT f FOREIGN KEY (ref) REFERENCES small NOT VALID;\nALTER TABLE big2 VALIDATE CONSTRAINT f;')
) c (n, source), LATERAL found(source) WHERE rule <> 'lock-timeout' ORDER BY n, at;
SET evmig.guard_in_transaction = on;
SELECT * FROM found(E'CREATE INDEX CONCURRENTLY ON big (a);\nBEGIN;\nALTER TABLE big ADD x int;\nCOMMIT;', 'tx');
RESET evmig.guard_in_transaction;

-- what a version of the server does not do yet, or does no more
SELECT v, found.at, found.rule, found.severity FROM unnest('{10,11,17,18}'::text[]) v, LATERAL (SELECT set_config('evmig.guard_target_version', v, false)) s,
	LATERAL found(E'ALTER TABLE big ADD x int DEFAULT 1;\nBEGIN;\nALTER TYPE mood ADD VALUE ''meh'';\nCOMMIT;\nALTER TABLE big ALTER b SET NOT NULL;', CASE WHEN s IS NULL THEN '' ELSE 'default|enum|not-null' END) ORDER BY v, at;
RESET evmig.guard_target_version;

-- a table goes without a lock on those that its foreign keys lead to
CREATE TABLE referred (id int PRIMARY KEY);
CREATE TABLE "Refers" (id int REFERENCES referred);
SELECT hint FROM evmig_guard('DROP TABLE guard_lk.referred CASCADE') WHERE rule = 'drop-table';
SELECT hint FROM evmig_guard('DROP TABLE guard_lk."Refers"') WHERE rule = 'drop-table';
DROP TABLE "Refers", referred;

-- what USING says is in the backfill
SELECT message, hint FROM evmig_guard($$ALTER TABLE guard_lk.big ALTER a TYPE text USING (a * 2)::text || ',;x' , ALTER COLUMN b TYPE int USING nosuch(b); SELECT 1$$) WHERE rule = 'change-column-type';

-- the safe way can be pasted: each hint that is SQL is read by the guard, and only what is safe is in it
SELECT c.statement, rule, hint FROM rule_case c, evmig_guard(c.statement)
WHERE rule !~ '^(data-|lock-timeout|multiple)' AND hint ~ '^(--|[A-Z ]+ guard_lk|CREATE|ALTER|SET|SELECT)' AND relation ~ 'big|Weird|parted|priced' AND hint !~ '\.\.\.' ORDER BY n, rule;
SELECT DISTINCT g.rule, again.rule, again.message FROM rule_case c, evmig_guard(c.statement) g, evmig_guard(hint) again
WHERE g.hint ~ '(^|\n)(CREATE|ALTER|DROP|SET|REINDEX)' AND (again.rule = 'unparsed' OR again.rule = g.rule AND g.rule !~ 'drop|default|not-null-no|detach') AND g.hint !~ '\.\.\.';
\pset tuples_only off

DROP SCHEMA guard_lk CASCADE;
DROP ROLE guard_lk_role;
