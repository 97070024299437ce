-- Grandfathered findings: recorded, counted, gone.
SET client_min_messages = warning;
CREATE TABLE guard_base_t (id int PRIMARY KEY, a int, b int);
SELECT evmig_backfill_register('guard_base_a', 'guard_base_t', 'a = 1', 'a IS NULL');

-- bad input
SELECT evmig_guard_baseline_add(NULL, 's.sql', 'old');
SELECT evmig_guard_baseline_add('SELECT 1', NULL, 'old');
SELECT evmig_guard_baseline_add('SELECT 1', 's.sql', '  ');
SELECT evmig_guard_baseline_add('SELECT 1', 's.sql', 'old', priority => 'urgent');
SELECT evmig_guard_baseline_add('UPDATE leads SET a = 1 WHERE b = 1', 's.sql', 'old', 'no such backfill');
SELECT count(*) FROM evmig.guard_baseline;

-- recorded once
SELECT evmig_guard_baseline_add(E'UPDATE leads SET a = 1 WHERE b = 1;\nDELETE FROM calls WHERE b = 1;', 'db/o''x.sql', 'before the guard', priority => 'high');
SELECT evmig_guard_baseline_add(E'UPDATE leads SET a = 1 WHERE b = 1;\nDELETE FROM calls WHERE b = 1;', 'db/o''x.sql', 'again');
SELECT source, rule, relation, reason, replaced_by, priority, recorded_by = current_user AS mine, gone_at IS NULL AS in_force
FROM evmig.guard_baseline ORDER BY entry_id;

-- survives other lines, spacing, case and comments; each entry excuses one occurrence
SELECT line, rule, grandfathered FROM evmig_guard(E'-- moved\n\nSELECT 1;\nupdate  Leads\n  set A = 1 Where  B = 1;\nUPDATE leads SET a = 1 WHERE b = 1;\nDELETE FROM calls WHERE b = 1;', 'db/o''x.sql');
SELECT line, rule, grandfathered FROM evmig_guard(E'UPDATE leads SET a = 1 WHERE b = 1;\nUPDATE leads SET a = 1 WHERE b = 1;', 'db/o''x.sql', new_only => true);
-- another constant, another source
SELECT rule, grandfathered FROM evmig_guard('UPDATE leads SET a = 2 WHERE b = 1', 'db/o''x.sql');
SELECT rule, grandfathered FROM evmig_guard('UPDATE leads SET a = 1 WHERE b = 1', 'db/other.sql');
SELECT rule, grandfathered FROM evmig_guard('UPDATE leads SET a = 1 WHERE b = 1');

-- evmig_guard_assert counts them, and fails on a new one
SELECT evmig_guard_assert(E'UPDATE leads SET a = 1 WHERE b = 1;\nDELETE FROM calls WHERE b = 1;', 'db/o''x.sql');
\set VERBOSITY sqlstate
SELECT evmig_guard_assert(E'UPDATE leads SET a = 1 WHERE b = 1;\nDELETE FROM calls WHERE b = 1; UPDATE leads SET a = 1 WHERE b = 1;', 'db/o''x.sql');

\set VERBOSITY default
-- replaced by a backfill; what is not found any more is gone and excuses nothing
SELECT * FROM evmig_guard_baseline_report();
SELECT evmig_guard_baseline_add(E'UPDATE leads SET a = 1 WHERE b = 1;\nUPDATE leads SET a = 1 WHERE b = 1;', 'db/o''x.sql', 'second', 'guard_base_a', 'low');
SELECT * FROM evmig_guard_baseline_report();
SELECT rule, reason, replaced_by, priority, gone_at IS NULL AS in_force FROM evmig.guard_baseline ORDER BY entry_id;
SELECT rule, grandfathered FROM evmig_guard('DELETE FROM calls WHERE b = 1', 'db/o''x.sql');

-- a finding that evmig:allow excuses needs no entry
SELECT evmig_guard_baseline_add(E'-- evmig:allow data-update: two rows\nUPDATE leads SET a = 3 WHERE b = 1;', 'allowed.sql', 'old');

-- what could not be read can be grandfathered too, as long as it stays the same
SELECT evmig_guard_baseline_add('UPDATTE leads', 'broken.sql', 'another server''s SQL');
SELECT rule, grandfathered FROM evmig_guard('updatte   leads', 'broken.sql');
SELECT rule, grandfathered FROM evmig_guard('UPDATTE leads; UPDATTE calls', 'broken.sql');

-- another language: its quotes and line breaks do not count, the SQL does
SELECT evmig_guard_baseline_add(E'op.execute("UPDATE leads SET a = 1 WHERE b IS NULL")\n', 'm/1.py', 'old');
SELECT rule, grandfathered FROM evmig_guard(E'op.execute(\n    "UPDATE leads "\n    "SET a = 1 WHERE b IS NULL")\n', 'm/1.py');
SELECT rule, grandfathered FROM evmig_guard(E'op.execute("UPDATE leads SET a = 1 WHERE b IS NOT NULL")\n', 'm/1.py');

-- not for everybody: a migrator must not grandfather its own violations
CREATE ROLE guard_base_migrator;
CREATE ROLE guard_base_reviewer;
GRANT EXECUTE ON FUNCTION evmig_guard_baseline_add TO guard_base_reviewer;
SET ROLE guard_base_migrator;
SELECT evmig_guard_baseline_add('DELETE FROM leads WHERE b = 1', 'mine.sql', 'mine');
INSERT INTO evmig.guard_baseline (fingerprint, source, rule, statement, reason, priority, recorded_by)
VALUES ('x', 'x', 'x', 'x', 'x', 'low', 'x');
SELECT count(*) FROM evmig.guard_baseline;
SELECT rule, grandfathered FROM evmig_guard('UPDATE leads SET a = 1 WHERE b = 1', 'db/o''x.sql');
SET ROLE guard_base_reviewer;
SELECT evmig_guard_baseline_add('DELETE FROM leads WHERE b = 1', 'reviewed.sql', 'seen');
SELECT source, recorded_by FROM evmig.guard_baseline;
RESET ROLE;

SELECT evmig_guard_statements('UPDATE leads SET a = 1 WHERE b = 1; -- x;
SELECT '';''; DO $$ BEGIN NULL; NULL; END $$'::bytea), evmig_guard_statements(E'a = "SELECT 1"\nb = "no"', 'a.py');
SELECT evmig_guard_statements(NULL);

-- a read-only transaction
BEGIN READ ONLY;
SELECT evmig_guard_baseline_add('DELETE FROM leads WHERE b = 1', 'r.sql', 'x');
ROLLBACK;

DELETE FROM evmig.guard_baseline;
SELECT evmig_backfill_unregister('guard_base_a');
DROP TABLE guard_base_t;
DROP OWNED BY guard_base_reviewer;
DROP ROLE guard_base_migrator, guard_base_reviewer;
