-- evmig_audit: what is wrong with a key column
CREATE ROLE audit_reader;
CREATE ROLE audit_stranger;
CREATE SCHEMA audit_test;
GRANT USAGE ON SCHEMA audit_test TO PUBLIC;
SET search_path = audit_test, public;

CREATE TABLE business_events (id bigint PRIMARY KEY, request_id uuid, ts timestamptz, payload text);
SELECT evmig_audit();
INSERT INTO business_events SELECT i, NULL, now(), 'x' FROM generate_series(1, 3) i;
SELECT evmig_audit();
INSERT INTO business_events
	SELECT i, md5((i % 7)::text)::uuid, '2026-01-01'::timestamptz + i * interval '1 s', 'x' FROM generate_series(11, 30) i;
INSERT INTO business_events SELECT i, md5(i::text)::uuid, now(), 'x' FROM generate_series(31, 40) i;
SELECT * FROM evmig_audit() \gx
SELECT * FROM evmig_audit('business_events', 'id');
SELECT * FROM evmig_audit(key_column => 'payload');

-- equality is the key type's, as a unique index sees it
CREATE TABLE numbers (request_id numeric);
INSERT INTO numbers VALUES (1.0), (1.00), (1), (2), (NULL), ('NaN'), ('NaN');
SELECT * FROM evmig_audit('numbers');
CREATE TABLE floats (request_id float8);
INSERT INTO floats VALUES (0), ('-0'), ('NaN'), ('NaN');
SELECT * FROM evmig_audit('floats');
CREATE TABLE padded (request_id char(4));
INSERT INTO padded VALUES ('a'), ('a '), ('b');
SELECT * FROM evmig_audit('padded');
CREATE DOMAIN key_domain AS text CHECK (value <> 'bad');
CREATE TABLE domains (request_id key_domain);
INSERT INTO domains VALUES ('a'), ('a'), (NULL);
SELECT * FROM evmig_audit('domains');

-- an operator in front of the search path changes nothing
CREATE FUNCTION never(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE FUNCTION count() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 42::bigint';
CREATE OPERATOR = (LEFTARG = int, RIGHTARG = int, FUNCTION = never);
CREATE TABLE plain (request_id int, ts int);
INSERT INTO plain VALUES (1, 1), (1, 2), (2, 3);
SET search_path = audit_test, pg_catalog, public;
SELECT * FROM evmig_audit('plain');
SELECT * FROM evmig_duplicates('plain');
SET search_path = audit_test, public;

-- names
CREATE TABLE "Weird "".table" ("o'x ""é" text, "ts "";" int);
INSERT INTO "Weird "".table" VALUES ('a', 1), ('a', 2), (NULL, 3);
SELECT * FROM evmig_audit('"Weird "".table"', 'o''x "é');
SET evmig.target = 'audit_test."Weird "".table"';
SET evmig.key_column = 'o''x "é';
SELECT * FROM evmig_audit();
RESET evmig.target;
RESET evmig.key_column;

-- a read-only transaction will do, and one reads what it has written itself
BEGIN TRANSACTION READ ONLY;
SELECT * FROM evmig_audit('numbers');
COMMIT;
BEGIN;
INSERT INTO numbers VALUES (2);
SELECT * FROM evmig_audit('numbers');
SELECT mode FROM pg_locks WHERE relation = 'numbers'::regclass AND pid = pg_backend_pid() ORDER BY 1;
ROLLBACK;

-- bad input
SELECT evmig_audit('no_such_table');
SELECT evmig_audit('business_events', 'no_such_column');
SELECT evmig_audit('business_events', 'ctid');
CREATE VIEW a_view AS SELECT * FROM business_events;
SELECT evmig_audit('a_view');
CREATE TABLE parts (request_id int) PARTITION BY LIST (request_id);
SELECT evmig_audit('parts');
SELECT evmig_audit('pg_catalog.pg_class', 'relname');
CREATE TABLE points (request_id point);
SELECT evmig_audit('points');
SET evmig.target = '';
SELECT evmig_audit();
RESET evmig.target;

-- privileges: the key column is enough
GRANT SELECT (request_id) ON business_events TO audit_reader;
SET ROLE audit_reader;
SELECT evmig_audit('business_events');
SELECT evmig_audit('business_events', 'payload');
SELECT * FROM evmig_duplicates('business_events');
SET ROLE audit_stranger;
SELECT evmig_audit('business_events');
RESET ROLE;

-- never fewer rows as if they were all
GRANT SELECT ON business_events TO audit_reader;
ALTER TABLE business_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY first_rows ON business_events FOR SELECT USING (id < 20);
SELECT * FROM evmig_audit('business_events');
SET ROLE audit_reader;
SELECT * FROM evmig_audit('business_events');
SELECT * FROM evmig_duplicates('business_events');
SET row_security = off;
SELECT * FROM evmig_audit('business_events');
RESET row_security;
RESET ROLE;
ALTER TABLE business_events OWNER TO audit_reader;
SET ROLE audit_reader;
SELECT * FROM evmig_audit('business_events');
ALTER TABLE business_events FORCE ROW LEVEL SECURITY;
SELECT * FROM evmig_audit('business_events');
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA audit_test CASCADE;
DROP ROLE audit_reader, audit_stranger;
