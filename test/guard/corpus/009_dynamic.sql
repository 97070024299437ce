DO $$
DECLARE
	t text;
BEGIN
	EXECUTE 'UPDATE leads SET phone = NULL WHERE phone = ''none'' OR phone IS NULL';
	EXECUTE format('DELETE FROM %I WHERE lead_id IS NULL', 'calls');
	SELECT relname INTO t FROM pg_catalog.pg_class LIMIT 1;
	EXECUTE t;
END
$$;
