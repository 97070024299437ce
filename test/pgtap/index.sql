-- what evmig_unique_index and evmig_harden promise
\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
SET client_min_messages = warning;
SELECT plan(34);

SELECT has_function('evmig_unique_index', ARRAY['regclass', 'name', 'name']);
SELECT function_returns('evmig_unique_index', ARRAY['regclass', 'name', 'name'], 'bigint');
SELECT isnt_strict('evmig_unique_index', ARRAY['regclass', 'name', 'name']);
SELECT has_function('evmig_harden', ARRAY['regclass', 'name']);
SELECT function_returns('evmig_harden', ARRAY['regclass', 'name'], 'bigint');
SELECT isnt_strict('evmig_harden', ARRAY['regclass', 'name']);
SELECT ok(obj_description(p::regprocedure) ~ 'SHARE UPDATE EXCLUSIVE', p || ' says which lock it takes')
FROM unnest('{"evmig_unique_index(regclass,name,name)", "evmig_harden(regclass,name)"}'::text[]) p;

-- evmig_wait() raises the job's error
CREATE PROCEDURE ended(job bigint) LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM evmig_jobs WHERE job_id = job AND finished_at IS NULL) LOOP
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;

-- the defaults: business_events, request_id, ts
CREATE TABLE business_events (id int, request_id uuid, ts timestamptz);
INSERT INTO business_events SELECT i, gen_random_uuid(), now() FROM generate_series(1, 100) i;
SELECT evmig_unique_index() AS job \gset
CALL evmig_wait(:job);
SELECT index_is_unique('business_events', 'ux_business_events_request_id');
SELECT index_is_type('business_events', 'ux_business_events_request_id', 'btree');
SELECT evmig_harden() AS job \gset
CALL evmig_wait(:job);
SELECT col_not_null('business_events'::name, 'request_id'::name, 'the key is NOT NULL');
SELECT is_empty($$ SELECT FROM pg_constraint WHERE conrelid = 'business_events'::regclass AND contype = 'c' $$, 'the check is gone');

-- jobs say what they did
SELECT results_eq($$ SELECT kind, state, remaining FROM evmig_jobs WHERE target = 'business_events'::regclass ORDER BY job_id $$,
	$$ VALUES ('unique_index', 'succeeded', 0::bigint), ('harden', 'succeeded', 0) $$, 'both succeed');

-- a primary key and a unique constraint are unique indexes, too
CREATE TABLE primary_key (request_id int PRIMARY KEY);
SELECT evmig_unique_index('primary_key') AS job \gset
CALL evmig_wait(:job);
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'primary_key'::regclass), 1::bigint, 'a primary key will do');
SELECT evmig_harden('primary_key') AS job \gset
CALL evmig_wait(:job);
SELECT is((SELECT state FROM evmig_jobs WHERE job_id = :job), 'succeeded', 'and is NOT NULL already');
CREATE TABLE with_include (request_id int, payload text);
CREATE UNIQUE INDEX ON with_include (request_id) INCLUDE (payload);
SELECT evmig_unique_index('with_include') AS job \gset
CALL evmig_wait(:job);
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'with_include'::regclass), 1::bigint, 'an index with INCLUDE will do');

-- NULLs are no duplicates of each other, for the index at least
CREATE TABLE with_nulls (request_id text);
INSERT INTO with_nulls VALUES (NULL), (NULL), ('a');
SELECT evmig_unique_index('with_nulls') AS job \gset
CALL evmig_wait(:job);
SELECT index_is_unique('with_nulls', 'ux_with_nulls_request_id');
SELECT evmig_harden('with_nulls') AS job \gset
CALL ended(:job);
SELECT is((SELECT message FROM evmig_jobs WHERE job_id = :job), 'column "request_id" of table "with_nulls" has 2 null values', 'their number is told');
SELECT lives_ok('INSERT INTO with_nulls VALUES (NULL)', 'and a failed harden leaves nothing that refuses them');

-- every kind of key; equality is that of its type and collation
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN order_number AS int CHECK (value > 0);
CREATE TABLE by_bytea (request_id bytea);
CREATE TABLE by_bigint (request_id bigint);
CREATE TABLE by_domain (request_id order_number);
CREATE TABLE by_collation (request_id text COLLATE no_case);
CREATE TABLE by_varchar (request_id varchar(20));
INSERT INTO by_bytea SELECT int4send(i) FROM generate_series(1, 10) i;
INSERT INTO by_bigint SELECT i FROM generate_series(1, 10) i;
INSERT INTO by_domain SELECT i FROM generate_series(1, 10) i;
INSERT INTO by_collation VALUES ('a'), ('b');
INSERT INTO by_varchar VALUES ('a'), ('A'), (' ');
SELECT evmig_unique_index('by_bytea') AS job \gset
CALL evmig_wait(:job);
SELECT evmig_unique_index('by_bigint') AS job \gset
CALL evmig_wait(:job);
SELECT evmig_unique_index('by_domain') AS job \gset
CALL evmig_wait(:job);
SELECT evmig_unique_index('by_collation') AS job \gset
CALL evmig_wait(:job);
SELECT evmig_unique_index('by_varchar') AS job \gset
CALL evmig_wait(:job);
SELECT index_is_unique(t, 'ux_' || t || '_request_id')
FROM unnest('{by_bytea,by_bigint,by_domain,by_collation,by_varchar}'::name[]) t;
SELECT throws_ok($$ INSERT INTO by_collation VALUES ('A') $$, '23505', NULL, 'unique under the column''s collation');

-- an index in another collation does not enforce that
DROP INDEX ux_by_collation_request_id;
CREATE UNIQUE INDEX cased ON by_collation (request_id COLLATE "C");
SELECT evmig_unique_index('by_collation') AS job \gset
CALL evmig_wait(:job);
SELECT has_index('by_collation', 'ux_by_collation_request_id', 'built beside one in another collation');

-- arguments
SELECT throws_ok($$ SELECT evmig_unique_index('pg_class') $$, '42809', NULL, 'a system table');
SELECT throws_ok($$ SELECT evmig_unique_index('by_bytea', 'x') $$, '42703', NULL, 'an unknown column');
SELECT throws_ok($$ SELECT evmig_unique_index('by_bytea', 'ctid') $$, '42809', NULL, 'a system column');
SELECT throws_ok($$ SELECT evmig_unique_index('business_events', 'id', 'by_varchar') $$, '42P07', NULL, 'a name that is taken');
SELECT throws_ok($$ SELECT evmig_unique_index('by_bytea', NULL, '') $$, '42602', NULL, 'an empty name');
SELECT throws_ok($$ SELECT evmig_harden('pg_class') $$, '42809', NULL, 'harden: a system table');
SELECT throws_ok($$ SELECT evmig_harden('by_bytea', 'x') $$, '42703', NULL, 'harden: an unknown column');
SELECT throws_ok($$ SELECT evmig_harden(4294967295::oid::regclass) $$, '42P01', NULL, 'harden: no such table');

SELECT * FROM finish();
DROP TABLE business_events, primary_key, with_include, with_nulls, by_bytea, by_bigint, by_domain, by_collation, by_varchar;
DROP DOMAIN order_number;
DROP COLLATION no_case;
DROP PROCEDURE ended(bigint);
