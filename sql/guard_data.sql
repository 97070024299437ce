-- the guard's data rules: what fires, where, and what does not
CREATE SCHEMA guard_data;
SET search_path = guard_data, public;
CREATE TABLE t (id int PRIMARY KEY, a text);
CREATE TABLE "Weird "".table" (id int, a text);
CREATE VIEW v AS SELECT * FROM t;
CREATE SEQUENCE s;

-- line:col rule severity relation, of the rules about data alone
CREATE FUNCTION pg_temp.found(sql text) RETURNS text LANGUAGE sql SET search_path = guard_data, public AS $$
	SELECT coalesce(string_agg(format('%s:%s %s %s %s', line, col, rule, severity, relation), E'\n'), '-')
	FROM evmig_guard(sql, lang => 'sql') WHERE rule ~ '^data-|^unparsed|^dynamic'
$$;
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' => '

\echo -- each statement, wherever it stands
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	'UPDATE t SET a = ''x''',
	'update only guard_data.t as x set (id, a) = (select 1, ''y'') where id = 3 returning *',
	'UPDATE "Weird "".table" SET a = NULL',
	'UPDATE nowhere.unknown SET a = NULL',
	'UPDATE v SET a = 1',
	'DELETE FROM t',
	'/* delete from */ DELETE /* from x */ FROM ONLY t USING v WHERE t.id = v.id',
	'INSERT INTO t SELECT * FROM v',
	'INSERT INTO t TABLE v',
	'INSERT INTO t (id) SELECT 1 WHERE NOT EXISTS (SELECT FROM t)',
	'INSERT INTO t (id) VALUES (1), (2)',
	'INSERT INTO t DEFAULT VALUES',
	'INSERT INTO t VALUES (1, (SELECT ''x''))',
	'INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING',
	E'INSERT INTO t VALUES (1)\n  ON CONFLICT (id) DO UPDATE SET a = excluded.a',
	'MERGE INTO t USING v ON t.id = v.id WHEN MATCHED THEN UPDATE SET a = ''x''',
	'MERGE INTO t USING v ON t.id = v.id WHEN MATCHED THEN DO NOTHING',
	'COPY t FROM ''/tmp/x''',
	'COPY t (id) FROM PROGRAM ''x'' WHERE id > 3',
	'TRUNCATE t',
	'TRUNCATE TABLE ONLY t, v RESTART IDENTITY CASCADE',
	'SELECT setval(''s'', 5)',
	'SELECT pg_catalog.setval(''guard_data.s''::regclass, max(id)) FROM t',
	'SELECT setval(pg_get_serial_sequence(''t'', ''id''), 1)']) sql;

\echo -- inside others
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	'WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x',
	'WITH x AS (WITH y AS (DELETE FROM t RETURNING *) SELECT * FROM y) SELECT * FROM x',
	E'WITH x AS (DELETE FROM t RETURNING *)\nINSERT INTO v SELECT * FROM x',
	E'WITH x AS (INSERT INTO t VALUES (1) RETURNING id),\n     y AS (UPDATE t SET a = 2)\nDELETE FROM t',
	'CREATE TEMP TABLE n AS WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x',
	'COPY (DELETE FROM t RETURNING *) TO STDOUT',
	'COPY (WITH x AS (UPDATE t SET a = 1 RETURNING 1) SELECT * FROM x) TO STDOUT',
	'EXPLAIN ANALYZE UPDATE t SET a = 1',
	'EXPLAIN (COSTS off, ANALYZE) DELETE FROM t',
	'EXPLAIN (ANALYZE true, VERBOSE) INSERT INTO t SELECT * FROM v',
	'EXPLAIN (ANALYZE ON) MERGE INTO t USING v ON true WHEN MATCHED THEN DELETE',
	E'PREPARE p (int) AS\nUPDATE t SET a = $1;\nEXECUTE p (3);\nEXECUTE p (4)',
	'PREPARE p AS DELETE FROM t; EXPLAIN ANALYZE EXECUTE p',
	'PREPARE p AS SELECT setval(''s'', 1); CREATE TABLE n AS EXECUTE p',
	'EXECUTE elsewhere',
	'PREPARE p AS DELETE FROM t; DEALLOCATE p; EXECUTE p',
	'PREPARE p AS DELETE FROM t; DISCARD ALL; EXECUTE p',
	'DECLARE c CURSOR FOR SELECT setval(''s'', 1)',
	'CREATE SCHEMA n CREATE TABLE t (i int) CREATE VIEW w AS SELECT * FROM t; UPDATE t SET a = 1',
	'ALTER TABLE t ADD COLUMN b bigint DEFAULT setval(''s'', 1)',
	'ALTER TABLE t ALTER COLUMN a TYPE bigint USING setval(''s'', 1)',
	'ALTER TABLE t ADD CONSTRAINT c CHECK (setval(''s'', id) > 0)',
	'CREATE INDEX ON t ((setval(''s'', id)))',
	'SELECT * FROM t WHERE id IN (SELECT setval(''s'', 1)) ORDER BY setval(''s'', 2)',
	'SELECT 1 UNION SELECT setval(''s'', 1) UNION SELECT setval(''s'', 2)',
	'SELECT CASE WHEN a IS NULL THEN (ARRAY[setval(''s'', 1)])[1]::text END || setval(''s'', 2) FROM t',
	'VALUES (1), (setval(''s'', 1))']) sql;

