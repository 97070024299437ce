--
-- Backfills: running them, and what became of each row
--
SET client_min_messages = warning;
CREATE ROLE backfill_run LOGIN;
CREATE SCHEMA backfill_run AUTHORIZATION backfill_run;
SET search_path = backfill_run, public;
SET ROLE backfill_run;

CREATE TABLE leads (id int PRIMARY KEY, tenant_id int, last_call_direction text, touched int DEFAULT 0);
CREATE TABLE call_log (lead_id int, direction text, created_at timestamptz);
CREATE INDEX ON call_log (lead_id);
INSERT INTO leads SELECT g, g % 3 FROM generate_series(1, 1000) g;
INSERT INTO call_log SELECT g, 'in', '2026-01-01' FROM generate_series(1, 900) g;
INSERT INTO call_log SELECT g, 'out', '2026-01-02' FROM generate_series(1, 900, 2) g;

CREATE FUNCTION outcome(job bigint) RETURNS TABLE (state text, done bigint, failed bigint, unchanged bigint, remaining bigint, message text)
LANGUAGE sql AS 'SELECT state, rows_done, rows_failed, rows_unchanged, remaining, message FROM evmig_jobs WHERE job_id = $1';

-- a lead without a call stays as it is, and is counted
SELECT evmig_backfill_register('direction', 'leads', 'last_call_direction = (SELECT c.direction FROM call_log c WHERE c.lead_id = leads.id ORDER BY c.created_at DESC LIMIT 1)', 'last_call_direction IS NULL', tenant_column => 'tenant_id', sleep_ms => 0);

-- only some tenants
SELECT evmig_backfill_start('direction', tenants => '{0,2}') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT tenant, rows_done, rows_failed, rows_unchanged FROM evmig_job_tenants WHERE job_id = :job ORDER BY tenant;
SELECT tenant_id, count(last_call_direction) FROM leads GROUP BY 1 ORDER BY 1;

-- then all; then again, which writes nothing
SELECT evmig_backfill_start('direction') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT tenant, rows_done, rows_failed, rows_unchanged FROM evmig_job_tenants WHERE job_id = :job ORDER BY tenant;
SELECT last_call_direction, count(*) FROM leads GROUP BY 1 ORDER BY 1;
SELECT array_agg(xmin::text ORDER BY id) AS versions FROM leads \gset
SELECT evmig_backfill_start('direction') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT array_agg(xmin::text ORDER BY id) = :'versions' AS not_written FROM leads;

-- new values that equal the old ones are not written either
SELECT evmig_backfill_register('same', 'leads', 'touched = id % 2', 'true', sleep_ms => 0);
SELECT evmig_backfill_start('same') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);

-- each row once
UPDATE leads SET touched = 0;
SELECT evmig_backfill_register('once', 'leads', 'touched = touched + 1, last_call_direction = ''done''', 'last_call_direction IS DISTINCT FROM ''done''', workers => 2, sleep_ms => 0);
SELECT evmig_backfill_start('once') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT touched, count(*) FROM leads GROUP BY 1;

