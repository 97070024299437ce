CREATE FUNCTION next_ref() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	UPDATE counters SET n = n + 1 WHERE name = 'ref';
	RETURN (SELECT n FROM counters WHERE name = 'ref');
END
$$;
ALTER TABLE leads ADD COLUMN ref text DEFAULT next_ref();
