-- evmig:allow data-update
UPDATE leads SET status = 'won' WHERE lead_id = 7;
-- evmig:allow data-delete: nothing is deleted here
ALTER TABLE leads ADD COLUMN won_at timestamptz;
