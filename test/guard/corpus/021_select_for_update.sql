SELECT lead_id FROM leads WHERE lead_id = 1 FOR UPDATE;
CREATE VIEW open_leads AS SELECT lead_id, last_update, status AS "set" FROM leads WHERE status <> 'lost';
CREATE RULE open_leads_del AS ON DELETE TO open_leads DO INSTEAD UPDATE leads SET status = 'lost' WHERE lead_id = OLD.lead_id;
