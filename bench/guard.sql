-- Texts for bench/guard: what migrations of a project with a hundred tables look like.
CREATE TABLE file AS SELECT n, 'db/migrate/' || n || '.sql' AS name, format($f$-- %1$s: what the dialer knows of a call
--
-- The table is new; nobody reads it before the next release, so there is
-- nothing to wait for here.
BEGIN;
SET LOCAL lock_timeout = '5s';

CREATE TABLE call_log_%2$s (
	call_id bigint GENERATED ALWAYS AS IDENTITY,
	tenant_id int NOT NULL,
	lead_id bigint NOT NULL,
	direction text NOT NULL,
	started_at timestamptz NOT NULL DEFAULT now(),
	seconds int,
	note text,
	CONSTRAINT call_log_%2$s_pkey PRIMARY KEY (call_id),
	CONSTRAINT call_log_%2$s_direction CHECK (direction IN ('in', 'out'))
);
COMMENT ON TABLE call_log_%2$s IS 'calls, one row each; kept for two years, then removed by the job "retention"';
COMMENT ON COLUMN call_log_%2$s.note IS 'what the agent wrote; may hold personal data, see the handbook';

CREATE INDEX call_log_%2$s_lead ON call_log_%2$s (lead_id, started_at);
CREATE INDEX call_log_%2$s_tenant ON call_log_%2$s (tenant_id) WHERE seconds IS NULL;

-- for the report on Mondays
CREATE OR REPLACE VIEW recent_calls_%2$s AS
	SELECT c.call_id, c.lead_id, c.direction, c.started_at,
		count(*) OVER (PARTITION BY c.lead_id) AS calls,
		CASE WHEN c.seconds > 600 THEN 'long' WHEN c.seconds > 60 THEN 'usual' ELSE 'short' END AS kind
	FROM call_log_%2$s c
	WHERE c.started_at > now() - interval '30 days' AND c.direction = 'in'
	ORDER BY c.started_at DESC;

CREATE FUNCTION call_log_%2$s_touch() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
	NEW.note := coalesce(NEW.note, '');
	RETURN NEW;
END
$body$;
CREATE TRIGGER touch BEFORE INSERT ON call_log_%2$s FOR EACH ROW EXECUTE FUNCTION call_log_%2$s_touch();
GRANT SELECT, INSERT ON call_log_%2$s TO app;
COMMIT;
$f$, n, n % 100) AS sql FROM generate_series(1, 5000) n;

CREATE TABLE big AS SELECT megabytes, (SELECT string_agg(sql, E'\n' ORDER BY n) FROM file
	WHERE n <= (SELECT megabytes * 1000000 / avg(octet_length(sql)) FROM file)) AS sql
FROM unnest('{1,2,4,8}'::int[]) megabytes;

CREATE TABLE block AS SELECT 'b' || n || '.sql' AS name, format($f$DO $do$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT tenant_id FROM tenants LOOP
		UPDATE leads SET status = 'new' WHERE tenant_id = r.tenant_id AND lead_id %% 7 = %s;
		EXECUTE format('DELETE FROM %%I WHERE tenant_id = %%s', 'calls', r.tenant_id);
	END LOOP;
END
$do$;
$f$, n) AS sql FROM generate_series(1, 1000) n;

CREATE TABLE python AS SELECT n || '.py' AS name, format($f$"""what the dialer knows of a call"""
from alembic import op

revision = "%s"


def upgrade():
    # nobody reads it before the next release
    op.execute(
        "ALTER TABLE leads "
        "ADD COLUMN direction text"
    )
    op.execute("""
        UPDATE leads
           SET direction = 'out'
         WHERE direction IS NULL
    """)
$f$, n) AS sql FROM generate_series(1, 2000) n;
VACUUM ANALYZE;
