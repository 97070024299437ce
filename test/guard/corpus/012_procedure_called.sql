CREATE PROCEDURE drop_test_leads() LANGUAGE plpgsql AS $body$
BEGIN
	DELETE FROM leads WHERE phone LIKE '+1555%';
	COMMIT;
END
$body$;
CALL drop_test_leads();
