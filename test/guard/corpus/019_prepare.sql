PREPARE promote (int) AS UPDATE leads SET status = 'won' WHERE lead_id = $1;
EXECUTE promote(7);
PREPARE unused AS DELETE FROM leads;
