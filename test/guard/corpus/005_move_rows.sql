CREATE TABLE leads_archive (LIKE leads INCLUDING ALL);
WITH gone AS (
	DELETE FROM leads WHERE created_at < '2019-01-01' RETURNING *
)
INSERT INTO leads_archive SELECT * FROM gone;
