--
-- The extension in other schemas, and what is left when it goes
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE install_owner LOGIN;
CREATE DATABASE evmig_install OWNER install_owner TEMPLATE template0;
SELECT current_database() AS maindb \gset
\c evmig_install
SET client_min_messages = warning;

-- not for everybody
SET ROLE install_owner;
CREATE EXTENSION evmig;
RESET ROLE;

-- functions in a schema of the user's choice, tables in schema evmig
CREATE SCHEMA tools;
GRANT USAGE ON SCHEMA tools TO install_owner;
CREATE EXTENSION evmig SCHEMA tools;
SET ROLE install_owner;
CREATE TABLE events (id int, request_id uuid);
INSERT INTO events SELECT g FROM generate_series(1, 100) g;
SELECT tools.evmig_backfill_request_id('events') AS job \gset
CALL tools.evmig_wait(:job);
SELECT state, rows_done FROM tools.evmig_jobs;
SELECT * FROM tools.evmig_audit('events');
RESET ROLE;
DROP EXTENSION evmig;
SELECT nspname FROM pg_namespace WHERE nspname IN ('evmig', 'tools');
SELECT count(*) FROM events WHERE request_id IS NOT NULL;

-- everything in one schema
CREATE SCHEMA evmig;
CREATE EXTENSION evmig SCHEMA evmig;
SET ROLE install_owner;
UPDATE events SET request_id = NULL;
SELECT evmig.evmig_backfill_request_id('events') AS job \gset
CALL evmig.evmig_wait(:job);
SELECT state, rows_done FROM evmig.evmig_jobs;
RESET ROLE;
DROP EXTENSION evmig;
SELECT nspname FROM pg_namespace WHERE nspname = 'evmig';
DROP SCHEMA evmig;

-- a schema of that name that is somebody's own is left alone
CREATE SCHEMA evmig;
CREATE EXTENSION evmig SCHEMA public;
DROP SCHEMA evmig;

-- it cannot be moved: its tables are elsewhere
CREATE EXTENSION evmig;
ALTER EXTENSION evmig SET SCHEMA tools;

\c :maindb
SET client_min_messages = warning;
DROP DATABASE evmig_install WITH (FORCE);
DROP ROLE install_owner;
