-- what the guard could not read is never a silent pass
CREATE SCHEMA guard_unparsed;
SET search_path = guard_unparsed, public;
CREATE FUNCTION pg_temp.found(sql text) RETURNS text LANGUAGE sql SET search_path = guard_unparsed, public AS $$
	SELECT coalesce(string_agg(format('%s:%s %s %s %s', line, col, rule, severity,
			CASE WHEN rule ~ '^data' THEN relation ELSE message END), E'\n'), '-')
	FROM evmig_guard(sql, lang => 'sql')
	WHERE rule ~ '^data-|^unparsed|^dynamic|^unterm|^include|^invalid|^byte'
$$;
CREATE FUNCTION pg_temp.found(sql bytea) RETURNS text LANGUAGE sql SET search_path = guard_unparsed, public AS $$
	SELECT coalesce(string_agg(format('%s:%s %s %s %s', line, col, rule, severity,
			CASE WHEN rule ~ '^data' THEN relation ELSE message END), E'\n'), '-')
	FROM evmig_guard(sql, lang => 'sql')
	WHERE rule ~ '^data-|^unparsed|^dynamic|^unterm|^include|^invalid|^byte'
$$;
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' => '

\echo -- syntax errors, with what stands before and behind
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	E'DELETE FROM a;\nUPDATE b SET;\nDELETE FROM c',
	E'DELETE FROM a;\nSELECT ''é'' ''ü'', x y z;\nDELETE FROM c',
	E'SELECT 1 FROM',
	E'UPDAET a SET x = 1; DELETE FROM b',
	E'DELETE FROM a; SELECT (1; DELETE FROM b; SELECT 2); DELETE FROM c; SELECT )',
	E'CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;\nDELETE FROM a; SELECT 2;\nDELETE FROM b;',
	E'SELECT U&''\\zzzz''; DELETE FROM a',
	E'SELECT 1a FROM ; DELETE FROM a',
	E'DELETE FROM a; SELECT 1 ! ~ ;']) sql;

\echo -- nesting: an error of the parser, or of the stack
SELECT pg_temp.found('DELETE FROM a; SELECT ' || repeat('(', 20000) || '1' || repeat(')', 20000) || '; DELETE FROM b');
SELECT pg_temp.found('DELETE FROM a; SELECT ' || repeat('(', 5000) || '1' || repeat(')', 5000) || '; DELETE FROM b');
SELECT pg_temp.found('SELECT ' || repeat('abs(', 3000) || 'setval(''s'', 1)' || repeat(')', 3000));
SET max_stack_depth = '100kB';
SELECT pg_temp.found('DELETE FROM a; SELECT ' || repeat('abs(', 3000) || '1' || repeat(')', 3000) || '; DELETE FROM b');
SELECT pg_temp.found('DELETE FROM a; ' || repeat('WITH x AS (', 1500) || 'SELECT 1' || repeat(') SELECT 1', 1500) || '; DELETE FROM b');
\echo -- long chains are not deep
SELECT pg_temp.found('SELECT ' || repeat('1 + ', 50000) || 'setval(''s'', 1)');
SELECT right(pg_temp.found('SELECT setval(''s'', 1) ' || repeat('|| a ', 20000)), 60);
SELECT pg_temp.found('SELECT setval(''s'', 1)' || repeat('::text', 20000));
SELECT pg_temp.found('SELECT setval(''s'', 1)' || repeat(' UNION ALL SELECT 1', 9000));
SELECT pg_temp.found('SELECT setval(''s'', 1) = 1 ' || repeat('AND a.b = 3 OR x ', 20000) || 'FROM a');
RESET max_stack_depth;

\echo -- what would keep the lexer for ever
SELECT right(pg_temp.found('SELECT ' || repeat('/**/', 100000) || '1; DELETE FROM a; SELECT 1' || repeat('/*', 100000)), 200);

SELECT right(pg_temp.found('DELETE FROM a; ' || repeat('é', 100000)), 50);

\echo -- bytes that are no text
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	'DELETE FROM a; SELECT 1;\000 DELETE FROM b'::bytea,
	'DELETE FROM a; SELECT ''\303\251\377'';\012DELETE FROM b',
	'DELETE FROM a; \355\240\200 DELETE FROM b',
	'\357\273\277DELETE FROM a; DELETE FROM b',
	'\377\376D\000E\000L\000',
	'DELETE FROM "\303\251"; DELETE FROM b',
	'']) sql;
SELECT count(*), min(message) FROM evmig_guard(decode(repeat('ff00', 10000), 'hex'), lang => 'sql') WHERE rule = 'invalid-encoding';
SELECT pg_temp.found(E'\uFEFFDELETE FROM a');

\echo -- what the parser says about the text stays inside
SET client_min_messages = notice;
SET standard_conforming_strings = off;
SELECT pg_temp.found(E'SELECT ''a\\\\b'' AS ' || repeat('x', 100));
RESET standard_conforming_strings;
SHOW client_min_messages;
SELECT pg_temp.found('SET client_min_messages = debug5; DELETE FROM a');
SHOW client_min_messages;

\echo -- a cancel is a cancel
SET statement_timeout = '10ms';
SELECT count(*) FROM evmig_guard(repeat('DELETE FROM a; SELEC; ', 200000), lang => 'sql');
RESET statement_timeout;
SHOW client_min_messages;

\echo -- fingerprints: comments, spacing, case and place do not count; constants, rule and source do
\pset format aligned
\pset tuples_only off
CREATE TEMP TABLE variants (n serial, sql text, source text);
INSERT INTO variants (sql, source) VALUES
	('UPDATE a SET x = 1 WHERE y = ''z''', 's'),
	(E'-- a comment\n\n  update /* b */ A\n\tset X=1\n where Y = ''z'' ;', 's'),
	('CREATE TABLE q (); UPDATE "a" SET "x" = 1 WHERE y = E''z''', 's'),
	('UPDATE a SET x = 2 WHERE y = ''z''', 's'),
	('UPDATE a SET x = 1 WHERE y = ''Z''', 's'),
	('UPDATE "A" SET x = 1 WHERE y = ''z''', 's'),
	('UPDATE a SET x = 1 WHERE y = ''z''', 't'),
	('UPDATE a SET x = 1 WHERE y = ''z''', NULL),
	('DO $$ BEGIN UPDATE a SET x = 1; END $$', 's'),
	(E'do $x$begin\n-- why\nupdate A set x=1; end$x$', 's'),
	('DO $$ BEGIN UPDATE a SET x = 2; END $$', 's'),
	('WITH q AS (UPDATE a SET x = 1 WHERE y = ''é'') DELETE FROM a', 's');
SELECT n, rule, fingerprint = (SELECT fingerprint FROM variants v, evmig_guard(v.sql, v.source, 'sql')
	WHERE rule = 'data-update' AND n = CASE WHEN g.statement ~* '^do' THEN 9 ELSE 1 END) AS same
FROM variants v, evmig_guard(v.sql, v.source, 'sql') g WHERE rule ~ '^data' ORDER BY n, g.col;
SELECT rule, fingerprint FROM evmig_guard('UPDATE a SET "Ä" = ''é'', b = 1.5e3, c = $1, d <> 0x', 'dir/x.sql', 'sql')
UNION ALL SELECT rule, fingerprint FROM evmig_guard('UPDATE a SET "Ä" = ''é'', b = 1.5e3, c = $1, d = B''1'' <> 7', 'dir/x.sql', 'sql') WHERE rule ~ '^data';

DROP SCHEMA guard_unparsed;
