-- the guard's splitter: where statements begin and end, by DELETEs that mark them
CREATE SCHEMA guard_split;
SET search_path = guard_split, public;
CREATE FUNCTION pg_temp.found(sql text) RETURNS text LANGUAGE sql SET search_path = guard_split, public AS $$
	SELECT coalesce(string_agg(format('%s:%s %s %s%s', line, col, rule, relation,
			CASE WHEN rule ~ '^data' THEN '' ELSE message END), E'\n'), '-')
	FROM evmig_guard(sql, lang => 'sql')
	WHERE rule ~ '^data-|^unparsed|^dynamic|^unterm|^include|^invalid|^byte'
$$;
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' => '

\echo -- quotes and comments
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	$x$DELETE FROM a; DELETE FROM b;; ;DELETE FROM c$x$,
	$x$SELECT ';'; DELETE FROM a$x$,
	$x$SELECT 'it''s;', '\'; DELETE FROM a; SELECT '''; '$x$,
	$x$SELECT E'\'; ', e'\\'; DELETE FROM a; SELECT E''';\\\''$x$,
	$x$SELECT E'a'
  'b\'; '; DELETE FROM a$x$,
	$x$SELECT E'a' -- ;
  'b\'; '; DELETE FROM a$x$,
	$x$SELECT 'a'
  'b\'; DELETE FROM a$x$,
	$x$SELECT U&'\0441;', N';', B'1', X'1F'; DELETE FROM a$x$,
	$x$SELECT 1 AS "a;""b;", U&"x;" FROM ";"; DELETE FROM a$x$,
	$x$SELECT $$;$$, $q$ $$;$q $Q$ ; $q$; DELETE FROM a$x$,
	$x$SELECT a$b$c FROM t$; DELETE FROM a; SELECT $1, b$$; DELETE FROM b$x$,
	$x$SELECT $é$ ; $é$; DELETE FROM a$x$,
	$x$SELECT 1 -- ; DELETE FROM a
; DELETE FROM b$x$,
	$x$SELECT 1 /* ; /* ; */ DELETE FROM a; */ ; DELETE FROM b$x$,
	$x$SELECT 1 +-- DELETE FROM a;
2 */* ; */ 3; DELETE FROM b$x$,
	$x$SELECT '--'; DELETE FROM a; SELECT '/*'; DELETE FROM b$x$,
	E'SELECT 1 -- x\rDELETE FROM a;DELETE FROM b',
	$x$SELECT ((';')), (1); DELETE FROM a$x$,
	$x$SELECT 'é', 'ü';   DELETE FROM "ö"$x$,
	$x$CREATE RULE r AS ON UPDATE TO x DO INSTEAD (DELETE FROM a; DELETE FROM b); DELETE FROM c$x$,
	$x$CREATE FUNCTION f() RETURNS int BEGIN ATOMIC DELETE FROM a; SELECT CASE WHEN true THEN 1 ELSE 2 END; END; DELETE FROM b$x$,
	$x$CREATE OR REPLACE PROCEDURE f() BEGIN ATOMIC; SELECT (CASE WHEN true THEN 1 END); DELETE FROM a; END; DELETE FROM b$x$,
	$x$BEGIN; SELECT CASE WHEN true THEN 1 END; DELETE FROM a; END; DELETE FROM b$x$,
	$x$CREATE TABLE begin (atomic int); DELETE FROM a$x$,
	$x$CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM a;'; DELETE FROM b$x$]) sql;

\echo -- standard_conforming_strings, of the session and of the text itself
SET standard_conforming_strings = off;
SET escape_string_warning = on;
SELECT pg_temp.found($x$SELECT '\'; '; DELETE FROM a$x$);
SELECT pg_temp.found($x$SET standard_conforming_strings = on; SELECT '\'; DELETE FROM a$x$);
RESET standard_conforming_strings;
SELECT pg_temp.found($x$SET standard_conforming_strings TO off; SELECT '\'; '; DELETE FROM a$x$);
SHOW standard_conforming_strings;

\echo -- psql
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	E'\\i other.sql\nDELETE FROM a;\n\\ir x\n  \\include ''y.sql''\n\\include_relative z',
	E'SELECT 1\n\\i other.sql\n;DELETE FROM a',
	E'\\echo DELETE FROM a;\nDELETE FROM b',
	E'\\echo it''s\nDELETE FROM a',
	E'\\set x ''DELETE FROM \\''a;''\\\\ DELETE FROM b',
	E'\\pset pager off \\\\DELETE FROM a',
	E'SELECT 1 \\gset\nDELETE FROM a \\g\nDELETE FROM b',
	E'SELECT ''DELETE FROM a'' \\gexec',
	E'SELECT 1 \\; DELETE FROM a\\;DELETE FROM b;',
	E'SELECT oops \\r DELETE FROM a;',
	E'\\! psql -c "DELETE FROM a"\nDELETE FROM b',
	E'\\if :x\nDELETE FROM a;\n\\elif :y\nDELETE FROM b;\n\\else\nDELETE FROM c;\n\\endif\nDELETE FROM d',
	E'SELECT 1\n\\if :x\n, 2\n\\endif\n; DELETE FROM a',
	E'\\copy a from ''x.csv'' csv\n\\copy b (i, j) FROM x.csv with (format csv)\n\\copy c from program ''x''\n\\copy d from pstdin',
	E'\\copy a to x.csv\n\\copy (SELECT * FROM b) to stdout\n\\copy (DELETE FROM c RETURNING *) to ''x''',
	E'\\copy a from stdin\n1\tDELETE FROM b;\n\\.\nDELETE FROM c',
	E'COPY a FROM STDIN;\nDELETE FROM b; ''\n\\.\nDELETE FROM c',
	E'COPY a (i) FROM stdin WITH (FORMAT csv); -- rows\nx\\.\n\\.\r\nDELETE FROM c',
	E'COPY a FROM STDIN; COPY b FROM STDIN;\n''\n\\.\n"\n\\.\nDELETE FROM c',
	E'COPY (SELECT 1 FROM stdin) TO STDOUT;\nDELETE FROM a',
	E'UPDATE :t SET x = :x, y = :''y'', z = :"z" WHERE :{?w} AND i = 1::int;\nDELETE FROM :"s".a',
	E'SELECT a[1:2], a[:], a[lo:hi], f(x := 1), b::text FROM a; DELETE FROM a',
	E'DELETE FROM a_:suffix']) sql;