-- rows that fail: a cast, a check, a length, a deferred constraint, a trigger
CREATE TABLE rows (id int PRIMARY KEY, n int, s text, code varchar(3), c int CHECK (c <> -13), u int UNIQUE DEFERRABLE INITIALLY DEFERRED, ref int REFERENCES leads DEFERRABLE INITIALLY DEFERRED);
INSERT INTO rows SELECT g, NULL, CASE WHEN g % 100 = 0 THEN 'x' ELSE g::text END, NULL, g, g FROM generate_series(1, 1100) g;
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 7 THEN NEW.c := OLD.c; END IF; RETURN NEW; END $$;
CREATE TRIGGER put_back BEFORE UPDATE OF c ON rows FOR EACH ROW EXECUTE FUNCTION put_back();
SELECT evmig_backfill_register('casts', 'rows', 'n = s::int', 'n IS NULL', max_failures => 11, sleep_ms => 0);
SELECT evmig_backfill_start('casts') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT count(*), count(DISTINCT row_key), min(sqlstate), min(message) FROM evmig_failures WHERE job_id = :job;
SELECT count(n) FROM rows;
SELECT evmig_backfill_register('checks', 'rows', 'c = -c', 'c > 0', max_failures => 2, sleep_ms => 0);
SELECT evmig_backfill_start('checks') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT row_key, sqlstate, message FROM evmig_failures WHERE job_id = :job ORDER BY row_key;
SELECT evmig_backfill_register('lengths', 'rows', 'code = id::text', 'code IS NULL', max_failures => 1000, sleep_ms => 0);
SELECT evmig_backfill_start('lengths') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT min(sqlstate), min(message) FROM evmig_failures WHERE job_id = :job;
SELECT evmig_backfill_register('refs', 'rows', 'ref = id', 'ref IS NULL', max_failures => 100, sleep_ms => 0);
SELECT evmig_backfill_start('refs') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT min(sqlstate), min(message) FROM evmig_failures WHERE job_id = :job;
SELECT evmig_backfill_register('predicates', 'rows', 'n = -1', '1000 / (id - 500) > 0 AND n IS DISTINCT FROM -1', max_failures => 1, sleep_ms => 0);
SELECT evmig_backfill_start('predicates') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT row_key, sqlstate, message FROM evmig_failures WHERE job_id = :job;

-- one too many
UPDATE rows SET n = NULL;
SELECT evmig_backfill_replace('casts', 'rows', 'n = s::int', 'n IS NULL', max_failures => 3, sleep_ms => 0);
SELECT evmig_backfill_start('casts') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, failed, done = (SELECT count(n) FROM rows) AS exact FROM outcome(:job);

-- what fails for every row is no row's failure
SELECT evmig_backfill_register('denied', 'rows', 'n = (SELECT count(*) FROM pg_authid)', 'n IS NULL', max_failures => 2000, sleep_ms => 0);
SELECT evmig_backfill_start('denied') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT message FROM outcome(:job);
SELECT count(*) FROM evmig_failures WHERE job_id = :job;

-- a routine
CREATE FUNCTION work(target regclass, tids tid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE changed bigint; BEGIN UPDATE rows SET n = 100000 WHERE ctid = ANY (tids) AND id % 2 = 0; GET DIAGNOSTICS changed = ROW_COUNT; RETURN changed; END $$;
UPDATE rows SET n = 1;
SELECT evmig_backfill_register_call('routine', 'rows', 'work(regclass,tid[])', 'n < 100000', sleep_ms => 0);
SELECT evmig_backfill_start('routine') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT n, count(*) FROM rows GROUP BY 1 ORDER BY 1;

-- undo, exactly, types of all kinds, and not what was changed since
CREATE TABLE "Weird "".table" (id int, "o'x Ключ" numeric, j json, a text[], b bytea, f float8, PRIMARY KEY (id));
INSERT INTO "Weird "".table" SELECT g, 1.50, '{"a" : 1}', ARRAY['x,y', NULL], '\x00ff', 0.1 FROM generate_series(1, 10) g;
SELECT evmig_backfill_register('o''x "backfill" Ключ', '"Weird "".table"', '"o''x Ключ" = "o''x Ключ" * 2, j = NULL, a = NULL, b = NULL, f = NULL', 'j IS NOT NULL', undo => true, sleep_ms => 0);
SELECT evmig_backfill_start('o''x "backfill" Ключ') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
UPDATE "Weird "".table" SET "o'x Ключ" = 7 WHERE id = 3;
DELETE FROM "Weird "".table" WHERE id = 4;
SELECT evmig_backfill_undo(:job) AS undo \gset
CALL evmig_wait(:undo);
SELECT * FROM outcome(:undo);
SELECT * FROM "Weird "".table" WHERE id <= 3 ORDER BY id;
\set VERBOSITY sqlstate
SELECT evmig_backfill_undo(:undo);
\set VERBOSITY default

-- undo: a row that fails does not stop the others, stays in the log, and is tried again
CREATE TABLE undone (id int PRIMARY KEY, n int, at timestamptz);
INSERT INTO undone SELECT g, g, '2026-01-01 00:00+00' FROM generate_series(1, 50) g;
SELECT evmig_backfill_register('undone', 'undone', 'n = -n, at = at + ''1 hour''', 'n > 0', undo => true, sleep_ms => 0);
SELECT evmig_backfill_start('undone') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
ALTER TABLE undone ADD CONSTRAINT not_17 CHECK (n <> 17);
SELECT evmig_backfill_undo_purge(0);
-- printed under another time zone, the values are the same ones
RESET ROLE;
ALTER ROLE backfill_run SET timezone = 'Asia/Kathmandu';
SET ROLE backfill_run;
SELECT evmig_backfill_undo(:job) AS undo \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:undo);
\set VERBOSITY default
SELECT * FROM outcome(:undo);
SELECT row_key, sqlstate, message FROM evmig_failures WHERE job_id = :undo;
SELECT count(*), count(*) FILTER (WHERE at = '2026-01-01 00:00+00') AS exact FROM undone WHERE n > 0;
ALTER TABLE undone DROP CONSTRAINT not_17;
SELECT evmig_backfill_undo(:job) AS undo \gset
CALL evmig_wait(:undo);
SELECT * FROM outcome(:undo);
SELECT count(*) FROM undone WHERE n > 0;
RESET ROLE;
ALTER ROLE backfill_run RESET timezone;
SET ROLE backfill_run;
-- the log is there until it is purged
SELECT undone, count(*) FROM evmig.job_undo WHERE job_id = :job GROUP BY 1;
SELECT evmig_backfill_undo_purge(:job);
SELECT evmig_backfill_undo_purge(:job);
SELECT count(*) FROM evmig.job_undo WHERE job_id = :job;
\set VERBOSITY sqlstate
SELECT evmig_backfill_undo(:job);
\set VERBOSITY default

