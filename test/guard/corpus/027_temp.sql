CREATE TEMP TABLE ids (id bigint);
INSERT INTO ids SELECT lead_id FROM leads;
UPDATE ids SET id = id + 1;
DROP TABLE ids;
