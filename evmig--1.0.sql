/* evmig--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION evmig" to load this file. \quit

--
-- Tables live in schema evmig, functions in the schema that the extension is
-- created in; the two may be the same.
--
DO $$
BEGIN
	IF '@extschema@' NOT IN ('evmig', '"evmig"') THEN
		CREATE SCHEMA evmig;
	END IF;
END
$$;
GRANT USAGE ON SCHEMA evmig TO PUBLIC;

-- ---------------------------------------------------------------------
-- Jobs
-- ---------------------------------------------------------------------

CREATE TABLE evmig.job (
	job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind text NOT NULL,
	name text NOT NULL,
	target oid NOT NULL,
	target_name text NOT NULL,
	filenumber oid NOT NULL,
	key_column name,
	owner oid NOT NULL,
	run_as oid NOT NULL,
	integrity boolean NOT NULL,
	runbook_id bigint,
	spec jsonb NOT NULL DEFAULT '{}',
	settings jsonb NOT NULL DEFAULT '{}',
	settings_version int NOT NULL DEFAULT 0,
	workers int NOT NULL DEFAULT 1,
	state text NOT NULL DEFAULT 'queued'
		CHECK (state IN ('queued', 'running', 'paused', 'succeeded', 'incomplete', 'failed', 'cancelled')),
	request text CHECK (request IN ('pause', 'cancel', 'stop')),
	phase text,
	progress float8,
	throttle text,
	throttled_ms float8 NOT NULL DEFAULT 0,
	worked_ms float8 NOT NULL DEFAULT 0,
	rate_rows float8,
	rate_blocks float8,
	logged_at timestamptz,
	restarts int NOT NULL DEFAULT 0,
	restart_batches bigint,
	remaining bigint,
	result jsonb,
	sqlstate text,
	message text,
	detail text,
	hint text,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	started_at timestamptz,
	finished_at timestamptz
);
COMMENT ON TABLE evmig.job IS 'runs of something long, done by background workers';
CREATE UNIQUE INDEX job_one_integrity ON evmig.job (target)
	WHERE integrity AND state IN ('queued', 'running', 'paused');

CREATE TABLE evmig.job_chunk (
	job_id bigint NOT NULL REFERENCES evmig.job ON DELETE CASCADE,
	chunk int NOT NULL,
	relation oid NOT NULL,
	block_from bigint NOT NULL,
	block_to bigint NOT NULL,
	cursor tid NOT NULL,
	walk_to bigint NOT NULL,
	pass int NOT NULL DEFAULT 1,
	idle_passes int NOT NULL DEFAULT 0,
	pass_changed bigint NOT NULL DEFAULT 0,
	redo_from bigint,
	redo_to bigint,
	state text NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'claimed', 'done')),
	claim bigint,
	batches bigint NOT NULL DEFAULT 0,
	changed bigint NOT NULL DEFAULT 0,
	skipped bigint NOT NULL DEFAULT 0,
	unchanged bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	busy_ms float8 NOT NULL DEFAULT 0,
	last_rows int,
	last_ms float8,
	PRIMARY KEY (job_id, chunk)
) WITH (fillfactor = 70);
COMMENT ON TABLE evmig.job_chunk IS 'ranges of blocks that the workers of a job claim, with cursor and counters';

CREATE TABLE evmig.job_failure (
	job_id bigint NOT NULL REFERENCES evmig.job ON DELETE CASCADE,
	row_tid tid,
	row_key text,
	sqlstate text NOT NULL,
	message text NOT NULL,
	failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE evmig.job_failure IS 'rows that raised an error in a job';
CREATE INDEX job_failure_job ON evmig.job_failure (job_id);

CREATE TABLE evmig.job_sample (
	job_id bigint NOT NULL REFERENCES evmig.job ON DELETE CASCADE,
	sampled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	rows_done bigint NOT NULL,
	PRIMARY KEY (job_id, sampled_at)
);
COMMENT ON TABLE evmig.job_sample IS 'rows that a job had changed at points in time, for the plot in its report: every 2 s at first, later max(2 s, age / 200) apart, so that a job of a day has some 1,300 and one of a week 1,700. They go with the job.';

ALTER TABLE evmig.job ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.job_sample ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.job_chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.job_failure ENABLE ROW LEVEL SECURITY;
CREATE POLICY job_own ON evmig.job FOR SELECT
	USING (pg_catalog.pg_has_role(owner, 'USAGE') OR pg_catalog.pg_has_role(run_as, 'USAGE'));
CREATE POLICY job_own ON evmig.job_chunk FOR SELECT
	USING (EXISTS (SELECT FROM evmig.job j WHERE j.job_id = job_chunk.job_id));
CREATE POLICY job_own ON evmig.job_failure FOR SELECT
	USING (EXISTS (SELECT FROM evmig.job j WHERE j.job_id = job_failure.job_id));
CREATE POLICY job_own ON evmig.job_sample FOR SELECT
	USING (EXISTS (SELECT FROM evmig.job j WHERE j.job_id = job_sample.job_id));
GRANT SELECT ON evmig.job, evmig.job_chunk, evmig.job_failure, evmig.job_sample TO PUBLIC;

CREATE FUNCTION @extschema@.evmig_job_pause(job bigint) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_job_pause(bigint) IS
'asks a job to pause after the batch at hand; its workers end and it waits for evmig_job_resume. Raises undefined_object for a job that you may not see, object_not_in_prerequisite_state for one that has ended. Takes no lock on the target.';

CREATE FUNCTION @extschema@.evmig_job_resume(job bigint) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_job_resume(bigint) IS
'starts a paused or interrupted job again where it stopped, when the transaction commits. Raises object_not_in_prerequisite_state for one that has ended. Takes no lock on the target.';

CREATE FUNCTION @extschema@.evmig_job_cancel(job bigint) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_job_cancel(bigint) IS
'ends a job for good when the transaction commits: the statement at hand is cancelled, what was committed stays. Takes no lock on the target.';

CREATE FUNCTION @extschema@.evmig_jobs_recover() RETURNS int
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_jobs_recover() IS
'starts again each of your jobs that is queued, or running without a live worker, as long as evmig.max_workers allows; returns how many. For pg_cron, or by hand after a crash; with evmig in shared_preload_libraries the launcher does it by itself. Takes no lock on the targets.';

CREATE FUNCTION @extschema@.evmig_job_set(job bigint, setting text, value text) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_job_set(bigint, text, text) IS
'changes a setting of one job, with or without the prefix evmig., at work or not: a worker acts on it within two seconds after the commit. value: as SET takes it, NULL means what role, database and server say. Raises undefined_object for an unknown setting or job, what SET raises for a value or for a setting that a session cannot change, object_not_in_prerequisite_state for a job that has ended. Takes no lock on the target.';

CREATE FUNCTION @extschema@.evmig_stop_all() RETURNS int
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_stop_all() IS
'cancels every queued or running job that you may steer when the transaction commits; returns how many. What was committed stays; paused jobs stay paused. Takes no lock on the targets.';

CREATE PROCEDURE @extschema@.evmig_wait(job bigint, timeout interval DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.evmig_wait(bigint, interval) IS
'waits until a job has ended, progress as NOTICEs; raises the job''s error unless it succeeded, query_canceled after the timeout (the job goes on). Must be called on its own, outside a transaction block; holds no snapshot while it waits.';

CREATE FUNCTION evmig.job_interrupted(job bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'evmig_job_interrupted' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION evmig.job_interrupted(bigint) IS 'whether the job is running, as of now and not of the caller''s snapshot, and no worker is at work on it';

CREATE VIEW @extschema@.evmig_jobs WITH (security_invoker) AS
SELECT j.job_id, j.kind, j.name, j.target::regclass AS target,
	CASE WHEN j.state = 'running' AND evmig.job_interrupted(j.job_id) THEN 'interrupted' ELSE j.state END AS state,
	j.phase, j.owner::regrole AS owner, j.run_as::regrole AS run_as, j.runbook_id,
	coalesce(c.rows_done, 0) AS rows_done, coalesce(c.rows_skipped, 0) AS rows_skipped,
	coalesce(c.rows_unchanged, 0) AS rows_unchanged, coalesce(c.rows_failed, 0) AS rows_failed,
	j.remaining, j.sqlstate, j.message, j.detail, j.hint, j.result,
	j.created_at, j.started_at, j.finished_at
FROM evmig.job j
LEFT JOIN LATERAL (SELECT sum(changed)::bigint AS rows_done, sum(skipped)::bigint AS rows_skipped,
	sum(unchanged)::bigint AS rows_unchanged, sum(failed)::bigint AS rows_failed
	FROM evmig.job_chunk c WHERE c.job_id = j.job_id) c ON true;
COMMENT ON VIEW @extschema@.evmig_jobs IS 'every job that you may see, with its state, counters and error';

-- how far each job is; a build of an index says it itself, blocks elsewhere
CREATE VIEW @extschema@.evmig_progress WITH (security_invoker) AS
SELECT j.job_id, j.name, j.target::regclass AS target,
	CASE WHEN j.state = 'running' AND w.leader IS NULL AND evmig.job_interrupted(j.job_id) THEN 'interrupted' ELSE j.state END AS state,
	j.phase, p.percent,
	repeat('#', floor(p.percent / 5)::int) || repeat('.', 20 - floor(p.percent / 5)::int) AS bar,
	coalesce(c.rows_done, 0) AS rows_done, coalesce(c.rows_skipped, 0) AS rows_skipped,
	coalesce(c.rows_failed, 0) AS rows_failed, coalesce(c.rows_unchanged, 0) AS rows_unchanged,
	round(coalesce(CASE WHEN w.leader IS NOT NULL THEN j.rate_rows::numeric END,
		c.rows_done / nullif(t.seconds, 0))) AS rows_per_s,
	CASE WHEN w.leader IS NOT NULL AND p.percent > 0 THEN
		make_interval(secs => round(e.least_s * 0.9)::float8) || ' to ' || make_interval(secs => round(e.most_s * 1.1)::float8) END AS eta,
	c.batch_rows, round(c.batch_ms::numeric, 1) AS batch_ms,
	CASE WHEN w.leader IS NOT NULL AND j.state = 'running' THEN j.throttle END AS throttle,
	b.blocked_by, coalesce(w.workers, 0) AS workers,
	make_interval(secs => round(j.throttled_ms / 1000)) AS throttled
FROM evmig.job j
LEFT JOIN LATERAL (SELECT sum(changed)::bigint AS rows_done, sum(skipped)::bigint AS rows_skipped,
	sum(failed)::bigint AS rows_failed, sum(unchanged)::bigint AS rows_unchanged,
	max(last_rows) AS batch_rows, max(last_ms) AS batch_ms,
	sum(CASE WHEN state = 'done' OR pass > 1 THEN block_to - block_from
		ELSE split_part(btrim(cursor::text, '()'), ',', 1)::bigint - block_from END) AS blocks_done,
	sum(CASE WHEN state = 'done' OR pass > 1 THEN block_to - block_from
		ELSE split_part(btrim(cursor::text, '()'), ',', 1)::bigint - block_from END) * 100
		/ nullif(sum(block_to - block_from), 0) AS percent,
	sum(block_to - block_from) AS blocks
	FROM evmig.job_chunk c WHERE c.job_id = j.job_id) c ON true
LEFT JOIN LATERAL (SELECT max(l.pid) FILTER (WHERE l.objsubid = 225) AS leader,
	array_agg(l.pid) AS pids, count(*)::int AS workers
	FROM pg_catalog.pg_locks l
	WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid IN (225, 226) AND l.pid <> pg_backend_pid()
	AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
	AND l.classid::bigint = j.job_id >> 32 AND l.objid::bigint = j.job_id & 4294967295
	AND j.state IN ('queued', 'running')) w ON true
LEFT JOIN LATERAL (SELECT CASE
	WHEN i.phase = 'initializing' OR i.phase LIKE 'waiting for writers before build%' THEN 0
	WHEN i.phase = 'building index' OR i.phase LIKE 'building index%scanning%'
		THEN 40.0 * coalesce(i.blocks_done / nullif(i.blocks_total, 0)::numeric, 0)
	WHEN i.phase LIKE 'building index%'
		THEN 40 + 20.0 * coalesce(i.tuples_done / nullif(i.tuples_total, 0)::numeric, 0)
	WHEN i.phase LIKE 'waiting for writers before validation%' THEN 60
	WHEN i.phase LIKE 'index validation: scanning index%'
		THEN 60 + 10.0 * coalesce(i.blocks_done / nullif(i.blocks_total, 0)::numeric, 0)
	WHEN i.phase LIKE 'index validation: sorting%' THEN 70
	WHEN i.phase LIKE 'index validation: scanning table%'
		THEN 70 + 29.0 * coalesce(i.blocks_done / nullif(i.blocks_total, 0)::numeric, 0)
	ELSE 99 END AS percent
	FROM pg_catalog.pg_stat_progress_create_index i WHERE i.pid = w.leader) i ON true
CROSS JOIN LATERAL (SELECT round(CASE WHEN j.state = 'succeeded' THEN 100
	ELSE least(100, greatest(0, coalesce(i.percent, j.progress::numeric * 100, c.percent, 0))) END, 1) AS percent) p
-- time at work, without what was throttled; kinds that have no batches: since the start
CROSS JOIN LATERAL (SELECT coalesce(nullif(j.worked_ms::numeric / 1000, 0), round(extract(epoch FROM
	coalesce(j.finished_at, clock_timestamp()) - j.started_at), 3)) AS seconds) t
-- at the rate since the start, and at that of the last half minute
CROSS JOIN LATERAL (SELECT least(a.overall, a.recent) AS least_s, greatest(a.overall, a.recent) AS most_s
	FROM (SELECT t.seconds * (100 - p.percent) / nullif(p.percent, 0) AS overall,
		CASE WHEN j.progress IS NULL THEN (c.blocks - c.blocks_done) / nullif(j.rate_blocks, 0)::numeric END AS recent) a) e
LEFT JOIN LATERAL (SELECT string_agg(format('pid %s, application %s, role %s, %s: %s', a.pid, a.application_name,
	a.usename, coalesce(a.state, a.backend_type), left(a.query, 200)), E'\n' ORDER BY a.pid) AS blocked_by
	FROM pg_catalog.pg_stat_activity a WHERE a.pid IN
		(SELECT unnest(pg_blocking_pids(pid)) FROM unnest(w.pids) AS pid)) b ON true
WHERE j.finished_at IS NULL OR j.finished_at > now() - interval '1 day'
ORDER BY j.job_id;
COMMENT ON VIEW @extschema@.evmig_progress IS
'how far each job is that you may see and that is not ended since more than a day: percent and a bar of 20 characters, rows, rows per second of the last half minute (of all the time at work once it has ended), estimated time left as a range (eta: at the recent rate and at that since the start), rows and milliseconds of the last batch, the signal that slows it down with its value and limit (throttle), the sessions and statements that its workers wait for (blocked_by), live workers, time lost to throttling (throttled; left out of rates and eta)';

CREATE VIEW @extschema@.evmig_failures WITH (security_invoker) AS
SELECT f.job_id, j.name, j.target::regclass AS target, f.row_tid, f.row_key, f.sqlstate, f.message, f.failed_at
FROM evmig.job_failure f JOIN evmig.job j USING (job_id);
COMMENT ON VIEW @extschema@.evmig_failures IS 'rows that raised an error in a job';

GRANT SELECT ON @extschema@.evmig_jobs, @extschema@.evmig_progress, @extschema@.evmig_failures TO PUBLIC;

-- ---------------------------------------------------------------------
-- Integrity: fill
-- ---------------------------------------------------------------------

CREATE FUNCTION @extschema@.evmig_backfill_request_id(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	generator text DEFAULT NULL, workers int DEFAULT NULL, treat_as_null text[] DEFAULT '{}')
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_request_id(regclass, name, text, int, text[]) IS
'starts a job that gives every row without a key a new one, in small committed batches; returns the job''s id. target, key_column: NULL means evmig.target, evmig.key_column; generator: a volatile SQL expression, NULL means gen_random_uuid(); workers: 1 to evmig.max_workers, NULL means 1; treat_as_null: placeholder keys that are replaced too. The job takes ROW EXCLUSIVE on the table and locks the rows of one batch at a time. Needs the privileges of the table''s owner.';

-- ---------------------------------------------------------------------
-- Integrity: audit and duplicates
-- ---------------------------------------------------------------------

CREATE FUNCTION @extschema@.evmig_audit(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	OUT total_events bigint, OUT null_request_ids bigint, OUT duplicate_count bigint, OUT duplicate_rows bigint)
RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_audit(regclass, name) IS
'what is wrong with a key column, in one snapshot: all rows, rows whose key is NULL, groups of rows with one key, rows beyond the first of each group (keys are equal as a unique index sees it). target, key_column: NULL means evmig.target, evmig.key_column. Of a table that evmig_kpi_watch watches the result is remembered for evmig_kpi. Takes ACCESS SHARE, spills to disk within work_mem. Needs SELECT on the key column. Raises insufficient_privilege also where row level security hides rows from you, undefined_table, undefined_column, wrong_object_type, feature_not_supported (partitioned).';

CREATE FUNCTION @extschema@.evmig_duplicates(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	order_column name DEFAULT NULL, max_groups int DEFAULT 50)
RETURNS TABLE (request_id text, cnt bigint, keep_ts text, to_delete bigint, differing bigint)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_duplicates(regclass, name, name, int) IS
'the max_groups largest groups of rows with one key, largest first: the key, its rows, the order column of the row that stays (the first by order column, NULLS LAST, then ctid), rows beyond it, and how many of these differ from it in a column other than key, order column, primary key and generated ones. target, key_column, order_column: NULL means evmig.target, evmig.key_column, evmig.order_column. Takes ACCESS SHARE. Needs SELECT on the table. Raises as evmig_audit does, invalid_parameter_value for max_groups below 1.';

-- ---------------------------------------------------------------------
-- Integrity: ingest guard
-- ---------------------------------------------------------------------

CREATE TABLE evmig.ingest_culprit (
	target oid NOT NULL,
	application_name text NOT NULL,
	role oid NOT NULL,
	query_id bigint,
	rows_filled bigint NOT NULL,
	first_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	last_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE evmig.ingest_culprit IS
'who sent rows without a key, seen by the ingest guard in mode report: one row a transaction and culprit, summed up now and then. Observations of this server, so not dumped';
COMMENT ON COLUMN evmig.ingest_culprit.query_id IS 'of the statement that the client sent; NULL where compute_query_id is off';
ALTER TABLE evmig.ingest_culprit ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.ingest_culprit FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
GRANT SELECT ON evmig.ingest_culprit TO PUBLIC;

-- runs its argument with the rights of the table's owner, so only evmig_ingest_guard makes such triggers
CREATE FUNCTION evmig.ingest_guard() RETURNS trigger
AS 'MODULE_PATHNAME', 'evmig_ingest_guard_trigger' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION evmig.ingest_guard() IS
'the row trigger of the ingest guard, set up by evmig_ingest_guard';
REVOKE EXECUTE ON FUNCTION evmig.ingest_guard() FROM PUBLIC;

CREATE FUNCTION @extschema@.evmig_ingest_guard(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	mode text DEFAULT 'fill', duplicates text DEFAULT 'pass', generator text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_ingest_guard(regclass, name, text, text, text) IS
'sets, changes or removes a row trigger that keeps rows without a key out of the table. target, key_column: NULL means evmig.target, evmig.key_column. mode: fill gives such a row a key; report fills and remembers who sent it (view evmig_ingest_culprits); reject raises not_null_violation; off removes the guard. duplicates, once a valid btree index on exactly the key exists: pass; archive puts the incoming row into <table>_dupes_archived instead, as ON CONFLICT DO NOTHING would leave it out; rekey gives it a new key and logs both in evmig.rekey; reject raises unique_violation. An UPDATE that makes a duplicate is let pass by archive. generator: a volatile SQL expression, NULL means gen_random_uuid(); it runs with the rights of the table''s owner. A writer waits for another one that sends the same key for evmig.step_lock_timeout at most; what two transactions send at the same moment beyond that, or beyond evmig.ingest_key_locks keys in one transaction, is let pass, for dedupe to settle. The trigger is ENABLE ALWAYS, so it fires in logical replication too. Takes SHARE ROW EXCLUSIVE on the table for a moment (off: ACCESS EXCLUSIVE), polled: others never wait longer than evmig.step_lock_timeout; raises lock_not_available after evmig.lock_wait_max, active_sql_transaction inside a transaction block. Needs the privileges of the table''s owner.';

CREATE VIEW @extschema@.evmig_ingest_culprits WITH (security_invoker) AS
SELECT target::regclass AS target, application_name, role::regrole AS role, query_id,
	sum(rows_filled)::bigint AS rows_filled, min(first_seen) AS first_seen, max(last_seen) AS last_seen
FROM evmig.ingest_culprit
GROUP BY ingest_culprit.target, application_name, ingest_culprit.role, query_id;
COMMENT ON VIEW @extschema@.evmig_ingest_culprits IS
'who sent rows without a key to your tables while the ingest guard was in mode report: application, session role and query id (NULL where compute_query_id is off)';
GRANT SELECT ON @extschema@.evmig_ingest_culprits TO PUBLIC;

-- ---------------------------------------------------------------------
-- Integrity: dedupe, archive, restore
-- ---------------------------------------------------------------------

-- regclass, so that the rows still point at their tables after a dump and restore
CREATE TABLE evmig.archive (
	archive_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	target regclass NOT NULL,
	target_name text NOT NULL,
	key_column name,
	job_id bigint NOT NULL,
	parent regclass NOT NULL,
	relation regclass,
	relation_name text NOT NULL,
	archived_rows bigint NOT NULL DEFAULT 0,
	restored_rows bigint NOT NULL DEFAULT 0,
	purged_rows bigint NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	closed_at timestamptz,
	kept_until timestamptz,
	purged_at timestamptz
);
COMMENT ON TABLE evmig.archive IS
'children of the archives of removed duplicates: which table holds the rows of which job';
COMMENT ON COLUMN evmig.archive.job_id IS 'the job that removed the rows; 0: the ingest guard';
COMMENT ON COLUMN evmig.archive.relation IS 'the child; NULL once it is purged';
COMMENT ON COLUMN evmig.archive.archived_rows IS
'rows that the job moved there, counted in the same transactions; the ingest guard does not count. A child holds archived_rows - restored_rows - purged_rows rows';
COMMENT ON COLUMN evmig.archive.closed_at IS 'since when nothing is added any more and the result was verified';
COMMENT ON COLUMN evmig.archive.kept_until IS 'not to be purged before';
CREATE INDEX archive_target ON evmig.archive (target);

CREATE TABLE evmig.rekey (
	rekey_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	job_id bigint,
	target regclass NOT NULL,
	key_column name,
	row_identity jsonb,
	old_key text,
	new_key text,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	restored_at timestamptz
);
COMMENT ON TABLE evmig.rekey IS 'rows that got another key because theirs was a duplicate';
COMMENT ON COLUMN evmig.rekey.job_id IS 'the job that did it; NULL: the ingest guard';
COMMENT ON COLUMN evmig.rekey.row_identity IS
'primary key columns of the row; without a primary key its ctid at that time';
CREATE INDEX rekey_target ON evmig.rekey (target, job_id) WHERE restored_at IS NULL;

ALTER TABLE evmig.archive ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.rekey ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.archive FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
CREATE POLICY owner_only ON evmig.rekey FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
GRANT SELECT ON evmig.archive, evmig.rekey TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('evmig.archive', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.archive_archive_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.rekey', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.rekey_rekey_id_seq', '');
-- a job's number names its child of the archive, so numbers are never used twice
SELECT pg_catalog.pg_extension_config_dump('evmig.job_job_id_seq', '');

CREATE FUNCTION @extschema@.evmig_dedupe(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	order_column name DEFAULT NULL, mode text DEFAULT 'archive', on_referenced text DEFAULT 'error',
	generator text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_dedupe(regclass, name, name, text, text, text) IS
'starts a job that leaves one row of each key, the earliest by order column (NULLS LAST), then ctid; returns the job''s id. target, key_column, order_column: NULL means evmig.target, evmig.key_column, evmig.order_column; mode: archive (the others move to <table>_dupes_archived), rekey (they get a new key, logged in evmig.rekey) or auto (exact repeats are archived, rows whose payload differs re-keyed); on_referenced, where a foreign key points at a row to be removed: error, skip, repoint or cascade; generator: a volatile SQL expression for new keys, NULL means gen_random_uuid(). The job takes ROW EXCLUSIVE on the table and locks the rows of one batch at a time, without waiting for any. Raises duplicate_table where the archive''s name is taken; the job fails with data_exception where the duplicates are not to be believed (placeholder keys, evmig.max_group_rows, evmig.max_loser_pct). Needs the privileges of the table''s owner.';

CREATE FUNCTION @extschema@.evmig_restore(target regclass DEFAULT NULL, job bigint DEFAULT NULL, drop_index boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_restore(regclass, bigint, boolean) IS
'starts a job that puts archived rows back, identity and generated columns included, and gives re-keyed rows their old keys where they still hold the new ones; returns the job''s id. target: NULL means evmig.target; job: what that job removed, NULL means every job''s and the ingest guard''s, 0 the ingest guard''s alone; drop_index: drop a unique index on the key concurrently first. The job takes ROW EXCLUSIVE on the table and locks the rows of one batch at a time; dropping an index concurrently takes SHARE UPDATE EXCLUSIVE. Raises object_not_in_prerequisite_state while a unique index forbids duplicates, or while the ingest guard does not let them pass; undefined_object where that job has nothing to put back. References that were pointed at other rows, and rows that a foreign key deleted, are not changed back. Needs the privileges of the table''s owner.';

CREATE FUNCTION @extschema@.evmig_archive_purge(target regclass DEFAULT NULL, older_than interval DEFAULT '48 hours')
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_archive_purge(regclass, interval) IS
'drops the archives of jobs that were verified at least older_than ago, and says how many rows these were; evmig.archive remembers it. target: NULL means evmig.target; older_than: NULL means 48 hours. The ingest guard''s archive counts from the first call after it stopped archiving. Takes ACCESS EXCLUSIVE on each archive that is dropped, polled for with evmig.step_lock_timeout; none on the table beyond ACCESS SHARE. Raises object_not_in_prerequisite_state before the attested kept_until, object_in_use while a job is at work on the table, active_sql_transaction inside a transaction block, lock_not_available after evmig.lock_wait_max. Needs the privileges of the table''s owner.';

-- ---------------------------------------------------------------------
-- Integrity: indexes, NOT NULL, verify
-- ---------------------------------------------------------------------

CREATE FUNCTION @extschema@.evmig_verify(target regclass DEFAULT NULL, key_column name DEFAULT NULL)
RETURNS TABLE (check_name text, expected text, actual text, ok boolean)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_verify(regclass, name) IS
'is the key column repaired and nothing lost? One row a check: no NULL keys, no duplicate keys, a valid unique index on the key, rows in the archive (with those restored or purged since) as many as the jobs removed, no archived key that is on no row of the table. target, key_column: NULL means evmig.target, evmig.key_column. Takes ACCESS SHARE on table and archive, reads both. Needs SELECT on both. Raises as evmig_audit does.';

CREATE FUNCTION @extschema@.evmig_unique_index(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	index_name name DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_unique_index(regclass, name, name) IS
'starts a job that builds a unique index on the key with CREATE UNIQUE INDEX CONCURRENTLY; returns the job''s id. target, key_column: NULL means evmig.target, evmig.key_column; index_name: NULL means ux_<table>_<key>, shortened to 63 bytes as the server does. A valid unique index on the key is success, an invalid one of this name is dropped concurrently first. What comes in twice meanwhile is deduped as the last evmig_dedupe on this key did (else with its defaults, by evmig.order_column), and the build starts again, at most evmig.index_retries times; then, or without an order column, the job fails with unique_violation and names the keys. A job that fails or is cancelled leaves no invalid index: where open transactions keep it from being dropped, a job of kind drop_index waits for them. The job takes SHARE UPDATE EXCLUSIVE and waits for older transactions. Needs the privileges of the table''s owner, and CREATE on its schema for the role that the job runs as; raises duplicate_table where the name is taken.';

CREATE FUNCTION @extschema@.evmig_harden(target regclass DEFAULT NULL, key_column name DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_harden(regclass, name) IS
'starts a job that sets the key column NOT NULL without a long lock (CHECK NOT VALID, VALIDATE, SET NOT NULL, DROP CHECK); returns the job''s id. target, key_column: NULL means evmig.target, evmig.key_column. The table is read under SHARE UPDATE EXCLUSIVE; ACCESS EXCLUSIVE is polled for, never queued for longer than evmig.step_lock_timeout, and given up after evmig.lock_wait_max (lock_not_available). A job that ended on the way leaves its check in place, and a new call goes on from there. Fails with not_null_violation and their number while there are NULLs. Needs the privileges of the table''s owner; raises duplicate_object where a constraint has the name of its check, evmig_<key>_not_null.';

-- ---------------------------------------------------------------------
-- Runbook: preflight
-- ---------------------------------------------------------------------

CREATE TABLE evmig.runbook_item (
	name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]*$'),
	question text NOT NULL CHECK (question <> ''),
	shipped boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE evmig.runbook_item IS
'questions that a person must attest before a runbook is approved; change them, add your own, delete what does not apply. Deleted questions that came with the extension are back after a dump and restore.';
COMMENT ON COLUMN evmig.runbook_item.shipped IS 'came with the extension and was never edited';
INSERT INTO evmig.runbook_item (name, question, shipped) VALUES
	('restore_point', 'Does a restore point from before the change exist, has restoring it been tried, and until when is it kept?', true),
	('secrets', 'Are DATABASE_URL, JWT_SECRET_KEY and SENTRY_DSN in the vault, not in code?', true),
	('monitoring', 'Are error tracking and API health checks visible to whoever watches the change?', true),
	('data_api', 'Does all access to the table go through the data API?', true),
	('service_auth', 'Do service-to-service calls carry their auth headers?', true);
GRANT SELECT ON evmig.runbook_item TO PUBLIC;

CREATE FUNCTION evmig.runbook_item_edited() RETURNS trigger
AS 'MODULE_PATHNAME', 'evmig_runbook_item_edited' LANGUAGE C;
COMMENT ON FUNCTION evmig.runbook_item_edited() IS
'keeps edited questions apart from shipped ones, so that a dump holds what was edited';
REVOKE ALL ON FUNCTION evmig.runbook_item_edited() FROM PUBLIC;
CREATE TRIGGER runbook_item_edited BEFORE INSERT OR UPDATE ON evmig.runbook_item
	FOR EACH ROW EXECUTE FUNCTION evmig.runbook_item_edited();
SELECT pg_catalog.pg_extension_config_dump('evmig.runbook_item', 'WHERE NOT shipped');

CREATE FUNCTION @extschema@.evmig_preflight(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	order_column name DEFAULT NULL)
RETURNS TABLE (check_name text, status text, detail text, hint text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_preflight(regclass, name, name) IS
'may this table be repaired here and now? One row a check, status pass, warn, fail, or manual for the questions of evmig.runbook_item; hint says what to do. target, key_column, order_column: NULL means evmig.target, evmig.key_column, evmig.order_column. Reads the table once under ACCESS SHARE, changes nothing. An unfit table, column or privilege is a row that fails; raises undefined_table for a table that does not exist.';

-- ---------------------------------------------------------------------
-- Runbook: the guarded Path A
-- ---------------------------------------------------------------------

CREATE TABLE evmig.runbook (
	runbook_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	target_schema name NOT NULL,
	target_name name NOT NULL,
	target regclass NOT NULL,
	key_column name NOT NULL,
	order_column name NOT NULL,
	mode text CHECK (mode IN ('archive', 'rekey', 'auto')),
	generator text NOT NULL,
	extension text,
	harden boolean NOT NULL,
	app_version text,
	direct boolean NOT NULL DEFAULT false,
	path text NOT NULL DEFAULT 'A' CHECK (path IN ('A', 'B')),
	state text NOT NULL DEFAULT 'open'
		CHECK (state IN ('open', 'approved', 'executing', 'succeeded', 'rolling back', 'rolled back')),
	owner name NOT NULL,
	opened_by name NOT NULL,
	opened_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	rows_to_remove bigint NOT NULL,
	kept_until timestamptz,
	approved_by name,
	approved_at timestamptz,
	note text,
	started_at timestamptz,
	finished_at timestamptz,
	events int NOT NULL DEFAULT 0,
	head bytea
);
COMMENT ON TABLE evmig.runbook IS 'runs of Path A, and where they stand; head is the sha256 of the last event';

CREATE TABLE evmig.runbook_event (
	runbook_id bigint NOT NULL REFERENCES evmig.runbook,
	seq int NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	event text NOT NULL,
	subject text,
	job_id bigint,
	session_role name NOT NULL,
	role name NOT NULL,
	data jsonb,
	previous_sha256 bytea NOT NULL,
	PRIMARY KEY (runbook_id, seq)
);
COMMENT ON TABLE evmig.runbook_event IS 'who did or approved what, when, with which figures: append-only, each row carries the sha256 of the one before it';

CREATE FUNCTION evmig.runbook_event_refuse() RETURNS trigger
AS 'MODULE_PATHNAME', 'evmig_runbook_event_refuse' LANGUAGE C;
COMMENT ON FUNCTION evmig.runbook_event_refuse() IS 'refuses whatever would change evidence';
REVOKE ALL ON FUNCTION evmig.runbook_event_refuse() FROM PUBLIC;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evmig.runbook_event
	FOR EACH STATEMENT EXECUTE FUNCTION evmig.runbook_event_refuse();
CREATE TRIGGER append_only_row BEFORE UPDATE OR DELETE ON evmig.runbook_event
	FOR EACH ROW EXECUTE FUNCTION evmig.runbook_event_refuse();
ALTER TABLE evmig.runbook_event ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE evmig.runbook_event ENABLE ALWAYS TRIGGER append_only_row;

ALTER TABLE evmig.runbook ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.runbook_event ENABLE ROW LEVEL SECURITY;
CREATE POLICY runbook_own ON evmig.runbook FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_roles r
			WHERE r.rolname = runbook.owner AND pg_catalog.pg_has_role(r.oid, 'USAGE'))
		OR EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = target_schema AND c.relname = target_name
			AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
CREATE POLICY runbook_own ON evmig.runbook_event FOR SELECT
	USING (EXISTS (SELECT FROM evmig.runbook r WHERE r.runbook_id = runbook_event.runbook_id));
GRANT SELECT ON evmig.runbook, evmig.runbook_event TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.runbook', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.runbook_runbook_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.runbook_event', '');

CREATE FUNCTION @extschema@.evmig_runbook_open(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	order_column name DEFAULT NULL, mode text DEFAULT NULL, harden boolean DEFAULT true,
	app_version text DEFAULT NULL, generator text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_open(regclass, name, name, text, boolean, text, text) IS
'opens a runbook: runs evmig_preflight and evmig_audit, records both, decides the path; returns its id. target, key_column, order_column: NULL means evmig.target, evmig.key_column, evmig.order_column; mode: archive, rekey or auto, NULL means archive and is refused (invalid_parameter_value) where duplicates differ in payload; harden: make the key NOT NULL too; app_version: of the application, for the record; generator: a volatile SQL expression for missing keys, NULL means gen_random_uuid(). Where evmig is preloaded its writes are measured from then on, as evmig_kpi_watch does, and samples kept: before the approval, every 10 seconds of the execution, and after. Takes ACCESS SHARE on the table while it reads. Needs the privileges of the table''s owner.';

CREATE FUNCTION @extschema@.evmig_runbook_attest(id bigint, item text, evidence text, kept_until timestamptz DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_attest(bigint, text, text, timestamptz) IS
'answers one question of evmig.runbook_item with its evidence; kept_until: how long that evidence (a restore point, say) is kept, which evmig_archive_purge respects. A later answer replaces an earlier one, both stay in the events. Raises undefined_object for an unknown runbook or item, invalid_parameter_value without evidence. Takes no lock on the table.';

CREATE FUNCTION @extschema@.evmig_runbook_attest(id bigint, answers jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'evmig_runbook_attest_all' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_attest(bigint, jsonb) IS
'answers several questions at once: {item: evidence} or {item: {"evidence": text, "kept_until": time}}; all or none. Raises as the form for one item does.';

CREATE FUNCTION @extschema@.evmig_runbook_waive(id bigint, "check" text, reason text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_waive(bigint, text, text) IS
'lets a failing check of the last preflight pass, for a reason that is recorded. Raises object_not_in_prerequisite_state for a check that did not fail, or without which the steps cannot work (kind of table, privileges, key and order column). Takes no lock on the table.';

CREATE FUNCTION @extschema@.evmig_runbook_approve(id bigint, note text, path text DEFAULT 'A')
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_approve(bigint, text, text) IS
'approves a runbook for evmig.approval_ttl; preflight and audit run again. path: A loses nothing; B sets up an empty table at once and needs a note and a second person. Raises object_not_in_prerequisite_state while a check fails, an attestation is missing or the rows to remove grew by more than a fifth, insufficient_privilege where a second person is needed (evmig.require_second_person). Takes ACCESS SHARE on the table while it reads.';

CREATE PROCEDURE @extschema@.evmig_runbook_execute(id bigint)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.evmig_runbook_execute(bigint) IS
'executes an approved runbook: extension, ingest guard (fill), backfill, helper index, ingest guard (duplicates), dedupe, unique index, helper index dropped, verify, harden, ingest guard (report), with NOTICEs. Called again it goes on where it was stopped; cancelling it ends the waiting, not the job at work. Preflight and audit run again first. Strong locks are polled under evmig.step_lock_timeout; holds neither lock nor snapshot while it waits. Raises object_not_in_prerequisite_state without a fresh approval or where a step fails (the message names the step, everything stays as it is), object_in_use while another session executes it. Must be called on its own, outside a transaction block.';

CREATE PROCEDURE @extschema@.evmig_runbook_rollback(id bigint)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.evmig_runbook_rollback(bigint) IS
'takes back what the runbook did: cancels its jobs, drops its indexes (concurrently), NOT NULL and the ingest guard (locks polled), restores archived rows and old keys. Filled keys and later rows stay. What was there before the runbook stays. Goes on where it was when called again. Must be called on its own, outside a transaction block.';

CREATE FUNCTION @extschema@.evmig_runbook_report(id bigint, format text DEFAULT 'markdown') RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_report(bigint, text) IS
'the whole story of a runbook from its events: what came of it, decision, checks, attestations, approval, audits, steps, limits and what they did, verification, what the table''s writers saw before, at worst and after, what can be rolled back, and whether the chain of events is whole. format: markdown, json or html. Takes no lock. Raises undefined_object for a runbook that you may not see, invalid_parameter_value for another format.';

CREATE FUNCTION @extschema@.evmig_runbook_script(id bigint) RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_script(bigint) IS
'an approved runbook as a plain psql script, for a server where extensions cannot be installed: psql -X -f. It can be run again after a failure. Takes ACCESS SHARE on the table. Raises object_not_in_prerequisite_state without an approval.';

CREATE PROCEDURE @extschema@.evmig_path_a(target regclass DEFAULT NULL, key_column name DEFAULT NULL,
	order_column name DEFAULT NULL, mode text DEFAULT NULL, dry_run boolean DEFAULT false)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.evmig_path_a(regclass, name, name, text, boolean) IS
'Path A in one call: opens a runbook and executes it without attestations and approval, which it records; called again after it was stopped it goes on. Arguments as in evmig_runbook_open. dry_run: only says the statements, locks and estimates, and changes nothing. Locks and errors as evmig_runbook_execute; refused under evmig.require_runbook. Must be called on its own, outside a transaction block, unless it is a dry run.';

-- ---------------------------------------------------------------------
-- Backfills
-- ---------------------------------------------------------------------

-- regclass and regrole, so that the rows still point at them after a dump and
-- restore; a routine as text, because a regprocedure would stop pg_upgrade
CREATE TABLE evmig.backfill (
	name text PRIMARY KEY CHECK (name <> ''),
	target regclass NOT NULL,
	owner regrole NOT NULL,
	set_list text,
	routine text,
	where_clause text NOT NULL,
	search_path text NOT NULL,
	priority text NOT NULL CHECK (priority IN ('high', 'medium', 'low')),
	tenant_column name,
	batch_size int NOT NULL,
	sleep_ms int NOT NULL,
	adaptive boolean NOT NULL,
	workers int NOT NULL,
	max_failures bigint NOT NULL,
	undo boolean NOT NULL,
	description text,
	settings jsonb NOT NULL DEFAULT '{}',
	registered_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CHECK ((set_list IS NULL) <> (routine IS NULL))
);
COMMENT ON TABLE evmig.backfill IS 'registered backfills: what each does to which rows of which table, and at what pace';
COMMENT ON COLUMN evmig.backfill.owner IS 'who registered it';
COMMENT ON COLUMN evmig.backfill.settings IS 'settings that its jobs start with, by name; evmig_backfill_set writes them';
COMMENT ON COLUMN evmig.backfill.search_path IS 'of who registered it; applied to set_list and where_clause only';
ALTER TABLE evmig.backfill ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.backfill FOR SELECT
	USING (pg_catalog.pg_has_role(owner, 'USAGE')
		OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
GRANT SELECT ON evmig.backfill TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.backfill', '');

-- a backfill has one job at a time
CREATE UNIQUE INDEX job_one_backfill ON evmig.job (name)
	WHERE kind = 'backfill' AND state IN ('queued', 'running', 'paused');
CREATE INDEX job_backfill ON evmig.job (name, job_id) WHERE kind = 'backfill';

CREATE TABLE evmig.job_tenant (
	job_id bigint NOT NULL REFERENCES evmig.job ON DELETE CASCADE,
	chunk int NOT NULL,
	tenant text,
	changed bigint NOT NULL DEFAULT 0,
	unchanged bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	UNIQUE NULLS NOT DISTINCT (job_id, chunk, tenant)
) WITH (fillfactor = 70);
COMMENT ON TABLE evmig.job_tenant IS 'rows that a backfill changed, by chunk and tenant, so that workers never wait for each other';

CREATE TABLE evmig.job_undo (
	undo_id bigint GENERATED ALWAYS AS IDENTITY,
	job_id bigint NOT NULL,
	target regclass NOT NULL,
	owner regrole NOT NULL,
	row_tid tid NOT NULL,
	row_key jsonb,
	old_values jsonb NOT NULL,
	new_values jsonb NOT NULL,
	undone text CHECK (undone IN ('restored', 'kept')),
	PRIMARY KEY (job_id, undo_id)
);
COMMENT ON TABLE evmig.job_undo IS 'values before and after, as text by column, of the rows that a backfill with undo changed; written in the same transactions';
COMMENT ON COLUMN evmig.job_undo.owner IS 'who started the job';
COMMENT ON COLUMN evmig.job_undo.undone IS
'what evmig_backfill_undo did: restored the old values, or kept what somebody has written since; NULL: nothing yet';
COMMENT ON COLUMN evmig.job_undo.row_key IS 'primary key columns of the row; without a primary key row_tid identifies it';

CREATE INDEX job_undo_todo ON evmig.job_undo (job_id, undo_id) WHERE undone IS NULL;

ALTER TABLE evmig.job_tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.job_undo ENABLE ROW LEVEL SECURITY;
CREATE POLICY job_own ON evmig.job_tenant FOR SELECT
	USING (EXISTS (SELECT FROM evmig.job j WHERE j.job_id = job_tenant.job_id));
CREATE POLICY job_own ON evmig.job_undo FOR SELECT
	USING (pg_catalog.pg_has_role(owner, 'USAGE') OR EXISTS (SELECT FROM evmig.job j WHERE j.job_id = job_undo.job_id));
GRANT SELECT ON evmig.job_tenant, evmig.job_undo TO PUBLIC;

-- evidence, though the jobs themselves are not dumped
SELECT pg_catalog.pg_extension_config_dump('evmig.job_undo', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.job_undo_undo_id_seq', '');

CREATE VIEW @extschema@.evmig_job_tenants WITH (security_invoker) AS
SELECT job_id, tenant, sum(changed)::bigint AS rows_done, sum(failed)::bigint AS rows_failed,
	sum(unchanged)::bigint AS rows_unchanged
FROM evmig.job_tenant GROUP BY job_id, tenant;
COMMENT ON VIEW @extschema@.evmig_job_tenants IS
'rows that each backfill with a tenant column has changed, failed at and left as they are, by tenant';
GRANT SELECT ON @extschema@.evmig_job_tenants TO PUBLIC;

CREATE FUNCTION @extschema@.evmig_backfill_register(name text, target regclass, set_list text, where_clause text,
	priority text DEFAULT 'medium', tenant_column name DEFAULT NULL, batch_size int DEFAULT 200,
	sleep_ms int DEFAULT 50, adaptive boolean DEFAULT true, workers int DEFAULT 1,
	max_failures bigint DEFAULT 0, undo boolean DEFAULT false, description text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_register(text, regclass, text, text, text, name, int, int, boolean, int, bigint, boolean, text) IS
'registers UPDATE target SET set_list WHERE where_clause under a name; changes no row, the same definition again is no error. The texts are parsed here, under your search_path without pg_temp, which is kept for them. priority: high, medium or low; tenant_column: rows are counted by it and can be filtered by it; batch_size: rows of the first batch; sleep_ms: least pause between batches, milliseconds; adaptive: follow the load, else both stay as given; workers: 1 to evmig.max_workers; max_failures: rows that may fail before the job does, which ends incomplete with fewer; undo: log old values for evmig_backfill_undo. Takes ROW EXCLUSIVE on the target. Needs the privileges of its owner. Raises what the server raises about the texts with the position in them, syntax_error where they are more than two clauses, feature_not_supported, duplicate_object for another definition of that name.';

CREATE FUNCTION @extschema@.evmig_backfill_replace(name text, target regclass, set_list text, where_clause text,
	priority text DEFAULT 'medium', tenant_column name DEFAULT NULL, batch_size int DEFAULT 200,
	sleep_ms int DEFAULT 50, adaptive boolean DEFAULT true, workers int DEFAULT 1,
	max_failures bigint DEFAULT 0, undo boolean DEFAULT false, description text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_replace(text, regclass, text, text, text, name, int, int, boolean, int, bigint, boolean, text) IS
'replaces the definition of a registered backfill; arguments, lock and errors as evmig_backfill_register, and object_in_use while a job of it has not ended, undefined_object where there is none.';

CREATE FUNCTION @extschema@.evmig_backfill_register_call(name text, target regclass, routine regprocedure, where_clause text,
	priority text DEFAULT 'medium', tenant_column name DEFAULT NULL, batch_size int DEFAULT 200,
	sleep_ms int DEFAULT 50, adaptive boolean DEFAULT true, workers int DEFAULT 1,
	max_failures bigint DEFAULT 0, undo boolean DEFAULT false, description text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_register_call(text, regclass, regprocedure, text, text, name, int, int, boolean, int, bigint, boolean, text) IS
'registers a routine (regclass, tid[]) returns bigint that changes the rows of target that satisfy where_clause: it receives the target and the TIDs of a batch, locked FOR NO KEY UPDATE, and returns how many of these rows it changed. Further arguments, lock and errors as evmig_backfill_register (undo is not supported); invalid_function_definition for a routine of another form.';

CREATE FUNCTION @extschema@.evmig_backfill_replace_call(name text, target regclass, routine regprocedure, where_clause text,
	priority text DEFAULT 'medium', tenant_column name DEFAULT NULL, batch_size int DEFAULT 200,
	sleep_ms int DEFAULT 50, adaptive boolean DEFAULT true, workers int DEFAULT 1,
	max_failures bigint DEFAULT 0, undo boolean DEFAULT false, description text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_replace_call(text, regclass, regprocedure, text, text, name, int, int, boolean, int, bigint, boolean, text) IS
'replaces the definition of a registered backfill by a routine; as evmig_backfill_replace and evmig_backfill_register_call.';

CREATE FUNCTION @extschema@.evmig_backfill_unregister(name text) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_unregister(text) IS
'forgets a registered backfill; its jobs stay in evmig_jobs. Raises undefined_object where there is none that you may see, object_in_use while a job of it has not ended. Takes no lock on the target.';

CREATE FUNCTION @extschema@.evmig_backfill_set(name text, setting text, value text) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_set(text, text, text) IS
'gives the jobs of a registered backfill a setting of their own, with or without the prefix evmig., for example canary_pct, batch_target_ms, data_statement_timeout or throttle_wal_rate_hard; it goes before what the session that starts a job has set. Acts from the next job on; for one at work use evmig_job_set. value: as SET takes it, NULL takes the setting back. evmig_backfill_replace leaves the settings as they are, except batch_size, batch_sleep and adaptive, which are its own arguments. Raises undefined_object for an unknown setting, or a backfill that you may not see, and what SET raises for a value or for a setting that a session cannot change. Takes no lock on the target.';

CREATE FUNCTION @extschema@.evmig_backfill_start(name text, workers int DEFAULT NULL, tenants text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_start(text, int, text[]) IS
'starts a registered backfill when the transaction commits and returns the job''s id; a paused or interrupted job of it is resumed. workers: 1 to evmig.max_workers, NULL as registered; tenants: only rows of these, NULL all. The job takes ROW EXCLUSIVE on the table and locks the rows of one batch at a time. Needs the privileges of the table''s owner. Raises undefined_object, object_in_use while a job of it is at work, invalid_parameter_value, and what evmig_backfill_register raises where the definition no longer fits.';

CREATE FUNCTION @extschema@.evmig_backfill_start_all(max_priority text DEFAULT 'low') RETURNS SETOF bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_start_all(text) IS
'starts the registered backfills of yours that are due when the transaction commits, high priority first, down to max_priority, while fewer than evmig.max_workers are at work in the cluster; returns the jobs'' ids. Leaves alone what is at work, what was paused or cancelled, what failed (until started by name), and what succeeded: that is looked at again once evmig.recheck_interval has passed and its tables were written to. What cannot be started is a warning. For pg_cron.';

CREATE PROCEDURE @extschema@.evmig_backfill_run(name text)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.evmig_backfill_run(text) IS
'runs a registered backfill in the calling session, without a worker: commits each batch, prints progress as NOTICEs, takes up a paused or interrupted job of it where it stopped. A cancel ends the job, and what was committed stays. Locks as evmig_backfill_start. Must be called on its own, outside a transaction block, by a session logged in as the role that the job runs as. Raises the job''s error unless it succeeded, insufficient_privilege, object_in_use while a worker is at it.';

CREATE PROCEDURE @extschema@.evmig_backfill_run_all(timeout interval DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.evmig_backfill_run_all(interval) IS
'starts the backfills of yours that are due, as evmig_backfill_start_all does, until none is, and waits for them; raises an error that names what failed, now or before, so that a scheduler''s log says failed; query_canceled after the timeout (the jobs go on). Must be called on its own, outside a transaction block; holds no snapshot while it waits.';

CREATE FUNCTION @extschema@.evmig_backfill_undo(job bigint) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_undo(bigint) IS
'starts a job that puts back the old values of the rows that a backfill with undo has changed, where they still hold what it wrote (rows_done); the others it leaves (rows_unchanged). A row that raises an error goes to evmig_failures and stays in the log, and the job ends incomplete. Returns the new job''s id. The log is dumped and restored; there, rows are found by primary key. job: the backfill''s job, ended. The job takes ROW EXCLUSIVE on the table and locks the rows of one batch at a time. Needs the privileges of the table''s owner. Raises undefined_object, object_not_in_prerequisite_state where nothing was logged or the job has not ended.';

CREATE FUNCTION @extschema@.evmig_backfill_undo_purge(job bigint) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_undo_purge(bigint) IS
'deletes what a backfill''s job has logged for evmig_backfill_undo and returns how many rows that was; nothing else removes the log. job: ended. Takes no lock on the target. Raises undefined_object for a job that you may not see, object_not_in_prerequisite_state for one that has not ended, object_in_use while it is being undone.';

CREATE FUNCTION @extschema@.evmig_backfill_preview(name text, rows int DEFAULT 10)
RETURNS TABLE (topic text, item text, old_values jsonb, new_values jsonb, detail text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_backfill_preview(text, int) IS
'what a registered backfill would do, without doing it. Topics: row (item: TID; old and new values of up to so many rows, from the start, the quarters and the middle of the table), estimate (rows, WAL bytes, duration at the current pace), lock, trigger, index (touched, or HOT updates), setting (of evmig_backfill_set), warning. The expressions run with the rights of the job''s role, in a subtransaction that is rolled back. Takes ROW EXCLUSIVE on the target until the transaction ends. Raises undefined_object, invalid_parameter_value for rows outside 0 to 1000, and what the expressions raise.';

-- ---------------------------------------------------------------------
-- Guard: rules and inspection
-- ---------------------------------------------------------------------

CREATE FUNCTION @extschema@.evmig_guard(sql text, source text DEFAULT NULL, lang text DEFAULT 'auto',
	new_only boolean DEFAULT false)
RETURNS TABLE (line int, col int, rule text, severity text, relation text, lock_mode text, blocks text,
	message text, hint text, statement text, fingerprint text, grandfathered boolean)
AS 'MODULE_PATHNAME' LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.evmig_guard(text, text, text, boolean) IS
'inspects the text of a schema migration for data changes and for locks that hold up the application; one row a finding, in order of position. sql: the text; nothing of it is run; source: its name, which grandfathered findings go by; lang: sql, text (another language, whose string literals are inspected) or auto; new_only: without the grandfathered ones. line and col count from 1, col in characters; severity is error, warning or info; lock_mode and blocks (reads, writes, ddl) are those of the lock it is about; fingerprint stays the same when the statement is reformatted or moved. Anybody may call it; needs no rights on the tables, waits for no lock. The rules are in evmig_guard_rules. Raises null_value_not_allowed, invalid_parameter_value for an unknown lang.';

CREATE FUNCTION @extschema@.evmig_guard(sql bytea, source text DEFAULT NULL, lang text DEFAULT 'auto',
	new_only boolean DEFAULT false)
RETURNS TABLE (line int, col int, rule text, severity text, relation text, lock_mode text, blocks text,
	message text, hint text, statement text, fingerprint text, grandfathered boolean)
AS 'MODULE_PATHNAME', 'evmig_guard_bytes' LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.evmig_guard(bytea, text, text, boolean) IS
'the same of a file''s bytes, for UTF-8: NUL bytes and what is no valid text are a finding, invalid-encoding, and the rest is inspected.';

CREATE FUNCTION @extschema@.evmig_guard_assert(sql text, source text DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME' LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.evmig_guard_assert(text, text) IS
'inspects the text of a schema migration as evmig_guard does, and raises one error of SQLSTATE VG001 where it has findings of severity error that are neither grandfathered nor excused by evmig:allow: the first 20 are listed in its detail, then how many more there are. Else returns the number of findings that are grandfathered. sql: the text; source: its name. Runs nothing, waits for no lock. Raises null_value_not_allowed too.';

CREATE FUNCTION @extschema@.evmig_guard_rule_list()
RETURNS TABLE (id text, severity text, detects text, danger text, safe_way text, since int)
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION @extschema@.evmig_guard_rule_list() IS
'the rows of the view evmig_guard_rules';

CREATE VIEW @extschema@.evmig_guard_rules WITH (security_invoker) AS
	SELECT r.id, r.severity, r.detects, r.danger, r.safe_way, r.since
	FROM @extschema@.evmig_guard_rule_list() r;
COMMENT ON VIEW @extschema@.evmig_guard_rules IS
'every rule of the guard: id; severity (error, warning or info, where the catalog does not lower it); what it detects; the danger; the safe way; since which major version of PostgreSQL it matters, NULL where in all.';
GRANT SELECT ON @extschema@.evmig_guard_rules TO PUBLIC;

-- ---------------------------------------------------------------------
-- Guard: baseline
-- ---------------------------------------------------------------------

CREATE TABLE evmig.guard_baseline (
	entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	fingerprint text NOT NULL,
	source text NOT NULL,
	rule text NOT NULL,
	relation text,
	statement text NOT NULL,
	reason text NOT NULL,
	replaced_by text,
	priority text NOT NULL CHECK (priority IN ('high', 'medium', 'low')),
	recorded_by name NOT NULL,
	recorded_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	gone_at timestamptz
);
COMMENT ON TABLE evmig.guard_baseline IS
'grandfathered findings of the guard: each row excuses one occurrence of a fingerprint in one source, until it is gone';
COMMENT ON COLUMN evmig.guard_baseline.replaced_by IS 'the registered backfill that takes over; NULL: nothing does yet';
COMMENT ON COLUMN evmig.guard_baseline.gone_at IS
'when evmig_guard_baseline_add found the source without it; from then on the row excuses nothing';
CREATE INDEX guard_baseline_fingerprint ON evmig.guard_baseline (fingerprint) WHERE gone_at IS NULL;
CREATE INDEX guard_baseline_source ON evmig.guard_baseline (source) WHERE gone_at IS NULL;

ALTER TABLE evmig.guard_baseline ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON evmig.guard_baseline FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_roles r
			WHERE r.rolname = recorded_by AND pg_catalog.pg_has_role(r.oid, 'USAGE')));
GRANT SELECT ON evmig.guard_baseline TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.guard_baseline', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.guard_baseline_entry_id_seq', '');

CREATE FUNCTION @extschema@.evmig_guard_baseline_add(sql text, source text, reason text,
	replaced_by text DEFAULT NULL, priority text DEFAULT 'medium')
RETURNS int
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_guard_baseline_add(text, text, text, text, text) IS
'grandfathers today''s findings of a source, which evmig_guard then marks and new_only hides; returns how many are recorded for the first time. sql: the source''s text; source: its name, as evmig_guard is given it; reason: why they stay; replaced_by: the registered backfill that takes over, also for entries of the source that have none; priority: high, medium or low. Entries whose finding the source no longer has are marked as gone and excuse nothing any more. Takes SHARE ROW EXCLUSIVE on evmig.guard_baseline until the transaction ends. Nobody but the extension''s owner may call it until EXECUTE is granted: who migrates should not grandfather own violations. Raises undefined_object where replaced_by is not registered, invalid_parameter_value, read_only_sql_transaction.';
REVOKE EXECUTE ON FUNCTION @extschema@.evmig_guard_baseline_add(text, text, text, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.evmig_guard_statements(sql bytea, source text DEFAULT NULL, lang text DEFAULT 'auto')
RETURNS int
AS 'MODULE_PATHNAME' LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.evmig_guard_statements(bytea, text, text) IS
'how many statements evmig_guard inspects in a file; of a source in another language, how many literals that are SQL. Arguments as those of evmig_guard(bytea, ...). For the audit of evmig-guard. Raises null_value_not_allowed, invalid_parameter_value for an unknown lang.';

CREATE FUNCTION @extschema@.evmig_guard_baseline_report(OUT priority text, OUT grandfathered bigint,
	OUT replaced bigint, OUT gone bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.evmig_guard_baseline_report() IS
'findings in the baseline by priority: grandfathered (in force), how many of these a registered backfill replaces, and how many are gone. Counts everybody''s entries. Takes ACCESS SHARE on evmig.guard_baseline.';

-- ---------------------------------------------------------------------
-- Guard: live
-- ---------------------------------------------------------------------

CREATE FUNCTION @extschema@.evmig_guard_status()
RETURNS TABLE (setting text, value text, source text, effective text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_guard_status() IS
'how strict the live guard is with this session, and why. First row: who the session belongs to, and the level that counts (off, log, warn, error), the strictest of those below; then each setting with its value, where it comes from, and what it comes to for this session: evmig.guard, evmig.guard_roles, evmig.guard_bypass_reason (whether it still lets a transaction through), evmig.ddl_lock_timeout (the lock_timeout, in milliseconds, that schema changes of a judged session run under), shared_preload_libraries (loaded, or why no session is held to anything). Reads settings and roles; takes no lock on user tables.';

-- ---------------------------------------------------------------------
-- KPIs: measuring, samples, limits
-- ---------------------------------------------------------------------

CREATE TABLE evmig.kpi_sample (
	sample_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	target regclass NOT NULL,
	label text NOT NULL,
	runbook_id bigint,
	sampled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	sampled_by name NOT NULL DEFAULT current_user,
	figures jsonb NOT NULL
);
COMMENT ON TABLE evmig.kpi_sample IS 'KPIs of a table at a point in time; figures: the columns of evmig_kpi, notes (the last of each that evmig_kpi_note recorded), and latency_source where the latencies were not measured but come from pg_stat_statements';
CREATE INDEX kpi_sample_target ON evmig.kpi_sample (target, sampled_at);
ALTER TABLE evmig.kpi_sample ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.kpi_sample FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
GRANT SELECT ON evmig.kpi_sample TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.kpi_sample', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.kpi_sample_sample_id_seq', '');

CREATE TABLE evmig.kpi_watch (
	target regclass PRIMARY KEY,
	watched_since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE evmig.kpi_watch IS 'tables whose writes are measured';
ALTER TABLE evmig.kpi_watch ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.kpi_watch FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target
		AND (pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'))));

CREATE TABLE evmig.kpi_audit (
	target regclass NOT NULL,
	key_column name NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	total_rows bigint NOT NULL,
	null_keys bigint NOT NULL,
	duplicate_rows bigint NOT NULL,
	inserted bigint NOT NULL,
	let_in bigint NOT NULL
);
COMMENT ON TABLE evmig.kpi_audit IS 'what evmig_audit found in watched tables, from which evmig_kpi carries on';
COMMENT ON COLUMN evmig.kpi_audit.inserted IS 'rows that were counted as inserted since the table was watched or the server started';
COMMENT ON COLUMN evmig.kpi_audit.let_in IS 'rows of these that the ingest guard had let in without a key';
CREATE INDEX kpi_audit_target ON evmig.kpi_audit (target, at);
ALTER TABLE evmig.kpi_audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.kpi_audit FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));

CREATE TABLE evmig.kpi_note (
	target regclass NOT NULL,
	kpi text NOT NULL,
	value float8 NOT NULL,
	source text NOT NULL,
	noted_by name NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE evmig.kpi_note IS 'figures of tables that come from outside, such as an error tracker''s count';
CREATE INDEX kpi_note_target ON evmig.kpi_note (target, kpi, source, at);
ALTER TABLE evmig.kpi_note ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.kpi_note FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));

GRANT SELECT ON evmig.kpi_watch, evmig.kpi_audit, evmig.kpi_note TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.kpi_watch', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.kpi_audit', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.kpi_note', '');

CREATE FUNCTION @extschema@.evmig_kpi_watch(target regclass, enabled boolean DEFAULT true) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_kpi_watch(regclass, boolean) IS
'measures the writes on a table, in all sessions and from the commit on, until it is called with enabled => false; survives a restart. target: NULL means evmig.target; partitions count for the table that they belong to, and an INSERT or COPY into that for watched partitions that its rows come into (one that fails for the table alone). Needs evmig in shared_preload_libraries, a NOTICE says so; at most evmig.kpi_max_tables tables in the cluster, else program_limit_exceeded. Takes no lock on the table. Needs the privileges of its owner. Raises wrong_object_type for what is no table, feature_not_supported for a temporary one.';

CREATE FUNCTION @extschema@.evmig_kpi(target regclass, since interval DEFAULT '5 minutes',
	OUT writes bigint, OUT rows_written bigint, OUT writes_per_s float8, OUT write_errors bigint,
	OUT write_error_rate float8, OUT p50_ms float8, OUT p95_ms float8, OUT p99_ms float8, OUT max_ms float8,
	OUT commit_p95_ms float8, OUT valid_request_id_pct float8, OUT unique_request_id_pct float8,
	OUT replica_lag_bytes bigint, OUT wal_bytes_per_s float8, OUT errors_logged bigint)
RETURNS record
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_kpi(regclass, interval) IS
'how the writes on a watched table went in the last since (up to 10 minutes): statements of clients (INSERT, COPY FROM, UPDATE, DELETE, MERGE, and whatever wrote the table from within) that ended without an error, their rows, statements a second, statements that failed, write_errors / (writes + write_errors), percentiles and maximum of the milliseconds from the arrival of a statement''s message to its end, lock waits included (in the extended protocol the message is Bind, so a pause of the client between Bind and Execute is included, too), and of those to the end of its commit (in a transaction block: of the COMMIT), each within 3 % from 10 microseconds to 100 seconds; percent of all rows that have a key and whose key is their own, from the last evmig_audit and the ingest guard''s counters; WAL bytes that the slowest replica has not replayed (NULL: no replica), WAL bytes that the server writes a second; errors logged by sessions that wrote the table. What is not known is NULL; evmig_kpi_detail says the source of each figure and as of when it is, which matters for the percentages. Where the table is not measured, a NOTICE says what to set, and p50_ms is the mean of pg_stat_statements, p95_ms and p99_ms the mean plus 1.645 and 2.326 deviations. Takes no lock on the table. Needs SELECT on it or pg_read_all_stats. Raises invalid_parameter_value for another since.';

CREATE FUNCTION @extschema@.evmig_kpi_detail(target regclass, since interval DEFAULT '5 minutes')
RETURNS TABLE (kpi text, value float8, source text, as_of timestamptz)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_kpi_detail(regclass, interval) IS
'the figures of evmig_kpi, one a row, with their source and as of when they are; with these: window_s (seconds covered), commits, writes_refused (by evmig_ingest_pause, not among the errors), guard_filled, guard_let_null_in, guard_archived and guard_rekeyed (rows that the ingest guard did this with since the table is watched, also those rolled back later), errors_class_XX (failed statements by class of SQLSTATE, ?? for any other; where log_min_messages hides errors, a statement that fails before its execution is known by what pg_stat_activity shows of it, so not where track_activities is off or track_activity_query_size cuts it off, nor in a transaction block that has failed already), and the last of each figure that evmig_kpi_note recorded. Lock, privileges and errors as evmig_kpi.';

CREATE FUNCTION @extschema@.evmig_kpi_sample(target regclass, label text) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_kpi_sample(regclass, text) IS
'keeps the figures of evmig_kpi of the last 5 minutes, and the last of each that evmig_kpi_note recorded, under a label in evmig.kpi_sample; returns the sample''s number. A label may have many samples. evmig.throttle_p95_ratio compares with the last one labelled before; jobs outside of a runbook take some labelled job N. target: NULL means evmig.target. Takes no lock on the table. Needs the privileges of its owner. Raises invalid_parameter_value without a label.';

CREATE FUNCTION @extschema@.evmig_kpi_compare(target regclass, before_label text, after_label text)
RETURNS TABLE (kpi text, before float8, after float8, change_pct float8, verdict text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_kpi_compare(regclass, text, text) IS
'the last samples of two labels side by side. change_pct: 100 (after - before) / before, NULL where that is not known or before is 0. verdict: better or worse (latencies, errors, lag and WAL should be less; percentages of valid and unique keys more, and there any change counts), more or less (how much was written, and figures from outside), same for a change of up to 10 percent, unknown where a sample lacks the figure, or has latencies of pg_stat_statements (key latency_source) and the other does not. target: NULL means evmig.target. Takes no lock on the table. Needs SELECT on it or pg_read_all_stats. Raises undefined_object where a label has no sample.';

CREATE FUNCTION @extschema@.evmig_kpi_note(target regclass, kpi text, value float8, source text) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_kpi_note(regclass, text, float8, text) IS
'records a figure from outside, such as an error tracker''s count, to be shown beside ours. target: NULL means evmig.target; kpi: its name; source: where it comes from. Takes no lock on the table. Needs the privileges of its owner. Raises invalid_parameter_value where something is missing.';

CREATE TABLE evmig.runbook_limit (
	runbook_id bigint PRIMARY KEY REFERENCES evmig.runbook,
	write_error_rate float8,
	p95_ms float8,
	action text NOT NULL CHECK (action IN ('pause_runbook', 'pause_ingest_and_finish')),
	ingest_paused boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE evmig.runbook_limit IS 'what the application may suffer while a runbook is executed, and what happens then';
COMMENT ON COLUMN evmig.runbook_limit.ingest_paused IS 'the runbook has paused the table''s writers and will resume them';
ALTER TABLE evmig.runbook_limit ENABLE ROW LEVEL SECURITY;
CREATE POLICY runbook_own ON evmig.runbook_limit FOR SELECT
	USING (EXISTS (SELECT FROM evmig.runbook r WHERE r.runbook_id = runbook_limit.runbook_id));
GRANT SELECT ON evmig.runbook_limit TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.runbook_limit', '');

CREATE FUNCTION @extschema@.evmig_runbook_limits(id bigint, write_error_rate float8, p95_ms float8,
	action text DEFAULT 'pause_runbook') RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_runbook_limits(bigint, float8, float8, text) IS
'what the writers of the table may suffer while the runbook is executed, looked at once a second over the last 10 seconds (at least 10 writes) while a job is at work. write_error_rate: failed writes of all, 0 to 1; p95_ms: milliseconds; NULL: no limit. action: pause_runbook lets the job at hand pause and ends evmig_runbook_execute with an error that says so (object_not_in_prerequisite_state; calling it again goes on); pause_ingest_and_finish calls evmig_ingest_pause, goes on with the steps up to the unique index, and resumes the writers, also where a step fails; behind the index it does nothing. Either is an event of the runbook. The table must be watched (evmig_runbook_open sees to it where evmig is preloaded), a NOTICE says if it is not. Takes no lock on the table. Raises undefined_object for a runbook that you may not see, object_not_in_prerequisite_state for one that has ended, invalid_parameter_value.';

-- ---------------------------------------------------------------------
-- KPIs: pausing ingest
-- ---------------------------------------------------------------------

CREATE TABLE evmig.ingest_pause (
	pause_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	target regclass NOT NULL,
	reason text NOT NULL,
	paused_by name NOT NULL,
	paused_at timestamptz NOT NULL,
	until timestamptz NOT NULL,
	ended_at timestamptz,
	ended_by name
);
COMMENT ON TABLE evmig.ingest_pause IS 'who paused the writers of which table, why and until when';
COMMENT ON COLUMN evmig.ingest_pause.until IS 'when it ends by itself, unless a runbook is at work then';
COMMENT ON COLUMN evmig.ingest_pause.ended_at IS 'NULL: it has not ended, or by itself and nobody has looked since';
COMMENT ON COLUMN evmig.ingest_pause.ended_by IS 'NULL: it ended by itself';
CREATE UNIQUE INDEX ingest_pause_one ON evmig.ingest_pause (target) WHERE ended_at IS NULL;
ALTER TABLE evmig.ingest_pause ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.ingest_pause FOR SELECT
	USING (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
GRANT SELECT ON evmig.ingest_pause TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.ingest_pause', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.ingest_pause_pause_id_seq', '');

CREATE FUNCTION evmig.ingest_pause_refuse() RETURNS trigger
AS 'MODULE_PATHNAME', 'evmig_ingest_pause_trigger' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION evmig.ingest_pause_refuse() IS
'the statement trigger that refuses writes during a pause where evmig is not preloaded, set up by evmig_ingest_pause';
REVOKE EXECUTE ON FUNCTION evmig.ingest_pause_refuse() FROM PUBLIC;

CREATE FUNCTION evmig.ingest_paused(target oid) RETURNS boolean
AS 'MODULE_PATHNAME', 'evmig_ingest_paused' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION evmig.ingest_paused(oid) IS 'whether the writers of a table are paused just now';

CREATE FUNCTION @extschema@.evmig_ingest_pause(target regclass, reason text) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_ingest_pause(regclass, text) IS
'lets every INSERT, UPDATE, DELETE, MERGE, COPY FROM and TRUNCATE on a table (a TRUNCATE also where it comes by CASCADE, or from a parent) fail before it writes, from the commit on, with one error that clients know as one to try again later: lock_not_available (55P03), its detail says who paused, since when and why. Reads go on, statements at work end as they would, our own workers pass. Ends by evmig_ingest_resume, or by itself after evmig.ingest_pause_max (but not while a runbook is executed on the table); survives a restart. target: NULL means evmig.target; a partitioned table''s partitions are paused too; where a partition is paused alone, rows that come to it by way of its parent are refused, as is every COPY to that. With evmig in shared_preload_libraries it takes no lock on the table; elsewhere it sets a trigger under SHARE ROW EXCLUSIVE, polled (others never wait longer than evmig.step_lock_timeout), raises lock_not_available after evmig.lock_wait_max and active_sql_transaction inside a transaction block, and looks at statements that name the table itself only. Needs the privileges of the table''s owner. Raises object_in_use where it is paused already, invalid_parameter_value without a reason.';

CREATE FUNCTION @extschema@.evmig_ingest_resume(target regclass) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_ingest_resume(regclass) IS
'ends a pause of a table''s writers with the commit; a NOTICE says if there is none. target: NULL means evmig.target. Takes no lock on the table, unless there is a trigger to drop: then ACCESS EXCLUSIVE, polled, and as evmig_ingest_pause. Needs the privileges of the table''s owner.';

CREATE VIEW @extschema@.evmig_ingest_pauses WITH (security_invoker) AS
SELECT target, reason, paused_by, paused_at, until, ended_at IS NULL AND evmig.ingest_paused(target) AS active,
	coalesce(ended_at, CASE WHEN NOT evmig.ingest_paused(target) THEN until END) AS ended_at, ended_by
FROM evmig.ingest_pause;
COMMENT ON VIEW @extschema@.evmig_ingest_pauses IS
'pauses of your tables'' writers: who paused, why, since when and until when, whether it is in force, when it ended and by whom (NULL: by itself)';
GRANT SELECT ON @extschema@.evmig_ingest_pauses TO PUBLIC;

-- ---------------------------------------------------------------------
-- Deploy
-- ---------------------------------------------------------------------

CREATE TABLE evmig.migration (
	version text PRIMARY KEY,
	version_key text COLLATE "C" NOT NULL UNIQUE,
	sql text,
	checksum text,
	description text,
	owner regrole NOT NULL,
	search_path text NOT NULL,
	state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'applied', 'adopted')),
	registered_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	applied_at timestamptz,
	applied_by text,
	seconds float8,
	deploy_id bigint,
	CHECK (sql IS NOT NULL OR state = 'adopted')
);
COMMENT ON TABLE evmig.migration IS 'registered schema migrations; adopted: another tool had applied it';
COMMENT ON COLUMN evmig.migration.version_key IS 'sorts as the versions do: numbers by their value';
COMMENT ON COLUMN evmig.migration.checksum IS 'sha256 of the text in UTF8';
COMMENT ON COLUMN evmig.migration.owner IS 'who registered it; it runs with the rights of this role';

CREATE TABLE evmig.index (
	name text PRIMARY KEY CHECK (name <> ''),
	target regclass NOT NULL,
	index_name name NOT NULL,
	is_unique boolean NOT NULL,
	tail text NOT NULL,
	definition text NOT NULL,
	owner regrole NOT NULL,
	registered_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE evmig.index IS 'registered indexes, to be built concurrently';
COMMENT ON COLUMN evmig.index.tail IS 'the definition as the server deparses it, from USING on';
COMMENT ON COLUMN evmig.index.definition IS 'as it was registered';

CREATE TABLE evmig.deploy (
	deploy_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	deployed_by regrole NOT NULL,
	quiesce text NOT NULL,
	wait_for text NOT NULL,
	phases text[] NOT NULL,
	state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'succeeded', 'failed')),
	started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	finished_at timestamptz
);
COMMENT ON TABLE evmig.deploy IS 'deployments; a running one without a session was interrupted';

CREATE TABLE evmig.deploy_item (
	item_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	deploy_id bigint NOT NULL REFERENCES evmig.deploy,
	phase text NOT NULL,
	item text NOT NULL,
	status text NOT NULL,
	seconds float8 NOT NULL,
	job_id bigint,
	detail text,
	recorded_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE evmig.deploy_item IS 'what a deployment did, item by item';
CREATE INDEX deploy_item_deploy ON evmig.deploy_item (deploy_id);

ALTER TABLE evmig.migration ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.index ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.deploy ENABLE ROW LEVEL SECURITY;
ALTER TABLE evmig.deploy_item ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner_only ON evmig.migration FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owner_only ON evmig.index FOR SELECT
	USING (pg_catalog.pg_has_role(owner, 'USAGE')
		OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = target AND pg_catalog.pg_has_role(c.relowner, 'USAGE')));
CREATE POLICY deployer_only ON evmig.deploy FOR SELECT USING (pg_catalog.pg_has_role(deployed_by, 'USAGE'));
CREATE POLICY deployer_only ON evmig.deploy_item FOR SELECT
	USING (EXISTS (SELECT FROM evmig.deploy d WHERE d.deploy_id = deploy_item.deploy_id));
GRANT SELECT ON evmig.migration, evmig.index, evmig.deploy, evmig.deploy_item TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('evmig.migration', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.index', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.deploy', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.deploy_item', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.deploy_deploy_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evmig.deploy_item_item_id_seq', '');

CREATE FUNCTION @extschema@.evmig_migration_register(version text, sql text, description text DEFAULT NULL,
	out_of_order boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_migration_register(text, text, text, boolean) IS
'registers a schema migration for evmig_deploy; returns false where the same text is registered already. version: sorts naturally (2 before 10); sql: statements that run in one transaction, under your search_path of now; out_of_order: allow a version older than the newest applied one. A pending text may be registered anew, an applied one is final. Runs nothing, locks its own row only. Needs CREATE on the database. Raises VG001 where the guard finds an error in it (data changes belong to backfills, indexes to registered indexes), syntax_error, invalid_parameter_value, object_not_in_prerequisite_state for another text of an applied version or one out of order.';

CREATE FUNCTION @extschema@.evmig_migration_unregister(version text) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_migration_unregister(text) IS
'forgets a registered migration that is pending; an applied one stays on record. version: as it was registered. Runs nothing, locks its own row only, and so waits for a deployment that is just applying it. Needs CREATE on the database. Raises undefined_object, object_not_in_prerequisite_state where it is applied or adopted, insufficient_privilege where it was registered by a role that you are not a member of.';

CREATE FUNCTION @extschema@.evmig_migration_baseline(up_to text) RETURNS int
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_migration_baseline(text) IS
'adopts a database whose migrations up to this version another tool has applied: registered ones that are pending count as adopted, and older versions are refused from now on; returns how many were pending. Runs nothing. Needs CREATE on the database. Raises invalid_parameter_value for something that is no version, insufficient_privilege where a pending one was registered by a role that you are not a member of.';

CREATE FUNCTION @extschema@.evmig_index_register(name text, definition text) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_index_register(text, text) IS
'registers an index to be built concurrently by evmig_deploy or evmig_index_build_all; returns false where the same one is registered already. definition: exactly one CREATE [UNIQUE] INDEX, CONCURRENTLY is implied; an index without a name gets that of the registration. On a partitioned table: ON ONLY the parent, each partition''s concurrently, then attached; the job fails where it could not lock an index for that within evmig.lock_wait_max, and the next one goes on from there. Builds nothing; takes ACCESS SHARE on the table. Needs the privileges of the table''s owner. Raises syntax_error, insufficient_privilege, object_in_use while a job is dropping it, feature_not_supported for a temporary table, for ON ONLY a partitioned one and for a unique index without its partition key, and what CREATE INDEX raises.';

CREATE FUNCTION @extschema@.evmig_index_unregister(name text, drop_index boolean DEFAULT false) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_index_unregister(text, boolean) IS
'forgets a registered index. drop_index: a job, whose id is returned, drops it, and one that builds it is cancelled; else, or where there is none to drop, NULL is returned. On a table: DROP INDEX CONCURRENTLY (SHARE UPDATE EXCLUSIVE: reads and writes go on). On a partitioned table, which the server cannot do concurrently, with the indexes of all partitions that are attached to it, and what a build has left: ACCESS EXCLUSIVE on the table, its index, all partitions and their indexes, in this order, all of them or none. They are polled for: a try queues for all of them together evmig.step_lock_timeout at most, then lets go of them; after evmig.lock_wait_max the job fails, naming who is in the way, and the index stays. Needs the privileges of the table''s owner. Raises undefined_object, object_not_in_prerequisite_state where another index has the name, dependent_objects_still_exist for one that belongs to a constraint or is the replica identity.';

CREATE FUNCTION @extschema@.evmig_index_build_all() RETURNS SETOF bigint
AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_index_build_all() IS
'starts a job, when the transaction commits, for each registered index on your tables that is not there or is invalid (it is dropped first); returns the jobs'' ids. One that is there and equal is skipped; one with another definition is a warning with both texts, as is one whose job is paused; a job whose worker is gone is started again. The indexes of one table and its partitions are built one after the other: jobs that wait for their turn are queued, without a worker. The jobs take SHARE UPDATE EXCLUSIVE: reads and writes go on. On a partitioned table they also poll for SHARE on the parent and ACCESS EXCLUSIVE on a partition''s new index, queueing evmig.step_lock_timeout at most, and hold each for a moment.';

CREATE PROCEDURE @extschema@.evmig_deploy(quiesce text DEFAULT 'warn', wait_for text DEFAULT 'migrations',
	phases text[] DEFAULT '{connections,migrations,indexes,backfills}')
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.evmig_deploy(text, text, text[]) IS
'deploys: lists other sessions, applies the pending migrations in order, starts the jobs of registered indexes and of backfills that are due; a NOTICE for each item. quiesce, on other sessions: warn, wait (evmig.quiesce_timeout for them to go), fail, or terminate (ends those that are there, not those that connect again; needs superuser or pg_signal_backend); wait_for: migrations, indexes or backfills, how far the call waits; phases: which lanes. Each migration runs in a transaction of its own, as the role that registered it, and waits for locks evmig.ddl_lock_timeout at most from its first strong one on; on a lock timeout or deadlock it is tried again, evmig.ddl_retries times, with growing pauses. A failing index or backfill is a warning, a failing migration the error, with its statement and line; what was applied stays. One deployment at a time: a second one waits evmig.deploy_wait_max. Must be called on its own, outside a transaction block; holds no snapshot while it waits. Needs CREATE on the database. Raises the migration''s error, object_in_use, invalid_parameter_value, insufficient_privilege.';

CREATE FUNCTION @extschema@.evmig_deploy_report(deploy bigint DEFAULT NULL)
RETURNS TABLE (phase text, item text, status text, seconds float8, detail text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_deploy_report(bigint) IS
'what a deployment of yours, or of a role that you are a member of, did, in order; jobs as they stand now. deploy: its number, NULL the newest. Takes no lock. Needs CREATE on the database. Raises undefined_object.';

CREATE FUNCTION @extschema@.evmig_deploy_summary(deploy bigint DEFAULT NULL, format text DEFAULT 'markdown') RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_deploy_summary(bigint, text) IS
'the same as evmig_deploy_report as a page, with the verdict on top. deploy: NULL is the newest; format: markdown, json or html. Takes no lock. Needs CREATE on the database. Raises undefined_object, invalid_parameter_value.';

CREATE FUNCTION @extschema@.evmig_readiness()
RETURNS TABLE (point text, evidence text, result text)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_readiness() IS
'six points of a production check, each with what was measured: backfills cannot fail a deployment (a probe, rolled back), batches skip what is locked (their statements, read by the parser), backfills are idempotent and resumable, batches are small and committed (this database''s own jobs), timeouts for data and for DDL are apart, the guard catches every data rule (its own cases). result: pass, fail, or unknown where nothing has run yet that could be measured. Takes ROW EXCLUSIVE on the targets of your registered backfills until the transaction ends. Needs CREATE on the database.';

-- ---------------------------------------------------------------------
-- Reports
-- ---------------------------------------------------------------------

CREATE FUNCTION @extschema@.evmig_job_report(job bigint, format text DEFAULT 'markdown') RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.evmig_job_report(bigint, text) IS
'what a job did: its result, facts, counters, tenants, rows that failed, and what the writers of its table saw meanwhile. format: markdown, json, or html (one page that needs nothing from elsewhere). Takes no lock on the target. Raises undefined_object for a job that you may not see, invalid_parameter_value.';
