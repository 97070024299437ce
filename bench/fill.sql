-- Ways to fill the NULLs of fill_target, each as a procedure that commits as
-- it goes.  fill_target is made anew from fill_source before each.

CREATE PROCEDURE one_update() LANGUAGE plpgsql AS $$
BEGIN
	UPDATE fill_target SET request_id = gen_random_uuid() WHERE request_id IS NULL;
END $$;

-- what everyone copies: the next rows without a key, from the start each time
CREATE PROCEDURE limit_skip_locked(batch int) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		UPDATE fill_target SET request_id = gen_random_uuid() WHERE id = ANY (ARRAY(
			SELECT id FROM fill_target WHERE request_id IS NULL LIMIT batch FOR UPDATE SKIP LOCKED));
		EXIT WHEN NOT FOUND;
		COMMIT;
	END LOOP;
END $$;

CREATE PROCEDURE key_ranges(width int) LANGUAGE plpgsql AS $$
DECLARE
	top bigint := (SELECT max(id) FROM fill_target);
	low bigint := 0;
BEGIN
	WHILE low <= top LOOP
		UPDATE fill_target SET request_id = gen_random_uuid()
		WHERE id > low AND id <= low + width AND request_id IS NULL;
		COMMIT;
		low := low + width;
	END LOOP;
END $$;

CREATE PROCEDURE block_ranges(width int) LANGUAGE plpgsql AS $$
DECLARE
	top bigint := pg_relation_size('fill_target') / current_setting('block_size')::int;
	low bigint := 0;
BEGIN
	WHILE low < top LOOP
		EXECUTE format('UPDATE fill_target SET request_id = gen_random_uuid()
			WHERE ctid >= ''(%s,0)'' AND ctid < ''(%s,0)'' AND request_id IS NULL', low, low + width);
		COMMIT;
		low := low + width;
	END LOOP;
END $$;

CREATE PROCEDURE evmig_fill(flat_out boolean) LANGUAGE plpgsql AS $$
DECLARE
	job bigint;
BEGIN
	PERFORM set_config('evmig.duty_cycle', CASE WHEN flat_out THEN '1' ELSE '0.5' END, false),
		set_config('evmig.batch_sleep', CASE WHEN flat_out THEN '0' ELSE '50' END, false);
	job := evmig_backfill_request_id('fill_target');
	COMMIT;
	WHILE EXISTS (SELECT FROM evmig_jobs WHERE job_id = job AND state IN ('queued', 'running')) LOOP
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;

CREATE TABLE fill_source AS
SELECT g AS id, CASE WHEN g * 7919::bigint % 100 >= 40 THEN gen_random_uuid() END AS request_id,
	g % 1000 AS tenant_id, timestamptz '2026-01-01 00:00+00' + g * interval '1 second' AS ts,
	jsonb_build_object('event', g, 'note', md5(g::text), 'agent', 'agent ' || g % 977) AS payload
FROM generate_series(1::bigint, :rows) g;

CREATE TABLE fill_result (run serial, pattern text, seconds float8, wal numeric, growth bigint, remaining bigint);

CREATE PROCEDURE prepare_target() LANGUAGE plpgsql AS $$
BEGIN
	DROP TABLE IF EXISTS fill_target;
	CREATE TABLE fill_target WITH (autovacuum_enabled = off) AS TABLE fill_source;
	ALTER TABLE fill_target ADD PRIMARY KEY (id);
	CREATE INDEX ON fill_target (ts);
	COMMIT;
END $$;
