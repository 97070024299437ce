-- The guard's rarer hazards, and matters of taste: each fires and does not.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA guard_style;
SET search_path = guard_style;
CREATE TABLE busy (id bigint PRIMARY KEY, a bigint, b text);
INSERT INTO busy SELECT g, g, repeat('x', 200) FROM generate_series(1, 100) g;
CREATE INDEX busy_a ON busy (a);
CREATE INDEX busy_part ON busy (b) WHERE a > 1;
SET evmig.guard_small_table = '10';
ANALYZE busy;

CREATE FUNCTION style(source text, VARIADIC rules text[] DEFAULT NULL) RETURNS TABLE (place text, rule text, severity text, lock_mode text, message text)
LANGUAGE sql AS $$
	SELECT line || ':' || col, rule, severity, lock_mode, message FROM public.evmig_guard(source)
	WHERE rule IN (SELECT id FROM public.evmig_guard_rules WHERE id NOT LIKE 'data-%') AND (rules IS NULL OR rule = ANY (rules))
$$;
CREATE FUNCTION fires(wanted text, source text) RETURNS text LANGUAGE sql AS $$
	SELECT wanted || ': ' || coalesce(string_agg(place || ' ' || severity || coalesce(' ' || lock_mode, ''), ', '), 'no')
	FROM guard_style.style(source) WHERE rule = wanted
$$;

-- hazards: without a setting
SELECT fires('json-column', E'CREATE TABLE t (id bigint PRIMARY KEY,\n  doc json)');
SELECT fires('json-column', 'CREATE TABLE t (id bigint PRIMARY KEY, doc jsonb, docs json[])');
SELECT fires('json-column', 'ALTER TABLE busy ADD COLUMN doc json');
SELECT fires('index-made-unique', 'CREATE UNIQUE INDEX CONCURRENTLY ON busy (a)');
SELECT fires('index-made-unique', 'CREATE UNIQUE INDEX CONCURRENTLY ON busy (b)');
SELECT fires('duplicate-index', 'CREATE INDEX CONCURRENTLY again ON busy (a)');
SELECT fires('duplicate-index', 'CREATE INDEX CONCURRENTLY IF NOT EXISTS busy_a ON busy (a)');
SELECT fires('duplicate-index', 'CREATE INDEX CONCURRENTLY ON busy (a, b)');
SELECT fires('duplicate-index', 'CREATE INDEX CONCURRENTLY ON busy (a) WHERE a > 3');
SELECT fires('duplicate-index', 'CREATE INDEX CONCURRENTLY ON busy (lower(b))');
SELECT fires('concurrent-index-corruption', 'CREATE INDEX CONCURRENTLY ON busy (b)');
SET evmig.guard_target_version = 14;
SELECT fires('concurrent-index-corruption', 'CREATE INDEX CONCURRENTLY ON busy (b)');
RESET evmig.guard_target_version;
SELECT fires('drop-database', 'DROP DATABASE shop'), fires('drop-tablespace', 'DROP TABLESPACE fast');
SELECT fires('rename-schema', 'ALTER SCHEMA guard_style RENAME TO other'), fires('rename-schema', 'ALTER TABLE busy RENAME TO other');
SELECT fires('rename-enum-value', $$ALTER TYPE mood RENAME VALUE 'a' TO 'b'$$), fires('rename-enum-value', $$ALTER TYPE mood ADD VALUE 'c'$$);
SELECT fires('domain-set-not-null', 'ALTER DOMAIN d SET NOT NULL'), fires('domain-set-not-null', 'ALTER DOMAIN d DROP NOT NULL');
SELECT fires('lock-timeout-ineffective', 'SET lock_timeout = 0; ALTER TABLE absent ADD a int'), fires('lock-timeout-ineffective', 'SET lock_timeout = 0; CREATE TABLE n (i int); ALTER TABLE n ADD a int; CREATE INDEX ON n (a)'), fires('lock-timeout-ineffective', $$SET LOCAL lock_timeout = '2h'$$),
	fires('lock-timeout-ineffective', $$SET lock_timeout = '2s'$$), fires('lock-timeout-ineffective', 'RESET lock_timeout');
SELECT fires('identifier-too-long', format('CREATE TABLE %s (id bigint PRIMARY KEY)', repeat('t', 64)));
SELECT fires('identifier-too-long', format(E'CREATE TABLE t (id bigint PRIMARY KEY,\n"%s" text)', repeat('c', 70)));
SELECT fires('identifier-too-long', format('CREATE TABLE %s.%s (id bigint PRIMARY KEY)', repeat('s', 63), repeat('t', 63)));
SELECT fires('duplicate-assignment', 'CREATE TABLE t (id bigint PRIMARY KEY, a int, a text)');
SELECT fires('duplicate-assignment', 'UPDATE busy SET a = 1, b = 2, a = 3'), fires('duplicate-assignment', 'INSERT INTO busy (a, a) VALUES (1, 2)');
SELECT fires('duplicate-assignment', 'UPDATE busy SET a[1] = 1, a[2] = 3'), fires('duplicate-assignment', 'UPDATE busy SET a = 1, b = 3');
SELECT fires('self-assignment', 'UPDATE busy SET b = 1, a = a'), fires('self-assignment', 'UPDATE busy SET a = busy.a'),
	fires('self-assignment', 'UPDATE busy SET a = b'), fires('self-assignment', 'UPDATE busy SET a = o.a FROM other o');
