--
-- evmig.runbook_event: nobody rewrites it, and whoever does is found out
--
\set VERBOSITY default
SET client_min_messages = warning;
CREATE ROLE events_owner LOGIN;
CREATE ROLE events_member IN ROLE events_owner;
CREATE ROLE events_other;
CREATE SCHEMA runbook_events AUTHORIZATION events_owner;
SET search_path = runbook_events, public;
ALTER SEQUENCE evmig.runbook_runbook_id_seq RESTART 6001;
SET ROLE events_owner;
CREATE TABLE business_events (id int PRIMARY KEY, request_id uuid, ts timestamptz);
SELECT evmig_runbook_open() AS id \gset
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
SELECT evmig_runbook_attest(:id, 'restore_point', 'Beweis: größer als ''nichts''', '2099-01-01');
RESET TimeZone;
RESET DateStyle;
RESET ROLE;

CREATE FUNCTION chain(id bigint) RETURNS text LANGUAGE sql AS
	$$ SELECT coalesce(r #>> '{chain,problem}', 'whole') FROM (SELECT public.evmig_runbook_report(id, 'json')::jsonb AS r) x $$;
SELECT chain(:id);

-- the same hashes by hand, in another time zone
SET TimeZone = 'America/Caracas';
SELECT bool_and(n.previous_sha256 = sha256(convert_to(jsonb_build_array(e.runbook_id, e.seq,
	to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), e.event, e.subject, e.job_id,
	e.session_role, e.role, e.data, encode(e.previous_sha256, 'hex'))::text, 'UTF8'))), count(*)
FROM evmig.runbook_event e JOIN evmig.runbook_event n ON n.runbook_id = e.runbook_id AND n.seq = e.seq + 1
WHERE e.runbook_id = :id;
RESET TimeZone;

-- ---- refused for everybody, the superuser too
UPDATE evmig.runbook_event SET data = '{}' WHERE runbook_id = :id;
UPDATE evmig.runbook_event SET data = '{}' WHERE false;
DELETE FROM evmig.runbook_event WHERE runbook_id = :id;
TRUNCATE evmig.runbook_event;
TRUNCATE evmig.runbook CASCADE;
MERGE INTO evmig.runbook_event e USING (VALUES (1)) v ON e.runbook_id = :id WHEN MATCHED THEN DELETE;
INSERT INTO evmig.runbook_event (runbook_id, seq, event, session_role, role, previous_sha256)
	VALUES (:id, 1, 'x', 'x', 'x', '') ON CONFLICT (runbook_id, seq) DO UPDATE SET event = 'x';
SET session_replication_role = replica;
UPDATE evmig.runbook_event SET data = '{}' WHERE runbook_id = :id;
DELETE FROM evmig.runbook_event WHERE runbook_id = :id;
TRUNCATE evmig.runbook_event;
RESET session_replication_role;
DELETE FROM evmig.runbook WHERE runbook_id = :id;
SET ROLE events_owner;
UPDATE evmig.runbook_event SET data = '{}' WHERE runbook_id = :id;
INSERT INTO evmig.runbook_event (runbook_id, seq, event, session_role, role, previous_sha256)
	VALUES (:id, 100, 'x', 'x', 'x', '');
UPDATE evmig.runbook SET state = 'approved' WHERE runbook_id = :id;
RESET ROLE;
SELECT chain(:id);

-- ---- what a superuser can do all the same shows
BEGIN;
ALTER TABLE evmig.runbook_event DISABLE TRIGGER USER;
UPDATE evmig.runbook_event SET data = data || '{"reason": "other"}' WHERE runbook_id = :id AND event = 'decided';
SELECT chain(:id);
SELECT evmig_runbook_report(:id) ~ 'BROKEN: event 5 does not follow' AS said;
ROLLBACK;
BEGIN;
ALTER TABLE evmig.runbook_event DISABLE TRIGGER USER;
UPDATE evmig.runbook_event SET at = at + interval '1 microsecond' WHERE runbook_id = :id AND seq = 5;
SELECT chain(:id);
ROLLBACK;
BEGIN;
ALTER TABLE evmig.runbook_event DISABLE TRIGGER USER;
DELETE FROM evmig.runbook_event WHERE runbook_id = :id AND seq = 5;
SELECT chain(:id);
ROLLBACK;
BEGIN;
ALTER TABLE evmig.runbook_event DISABLE TRIGGER USER;
DELETE FROM evmig.runbook_event WHERE runbook_id = :id AND seq = 1;
SELECT chain(:id);
ROLLBACK;
BEGIN;
INSERT INTO evmig.runbook_event (runbook_id, seq, event, session_role, role, previous_sha256)
SELECT :id, 6, 'approved', 'events_owner', 'events_owner', head FROM evmig.runbook WHERE runbook_id = :id;
SELECT chain(:id);
ROLLBACK;
SELECT chain(:id);

-- ---- seen by the owner's members, and by nobody else
SET ROLE events_member;
SELECT count(*) FROM evmig.runbook_event WHERE runbook_id = :id;
SET ROLE events_other;
SELECT count(*) FROM evmig.runbook_event;
SELECT evmig_runbook_report(:id);
RESET ROLE;
-- the table's next owner sees it too
CREATE ROLE events_next;
ALTER TABLE business_events OWNER TO events_next;
SET ROLE events_next;
SELECT count(*) FROM evmig.runbook_event WHERE runbook_id = :id;
RESET ROLE;

-- ---- part of a dump
SELECT t.oid::regclass FROM (SELECT unnest(extconfig) AS oid FROM pg_extension WHERE extname = 'evmig') t
WHERE t.oid::regclass::text LIKE 'evmig.runbook%' ORDER BY 1;

DROP FUNCTION chain(bigint);
DROP SCHEMA runbook_events CASCADE;
DROP ROLE events_owner, events_member, events_other, events_next;
