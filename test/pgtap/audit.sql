-- what evmig_audit, evmig_duplicates and evmig_verify promise
\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
SET client_min_messages = warning;
BEGIN;
SELECT plan(33);

SELECT function_returns('evmig_audit', ARRAY['regclass', 'name'], 'record');
SELECT volatility_is('evmig_audit', ARRAY['regclass', 'name'], 'volatile');
SELECT isnt_strict('evmig_audit', ARRAY['regclass', 'name']);
SELECT ok(obj_description(p::regprocedure) IS NOT NULL, p || ' has a comment')
FROM unnest('{"evmig_audit(regclass,name)", "evmig_duplicates(regclass,name,name,int)",
	"evmig_preflight(regclass,name,name)", "evmig_verify(regclass,name)"}'::text[]) p;

CREATE TABLE business_events (id int, request_id uuid, ts timestamptz);
SELECT results_eq('SELECT * FROM evmig_audit()', 'VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint)', 'an empty table');
SELECT is_empty('SELECT * FROM evmig_duplicates()', 'no duplicates in an empty table');
INSERT INTO business_events SELECT i FROM generate_series(1, 1000) i;
SELECT results_eq('SELECT * FROM evmig_audit()', 'VALUES (1000::bigint, 1000::bigint, 0::bigint, 0::bigint)', 'NULLs are no duplicates of each other');
SELECT is_empty('SELECT * FROM evmig_duplicates()', 'nor a group');
UPDATE business_events SET request_id = '11111111-1111-1111-1111-111111111111';
SELECT results_eq('SELECT * FROM evmig_audit()', 'VALUES (1000::bigint, 0::bigint, 1::bigint, 999::bigint)', 'one group of everything');
SELECT is((SELECT evmig_audit())::text, '(1000,0,1,999)', 'as a value');

-- equality is what a unique index sees
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE collated (request_id text COLLATE no_case, ts int, payload text);
INSERT INTO collated VALUES ('a', 1, 'x'), ('A', 2, 'x'), ('á', 3, 'x'), ('B', 1, 'x'), ('b', 2, 'X'), ('', 1, NULL), (NULL, 1, NULL);
SELECT results_eq($$ SELECT * FROM evmig_audit('collated') $$, 'VALUES (7::bigint, 1::bigint, 2::bigint, 2::bigint)', 'a collation that ignores case');
SELECT results_eq($$ SELECT * FROM evmig_duplicates('collated') ORDER BY request_id COLLATE "C" $$,
	$$ VALUES ('B', 2::bigint, '1', 1::bigint, 1::bigint), ('a', 2, '1', 1, 0) $$, 'groups under it');
SELECT is((SELECT status FROM evmig_preflight('collated') WHERE check_name = 'placeholder_keys'), 'fail', 'a placeholder under it');
SELECT throws_ok('CREATE UNIQUE INDEX ON collated (request_id)', '23505', NULL, 'a unique index agrees');
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TABLE ci (request_id citext, ts int);
INSERT INTO ci VALUES ('a', 1), ('A', 2), ('b', 1), ('  ', 1);
SELECT is((SELECT evmig_audit('ci'))::text, '(4,0,1,1)', 'citext');
SELECT is((SELECT status FROM evmig_preflight('ci') WHERE check_name = 'placeholder_keys'), 'fail', 'blanks in citext');
SELECT is((SELECT status FROM evmig_preflight('ci') WHERE check_name = 'key_type'), 'pass', 'a UUID fits citext');
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE TABLE types (m mood, a int[], r int4range, n numeric, i interval);
INSERT INTO types VALUES ('low', '{1}', '[1,2)', 1.0, '24 hours'), ('low', '{1}', '[1,1]', 1.00, '1 day'), ('high', '{2}', NULL, 2, '2 days');
SELECT is((SELECT evmig_audit('types', k))::text, w, k || ' by its own equality')
FROM (VALUES ('m'::name, '(3,0,1,1)'), ('a', '(3,0,1,1)'), ('r', '(3,1,1,1)'), ('n', '(3,0,1,1)'), ('i', '(3,0,1,1)')) v (k, w);

-- against figures found another way, with plans that spill and plans that sort
CREATE TABLE many AS
	SELECT i AS id, CASE WHEN i % 11 > 0 THEN md5((CASE WHEN i % 3 = 0 THEN i % 500 WHEN i % 7 = 0 THEN 0 ELSE i END)::text) END AS request_id,
		(i * 7919) % 1000 AS ts, i % 2 AS payload
	FROM generate_series(1, 20000) i;
ANALYZE many;
CREATE TEMP TABLE wanted AS
	SELECT count(*) AS total, count(*) FILTER (WHERE request_id IS NULL) AS nulls,
		count(DISTINCT request_id) FILTER (WHERE n > 1) AS groups, count(*) FILTER (WHERE request_id IS NOT NULL AND place > 1) AS losers
	FROM (SELECT request_id, count(*) OVER (PARTITION BY request_id) AS n,
		row_number() OVER (PARTITION BY request_id) AS place FROM many) m;
SELECT results_eq($$ SELECT * FROM evmig_audit('many') $$, 'TABLE wanted', 'counted another way');
SET LOCAL work_mem = '64kB';
SELECT results_eq($$ SELECT * FROM evmig_audit('many') $$, 'TABLE wanted', 'with little memory');
SET LOCAL enable_hashagg = off;
SELECT results_eq($$ SELECT * FROM evmig_audit('many') $$, 'TABLE wanted', 'by a sort');
CREATE INDEX ON many (request_id);
SET LOCAL enable_seqscan = off;
SELECT results_eq($$ SELECT * FROM evmig_audit('many') $$, 'TABLE wanted', 'by an index');
SELECT results_eq($$ SELECT * FROM evmig_duplicates('many', max_groups => 10000) ORDER BY request_id $$,
	$$ SELECT m.request_id, count(*), min(k.ts)::text, count(*) - 1, count(*) FILTER (WHERE (m.id, m.payload) IS DISTINCT FROM (k.id, k.payload))
	   FROM many m JOIN (SELECT DISTINCT ON (request_id) * FROM many ORDER BY request_id, ts, ctid) k USING (request_id)
	   GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 $$, 'each group, counted another way');

-- one statement, one snapshot, a reader's lock
SELECT is((SELECT array_agg(DISTINCT mode) FROM pg_locks WHERE relation = 'ci'::regclass AND pid = pg_backend_pid()
	AND mode NOT IN ('AccessExclusiveLock', 'RowExclusiveLock')), '{AccessShareLock}', 'a reader''s lock');

-- verify follows
SELECT results_eq($$ SELECT check_name, ok FROM evmig_verify() $$,
	$$ VALUES ('null_keys', true), ('duplicate_keys', false), ('unique_index', false), ('archived_rows', true), ('archived_keys_without_keeper', true) $$,
	'verify sees duplicates and a missing index');
TRUNCATE business_events;
CREATE UNIQUE INDEX ON business_events (request_id);
SELECT ok(bool_and(ok), 'and their absence') FROM evmig_verify();

SELECT * FROM finish();
ROLLBACK;
