-- Registered indexes: what a definition may be, what counts as equal, and
-- partitioned tables.
SET client_min_messages = warning;
CREATE ROLE deploy_index;
CREATE ROLE deploy_index_other;
CREATE SCHEMA "deploy ""index";
GRANT USAGE ON SCHEMA "deploy ""index" TO deploy_index_other;
SET search_path = "deploy ""index", public;
TRUNCATE evmig.deploy, evmig.deploy_item RESTART IDENTITY;
CREATE TABLE "Weird "".table" (id int PRIMARY KEY, "o'x" text, größe int, made int GENERATED ALWAYS AS (größe + 1) STORED, at timestamptz, r int4range);
INSERT INTO "Weird "".table" (id, "o'x", größe) SELECT g, 'k' || g, g FROM generate_series(1, 100) g;
CREATE FUNCTION own_lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.lower($1)';
CREATE VIEW a_view AS SELECT 1 AS a;
CREATE MATERIALIZED VIEW a_matview AS SELECT g AS a FROM generate_series(1, 10) g;
CREATE UNLOGGED TABLE an_unlogged (a int);
CREATE TEMP TABLE a_temporary (a int);
RESET client_min_messages;
\set VERBOSITY terse

SELECT evmig_index_register('odd', 'CREATE INDEX "ix ""odd" ON "Weird "".table" (own_lower("o''x") COLLATE "C" text_pattern_ops DESC NULLS LAST, (größe % 7)) INCLUDE (at) WITH (fillfactor = 70) WHERE größe > 3');
SELECT evmig_index_register('made', 'CREATE INDEX ON "Weird "".table" (made)');
SELECT evmig_index_register('gist', 'CREATE INDEX ON "Weird "".table" USING gist (r)');
SELECT evmig_index_register('brin', 'CREATE INDEX ON "Weird "".table" USING brin (id) WITH (pages_per_range = 4)');
SELECT evmig_index_register('nulls', 'CREATE UNIQUE INDEX ON "Weird "".table" (id, größe) NULLS NOT DISTINCT');
SELECT evmig_index_register('matview', 'CREATE INDEX matview_a ON a_matview (a)');
SELECT evmig_index_register('unlogged', 'CREATE INDEX ON an_unlogged (a)');
-- the same in other words, under other settings
SET quote_all_identifiers = on;
SET search_path = public;
SELECT evmig_index_register('odd', 'create index concurrently if not exists "ix ""odd" on "deploy ""index"."Weird "".table" using btree ("deploy ""index".own_lower("o''x") collate "C" text_pattern_ops desc nulls last, ("größe" % 7) asc) include ("at") with (fillfactor = ''70'') where "größe" > 3::int4');
RESET quote_all_identifiers;
SET search_path = "deploy ""index", public;

-- what cannot be
SELECT evmig_index_register('', 'CREATE INDEX ON an_unlogged (a)');
SELECT evmig_index_register('x', 'CREATE TABLE y (a int)');
SELECT evmig_index_register('x', 'CREATE INDEX ON an_unlogged (a); DROP TABLE an_unlogged');
SELECT evmig_index_register('x', 'CREATE INDEX ON an_unlogged (a');
SELECT evmig_index_register('x', 'CREATE INDEX ON an_unlogged (b)');
\set VERBOSITY default
SELECT evmig_index_register('x', E'CREATE INDEX plus\n  ON an_unlogged ((b + 1))');
\set VERBOSITY terse
SELECT evmig_index_register('x', 'CREATE INDEX ON a_view (a)');
SELECT evmig_index_register('x', 'CREATE INDEX ON a_temporary (a)');
SELECT evmig_index_register('x', 'CREATE INDEX ON nowhere (a)');
SELECT evmig_index_register('x', 'CREATE INDEX ON pg_class (relname)');
SELECT evmig_index_register('x', 'CREATE INDEX ON an_unlogged (random())');
SELECT evmig_index_register(repeat('x', 64), 'CREATE INDEX ON an_unlogged (a)');
SET ROLE deploy_index_other;
SELECT evmig_index_register('x', 'CREATE INDEX ON an_unlogged (a)');
SELECT count(*) FROM evmig.index;
SELECT evmig_index_unregister('odd');
SELECT evmig_index_build_all();
RESET ROLE;
-- nothing is left of the copies
SELECT count(*) FROM pg_class WHERE relname LIKE 'pg_temp%' OR relname LIKE 'evmig_%' AND relnamespace = '"deploy ""index"'::regnamespace;

SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
RESET client_min_messages;
SELECT item, status FROM evmig_deploy_report() ORDER BY item;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'deploy "index' AND indexname = 'ix "odd';
SELECT count(*) FROM evmig_index_build_all();

-- other names and places are no other definition
ALTER TABLE "Weird "".table" RENAME TO renamed;
ALTER INDEX "ix ""odd" RENAME TO other;
ALTER INDEX other RENAME TO "ix ""odd";
CREATE SCHEMA deploy_index_two;
ALTER TABLE an_unlogged SET SCHEMA deploy_index_two;
SELECT count(*) FROM evmig_index_build_all();
-- a column's new name is one
ALTER TABLE renamed RENAME COLUMN made TO computed;
SELECT count(*) FROM evmig_index_build_all();
-- a name that something else has; a table that is gone
DROP INDEX nulls;
CREATE TABLE nulls (a int);
DROP TABLE deploy_index_two.an_unlogged;
SET ROLE deploy_index_other;
SELECT evmig_index_unregister('unlogged');
SELECT count(*) FROM evmig_index_build_all();
RESET ROLE;
SELECT count(*) FROM evmig_index_build_all();
SELECT evmig_index_unregister('made', true);
SELECT evmig_index_unregister('made');
SELECT evmig_index_unregister('nulls', true);
SELECT evmig_index_unregister('unlogged', true);
SELECT evmig_index_unregister('nowhere');

-- partitioned, in two levels; one partition has an equal index already
CREATE TABLE parted (id int, at date, v int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id);
CREATE TABLE parted_2a PARTITION OF parted_2 FOR VALUES IN (1, 2);
CREATE TABLE "parted "" 2b" PARTITION OF parted_2 DEFAULT;
INSERT INTO parted SELECT g, '2024-01-01'::date + 7 * g, g FROM generate_series(1, 90) g;
CREATE INDEX there_already ON parted_1 (v);
SELECT evmig_index_register('parted_v', 'CREATE INDEX parted_v ON parted (v)');
SELECT evmig_index_register('parted_uniq', 'CREATE UNIQUE INDEX ON parted (at, v, id)');
SELECT evmig_index_register('x', 'CREATE UNIQUE INDEX ON parted (v)');
SELECT evmig_index_register('x', 'CREATE INDEX ON ONLY parted (v)');
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
RESET client_min_messages;
SELECT item, status FROM evmig_deploy_report() WHERE item LIKE 'parted%' ORDER BY item;
SELECT i.inhrelid::regclass AS index, i.inhparent::regclass AS parent, x.indisvalid FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
	WHERE i.inhparent IN ('parted_v'::regclass, 'parted_uniq'::regclass, 'parted_2_parted_v'::regclass) ORDER BY i.inhrelid::regclass::text COLLATE "C";
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indexrelid IN ('parted_v'::regclass, 'parted_uniq'::regclass) ORDER BY indexrelid::regclass::text COLLATE "C";
-- a new partition has it; again, nothing is to do
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
SELECT count(*) FROM evmig_index_build_all();
-- dropped with all its parts, also the one that was there before, and with nothing else
SELECT count(*) FROM pg_index WHERE indrelid IN ('parted'::regclass, 'parted_1'::regclass, 'parted_2'::regclass, 'parted_2a'::regclass, '"parted "" 2b"'::regclass, 'parted_3'::regclass);
SELECT evmig_index_unregister('parted_v', true) AS drop_job \gset
SET client_min_messages = warning;
CALL evmig_wait(:drop_job);
RESET client_min_messages;
SELECT kind, name, state FROM evmig_jobs WHERE job_id = :drop_job;
SELECT count(*) FROM pg_index WHERE indrelid IN ('parted'::regclass, 'parted_1'::regclass, 'parted_2'::regclass, 'parted_2a'::regclass, '"parted "" 2b"'::regclass, 'parted_3'::regclass);
SELECT to_regclass('parted_v'), to_regclass('there_already');
SELECT evmig_index_unregister('parted_v', true);
-- what an interrupted build has left goes, too: here an invalid part, and one that is not attached, below a parent that is
SELECT evmig_index_register('parted_v', 'CREATE INDEX "parted ""v" ON parted (v)');
CREATE INDEX "parted ""v" ON ONLY parted (v);
CREATE INDEX "parted_2_parted ""v" ON ONLY parted_2 (v);
ALTER INDEX "parted ""v" ATTACH PARTITION "parted_2_parted ""v";
CREATE INDEX "parted_2a_parted_2_parted ""v" ON parted_2a (v);
CREATE INDEX "parted_1_parted ""v" ON parted_1 (v);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"parted_1_parted ""v"'::regclass;
CREATE INDEX "parted_3_parted ""v" ON parted_3 (id);
SELECT evmig_index_unregister('parted_v', true) AS drop_job \gset
SET client_min_messages = warning;
CALL evmig_wait(:drop_job);
RESET client_min_messages;
SELECT relname FROM pg_class WHERE relname LIKE 'part%parted "v';
DROP INDEX "parted_3_parted ""v";
-- what a constraint or something else needs is not dropped
SELECT evmig_index_register('parted_pkey', 'CREATE UNIQUE INDEX parted_pkey ON parted (id, at)');
SELECT evmig_index_unregister('parted_pkey', true);
CREATE TABLE refers (at date, v int, id int, FOREIGN KEY (at, v, id) REFERENCES parted (at, v, id));
SELECT evmig_index_unregister('parted_uniq', true);
SELECT indisvalid FROM pg_index WHERE indexrelid = 'parted_uniq'::regclass;
SELECT count(*) FROM evmig.index WHERE name IN ('parted_pkey', 'parted_uniq');
DROP TABLE refers;
SELECT evmig_index_unregister('parted_pkey');
-- a partition that is being detached has no tree any more
UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = 'parted_3'::regclass;
SELECT evmig_index_register('detached', 'CREATE INDEX detached ON parted_3 (v)');
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
RESET client_min_messages;
SELECT status FROM evmig_deploy_report() WHERE item = 'detached';
SELECT evmig_index_unregister('detached');
DROP INDEX detached;
UPDATE pg_inherits SET inhdetachpending = false WHERE inhrelid = 'parted_3'::regclass;
-- interrupted half-way: a part is invalid, one is missing
CREATE INDEX parted_v ON ONLY parted (v);
CREATE INDEX parted_1_parted_v ON parted_1 (v);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'parted_1_parted_v'::regclass;
CREATE INDEX parted_3_parted_v ON parted_3 (id);
SELECT evmig_index_register('parted_v', 'CREATE INDEX parted_v ON parted (v)');
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
SELECT status, regexp_replace(detail, 'job \d+', 'job') AS detail FROM evmig_deploy_report() WHERE item = 'parted_v';
DROP INDEX parted_3_parted_v;
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
RESET client_min_messages;
SELECT status FROM evmig_deploy_report() WHERE item = 'parted_v';
SELECT indisvalid FROM pg_index WHERE indexrelid = 'parted_v'::regclass;
SELECT count(*) FILTER (WHERE indisvalid), count(*) FROM pg_index WHERE indrelid = 'parted_1'::regclass;

