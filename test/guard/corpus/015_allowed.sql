-- evmig:allow data-update: nine rows, agreed with sales
UPDATE lead_status SET label = upper(label);
UPDATE lead_status SET label = lower(label);
DELETE FROM lead_status WHERE code = 'x'; -- evmig:allow data-delete: one row
