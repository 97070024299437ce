CREATE FUNCTION normalise_phones() RETURNS void LANGUAGE sql AS $$
	UPDATE leads SET phone = regexp_replace(phone, '[^0-9+]', '', 'g');
$$;
SELECT normalise_phones();
DROP FUNCTION normalise_phones();
