-- The table that sales works on.
CREATE TABLE leads (
	lead_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant_id int NOT NULL,
	phone text,
	status text NOT NULL DEFAULT 'new',
	last_update timestamptz,
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE leads IS 'DELETE FROM this table goes through the archive; UPDATE leads SET status is the app''s';
CREATE INDEX leads_tenant ON leads (tenant_id);
INSERT INTO leads (tenant_id, phone) VALUES (1, '+100');
