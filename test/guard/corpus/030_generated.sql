ALTER TABLE leads ADD COLUMN phone_norm text;
CREATE FUNCTION norm(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT regexp_replace($1, '\D', '', 'g') $$;
CREATE INDEX CONCURRENTLY leads_norm ON leads (norm(phone));
