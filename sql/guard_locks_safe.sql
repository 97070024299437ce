-- What is inspected is never run: not the functions that defaults, casts, domains, checks and
-- bounds call, though the server would evaluate them while it plans.
SET client_min_messages = warning;
CREATE SCHEMA guard_safe;
SET search_path = guard_safe, public;
SET evmig.guard_small_table = '0';
CREATE SEQUENCE ran;
CREATE FUNCTION trap(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM nextval('guard_safe.ran'); RETURN $1; END $$;
CREATE FUNCTION trap_sql(int) RETURNS int LANGUAGE sql AS 'SELECT guard_safe.trap($1)';
CREATE FUNCTION trap_stable() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN nextval('guard_safe.ran'); END $$;
CREATE DOMAIN trap_domain AS int CHECK (VALUE > guard_safe.trap(0));
CREATE DOMAIN trap_above AS trap_domain;
CREATE TYPE color AS ENUM ('red', 'green');
CREATE FUNCTION to_color(int) RETURNS color LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM nextval('guard_safe.ran'); RETURN 'red'; END $$;
CREATE CAST (int AS color) WITH FUNCTION to_color(int) AS IMPLICIT;
CREATE TABLE t (i int, d int, c int CHECK (c > trap(0) OR c IS NULL), CHECK (d IS NOT NULL AND trap(1) = 1));
INSERT INTO t VALUES (1, 1, 1);
CREATE TABLE parted (i int, c color) PARTITION BY LIST (c);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
CREATE TABLE part (i int, c color, CHECK (c IS NOT NULL AND c = 'red'), CHECK (i > trap(0)));
CREATE TABLE inted (i int) PARTITION BY RANGE (i);
CREATE TABLE int_part (i int);
SELECT setval('ran', 1, false);
SELECT c.n, string_agg(rule, ' ' ORDER BY rule) FROM (VALUES
	(1, 'ALTER TABLE t ADD z int DEFAULT guard_safe.trap(1)'),
	(2, 'ALTER TABLE t ADD z int DEFAULT trap(1) + random()'),
	(3, 'ALTER TABLE t ADD z float8 DEFAULT CASE WHEN trap(1) > 0 THEN 1 ELSE random() END'),
	(4, 'ALTER TABLE t ADD z int DEFAULT trap_sql(1)'),
	(5, 'ALTER TABLE t ADD z int DEFAULT trap_stable()'),
	(6, 'ALTER TABLE t ADD z trap_domain DEFAULT 1'),
	(7, 'ALTER TABLE t ADD z trap_above DEFAULT (random() * 2)::int'),
	(8, 'ALTER TABLE t ADD z int DEFAULT 1::trap_domain'),
	(9, 'ALTER TABLE t ADD z color DEFAULT 1'),
	(10, 'ALTER TABLE t ALTER i TYPE trap_domain'),
	(11, 'ALTER TABLE t ALTER i TYPE trap_above USING 1::trap_domain'),
	(12, 'ALTER TABLE t ALTER i TYPE int USING trap(1)'),
	(13, 'ALTER TABLE t ALTER i TYPE color'),
	(14, 'ALTER TABLE t ALTER d SET NOT NULL'),
	(15, 'ALTER TABLE t ADD CONSTRAINT n CHECK (i IS NOT NULL AND trap(1) = 1); ALTER TABLE t ALTER i SET NOT NULL'),
	(16, 'ALTER TABLE t ALTER c TYPE bigint'),
	(17, 'ALTER TABLE parted ATTACH PARTITION part FOR VALUES IN (1)'),
	(18, 'ALTER TABLE parted ATTACH PARTITION part FOR VALUES IN (''red'')'),
	(19, 'ALTER TABLE parted ATTACH PARTITION part FOR VALUES IN (1::color)'),
	(20, 'ALTER TABLE inted ATTACH PARTITION int_part FOR VALUES FROM (trap(1)) TO (5)'),
	(21, 'ALTER TABLE inted ATTACH PARTITION int_part FOR VALUES FROM (1::trap_domain) TO (5)'),
	(22, 'ALTER DOMAIN trap_domain ADD CHECK (trap(VALUE) > 0)')
) c (n, source), LATERAL evmig_guard(source) WHERE rule ~ '^(add|set|change|attach|alter)' GROUP BY c.n ORDER BY c.n;
SELECT last_value, is_called FROM ran;

-- a role that may only ask
CREATE ROLE guard_safe_role;
SET ROLE guard_safe_role;
SELECT rule, relation FROM evmig_guard('ALTER TABLE guard_safe.t ADD z guard_safe.trap_domain DEFAULT guard_safe.trap(1), ALTER i TYPE bigint, ADD CHECK (i > 0); CREATE INDEX ON guard_safe.t (i)')
WHERE rule ~ '^(add|change|index)' ORDER BY rule;
RESET ROLE;
DROP ROLE guard_safe_role;
-- the guard leaves no trace: no lock, no open subtransaction, no xid
BEGIN;
SELECT count(*) > 0 FROM evmig_guard('ALTER TABLE guard_safe.t ADD z uuid DEFAULT gen_random_uuid(), ADD y not_here DEFAULT not_here(), ALTER i TYPE bigint; ALTER TABLE guard_safe.parted ATTACH PARTITION guard_safe.part FOR VALUES IN (''red'')');
SELECT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'guard_safe'::regnamespace);
SELECT pg_current_xact_id_if_assigned();
ROLLBACK;
DROP SCHEMA guard_safe CASCADE;
