-- Adds a column that may stay NULL. No backfill, the application reads both.
ALTER TABLE leads ADD COLUMN external_ref text;
