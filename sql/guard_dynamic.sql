-- The guard on SQL that a source composes and runs.
CREATE TABLE guard_dyn_t (a int, b text);

CREATE FUNCTION guard_dyn(sql text) RETURNS TABLE (at text, rule text, relation text)
LANGUAGE sql AS $$
    SELECT line || ':' || col, rule, relation FROM evmig_guard(sql)
    WHERE rule ~ '^(data-|dynamic-|unknown-|unparsed)' ORDER BY line, col, rule
$$;

-- constants, however they are put together; columns are those of the verb
SELECT * FROM guard_dyn($src$
DO $$
BEGIN
    EXECUTE 'UPDATE guard_dyn_t SET b = ''x''; DELETE FROM guard_dyn_t';
    EXECUTE 'UPD' || 'ATE ' || 'guard_dyn_t' || ' SET a = ' || 1;
    EXECUTE E'\tDELETE\n FROM guard_dyn_t';
    EXECUTE $q$ TRUNCATE guard_dyn_t $q$;
    EXECUTE 'DELETE '
            'FROM guard_dyn_t';
    EXECUTE ('DELETE FROM ' || quote_ident('guard_dyn_t'))::text;
    EXECUTE concat('DELETE', ' FROM ', 'guard_dyn_t');
    EXECUTE concat_ws(' ', 'DELETE', 'FROM', 'guard_dyn_t');
    EXECUTE format('DELETE FROM %I WHERE b = %L AND a = %s', 'guard_dyn_t', 'it''s', 1);
    EXECUTE format('%2$s FROM %1$I -- 100 %%', 'guard_dyn_t', 'DELETE');
    EXECUTE 'SELECT ' || quote_literal('DELETE FROM guard_dyn_t');
    EXECUTE 'CREATE INDEX ON guard_dyn_t (a)';
END
$$;
$src$);

-- what is known of the rest decides
SELECT * FROM guard_dyn($src$
DO $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT relname AS t, 'a' AS c FROM pg_class LOOP
        EXECUTE format('UPDATE %I SET a = %L WHERE b > %s', r.t, r.c, r.c);
        EXECUTE 'DELETE FROM part_' || r.t;
        EXECUTE 'UPDATE guard_dyn_t SET ' || r.c || ' WHERE a = 1';
        EXECUTE 'INSERT INTO guard_dyn_t (a) VALUES ' || r.c;
        EXECUTE 'ALTER TABLE guard_dyn_t ADD COLUMN ' || r.c;
        EXECUTE format('ALTER SEQUENCE %I RESTART WITH %s', r.t, r.c);
        EXECUTE format('INSERT INTO %I SELECT 1', r.t);
        EXECUTE format('CREATE TABLE %I PARTITION OF p FOR VALUES FROM (%L) TO (%L)', r.t, r.c, r.c);
        EXECUTE format('INSERT INTO %I SELECT 1', r.c);
        EXECUTE format('SELECT %s FROM %I', r.c, r.t);
        EXECUTE 'SELECT ' || r.c || '(1)';
        EXECUTE r.t;
        EXECUTE r.t || ' TABLE guard_dyn_t';
        EXECUTE 'DELETE FROM guard_dyn_t; ' || r.t;
        EXECUTE (SELECT string_agg('x', ';') FROM guard_dyn_t);
        EXECUTE 'UPDATE ' || r.c || ' guard dyn nonsense (';
    END LOOP;
END
$$;
$src$);

-- variables: what they may hold where the text is run
SELECT * FROM guard_dyn($src$
DO $$
DECLARE
    k CONSTANT text := 'DELETE FROM guard_dyn_t';
    q text;
    t name DEFAULT 'guard_dyn_t';
    n int;
BEGIN
    EXECUTE k;
    q := 'UPDATE ' || t;
    q := q || ' SET a = 1';
    EXECUTE q;
    q := 'SELECT 1';
    EXECUTE q;
    IF n = 1 THEN
        q := 'TRUNCATE guard_dyn_t';
    ELSIF n = 2 THEN
        q := 'MERGE INTO guard_dyn_t USING p ON true WHEN MATCHED THEN DELETE';
    END IF;
    EXECUTE q;
    FOR i IN 1 .. 2 LOOP
        EXECUTE q;
        q := 'DELETE FROM guard_dyn_t WHERE a = ' || i;
        EXECUTE q;
    END LOOP;
    q := 'SELECT 2';
    SELECT b INTO q FROM guard_dyn_t;
    EXECUTE q;
    DECLARE
        q text := 'UPDATE guard_dyn_t SET a = 3';
    BEGIN
        EXECUTE q;
    END;
    q := CASE WHEN n = 1 THEN 'SELECT 1' ELSE 'DELETE FROM guard_dyn_t WHERE a = 5' END;
    EXECUTE q;
    EXECUTE coalesce(NULL, 'DELETE FROM guard_dyn_t WHERE a = 6');
END
$$;
$src$);

