-- ATTACH and DETACH PARTITION: the guard says which tables the server reads, and how not to.
SET client_min_messages = warning;
SET evmig.guard_small_table = '0';
CREATE SCHEMA guard_part;
SET search_path = guard_part, public;
CREATE TABLE ranges (id int NOT NULL, at date, note text) PARTITION BY RANGE (at);
CREATE TABLE ranges_2024 PARTITION OF ranges FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE ranges_rest PARTITION OF ranges DEFAULT;
INSERT INTO ranges VALUES (1, '2024-06-01'), (2, '2020-01-01');
-- with other columns in another order
CREATE TABLE plain (note text, gone int, at date, id int NOT NULL);
ALTER TABLE plain DROP COLUMN gone;
INSERT INTO plain (id, at) VALUES (3, '2025-06-01');
CREATE TABLE checked (LIKE plain, CHECK (at >= '2025-01-01' AND at < '2026-01-01' AND at IS NOT NULL));
CREATE TABLE narrower (LIKE plain, CHECK (at BETWEEN '2025-02-01' AND '2025-11-30'));
ALTER TABLE narrower ALTER at SET NOT NULL;
CREATE TABLE nullable (LIKE plain, CHECK (at >= '2025-01-01' AND at < '2026-01-01'));
CREATE TABLE wider (LIKE plain, CHECK (at >= '2024-01-01' AND at < '2026-01-01'));
CREATE TABLE not_valid (LIKE plain);
ALTER TABLE not_valid ADD CONSTRAINT bound CHECK (at >= '2025-01-01' AND at < '2026-01-01' AND at IS NOT NULL) NOT VALID;
CREATE TABLE "o'x ""y""" (LIKE plain);
-- a default partition that says that it holds none of them
CREATE TABLE others (id int NOT NULL, kind text) PARTITION BY LIST (kind);
CREATE TABLE others_rest PARTITION OF others DEFAULT;
ALTER TABLE others_rest ADD CHECK (kind IS NOT NULL AND kind NOT IN ('a', 'b'));
CREATE TABLE others_a (LIKE others, CHECK (kind IS NOT NULL AND kind = 'a'));
CREATE TABLE others_c (LIKE others, CHECK (kind IS NOT NULL AND kind = 'c'));
CREATE TABLE hashed (id int NOT NULL) PARTITION BY HASH (id);
CREATE TABLE hashed_0 (id int NOT NULL);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE empty_parent (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE its_default (id int, at date);

CREATE FUNCTION did(statement text, OUT fails bool, OUT reads text) LANGUAGE plpgsql AS $$
DECLARE
	tables oid[] := ARRAY(SELECT oid FROM pg_class WHERE relnamespace = 'guard_part'::regnamespace AND relkind = 'r');
	before bigint[] := ARRAY(SELECT pg_stat_get_xact_numscans(t) FROM unnest(tables) t);
BEGIN
	fails := false;
	BEGIN
		EXECUTE statement;
		reads := (SELECT string_agg(t::regclass::text, ', ' ORDER BY t::regclass::text) FROM unnest(tables, before) u (t, b) WHERE pg_stat_get_xact_numscans(t) > b);
		RAISE SQLSTATE 'TRUTH';
	EXCEPTION WHEN SQLSTATE 'TRUTH' THEN NULL;
		WHEN check_violation THEN fails := true;
	END;
END
$$;
CREATE FUNCTION said(statement text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(relation::regclass::text, ', ' ORDER BY relation::regclass::text) FROM evmig_guard(statement) WHERE rule = 'attach-partition'
$$;
CREATE TABLE cases (n serial, statement text);
INSERT INTO cases (statement) SELECT trim(t, E'\t') FROM regexp_split_to_table($$
	ALTER TABLE ranges ATTACH PARTITION plain FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
	ALTER TABLE ranges ATTACH PARTITION checked FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
	ALTER TABLE ranges ATTACH PARTITION checked FOR VALUES FROM ('2025-01-01'::date) TO (MAXVALUE)
	ALTER TABLE ranges ATTACH PARTITION narrower FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
	ALTER TABLE ranges ATTACH PARTITION nullable FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
	ALTER TABLE ranges ATTACH PARTITION wider FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
	ALTER TABLE ranges ATTACH PARTITION not_valid FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
	ALTER TABLE ranges ATTACH PARTITION "o'x ""y""" FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
	CREATE TABLE ranges_2026 PARTITION OF ranges FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
	CREATE TABLE others_b PARTITION OF others FOR VALUES IN ('b')
	CREATE TABLE others_c2 PARTITION OF others FOR VALUES IN ('c')
	ALTER TABLE others ATTACH PARTITION others_a FOR VALUES IN ('a')
	ALTER TABLE others ATTACH PARTITION others_a FOR VALUES IN ('a', NULL)
	ALTER TABLE others ATTACH PARTITION others_c FOR VALUES IN ('c')
	ALTER TABLE hashed ATTACH PARTITION hashed_0 FOR VALUES WITH (MODULUS 2, REMAINDER 0)
	ALTER TABLE empty_parent ATTACH PARTITION its_default DEFAULT$$, E'\n') t WHERE t ~ '\S';
\pset format unaligned
SELECT replace(statement, 'ALTER TABLE ', '') AS statement, fails, reads, said(statement) IS DISTINCT FROM reads AND NOT fails AS wrong
FROM cases, did(statement) ORDER BY n;

-- the way in that the hint shows: once it is gone, nothing is read
DO $$
DECLARE
	statement text := 'ALTER TABLE ranges ATTACH PARTITION "o''x ""y""" FOR VALUES FROM (''2025-01-01'') TO (''2026-01-01'')';
	way text;
BEGIN
	FOR way IN SELECT hint FROM evmig_guard(statement) WHERE rule = 'attach-partition' LOOP
		EXECUTE way;
	END LOOP;
END
$$;
SELECT conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname LIKE '%\_bound' ORDER BY 1;
SELECT reads, said(statement) FROM cases, did(statement) WHERE statement LIKE '%"y"%';

-- a CHECK of the same source counts once it is validated, and while it stands
SELECT c.n, line, col, relation FROM (VALUES
	(1, 'ALTER TABLE wider ADD CONSTRAINT b CHECK (at IS NOT NULL AND at >= ''2025-01-01'' AND at < ''2026-01-01'') NOT VALID;'),
	(2, 'ALTER TABLE wider ADD CONSTRAINT b CHECK (at IS NOT NULL AND at >= ''2025-01-01'' AND at < ''2026-01-01'') NOT VALID; ALTER TABLE wider VALIDATE CONSTRAINT b;'),
	(3, 'ALTER TABLE wider ADD CONSTRAINT b CHECK (at IS NOT NULL AND at >= ''2025-01-01'') NOT VALID; ALTER TABLE wider VALIDATE CONSTRAINT b;'),
	(4, 'ALTER TABLE not_valid VALIDATE CONSTRAINT bound; ALTER TABLE wider RENAME TO w; ALTER TABLE not_valid RENAME TO wider;'),
	(5, 'ALTER TABLE wider ADD CONSTRAINT b CHECK (at IS NOT NULL AND at >= ''2025-01-01'' AND at < ''2026-01-01''); ALTER TABLE wider DROP CONSTRAINT b;')
) c (n, before), LATERAL evmig_guard(before || E'\nALTER TABLE ranges\n  ATTACH PARTITION wider FOR VALUES FROM (''2025-01-01'') TO (''2026-01-01'');')
WHERE rule = 'attach-partition' AND relation !~ 'rest' ORDER BY c.n, line;

-- DETACH, and what is new or small
SELECT line, col, rule, severity, relation, lock_mode, regexp_replace(message, ' \(.*\)', '') AS message, hint FROM evmig_guard($$
ALTER TABLE ranges DETACH PARTITION ranges_2024;
ALTER TABLE ranges DETACH PARTITION ranges_2024 CONCURRENTLY;
ALTER TABLE hashed DETACH PARTITION hashed_1;
CREATE TABLE ranges_2026 (LIKE ranges);
ALTER TABLE others ATTACH PARTITION ranges_2026 FOR VALUES IN ('b');
BEGIN; ALTER TABLE ranges DETACH PARTITION ranges_2024 CONCURRENTLY; COMMIT;
$$) WHERE rule NOT IN ('lock-timeout', 'multiple-alter-table', 'schema-qualified');
SET evmig.guard_small_table = '1GB';
SELECT rule, severity FROM evmig_guard('ALTER TABLE ranges DETACH PARTITION ranges_2024; ALTER TABLE ranges ATTACH PARTITION plain FOR VALUES FROM (''2025-01-01'') TO (''2026-01-01'')')
WHERE rule LIKE '%partition%' ORDER BY rule;

DROP SCHEMA guard_part CASCADE;
