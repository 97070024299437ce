-- the project's 30 migrations (schema only, six of them register a backfill)
-- and 5 indexes
SET client_min_messages = warning;
SELECT evmig_migration_register('1', 'ALTER TABLE leads ADD COLUMN last_call_direction text, ADD COLUMN last_call_at timestamptz');
SELECT evmig_migration_register('2', 'ALTER TABLE leads ADD COLUMN phone_digits text');
SELECT evmig_migration_register('3', 'ALTER TABLE leads ADD COLUMN grade text');
SELECT evmig_migration_register('4', 'ALTER TABLE call_log ADD COLUMN minutes int');
SELECT evmig_migration_register('5', 'ALTER TABLE invoices ADD COLUMN part_net int');
SELECT evmig_migration_register('6', 'CREATE TABLE sources (id int PRIMARY KEY, name text NOT NULL)');
SELECT evmig_migration_register('7', 'ALTER TABLE leads ALTER COLUMN score SET DEFAULT 1');
SELECT evmig_migration_register('8', 'CREATE VIEW hot_leads AS SELECT id, name FROM leads WHERE score > 10');
SELECT evmig_migration_register('9', 'ALTER TABLE leads ADD CONSTRAINT leads_score CHECK (score >= 0) NOT VALID');
SELECT evmig_migration_register('10', 'ALTER TABLE leads VALIDATE CONSTRAINT leads_score');
SELECT evmig_migration_register('11', 'COMMENT ON COLUMN leads.last_call_direction IS ''inbound or outbound''');
SELECT evmig_migration_register((11 + g)::text, format('CREATE TABLE feature_%s (id int PRIMARY KEY, note text)', g))
	FROM generate_series(1, 11) g;
SELECT evmig_migration_register('23', 'ALTER TABLE invoices ADD COLUMN sent_at timestamptz', 'meets a report that reads for long');
SELECT evmig_migration_register('24', 'CREATE FUNCTION lead_label(leads) RETURNS text LANGUAGE sql STABLE AS $$ SELECT $1.name $$');
SELECT evmig_migration_register('25', $$SELECT evmig_backfill_register('leads_last_call_direction', 'leads',
	'last_call_direction = (SELECT c.direction FROM call_log c WHERE c.lead_id = leads.id ORDER BY c.created_at DESC LIMIT 1)',
	'last_call_direction IS NULL', priority => 'high', tenant_column => 'tenant_id')$$);
SELECT evmig_migration_register('26', $$SELECT evmig_backfill_register('leads_last_call_at', 'leads',
	'last_call_at = (SELECT max(c.created_at) FROM call_log c WHERE c.lead_id = leads.id)', 'last_call_at IS NULL')$$);
SELECT evmig_migration_register('27', $$SELECT evmig_backfill_register('leads_phone_digits', 'leads',
	'phone_digits = translate(phone, '' '', '''')', 'phone_digits IS NULL')$$);
SELECT evmig_migration_register('28', $$SELECT evmig_backfill_register('leads_grade', 'leads',
	'grade = CASE WHEN score > 10 THEN ''A'' ELSE ''B'' END', 'grade IS NULL', priority => 'low')$$);
SELECT evmig_migration_register('29', $$SELECT evmig_backfill_register('call_log_minutes', 'call_log',
	'minutes = seconds / 60', 'minutes IS NULL AND id <= 40000')$$);
SELECT evmig_migration_register('30', $$SELECT evmig_backfill_register('invoices_part_net', 'invoices',
	'part_net = net / parts', 'part_net IS NULL', description => 'one invoice has no parts: division by zero')$$);

SELECT evmig_index_register('call_log_lead', 'CREATE INDEX call_log_lead ON call_log (lead_id, created_at DESC)');
SELECT evmig_index_register('leads_tenant', 'CREATE INDEX leads_tenant ON leads (tenant_id)');
SELECT evmig_index_register('leads_name', 'CREATE INDEX leads_name ON leads (lower(name))');
SELECT evmig_index_register('invoices_lead', 'CREATE INDEX invoices_lead ON invoices (lead_id)');
SELECT evmig_index_register('leads_phone', 'CREATE UNIQUE INDEX leads_phone ON leads (phone)');
