CREATE PROCEDURE close_old() LANGUAGE sql
BEGIN ATOMIC
	UPDATE leads SET status = CASE WHEN won_at IS NULL THEN 'lost' ELSE 'won' END WHERE closed;
	DELETE FROM reminders WHERE lead_id IN (SELECT lead_id FROM leads WHERE closed);
END;
CALL close_old();