-- several columns from one subquery, as UPDATE has them: of no row NULL, of two an error
CREATE TABLE pairs (id int PRIMARY KEY, a varchar(3), b numeric(6,2), c int DEFAULT 7, d text, "value" int);
CREATE TABLE source (id int, s text, x float8, rank int);
INSERT INTO pairs SELECT g, 'old', -1, 0, 'old', g FROM generate_series(1, 6) g;
INSERT INTO source VALUES (1, 'one', 1.005, 1), (1, 'two', 2.5, 2), (2, 'abc', 3, 1), (4, 'long one', 4, 1), (5, 'x', 5, 1), (5, 'y', 5, 1);
SELECT evmig_backfill_register('pairs', 'pairs', '(a, b) = (SELECT s, x + pairs.value FROM source WHERE source.id = pairs.id ORDER BY rank DESC LIMIT CASE WHEN pairs.id = 5 THEN 2 ELSE 1 END), c = DEFAULT, d = DEFAULT, ("value") = ROW("value" * 2)', 'c = 0', max_failures => 2, undo => true, sleep_ms => 0);
DELETE FROM pairs WHERE id IN (4, 5);
SELECT topic, item, old_values, new_values FROM evmig_backfill_preview('pairs') WHERE topic = 'row';
INSERT INTO pairs SELECT g, 'old', -1, 0, 'old', g FROM generate_series(4, 5) g;
SELECT evmig_backfill_start('pairs') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT row_key, sqlstate, message FROM evmig_failures WHERE job_id = :job ORDER BY row_key;
SELECT * FROM pairs ORDER BY id;
-- the server's own UPDATE agrees
UPDATE pairs SET (a, b) = (SELECT s, x + pairs.id FROM source WHERE source.id = pairs.id ORDER BY rank DESC LIMIT 1) WHERE id = 1;
SELECT a, b FROM pairs WHERE id = 1;
SELECT evmig_backfill_undo(:job) AS undo \gset
CALL evmig_wait(:undo);
SELECT a, b, c, d, "value", count(*) FROM pairs GROUP BY 1, 2, 3, 4, 5 ORDER BY 5;

