-- a shop's tables as they are before the deployment
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
GRANT CREATE ON DATABASE shop TO app;
SET ROLE app;
CREATE TABLE leads (id bigint PRIMARY KEY, tenant_id text NOT NULL, name text NOT NULL,
	phone text, score int NOT NULL DEFAULT 0, changed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE call_log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, lead_id bigint NOT NULL,
	direction text NOT NULL, seconds int NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, lead_id bigint NOT NULL,
	net int NOT NULL, parts int NOT NULL);
INSERT INTO leads SELECT g, 'tenant ' || g % 8, 'Lead ' || g, '030 ' || g FROM generate_series(1, :rows) g;
INSERT INTO call_log (lead_id, direction, seconds, created_at)
	SELECT 1 + (g * 7919) % :rows, CASE g % 3 WHEN 0 THEN 'inbound' ELSE 'outbound' END, g % 600,
	now() - g * interval '1 second' FROM generate_series(1, :rows * 2) g;
-- one invoice has no parts
INSERT INTO invoices (lead_id, net, parts) SELECT g, g % 1000, CASE g WHEN 777 THEN 0 ELSE 1 + g % 5 END
	FROM generate_series(1, :rows / 5) g;
