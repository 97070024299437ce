CREATE FUNCTION set_region(t int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE leads SET region = 'eu' WHERE tenant_id = t;
END
$$;
DO $$
DECLARE
	t int := 7;
BEGIN
	IF t > 5 THEN
		PERFORM set_region(t);
	END IF;
EXCEPTION WHEN undefined_column THEN
	RAISE NOTICE 'DELETE FROM leads is for next week';
END
$$;
