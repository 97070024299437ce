INSERT INTO tenants (tenant_id, name)
SELECT DISTINCT tenant_id, 'tenant ' || tenant_id FROM leads
ON CONFLICT DO NOTHING;
