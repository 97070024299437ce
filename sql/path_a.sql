--
-- evmig_path_a: everything in one call, and the dry run that changes nothing
--
\set VERBOSITY default
SET client_min_messages = warning;
CREATE ROLE path_owner LOGIN;
CREATE ROLE path_other LOGIN;
CREATE SCHEMA path_a AUTHORIZATION path_owner;
GRANT USAGE ON SCHEMA path_a TO path_other;
SET search_path = path_a, public;
ALTER SEQUENCE evmig.runbook_runbook_id_seq RESTART 7001;
SET ROLE path_owner;
SET evmig.batch_sleep = 0;
CREATE TABLE business_events (id int PRIMARY KEY, request_id uuid, ts timestamptz, payload text);
INSERT INTO business_events
SELECT i, CASE WHEN i % 20 = 0 THEN NULL WHEN i % 20 = 1 THEN md5('k' || i % 100)::uuid ELSE md5('k' || i)::uuid END,
	'2026-01-01', 'x' FROM generate_series(1, 200) i;
CREATE TABLE witness AS SELECT * FROM business_events;
CREATE VIEW state AS SELECT
	(SELECT count(*) FROM evmig.runbook) AS runbooks, (SELECT count(*) FROM evmig.job) AS jobs,
	(SELECT count(*) FROM pg_trigger WHERE tgrelid = 'business_events'::regclass) AS triggers,
	(SELECT count(*) FROM pg_class WHERE relnamespace = 'path_a'::regnamespace) AS relations,
	(SELECT count(*) FROM (SELECT * FROM business_events EXCEPT SELECT * FROM witness) x) AS changed;

-- ---- the dry run: statements, locks and estimates, also in a transaction
SELECT * FROM state \gset before_
BEGIN;
CALL evmig_path_a(dry_run => true);
COMMIT;
-- what it says; sizes, and checks that depend on the server, are left out
\setenv EVMIG_DB :DBNAME
\! psql -X -q -d "$EVMIG_DB" -c 'SET ROLE path_owner; SET search_path = path_a, public' -c 'CALL evmig_path_a(dry_run => true)' 2>&1 | grep -E 'dry run|rows|step|Statement|Locks' | sed -e 's/[0-9]* \(kB\|MB\|bytes\)/N/g'
SELECT runbooks = :before_runbooks AND jobs = :before_jobs AND triggers = :before_triggers
	AND relations = :before_relations AND changed = 0 AS unchanged FROM state;

-- ---- bad input
CALL evmig_path_a('nowhere');
CALL evmig_path_a(key_column => 'nowhere', dry_run => true);
CALL evmig_path_a(mode => 'other');
BEGIN;
CALL evmig_path_a();
ROLLBACK;
SET ROLE path_other;
CALL evmig_path_a('path_a.business_events');
CALL evmig_path_a('path_a.business_events', dry_run => true);
RESET ROLE;
SET evmig.require_runbook = on;
SET ROLE path_owner;
CALL evmig_path_a();
RESET ROLE;
RESET evmig.require_runbook;
SET ROLE path_owner;
-- a failing check: nothing is left behind, no runbook either
SET evmig.max_loser_pct = 1;
\set VERBOSITY terse
CALL evmig_path_a();
\set VERBOSITY default
RESET evmig.max_loser_pct;
SELECT runbooks = :before_runbooks AND jobs = :before_jobs AND triggers = :before_triggers
	AND relations = :before_relations AND changed = 0 AS unchanged FROM state;

-- ---- in earnest
CALL evmig_path_a();
SELECT * FROM evmig_audit();
SELECT check_name, ok FROM evmig_verify();
SELECT count(*) FROM business_events_dupes_archived;
SELECT count(*) FROM (SELECT * FROM witness WHERE request_id IS NOT NULL
	EXCEPT SELECT * FROM business_events EXCEPT SELECT * FROM business_events_dupes_archived) x;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'business_events'::regclass AND attname = 'request_id';
SELECT max(runbook_id) AS id FROM evmig.runbook \gset
SELECT direct, state, approved_by FROM evmig.runbook WHERE runbook_id = :id;
SELECT evmig_runbook_report(:id) ~ 'in one call, without attestations' AS said;
SELECT evmig_runbook_report(:id) ~ 'the chain is whole' AS whole;
-- a clean table is no error
CALL evmig_path_a();
SELECT * FROM evmig_audit();
-- the second found index and NOT NULL there, so its way back leaves them
SELECT max(runbook_id) AS second FROM evmig.runbook \gset
CALL evmig_runbook_rollback(:second);
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'business_events'::regclass ORDER BY 1;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'business_events'::regclass AND attname = 'request_id';
CALL evmig_runbook_rollback(:id);
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'business_events'::regclass ORDER BY 1;
SELECT count(*) FROM business_events;

RESET ROLE;
DROP SCHEMA path_a CASCADE;
DROP ROLE path_owner, path_other;
