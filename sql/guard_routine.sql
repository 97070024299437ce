-- The guard on what a source calls: functions, procedures, views, rules.
CREATE SCHEMA guard_r;
CREATE SCHEMA "guard R";
SET search_path = guard_r, public;
CREATE TABLE t (a int, b text);
CREATE TABLE log (n int);

CREATE FUNCTION public.guard_r(sql text) RETURNS TABLE (at text, rule text, relation text, way text)
LANGUAGE sql AS $$
    SELECT line || ':' || col, rule, relation, substring(message, ', (through .*)') FROM evmig_guard(sql)
    WHERE rule ~ '^(data-|dynamic-|unknown-|unparsed)' ORDER BY line, col, rule
$$;

-- a function that the source defines counts where the source calls it
SELECT * FROM guard_r($src$
CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t; RETURN 1; END $$;
SELECT 1;
$src$);
SELECT * FROM guard_r($src$
CREATE FUNCTION f(i int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    UPDATE t SET a = i;
    RETURN g(i);
END
$$;
CREATE FUNCTION g(int) RETURNS int LANGUAGE sql AS 'INSERT INTO log SELECT $1; DELETE FROM t WHERE b = ''x''; SELECT 1';
CREATE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC
    DELETE FROM t;   UPDATE t SET a = 1;
    SELECT f(2);
END;
CREATE FUNCTION never() RETURNS int LANGUAGE plpgsql AS $$ BEGIN TRUNCATE t; END $$;
CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM log; RETURN new; END $$;
CREATE TRIGGER t1 BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION trig();
CALL p();
SELECT f(1), f(2) FROM t;
$src$);

-- in expressions that are evaluated over existing rows, and not in others
SELECT * FROM guard_r($src$
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'DELETE FROM t; SELECT 1';
ALTER TABLE t ALTER COLUMN a SET DEFAULT f(1);
CREATE VIEW v AS SELECT f(1);
CREATE TABLE n (a int DEFAULT f(1));
$src$);
SELECT * FROM guard_r($src$
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'DELETE FROM t; SELECT 1';
ALTER TABLE t ADD COLUMN c int DEFAULT f(1);
$src$);
SELECT * FROM guard_r($src$
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'DELETE FROM t; SELECT 1';
ALTER TABLE t ALTER COLUMN a TYPE bigint USING f(a);
$src$);

-- which one is called: by name, schema, number of arguments, constants' types
SELECT * FROM guard_r($src$
CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 1; SELECT 1';
CREATE FUNCTION f(a int, b int) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 2; SELECT 1';
CREATE FUNCTION f(a int, b int, VARIADIC c int[] DEFAULT '{}') RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 3; SELECT 1';
CREATE FUNCTION "guard R"."f ü"(a bool DEFAULT true) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 4; SELECT 1';
CREATE FUNCTION other.f(a int) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 5; SELECT 1';
CREATE FUNCTION h(a bool) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 6; SELECT 1';
CREATE FUNCTION h(a int) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 7; SELECT 1';
CREATE OR REPLACE FUNCTION h(a int) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 8; SELECT 1';
CREATE FUNCTION s(a int) RETURNS int STABLE LANGUAGE sql AS 'UPDATE t SET a = 9; SELECT 1';
CREATE FUNCTION i(a int) RETURNS int LANGUAGE plpython3u AS 'plpy.execute("UPDATE t SET a = 9")';
CREATE FUNCTION gone(a int) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 10; SELECT 1';
CREATE FUNCTION renamed(a int) RETURNS int LANGUAGE sql AS 'UPDATE t SET a = 11; SELECT 1';
CREATE AGGREGATE agg(int) (SFUNC = int4pl, STYPE = int);
CREATE DOMAIN dom AS int;
DROP FUNCTION gone(int);
ALTER FUNCTION renamed(int) RENAME TO newname;
SELECT f(b => 1, a => 2);
SELECT "guard R"."f ü"();
SELECT guard_r.f(1);
SELECT h(true);
SELECT h(5);
SELECT s(1), i(1), agg(1), dom(1), int4(1.5), jsonb_typeof('1'), count(*), pg_catalog.now();
SELECT f(1, 2, 3, 4);
SELECT gone(1), renamed(1), newname(1);
SELECT f();
$src$);

-- the database's functions are followed, through callees and cycles
CREATE FUNCTION writes(i int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    n int;
BEGIN
    IF i > 0 THEN
        UPDATE guard_r.t SET a = i;
    END IF;
    RETURN i;
END $$;
CREATE FUNCTION calls(i int) RETURNS int LANGUAGE sql AS 'SELECT guard_r.writes(i)';
CREATE FUNCTION ping(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN guard_r.pong(i); END $$;
CREATE FUNCTION pong(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM guard_r.log; RETURN guard_r.ping(i); END $$;
CREATE FUNCTION atomic(i int) RETURNS int BEGIN ATOMIC INSERT INTO log VALUES (1); INSERT INTO log SELECT a FROM t; SELECT writes(i); END;
CREATE FUNCTION reads(i int) RETURNS int STABLE LANGUAGE sql AS 'SELECT guard_r.writes(i)';
CREATE FUNCTION runs(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE q; END $$;
CREATE FUNCTION opaque(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE (SELECT b FROM t LIMIT 1); END $$;
CREATE FUNCTION poly(a anyelement, VARIADIC b anyarray) RETURNS anyelement LANGUAGE plpgsql AS $$ BEGIN DELETE FROM log; RETURN a; END $$;
CREATE FUNCTION rec(INOUT a t, OUT b int) LANGUAGE plpgsql AS $$ BEGIN a.a := 1; DELETE FROM log; END $$;
CREATE FUNCTION tab(n int) RETURNS TABLE (x int, y int) LANGUAGE plpgsql AS $$ BEGIN x := 1; RETURN NEXT; RETURN QUERY SELECT 1, 2; DELETE FROM log; END $$;
CREATE PROCEDURE "Weird ""proc"(INOUT x int) LANGUAGE plpgsql AS $$ BEGIN TRUNCATE log; COMMIT; END $$;
CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM log; RETURN new; END $$;
CREATE FUNCTION sums(s int, v int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO guard_r.log SELECT v; RETURN s + v; END $$;
CREATE AGGREGATE total(int) (SFUNC = sums, STYPE = int, INITCOND = '0');
CREATE FUNCTION "guard R".far() RETURNS int LANGUAGE sql AS 'DELETE FROM guard_r.log; SELECT 1';
SELECT * FROM guard_r($src$
SELECT writes(1), writes(2);
SELECT calls(1);
SELECT ping(1);
SELECT atomic(1);
SELECT reads(1);
SELECT runs('DELETE FROM t');
SELECT runs(b) FROM t;
SELECT opaque('SELECT 1');
SELECT poly(1, 2, 3);
SELECT rec(NULL);
SELECT * FROM tab(1);
CALL guard_r."Weird ""proc"(1);
SELECT total(a) FROM t;
SELECT far();
SELECT "guard R".far();
SELECT far(1);
SELECT nosuch.far();
DO $$ BEGIN PERFORM writes(1); END $$;
CREATE FUNCTION own() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN writes(1); END $$;
SELECT own();
$src$);
-- evmig's own change rows apart from the migration
SELECT * FROM guard_r('SELECT evmig_backfill_register(''x'', ''t'', ''a = 1'', ''a IS NULL''); SELECT evmig_backfill_start(''x'');');

-- views that are read, and rules that are set off
CREATE VIEW v1 AS SELECT a, writes(a) AS w FROM t;
CREATE VIEW v2 AS SELECT * FROM (SELECT * FROM v1 WHERE a > 1) s;
CREATE VIEW v3 AS SELECT a FROM t;
CREATE RULE ins AS ON INSERT TO v3 DO INSTEAD UPDATE t SET a = new.a;
CREATE RULE del AS ON DELETE TO log DO ALSO INSERT INTO t SELECT n FROM log;
CREATE MATERIALIZED VIEW m AS SELECT writes(1) WITH NO DATA;
SELECT * FROM guard_r($src$
SELECT * FROM v2;
WITH x AS (SELECT * FROM v3) SELECT * FROM x, m;
INSERT INTO v3 VALUES (1);
DELETE FROM log;
REFRESH MATERIALIZED VIEW m;
$src$);
SELECT * FROM guard_r($src$
CREATE VIEW w AS SELECT writes(1) FROM absent;
CREATE RULE r AS ON UPDATE TO absent DO ALSO (DELETE FROM log; UPDATE log SET n = 1);
SELECT * FROM w;
SELECT * FROM w;
UPDATE absent SET a = 1;
$src$);

-- a cycle of views is none; a diamond of calls costs no more than its functions
DO $$
BEGIN
    CREATE FUNCTION d0() RETURNS int LANGUAGE sql AS 'DELETE FROM guard_r.log; SELECT 1';
    FOR i IN 1 .. 40 LOOP
        EXECUTE format('CREATE FUNCTION d%s() RETURNS int LANGUAGE sql AS ''SELECT guard_r.d%s() + guard_r.d%s() + guard_r.d%s()''', i, i - 1, i - 1, i - 1);
    END LOOP;
END $$;
SELECT at, rule FROM guard_r('SELECT d40();');
SELECT count(*) FROM guard_r('CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''DELETE FROM t; SELECT 1'';' || repeat('SELECT f();', 1000));

-- what a routine that is not VOLATILE calls may change rows; what it says itself fails
SELECT * FROM guard_r($src$
CREATE FUNCTION i1() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM writes(1); EXECUTE (SELECT b FROM t); DELETE FROM t; RETURN 1; END $$;
CREATE FUNCTION i2() RETURNS int STABLE LANGUAGE sql AS 'WITH x AS (DELETE FROM t RETURNING 1) SELECT 1 FROM x; SELECT writes(1)';
CREATE INDEX ON t ((i1()));
SELECT i2();
$src$);

-- defaults of the arguments that a call does not give, and operators
CREATE FUNCTION def(a int, b int DEFAULT 0, c int DEFAULT writes(1)) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
CREATE FUNCTION opf(a int, b text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM guard_r.log; RETURN 1; END $$;
CREATE OPERATOR @-@ (LEFTARG = int, RIGHTARG = text, FUNCTION = opf);
SELECT * FROM guard_r($src$
SELECT def(1, 2, 3), def(1, c => 2);
SELECT def(1, 2), def(a => 1);
CREATE FUNCTION own(a int DEFAULT writes(1), b int DEFAULT own()) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT own(1, 2), own(b => 2);
SELECT own(1);
SELECT 1 @-@ 'x', 1 OPERATOR(guard_r.@-@) b, 1 + 1 FROM t;
$src$);

-- aggregates: what they are made of, here and there
CREATE AGGREGATE fin(int) (SFUNC = int4pl, STYPE = int, FINALFUNC = writes);
CREATE VIEW agg_view AS SELECT total(a) AS total, a @-@ 'x' AS op FROM t GROUP BY a;
CREATE FUNCTION upsert() RETURNS void BEGIN ATOMIC INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING; END;
CREATE UNIQUE INDEX t_a ON t (a);
CREATE FUNCTION upsert2() RETURNS void BEGIN ATOMIC INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2; END;
SELECT * FROM guard_r($src$
CREATE FUNCTION sf(s int, v text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM log; RETURN 1; END $$;
CREATE FUNCTION ff(s int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t; RETURN 1; END $$;
CREATE AGGREGATE app.one(text) (SFUNC = sf, STYPE = int, FINALFUNC = ff);
CREATE AGGREGATE two(BASETYPE = text, SFUNC = sf, STYPE = int);
CREATE AGGREGATE three(int) (SFUNC = guard_r.sums, STYPE = int);
SELECT three(a) OVER (), fin(a) OVER () FROM t;
SELECT * FROM agg_view;
SELECT upsert();
SELECT upsert2();
SELECT app.one(b) FROM t;
$src$);

-- VALIDATE CONSTRAINT evaluates what ADD ... NOT VALID did not
CREATE TABLE checked (a int);
ALTER TABLE checked ADD CONSTRAINT c CHECK (writes(a) = 1) NOT VALID;
ALTER TABLE checked ADD CONSTRAINT done CHECK (writes(a) = 1);
CREATE DOMAIN "Dom" AS int;
ALTER DOMAIN "Dom" ADD CONSTRAINT c CHECK (writes(value) = 1) NOT VALID;
SELECT * FROM guard_r($src$
CREATE FUNCTION f(a int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN DELETE FROM log; RETURN true; END $$;
ALTER TABLE t ADD CONSTRAINT n CHECK (f(a)) NOT VALID;
ALTER DOMAIN d ADD CONSTRAINT n CHECK (f(value)) NOT VALID;
ALTER TABLE checked VALIDATE CONSTRAINT c, VALIDATE CONSTRAINT done, VALIDATE CONSTRAINT absent;
ALTER DOMAIN "Dom" VALIDATE CONSTRAINT c;
ALTER TABLE absent VALIDATE CONSTRAINT n;
SELECT 1;
$src$);
SELECT * FROM guard_r($src$
CREATE FUNCTION f(a int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN DELETE FROM log; RETURN true; END $$;
CREATE FUNCTION g(a int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t; RETURN true; END $$;
ALTER TABLE t ADD CONSTRAINT n CHECK (f(a)) NOT VALID;
ALTER DOMAIN d ADD CONSTRAINT n CHECK (g(value)) NOT VALID;
ALTER TABLE guard_r.t VALIDATE CONSTRAINT n;
ALTER DOMAIN d VALIDATE CONSTRAINT n;
$src$);

-- a role that may not use the schema gets the same
CREATE ROLE guard_r_nobody;
SET ROLE guard_r_nobody;
SELECT at, rule FROM guard_r('SELECT guard_r.writes(1); SELECT guard_r.atomic(1); SELECT far()');
SELECT at, rule FROM guard_r('CREATE FUNCTION f(a guard_r.t, b guard_r.t.a%TYPE) RETURNS int LANGUAGE plpgsql AS $$ BEGIN a.a := 1; DELETE FROM x; RETURN 1; END $$; SELECT f(NULL, 1);');
RESET ROLE;

RESET search_path;
DROP FUNCTION guard_r(text);
DROP ROLE guard_r_nobody;
SET client_min_messages = error;
DROP SCHEMA guard_r CASCADE;
DROP SCHEMA "guard R" CASCADE;