-- names that are too long differ at their end alone
CREATE TABLE months (at date) PARTITION BY RANGE (at);
CREATE TABLE months_whose_partitions_have_got_names_of_great_length_2024_01 PARTITION OF months
	FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE months_whose_partitions_have_got_names_of_great_length_2024_02 PARTITION OF months
	FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
SELECT evmig_index_register('months_at', 'CREATE INDEX months_by_the_day_and_nothing_else ON months (at)');
-- a partition that has a registered index of its own
SELECT evmig_index_register('month', 'CREATE INDEX month ON months_whose_partitions_have_got_names_of_great_length_2024_02 (at DESC)');
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
RESET client_min_messages;
SELECT item, status FROM evmig_deploy_report() WHERE item LIKE 'month%' ORDER BY item;
SELECT count(*) FILTER (WHERE indisvalid), count(*) FROM pg_index WHERE indrelid::regclass::text LIKE 'months%';
-- somebody has attached a part that is invalid
SELECT evmig_index_unregister('months_at');
DROP INDEX months_by_the_day_and_nothing_else;
CREATE INDEX months_by_the_day_and_nothing_else ON ONLY months (at);
CREATE INDEX one ON months_whose_partitions_have_got_names_of_great_length_2024_01 (at);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'one'::regclass;
ALTER INDEX months_by_the_day_and_nothing_else ATTACH PARTITION one;
SELECT evmig_index_register('months_at', 'CREATE INDEX months_by_the_day_and_nothing_else ON months (at)');
SET client_min_messages = error;
CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}');
RESET client_min_messages;
SELECT status, regexp_replace(detail, 'job \d+', 'job') AS detail FROM evmig_deploy_report() WHERE item = 'months_at';

SET client_min_messages = warning;
DELETE FROM evmig.deploy_item;
DELETE FROM evmig.deploy;
DELETE FROM evmig.index;
DROP SCHEMA "deploy ""index", deploy_index_two CASCADE;
RESET search_path;
DROP TABLE a_temporary;
DROP ROLE deploy_index, deploy_index_other;
