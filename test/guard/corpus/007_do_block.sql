DO $$
DECLARE
	r record;
BEGIN
	-- page by page
	FOR r IN SELECT tenant_id FROM tenants LOOP
		UPDATE leads SET status = 'new' WHERE tenant_id = r.tenant_id AND status IS NULL;
	END LOOP;
END
$$;
