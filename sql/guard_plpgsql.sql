-- The guard on PL/pgSQL: what a block runs, and where it stands.
CREATE TABLE guard_pl_t (a int, b int);
CREATE TABLE guard_pl_log (n int);

CREATE FUNCTION guard_pl(sql text) RETURNS TABLE (at text, rule text, way text)
LANGUAGE sql AS $$
    SELECT line || ':' || col, rule, substring(message, ', (through .*)') FROM evmig_guard(sql)
    WHERE rule ~ '^(data-|dynamic-|unknown-|unparsed)' ORDER BY line, col, rule
$$;

-- every statement that embeds SQL or an expression
SELECT * FROM guard_pl($src$
DO $$
<<outer>>
DECLARE
    n int := 0;
    c CURSOR (k int) FOR SELECT a FROM guard_pl_t WHERE a = k;
    o refcursor;
    d int := (WITH x AS (DELETE FROM guard_pl_t RETURNING a) SELECT count(*) FROM x);
BEGIN
    UPDATE guard_pl_t SET a = 1;
    UPDATE guard_pl_t SET a = 1; UPDATE guard_pl_t SET a = 1;
    DELETE FROM guard_pl_t WHERE a = 1 RETURNING a INTO n;
    WITH x AS (UPDATE guard_pl_t SET b = 1 RETURNING a) SELECT a INTO STRICT n FROM x;
    IF n > 1 THEN
        TRUNCATE guard_pl_t;
    ELSIF (SELECT count(*) FROM guard_pl_t) > 2 THEN
        INSERT INTO guard_pl_t SELECT 1, 2;
    ELSE
        INSERT INTO guard_pl_t VALUES (1, 2);
    END IF;
    CASE n WHEN 1, 2 THEN DELETE FROM guard_pl_t; ELSE NULL; END CASE;
    CASE WHEN n = 1 THEN DELETE FROM guard_pl_t; END CASE;
    LOOP EXIT WHEN n > 3; DELETE FROM guard_pl_t; END LOOP;
    WHILE n > 0 LOOP DELETE FROM guard_pl_t; END LOOP;
    FOR i IN REVERSE 10 .. 1 BY 2 LOOP DELETE FROM guard_pl_t; END LOOP;
    FOR n IN SELECT a FROM guard_pl_t LOOP DELETE FROM guard_pl_t; END LOOP;
    FOR n IN DELETE FROM guard_pl_t RETURNING a LOOP NULL; END LOOP;
    FOR r IN c(1) LOOP DELETE FROM guard_pl_t; END LOOP;
    FOREACH n IN ARRAY ARRAY[1, 2] LOOP DELETE FROM guard_pl_t; END LOOP;
    OPEN o FOR UPDATE guard_pl_t SET a = 2 RETURNING a;
    MERGE INTO guard_pl_t t USING guard_pl_log ON t.a = n WHEN MATCHED THEN DELETE;
    BEGIN
        DELETE FROM guard_pl_t;
    EXCEPTION
        WHEN unique_violation OR SQLSTATE '22012' THEN DELETE FROM guard_pl_log;
        WHEN OTHERS THEN TRUNCATE guard_pl_log;
    END;
    RAISE NOTICE 'no DELETE FROM guard_pl_t here, %', n;
    /* DELETE FROM guard_pl_t; */ -- UPDATE guard_pl_t SET a = 1;
    COMMIT;
END
$$;
$src$);

-- reading, and what is made here, is no change
SELECT * FROM guard_pl($src$
DO $$
DECLARE
    n int;
    r record;
BEGIN
    CREATE TABLE guard_pl_new (a int);
    INSERT INTO guard_pl_new SELECT 1;
    UPDATE guard_pl_new SET a = 2;
    CREATE TEMP TABLE guard_pl_temp AS SELECT 1 AS a;
    DELETE FROM guard_pl_temp;
    SELECT count(*) INTO n FROM guard_pl_t;
    PERFORM a FROM guard_pl_t FOR UPDATE;
    FOR r IN SELECT * FROM guard_pl_t ORDER BY a LOOP
        n := n + r.a;
    END LOOP;
    GET DIAGNOSTICS n = ROW_COUNT;
    ALTER TABLE guard_pl_new ADD COLUMN b int;
END
$$;
$src$);

-- bodies in quotes of every kind; columns count characters
SELECT * FROM guard_pl($src$
DO 'BEGIN DELETE FROM guard_pl_t WHERE a = ''1''::int; UPDATE guard_pl_t SET a = 1; END';
DO E'BEGIN\n  DELETE FROM guard_pl_t WHERE a = \'1\'::int; UPDATE guard_pl_t SET a = 1; END';
DO LANGUAGE plpgsql $größe$ BEGIN /* äöü */ DELETE FROM guard_pl_t; END $größe$;
do 'begin '
   'delete from guard_pl_t; end';
$src$);

-- calls inside a block
SELECT * FROM guard_pl($src$
DO $$
DECLARE
    n int := guard_pl_no_such(1);
BEGIN
    PERFORM guard_pl_no_such(2);   PERFORM 1, guard_pl_no_such(3);
    n := guard_pl_no_such(4);
    IF guard_pl_no_such(5) THEN RETURN; END IF;
    RAISE NOTICE '%', guard_pl_no_such(6);
    RAISE EXCEPTION USING MESSAGE = guard_pl_no_such(7);
    CALL guard_pl_no_such(8);
    ASSERT guard_pl_no_such(9), guard_pl_no_such(10);
    FOR i IN 1 .. guard_pl_no_such(11) LOOP NULL; END LOOP;
    EXECUTE 'SELECT $1' USING guard_pl_no_such(12);
END
$$;
$src$);

