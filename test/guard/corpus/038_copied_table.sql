CREATE TABLE leads_copy AS SELECT * FROM leads;
UPDATE leads_copy SET status = 'x' WHERE lead_id = 1;
CREATE TABLE fresh (LIKE leads);
UPDATE fresh SET status = 'x' WHERE lead_id = 1;