SELECT fires('drop-trigger', 'DROP TRIGGER x ON busy'), fires('drop-trigger', 'CREATE TABLE n (id bigint PRIMARY KEY); DROP TRIGGER x ON n');
SELECT fires('toggle-trigger', 'ALTER TABLE busy DISABLE TRIGGER ALL'), fires('toggle-trigger', 'ALTER TABLE busy ENABLE TRIGGER x');
SELECT fires('refresh-matview-concurrent', 'REFRESH MATERIALIZED VIEW CONCURRENTLY v');
SELECT fires('create-rule', 'CREATE RULE r AS ON INSERT TO busy DO INSTEAD NOTHING');
SELECT fires('set-access-method', 'ALTER TABLE busy SET ACCESS METHOD heap'), fires('move-tablespace', 'ALTER TABLE busy SET TABLESPACE fast');
SELECT fires('no-primary-key', 'CREATE TABLE t (id bigint)'), fires('no-primary-key', 'CREATE TABLE t (id bigint, PRIMARY KEY (id))'),
	fires('no-primary-key', 'CREATE TEMP TABLE t (id bigint)'), fires('no-primary-key', 'CREATE TABLE t PARTITION OF busy DEFAULT');
SELECT fires('no-primary-key', 'CREATE TABLE IF NOT EXISTS busy (id bigint)');
SELECT fires('no-primary-key', 'CREATE TABLE t (id bigint); ALTER TABLE ONLY t ADD CONSTRAINT t_pkey PRIMARY KEY (id)'), fires('no-primary-key', 'CREATE TABLE t (id bigint); CREATE TABLE u (id int); ALTER TABLE u ADD COLUMN i int PRIMARY KEY');
SELECT fires('secdef-search-path', $$CREATE FUNCTION f() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'$$);
SELECT fires('secdef-search-path', $$CREATE FUNCTION f() RETURNS int SECURITY DEFINER SET search_path = pg_catalog LANGUAGE sql AS 'SELECT 1'$$);

-- a small table lowers a lock to info
SET evmig.guard_small_table = '1000';
SELECT fires('toggle-trigger', 'ALTER TABLE busy DISABLE TRIGGER ALL');
SET evmig.guard_small_table = '10';

-- matters of taste: not unless asked for
CREATE TABLE taste (n int GENERATED ALWAYS AS IDENTITY, rule text, source text);
INSERT INTO taste (rule, source) VALUES
	('int-not-bigint', 'CREATE TABLE t (id bigint PRIMARY KEY, a int)'), ('smallint', 'CREATE TABLE t (id bigint PRIMARY KEY, a smallint)'),
	('serial-type', 'CREATE TABLE t (id bigserial PRIMARY KEY)'), ('varchar-n', 'CREATE TABLE t (id bigint PRIMARY KEY, a varchar(50))'),
	('char-type', 'CREATE TABLE t (id bigint PRIMARY KEY, a char(5))'), ('timestamp-no-tz', 'CREATE TABLE t (id bigint PRIMARY KEY, a timestamp)'),
	('create-domain-constraint', 'CREATE DOMAIN d AS int CHECK (VALUE > 0)'), ('wide-index', 'CREATE INDEX CONCURRENTLY ON busy (id, a, b, lower(b))'),
	('enum-value-order', $$ALTER TYPE mood ADD VALUE 'c'$$), ('create-enum', $$CREATE TYPE mood AS ENUM ('a')$$),
	('statement-timeout', 'ALTER TABLE busy DISABLE TRIGGER ALL'), ('idle-in-tx-timeout', 'ALTER TABLE busy DISABLE TRIGGER ALL'),
	('application-name', 'ALTER TABLE busy DISABLE TRIGGER ALL'), ('robust-statements', 'CREATE INDEX CONCURRENTLY i ON busy (b)'),
	('robust-statements', 'DROP INDEX CONCURRENTLY busy_a'), ('schema-qualified', 'ALTER TABLE busy ADD COLUMN x bigint'),
	('select-into', 'SELECT 1 AS a INTO t'), ('insert-no-columns', 'INSERT INTO busy VALUES (1)'),
	('unnamed-constraint', 'CREATE TABLE t (id bigint PRIMARY KEY, CHECK (id > 0))'), ('create-extension', 'CREATE EXTENSION hstore'),
	('opaque-do-block', 'DO $x$ BEGIN EXECUTE ''SELECT 1''; END $x$'), ('fk-cascade', 'CREATE TABLE t (id bigint PRIMARY KEY REFERENCES busy ON DELETE CASCADE)'),
	('or-replace', $$CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'$$), ('or-replace', 'CREATE VIEW v AS SELECT 1 AS a');
SELECT string_agg(rule, ', ' ORDER BY n) AS said_anyway FROM taste WHERE fires(rule, source) NOT LIKE '%: no';
SET evmig.guard_style = on;
SELECT fires(rule, source) FROM taste ORDER BY n;
SELECT fires(rule, source) FROM (VALUES
	('varchar-n', 'CREATE TABLE t (id bigint PRIMARY KEY, a varchar)'), ('schema-qualified', 'ALTER TABLE guard_style.busy ADD COLUMN x bigint'),
	('wide-index', 'CREATE INDEX CONCURRENTLY ON busy (id, a, b)'), ('enum-value-order', $$ALTER TYPE mood ADD VALUE 'c' AFTER 'b'$$),
	('statement-timeout', 'SET statement_timeout = ''30s''; ALTER TABLE busy DISABLE TRIGGER ALL'), ('statement-timeout', 'SELECT 1'),
	('unnamed-constraint', 'CREATE TABLE t (id bigint PRIMARY KEY, CONSTRAINT c CHECK (id > 0))'),
	('or-replace', $$CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'$$)) v(rule, source);

-- each rule is in the view, once, with what to do
SELECT count(*) - count(DISTINCT id) AS twice, bool_and(detects <> '' AND danger <> '' AND safe_way <> '') AS whole FROM public.evmig_guard_rules;

DROP SCHEMA guard_style CASCADE;