-- a table or type that does not exist here is no reason to give up
SELECT * FROM guard_pl($src$
DO $$
#variable_conflict use_column
<<outer>>
DECLARE
    r guard_pl_absent%ROWTYPE;
    v guard_pl_absent.a%TYPE := 1;
    c CURSOR FOR SELECT * FROM guard_pl_absent;
    e guard_pl_enum NOT NULL DEFAULT 'x';
BEGIN
    UPDATE guard_pl_absent SET a = 1;
    SELECT a, b INTO STRICT outer.v, r.b FROM guard_pl_absent; DELETE FROM guard_pl_absent RETURNING a INTO v;
    <<inner>>
    FOR r IN SELECT * FROM guard_pl_absent LOOP
        IF r.a > 1 THEN UPDATE guard_pl_absent SET a = r.a; ELSIF r.a = 2 THEN NULL;
        ELSE DELETE FROM guard_pl_absent; END IF;
        EXIT inner WHEN r.a = 3;
    END LOOP inner;
    CASE v WHEN 1, 2 THEN TRUNCATE guard_pl_absent; ELSE DELETE FROM guard_pl_absent; END CASE;
    FOR i IN 1..10 LOOP INSERT INTO guard_pl_absent SELECT i; END LOOP;
    WHILE v > 0 LOOP PERFORM guard_pl_no_such(v); END LOOP;
    FOREACH v IN ARRAY ARRAY[1] LOOP DELETE FROM guard_pl_absent; END LOOP;
    EXECUTE 'DELETE FROM guard_pl_absent' INTO v USING r.a;
    r.a := guard_pl_no_such(1);
    OPEN c;
    BEGIN
        NULL;
    EXCEPTION WHEN unique_violation THEN DELETE FROM guard_pl_absent;
              WHEN OTHERS THEN RAISE NOTICE '%', guard_pl_no_such(2);
    END;
    DELETE FROM guard_pl_absent;
END outer;
$$;
$src$);

-- a body with an error: said, and the rest is read
SELECT * FROM guard_pl($src$
DO $$
BEGIN
    SELEC 1;
    UPDATE guard_pl_t SET a = 1;
    IF a THEN DELETE FROM guard_pl_t;
END
$$;
DO $$ BEGIN UPDATE guard_pl_t SET a = = 1; DELETE FROM guard_pl_t; END $$;
DO $$ BEGIN DELETE FROM guard_pl_t; PERFORM 'never ends; END $$;
DO '';
DO $$ END $$;
DO $$ ; ; ) ( >> << BEGIN $$;
DO $$ DECLARE DECLARE a.b.c BEGIN FOR FOR IN LOOP x [ := ; . . := EXECUTE ; CASE WHEN ELSE END END END $$;
DO LANGUAGE nosuch $$ print "x" $$;
$src$);

-- nothing runs, nothing remains: not an event trigger, no transaction id
CREATE FUNCTION guard_pl_boom() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it ran'; END $$;
CREATE FUNCTION guard_pl_event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it was created'; END $$;
CREATE EVENT TRIGGER guard_pl_event ON ddl_command_start EXECUTE FUNCTION guard_pl_event();
BEGIN READ ONLY;
SELECT count(*) FROM guard_pl($src$
DO $$ DECLARE n int := guard_pl_boom(); BEGIN PERFORM guard_pl_boom(); CREATE TABLE x (); END $$;
CREATE FUNCTION f(a int DEFAULT guard_pl_boom()) RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM guard_pl_t; RETURN guard_pl_boom(); END $$;
SELECT f();
$src$);
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_transaction_id;
COMMIT;
DROP EVENT TRIGGER guard_pl_event;

-- a role that may create nothing
CREATE ROLE guard_pl_nobody;
SET ROLE guard_pl_nobody;
SELECT at, rule FROM guard_pl($src$
CREATE FUNCTION f(a int, b numeric(10,2)[], OUT c text, VARIADIC d int[]) LANGUAGE plpgsql AS $$
BEGIN
    a := a + 1; $1 := 2; b[1] := 3; c := 'x'; f.a := 4;
    DELETE FROM guard_pl_t;
    RETURN;
END $$;
SELECT f(1, '{}', 1, 2);
$src$);
RESET ROLE;

-- another plugin of PL/pgSQL, and its settings, are as they were
SET plpgsql.extra_errors = 'all';
SET check_function_bodies = on;
SELECT count(*) FROM guard_pl('DO $$ DECLARE a int; BEGIN DECLARE a int; BEGIN DELETE FROM guard_pl_t; END; END $$');
SHOW check_function_bodies;
RESET plpgsql.extra_errors;
DO $$ BEGIN RAISE NOTICE 'blocks run as before'; END $$;

-- a thousand statements, and a thousand levels
SELECT rule, count(*) FROM guard_pl('DO $$ BEGIN ' || repeat(E'DELETE FROM guard_pl_t;\n', 1000) || ' END $$') GROUP BY 1;
SELECT rule, count(*) FROM guard_pl('DO $$ BEGIN ' || repeat('IF true THEN ', 1000) || 'DELETE FROM guard_pl_t; ' || repeat('END IF; ', 1000) || ' END $$') GROUP BY 1;
SELECT rule, count(*) FROM guard_pl('DO $$ BEGIN ' || repeat('IF true THEN ', 50000) || 'DELETE FROM guard_pl_t; ' || repeat('END IF; ', 50000) || ' END $$') GROUP BY 1;

DROP ROLE guard_pl_nobody;
DROP FUNCTION guard_pl(text), guard_pl_boom(), guard_pl_event();
DROP TABLE guard_pl_t, guard_pl_log;