\echo -- no data change
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	'SELECT * FROM t FOR UPDATE',
	'EXPLAIN UPDATE t SET a = 1',
	'EXPLAIN (ANALYZE false) UPDATE t SET a = 1',
	'EXPLAIN (ANALYZE off) UPDATE t SET a = 1',
	'PREPARE p AS UPDATE t SET a = 1',
	'COPY t TO STDOUT',
	'COPY (SELECT * FROM t) TO STDOUT',
	'SELECT ''UPDATE t SET a = 1'', "update", nextval(''s'') FROM (SELECT 1 AS "update") x -- DELETE FROM t',
	'CREATE VIEW w AS SELECT setval(''s'', 1)',
	'CREATE RULE r AS ON INSERT TO v DO INSTEAD (DELETE FROM t; UPDATE t SET a = 1)',
	'CREATE TABLE n (i int DEFAULT setval(''s'', 1))',
	'ALTER TABLE t ALTER COLUMN a SET DEFAULT setval(''s'', 1)',
	'ALTER TABLE t ADD CONSTRAINT c CHECK (setval(''s'', id) > 0) NOT VALID',
	'CREATE TRIGGER g BEFORE UPDATE OR DELETE ON t EXECUTE FUNCTION f()',
	'GRANT INSERT, UPDATE, DELETE, TRUNCATE ON t TO public',
	'CREATE POLICY p ON t FOR UPDATE USING (true)',
	'ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES t ON UPDATE CASCADE ON DELETE CASCADE',
	'CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC; DELETE FROM t; UPDATE t SET a = CASE WHEN true THEN 1 END; END',
	'']) sql;

\echo -- the severity of INSERT ... VALUES
SET evmig.guard_insert_values = error;
SELECT pg_temp.found('INSERT INTO t VALUES (1); INSERT INTO t SELECT 1');
SET evmig.guard_insert_values = off;
SELECT pg_temp.found('INSERT INTO t VALUES (1); INSERT INTO t SELECT 1');
RESET evmig.guard_insert_values;

\echo -- filling from large tables
CREATE TABLE large AS SELECT generate_series(1, 3000) AS id;
CREATE MATERIALIZED VIEW m AS SELECT * FROM large;
CREATE VIEW few AS SELECT count(*) AS n FROM large;
CREATE MATERIALIZED VIEW few_m AS SELECT * FROM few;
CREATE MATERIALIZED VIEW small_m AS SELECT * FROM t;
ANALYZE large, m, few_m, small_m;
SET evmig.guard_small_table = 1000;
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	'SELECT * INTO n FROM large',
	'SELECT * INTO TEMP n FROM t',
	'SELECT 1 AS one INTO n',
	'WITH large AS (SELECT 1) SELECT * INTO n FROM large',
	'SELECT * INTO n FROM t UNION SELECT 1, ''x'' FROM large',
	'CREATE TABLE n AS SELECT * FROM t WHERE id IN (SELECT id FROM large)',
	'CREATE TABLE n AS TABLE large WITH NO DATA',
	'CREATE TABLE n AS TABLE t',
	'CREATE TABLE n AS TABLE unknown',
	'CREATE TABLE IF NOT EXISTS t AS TABLE large',
	'PREPARE p AS SELECT * FROM large; CREATE TABLE n AS EXECUTE p',
	'CREATE MATERIALIZED VIEW n AS TABLE large',
	'CREATE MATERIALIZED VIEW n AS TABLE large WITH NO DATA',
	'REFRESH MATERIALIZED VIEW m',
	'REFRESH MATERIALIZED VIEW CONCURRENTLY m',
	'REFRESH MATERIALIZED VIEW m WITH NO DATA',
	'REFRESH MATERIALIZED VIEW few_m',
	'REFRESH MATERIALIZED VIEW small_m',
	'CREATE TABLE n AS TABLE few',
	'CREATE TABLE n AS TABLE few_m',
	'CREATE TABLE n AS TABLE v',
	'REFRESH MATERIALIZED VIEW unknown']) sql;
RESET evmig.guard_small_table;

