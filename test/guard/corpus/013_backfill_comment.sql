-- Backfill: direction of the last call
ALTER TABLE leads ADD COLUMN last_direction text;