-- a generated column in the predicate: rows for which it would stay true are left as they are
CREATE TABLE generated (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
INSERT INTO generated (id, n) SELECT g, g FROM generate_series(1, 20) g;
SELECT evmig_backfill_register('generated', 'generated', 'n = n - 10', 'twice > 10', sleep_ms => 0);
SELECT evmig_backfill_start('generated') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT min(n), max(n), count(*) FILTER (WHERE n > 5 AND n = id) AS left_as_they_are FROM generated;

-- a trigger that suppresses the update of some rows: incomplete, with their number and why
CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id <= 3 THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER suppress BEFORE UPDATE ON generated FOR EACH ROW EXECUTE FUNCTION suppress();
SELECT evmig_backfill_replace('generated', 'generated', 'n = 100', 'n < 100', sleep_ms => 0);
SELECT evmig_backfill_start('generated') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM outcome(:job);
SELECT id, n = 100 AS written FROM generated WHERE n < 100 ORDER BY id;

-- canary: a share of the chunks, then pause; goes on once the check is true
CREATE TABLE big (id int, n int, pad text);
INSERT INTO big SELECT g, NULL, repeat('x', 1000) FROM generate_series(1, 1000) g;
SELECT evmig_backfill_register('canary', 'big', 'n = 1', 'n IS NULL', sleep_ms => 0);
SET evmig.canary_pct = 10;
SET evmig.canary_check = 'SELECT count(*) > 500 FROM big WHERE n = 1';
SELECT evmig_backfill_start('canary') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
SELECT phase, rows_done BETWEEN 1 AND 300 AS a_share FROM evmig_jobs WHERE job_id = :job;
SELECT evmig_job_resume(:job);
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT phase FROM evmig_jobs WHERE job_id = :job;
UPDATE big SET n = 1 WHERE id > 400;
SELECT evmig_backfill_start('canary') = :job AS resumed;
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT state, remaining FROM outcome(:job);
RESET evmig.canary_pct;
RESET evmig.canary_check;

-- replaced or unregistered only when at rest
SELECT evmig_backfill_replace('canary', 'big', 'n = 2', 'n = 1', batch_size => 10, adaptive => false, sleep_ms => 3600000);
SELECT evmig_backfill_start('canary') AS job \gset
SELECT evmig_job_pause(:job);
DO $$ BEGIN WHILE (SELECT count(*) FROM evmig_jobs WHERE name = 'canary' AND state = 'paused') = 0 LOOP COMMIT; END LOOP; END $$;
\set VERBOSITY sqlstate
SELECT evmig_backfill_replace('canary', 'big', 'n = 2', 'n = 1');
SELECT evmig_backfill_unregister('canary');
\set VERBOSITY default
SELECT evmig_job_cancel(:job);
SELECT evmig_backfill_unregister('canary');

-- all that is due: high before low, what failed and what was cancelled is left alone
DO $$ DECLARE b text; BEGIN FOR b IN SELECT name FROM evmig.backfill LOOP PERFORM evmig_backfill_unregister(b); END LOOP; END $$;
CREATE TABLE due (id int PRIMARY KEY, a int, b int, c int);
INSERT INTO due SELECT g FROM generate_series(1, 100) g;
SELECT evmig_backfill_register('low one', 'due', 'a = 1', 'a IS NULL', priority => 'low', sleep_ms => 0);
SELECT evmig_backfill_register('high one', 'due', 'b = 1', 'b IS NULL', priority => 'high', sleep_ms => 0);
SELECT evmig_backfill_register('bad one', 'due', 'c = 1 / 0', 'c IS NULL', sleep_ms => 0);
SELECT count(*) FROM evmig_backfill_start_all('high');
CALL evmig_backfill_run_all();
SELECT name, state, rows_done FROM evmig_jobs WHERE target = 'due'::regclass ORDER BY name;
-- nothing is due any more, until it is checked again after a write
SELECT count(*) FROM evmig_backfill_start_all();
SET evmig.recheck_interval = 0;
SELECT evmig_backfill_unregister('bad one');
INSERT INTO due VALUES (101);
SELECT pg_stat_force_next_flush();
CALL evmig_backfill_run_all('1 min');
SELECT count(*) FROM due WHERE a IS NULL OR b IS NULL;
RESET evmig.recheck_interval;
-- a column goes: a warning, and the others start
SELECT evmig_backfill_register('broken', 'due', 'c = 1', 'c IS NULL', sleep_ms => 0);
ALTER TABLE due DROP c;
SET client_min_messages = notice;
SELECT count(*) FROM evmig_backfill_start_all();
SELECT evmig_backfill_start('broken');
CALL evmig_backfill_run_all();
SET client_min_messages = warning;
SELECT evmig_backfill_unregister('broken');

-- in the calling session, only as the job's role itself
UPDATE due SET a = NULL;
CALL evmig_backfill_run('low one');
RESET ROLE;
SET SESSION AUTHORIZATION backfill_run;
BEGIN;
CALL evmig_backfill_run('low one');
ROLLBACK;
CALL evmig_backfill_run('low one');
SELECT state, rows_done FROM evmig_jobs WHERE name = 'low one' ORDER BY job_id DESC LIMIT 1;
SELECT evmig_backfill_replace('low one', 'due', 'a = 2', 'a = 1', batch_size => 10, adaptive => false, sleep_ms => 3600000);
SET statement_timeout = '2s';
\set VERBOSITY sqlstate
CALL evmig_backfill_run('low one');
\set VERBOSITY default
RESET statement_timeout;
SHOW evmig.batch_sleep;
SELECT state, rows_done, rows_done = (SELECT count(*) FROM due WHERE a = 2) AS exact FROM evmig_jobs WHERE name = 'low one' ORDER BY job_id DESC LIMIT 1;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
RESET SESSION AUTHORIZATION;

-- a hostile trigger gains nothing: not by RESET, not by SET ROLE, not deferred
CREATE TABLE backfill_run.seen (who text, session text, what text, err text);
GRANT INSERT ON backfill_run.seen TO backfill_run;
SET ROLE backfill_run;
CREATE TABLE hostile (id int PRIMARY KEY, n int);
INSERT INTO hostile VALUES (1), (2);
CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE s text;
BEGIN
	FOREACH s IN ARRAY ARRAY['RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION postgres', 'SET ROLE postgres', 'RESET ROLE', 'ALTER ROLE backfill_run SUPERUSER'] LOOP
		BEGIN
			EXECUTE s;
			INSERT INTO backfill_run.seen VALUES (current_user, session_user, s || coalesce(' ' || TG_NAME, ''), NULL);
		EXCEPTION WHEN OTHERS THEN
			INSERT INTO backfill_run.seen VALUES (current_user, session_user, s || coalesce(' ' || TG_NAME, ''), SQLSTATE);
		END;
	END LOOP;
	RETURN NEW;
END $$;
CREATE TRIGGER now BEFORE UPDATE ON hostile FOR EACH ROW EXECUTE FUNCTION climb();
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON hostile DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION climb();
RESET ROLE;
-- a superuser registers and starts it
SELECT evmig_backfill_register('hostile', 'hostile', 'n = 1', 'n IS NULL', sleep_ms => 0);
CALL evmig_backfill_run('hostile');
SELECT evmig_backfill_start('hostile') AS job \gset
\set VERBOSITY sqlstate
CALL evmig_wait(:job);
\set VERBOSITY default
SELECT * FROM backfill_run.outcome(:job);
SELECT DISTINCT * FROM backfill_run.seen ORDER BY what;
SELECT rolsuper FROM pg_roles WHERE rolname = 'backfill_run';
-- nor in a preview
SET ROLE backfill_run;
CREATE FUNCTION climb_in_expression() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET ROLE postgres; RETURN 1; END $$;
SELECT evmig_backfill_register('climb', 'hostile', 'n = climb_in_expression()', 'n = 1');
RESET ROLE;
\set VERBOSITY terse
SELECT * FROM evmig_backfill_preview('climb');
\set VERBOSITY default

RESET ROLE;
DROP SCHEMA backfill_run CASCADE;
DELETE FROM evmig.backfill;
DROP OWNED BY backfill_run;
DROP ROLE backfill_run;
