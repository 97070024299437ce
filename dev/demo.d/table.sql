-- The table of the demo, dirty: rows without a request_id, and events that
-- an at-least-once client sent 2, 10 or 1,000 times.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- shop owns the table, app is the application; author opens the runbook, approver approves it
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest('{shop, app, author, approver}'::name[]) name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
GRANT shop TO author, approver;
GRANT CREATE ON SCHEMA public TO shop;

SET ROLE shop;
CREATE TABLE business_events (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	request_id uuid,
	tenant_id int NOT NULL,
	ts timestamptz NOT NULL,
	kind text NOT NULL,
	payload jsonb NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON business_events TO app;

/*
 * Row g's class comes from a permutation of the numbers, so that the members
 * of a group lie all over the table.  Of 500,000: 6 % without a key, 5,000
 * pairs, 500 groups of 10, 5 of 1,000.  A repeat is exact: tenant, kind and
 * payload follow from the event's number.
 */
INSERT INTO business_events (request_id, tenant_id, ts, kind, payload)
SELECT CASE WHEN event IS NOT NULL THEN md5('event ' || event)::uuid WHEN r >= 30000 THEN gen_random_uuid() END,
	CASE WHEN event IS NOT NULL THEN 900 + event % 100 ELSE g % 900 END,
	timestamptz '2026-01-01 00:00+00' + g * interval '1 second',
	(ARRAY['call', 'sms', 'mail', 'web'])[1 + coalesce(event, g) % 4],
	jsonb_build_object('event', coalesce(event, g), 'note', md5(coalesce(event, g)::text), 'agent', 'agent ' || coalesce(event, g) % 977)
FROM generate_series(1, :rows) g,
	LATERAL (SELECT g * 7919::bigint % :rows * 500000 / :rows AS r) p,
	LATERAL (SELECT CASE WHEN r >= 30000 AND r < 40000 THEN r % 5000
		WHEN r >= 40000 AND r < 45000 THEN 10000 + r % 500
		WHEN r >= 45000 AND r < 50000 THEN 20000 + r % 5 END AS event) e;
CREATE INDEX ON business_events (ts);
RESET ROLE;
VACUUM (ANALYZE) business_events;
