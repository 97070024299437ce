--
-- evmig_progress: how far a job is
--
SET client_min_messages = warning;
CREATE ROLE progress_owner LOGIN;
CREATE ROLE progress_other LOGIN;
CREATE SCHEMA progress AUTHORIZATION progress_owner;

SET ROLE progress_owner;
CREATE TABLE progress."Weird "".table" (id int, "o'x" uuid);
INSERT INTO progress."Weird "".table" SELECT g FROM generate_series(1, 300) g;

-- a job that has ended
SELECT evmig_backfill_request_id('progress."Weird "".table"', 'o''x') AS job \gset
CALL evmig_wait(:job);
SELECT target, state, percent, bar, rows_done, rows_skipped, rows_failed, rows_unchanged,
	rows_per_s > 0 AS has_rate, eta, batch_rows > 0 AS has_batch, throttle, blocked_by, workers
FROM evmig_progress WHERE job_id = :job;

-- what others do is not shown
SET ROLE progress_other;
SELECT count(*) FROM evmig_progress WHERE job_id = :job;
RESET ROLE;

-- the arithmetic, on made-up rows: no worker is at them
BEGIN;
CREATE FUNCTION pg_temp.made(state text, progress float8 DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO evmig.job (kind, name, target, target_name, filenumber, owner, run_as, integrity, state, progress, started_at)
	VALUES ('made', 'made ' || state, 'progress."Weird "".table"'::regclass, 'x', 0, 'progress_owner'::regrole,
		'progress_owner'::regrole, false, state, progress, clock_timestamp() - interval '10 s')
	RETURNING job_id $$;

-- two ranges of 100 and 300 blocks: half of the first, and a later pass over the second
SELECT pg_temp.made('running') AS job \gset
INSERT INTO evmig.job_chunk (job_id, chunk, relation, block_from, block_to, cursor, walk_to, pass, changed, last_rows, last_ms)
VALUES (:job, 1, 0, 0, 100, '(50,0)', 100, 1, 1000, 200, 12.34),
	(:job, 2, 0, 100, 400, '(120,0)', 400, 2, 500, 100, 5);
SELECT state, percent, bar, rows_done, rows_per_s BETWEEN 100 AND 150 AS rate, eta,
	batch_rows, batch_ms, workers
FROM evmig_progress WHERE job_id = :job;

-- a kind without ranges says its share itself; nothing known is zero
SELECT pg_temp.made('paused', 0.333) AS job \gset
SELECT state, percent, bar, eta FROM evmig_progress WHERE job_id = :job;
SELECT pg_temp.made('queued') AS job \gset
SELECT state, percent, bar, eta, rows_done, batch_rows FROM evmig_progress WHERE job_id = :job;

-- ended long ago: no longer progress
UPDATE evmig.job SET finished_at = now() - interval '2 days' WHERE job_id = :job;
SELECT count(*) FROM evmig_progress WHERE job_id = :job;
ROLLBACK;

DROP SCHEMA progress CASCADE;
DROP OWNED BY progress_owner, progress_other;
DELETE FROM evmig.job WHERE owner = 'progress_owner'::regrole;
DROP ROLE progress_owner, progress_other;
