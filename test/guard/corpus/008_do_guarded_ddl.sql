DO $do$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_type WHERE typname = 'call_direction') THEN
		CREATE TYPE call_direction AS ENUM ('in', 'out');
	END IF;
	RAISE NOTICE 'done: UPDATE leads SET x = 1 was not needed';
END
$do$;