-- a statement that is built piece by piece
SELECT * FROM guard_dyn($src$
DO $$
DECLARE
    q text;
    r record;
    n int;
BEGIN
    q := 'UPDATE guard_dyn_t SET ';
    FOR r IN SELECT attname AS c FROM pg_attribute LOOP
        q := q || quote_ident(r.c) || ' = NULL, ';
    END LOOP;
    EXECUTE rtrim(q, ', ');
    q := 'DELETE FROM guard_dyn_t WHERE ';
    IF n > 1 THEN
        q := q || 'a = 1';
    ELSE
        q := q || 'b = ''x''';
    END IF;
    EXECUTE q;
    EXECUTE replace('TRUNCATE @t@', '@t@', 'guard_dyn_t');
    q := 'CREATE TABLE x (';
    FOR r IN SELECT 1 LOOP
        q := q || r.x;
    END LOOP;
    EXECUTE q || ')';
    EXECUTE trim(both ' ;' from ' SELECT 1; ');
    EXECUTE 'UPDATE guard_dyn_t SET a = ';
    EXECUTE 'UPDATE guard_dyn_t SET ' || r.x || ' a ' || r.y || ' = größe größe größe größe größe größe größe größe';
END
$$;
$src$);

-- every place that runs a text
SELECT * FROM guard_dyn($src$
CREATE FUNCTION f(q text, n int) RETURNS SETOF int LANGUAGE plpgsql AS $$
DECLARE
    c refcursor;
    i int;
BEGIN
    EXECUTE 'DELETE FROM guard_dyn_t RETURNING a' INTO STRICT i USING n, 2;
    FOR i IN EXECUTE 'DELETE FROM guard_dyn_t RETURNING a' USING 1 LOOP RETURN NEXT i; END LOOP;
    OPEN c FOR EXECUTE 'DELETE FROM guard_dyn_t RETURNING a' USING 1;
    RETURN QUERY EXECUTE 'DELETE FROM guard_dyn_t RETURNING a' USING 1;
    RETURN QUERY DELETE FROM guard_dyn_t RETURNING a;
    RETURN QUERY (SELECT 1) UNION (SELECT 2);
    EXECUTE q;
    q := 'SELECT 1';
    EXECUTE $1;
    $1 := 'DELETE FROM guard_dyn_t';
    EXECUTE q;
END
$$;
SELECT f('UPDATE guard_dyn_t SET a = 1', 1);
DO $$ BEGIN EXECUTE 'DO ''BEGIN EXECUTE ''''DELETE FROM guard_dyn_t''''; END'''; END $$;
$src$);

-- the hint can be pasted, or names no values that only the run knows
SELECT line, hint LIKE '%guard_dyn_t%' AS can_be_pasted FROM evmig_guard($src$
CREATE FUNCTION f(arg int) RETURNS int LANGUAGE sql AS 'UPDATE guard_dyn_t SET a = arg; SELECT 1';
DO $$
DECLARE
    n int;
    r record;
BEGIN
    UPDATE guard_dyn_t SET a = 1 WHERE b = 'x';
    UPDATE guard_dyn_t SET a = n;
    FOR r IN SELECT 1 AS c LOOP UPDATE guard_dyn_t SET a = r.c; END LOOP;
    EXECUTE 'UPDATE guard_dyn_t SET a = 2 WHERE b = ''x''';
    EXECUTE format('UPDATE guard_dyn_t SET a = %s', n);
    EXECUTE 'UPDATE guard_dyn_t SET a = $1' USING n;
    PERFORM f(1);
END $$;
$src$) WHERE rule = 'data-update' ORDER BY line;

-- routines that run what they are given
SELECT * FROM guard_dyn($src$
SELECT exec_dml('SELECT 1');
SELECT app.exec_dml();
SELECT dblink_exec('c', 'UPDATE x SET y = 1');
SELECT dblink_exec('c', 'WITH d AS (DELETE FROM x RETURNING 1) SELECT * FROM d');
SELECT dblink_exec('c', 'ALTER TABLE x ADD y int');
SELECT * FROM dblink('dbname=x', 'SELECT 1') AS d (a int);
SELECT * FROM dblink('dbname=x', format('DELETE FROM %I RETURNING 1', tablename)) AS d (a int), pg_tables;
SELECT dblink_send_query('c', b) FROM guard_dyn_t;
SELECT query_to_xml('SELECT exec_dml(1)', true, false, '');
SELECT query_to_xml(b, true, false, '') FROM guard_dyn_t;
$src$);
SET evmig.guard_dml_functions = 'run_sql, app.Patch';
SELECT * FROM guard_dyn('SELECT exec_dml(); SELECT run_sql(); SELECT x.run_sql(); SELECT app.patch(); SELECT other.patch();');
RESET evmig.guard_dml_functions;

-- many parts, and long ones, cost no more than their length
SELECT rule, relation FROM guard_dyn('DO $$ BEGIN EXECUTE ''DELETE FROM guard_dyn_t WHERE a = 0''' || repeat(' || '' + 1''', 3000) || '; END $$');
SELECT rule, relation FROM guard_dyn('DO $$ DECLARE q text := ''DELETE FROM guard_dyn_t''; BEGIN ' || repeat('IF a THEN q := q || ''x''; END IF; ', 100) || ' EXECUTE q; END $$');

DROP FUNCTION guard_dyn(text);
DROP TABLE guard_dyn_t;