\echo -- the safe way can be pasted
SELECT sql, hint FROM unnest(ARRAY[
	'UPDATE t SET a = lower(a) WHERE a <> lower(a)',
	'UPDATE ONLY "Weird "".table" SET a = ''it''''s'', id =  1+(SELECT 2) ;',
	'WITH x AS (UPDATE t SET a = ''x'') SELECT 1',
	'UPDATE t AS x SET a = x.id',
	'UPDATE t SET a = 1 FROM v',
	'UPDATE v SET a = 1']) sql, evmig_guard(sql, lang => 'sql') WHERE rule = 'data-update';

\echo -- tables of the source itself
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	'CREATE TABLE n (i int); INSERT INTO n SELECT 1; UPDATE n SET i = 1; DELETE FROM n; TRUNCATE n; COPY n FROM ''x''',
	'UPDATE n SET i = 1; CREATE TABLE n (i int)',
	'CREATE TABLE t (i int); UPDATE t SET i = 1',
	'CREATE TABLE IF NOT EXISTS t (i int); UPDATE t SET i = 1',
	'CREATE TABLE IF NOT EXISTS n (i int); UPDATE n SET i = 1',
	'CREATE TABLE n AS TABLE t; UPDATE n SET id = 1',
	'SELECT * INTO n FROM t; UPDATE n SET id = 1',
	'CREATE TEMP TABLE n AS TABLE t; UPDATE n SET id = 1; UPDATE pg_temp.n SET id = 2',
	'BEGIN; CREATE TEMP TABLE t (id int) ON COMMIT DROP; UPDATE t SET id = 1; COMMIT; UPDATE t SET id = 2',
	'BEGIN; CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1 AS id; COMMIT; UPDATE t SET id = 2',
	'BEGIN; CREATE TEMP TABLE t (id int) ON COMMIT DELETE ROWS; COMMIT; UPDATE t SET id = 2',
	'CREATE TEMP TABLE t (id int) ON COMMIT DROP; UPDATE t SET id = 1',
	'CREATE TABLE n (id int PRIMARY KEY); ALTER TABLE t ADD n int REFERENCES n; TRUNCATE n; TRUNCATE n CASCADE',
	'CREATE TABLE n (id int PRIMARY KEY); ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES n NOT VALID; TRUNCATE n CASCADE',
	'CREATE TABLE n (id int PRIMARY KEY); CREATE TABLE m (id int REFERENCES n); ALTER TABLE m ADD FOREIGN KEY (id) REFERENCES n; TRUNCATE n CASCADE',
	'CREATE TABLE n (LIKE t); UPDATE n SET id = 1; DROP TABLE t; ALTER TABLE n RENAME TO t; UPDATE t SET id = 1',
	'ALTER TABLE t RENAME TO n; UPDATE n SET id = 1',
	'CREATE TABLE n (id int, a text) PARTITION BY RANGE (id); ALTER TABLE n ATTACH PARTITION t DEFAULT; UPDATE n SET id = 1',
	'CREATE VIEW n AS SELECT * FROM t; UPDATE n SET id = 1',
	'CREATE SCHEMA n CREATE TABLE t (i int); UPDATE n.t SET i = 1; UPDATE t SET i = 1',
	'CREATE SEQUENCE n; SELECT setval(''n'', 1); SELECT setval(''s'', 1)',
	'CREATE TABLE n (i int); DROP TABLE n; UPDATE n SET i = 1',
	'BEGIN; DROP TABLE t; CREATE TABLE t (i int); ROLLBACK; UPDATE t SET i = 1']) sql;

\echo -- anybody may ask, about anything, and nothing is run
CREATE ROLE guard_data_nobody;
GRANT USAGE ON SCHEMA guard_data TO guard_data_nobody;
SET ROLE guard_data_nobody;
SELECT line, col, rule, relation FROM evmig_guard('UPDATE t SET a = 1; DROP TABLE t; SELECT 1/0', lang => 'sql') WHERE rule ~ '^data';
RESET ROLE;
SELECT count(*) FROM t;

\echo -- one error for all
\set SHOW_CONTEXT never
SELECT evmig_guard_assert('SELECT 1');
DO $$ BEGIN PERFORM evmig_guard_assert(repeat(E'UPDATE t SET a = 1;\n', 22), 'x.sql');
EXCEPTION WHEN SQLSTATE 'VG001' THEN
	DECLARE detail text; hint text;
	BEGIN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RAISE INFO '% % / %', SQLERRM, substr(detail, 1 + strpos(detail, '20:1:')), hint;
	END;
END $$;
\set VERBOSITY default
SELECT evmig_guard_assert(NULL);
SELECT evmig_guard('x', lang => 'klingon');
SELECT evmig_guard(NULL::bytea);

\pset format aligned
SELECT id, severity FROM evmig_guard_rules WHERE id LIKE 'data-%' ORDER BY id COLLATE "C";
SELECT count(*) FROM evmig_guard_rules WHERE severity IS NULL OR '' IN (detects, danger, safe_way);

\set VERBOSITY terse
SET client_min_messages = error;
DROP SCHEMA guard_data CASCADE;
DROP ROLE guard_data_nobody;
