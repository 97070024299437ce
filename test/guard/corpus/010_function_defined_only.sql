CREATE OR REPLACE FUNCTION leads_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE tenants SET touched_at = now() WHERE tenant_id = NEW.tenant_id;
	RETURN NEW;
END
$$;
CREATE TRIGGER leads_touch AFTER INSERT OR UPDATE OR DELETE ON leads
	FOR EACH ROW EXECUTE FUNCTION leads_touch();
GRANT INSERT, UPDATE, DELETE ON leads TO app;