\echo -- templates
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	$x$DELETE FROM {{ schema }}.{{ table }} WHERE x = {{ x | default(';') }}; DELETE FROM a$x$,
	$x$DELETE FROM log_{{ year }}; DELETE FROM a$x$,
	$x${% if x > ';' %} DELETE FROM a; {% else %} DELETE FROM b; {% endif %}$x$,
	$x$DELETE FROM a {% if x %} WHERE b {% endif %} ; {# DELETE FROM c; #} DELETE FROM d$x$,
	$x$DELETE FROM ${schema}.a; DELETE FROM ${flyway:x}$x$,
	$x$SELECT '{{1,2},{3,4}}'::int[]; DELETE FROM a; SELECT '}}'$x$,
	$x$SELECT '{{'; DELETE FROM a; SELECT '}}'$x$,
	$x${{ macro() }};
DELETE FROM a$x$,
	$x${{ config(materialized = 'table') }}
{% set x = 1 %}
{{ macro() }}
DELETE FROM {{ a }}; DELETE FROM b$x$,
	$x$DELETE FROM @extschema@.a; DELETE FROM @extschema:citext@."b"; ALTER TABLE x OWNER TO @extowner@; DELETE FROM c$x$,
	$x$SELECT a @extschema, '@extschema@', @ 1 FROM b; DELETE FROM a WHERE b @> '{}' AND c @@ d$x$]) sql;

\echo -- never closed
SELECT sql, pg_temp.found(sql) FROM unnest(ARRAY[
	E'DELETE FROM a; SELECT ''oops; DELETE FROM b',
	E'DELETE FROM a; SELECT E''oops\\'';',
	E'DELETE FROM a; SELECT "oops; DELETE FROM b',
	E'DELETE FROM a; DO $x$ DELETE FROM b $$;',
	E'DELETE FROM a; /* /* */ DELETE FROM b',
	E'COPY a FROM STDIN;\n1\nDELETE FROM b;',
	E'SELECT (1; DELETE FROM a; SELECT ''oops',
	'{{ DELETE FROM a; ',
	'SELECT $x; DELETE FROM a']) sql;

DROP SCHEMA guard_split;
