--
-- evmig_runbook_script: the approved plan runs in a database without the extension
--
\set VERBOSITY default
SET client_min_messages = warning;
\getenv dir PG_ABS_BUILDDIR
\set file :dir '/results/runbook_script.psql'
\setenv EVMIG_FILE :file
SELECT current_database() AS home \gset
ALTER SEQUENCE evmig.runbook_runbook_id_seq RESTART 8001;

-- one dirty table for each mode, with names that need quoting
CREATE PROCEDURE make_table(name text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($sql$
		CREATE TABLE %1$s ("Nr" int PRIMARY KEY, "k'ey" uuid, "wh""en" timestamptz, "pay$evmig$load" json, "näme|`x`" text,
			long int GENERATED ALWAYS AS (length("näme|`x`")) STORED);
		INSERT INTO %1$s
		SELECT i, CASE WHEN i %% 10 > 0 THEN md5((i %% 900)::text)::uuid END, timestamptz '2026-01-01' + i * interval '1 s',
			'{"a": 1}', CASE WHEN i > 990 THEN 'another' ELSE 'x' END
		FROM generate_series(1, 1000) i$sql$, name);
END $$;
CREATE FUNCTION plan(name text, mode text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id bigint := evmig_runbook_open(name::regclass, 'k''ey', 'wh"en', mode);
BEGIN
	PERFORM evmig_runbook_attest(id, (SELECT jsonb_object_agg(i.name, 'seen') FROM evmig.runbook_item i));
	PERFORM evmig_runbook_approve(id, E'a note\n; DROP TABLE x');
	RETURN evmig_runbook_script(id);
END $$;
SELECT set_config('evmig.max_loser_pct', '100', false);
CREATE SCHEMA "o'x";
CALL make_table('"o''x"."Archive "".table"');
CALL make_table('"o''x"."Rekey $evmig$"');
CALL make_table('"o''x"."Auto"');
SELECT plan('"o''x"."Archive "".table"', 'archive') AS script
UNION ALL SELECT plan('"o''x"."Rekey $evmig$"', 'rekey')
UNION ALL SELECT plan('"o''x"."Auto"', 'auto') \g (format=unaligned tuples_only=on) :file

-- the same tables elsewhere
CREATE DATABASE runbook_script;
SELECT pg_get_functiondef('make_table'::regproc) AS make_table \gset
\c runbook_script
\setenv EVMIG_DB runbook_script
SET client_min_messages = warning;
:make_table;
CREATE SCHEMA "o'x";
CALL make_table('"o''x"."Archive "".table"');
CALL make_table('"o''x"."Rekey $evmig$"');
CALL make_table('"o''x"."Auto"');
\! psql -X -q -d "$EVMIG_DB" -f "$EVMIG_FILE" >/dev/null 2>&1; echo "psql ends with $?"

SELECT 'archive' AS mode, count(*), count("k'ey") AS keys, count(DISTINCT "k'ey") AS distinct_keys, max("Nr") FROM "o'x"."Archive "".table"
UNION ALL SELECT 'rekey', count(*), count("k'ey"), count(DISTINCT "k'ey"), max("Nr") FROM "o'x"."Rekey $evmig$"
UNION ALL SELECT 'auto', count(*), count("k'ey"), count(DISTINCT "k'ey"), max("Nr") FROM "o'x"."Auto";
SELECT count(*), min("Nr"), max(long) FROM "o'x"."Archive "".table_dupes_archived";
SELECT count(*), count(DISTINCT new_key), min((row_identity ->> 'Nr')::int) FROM "o'x"."Rekey $evmig$_rekeyed";
SELECT (SELECT count(*) FROM "o'x"."Auto_dupes_archived") AS archived, (SELECT count(*) FROM "o'x"."Auto_rekeyed") AS rekeyed;
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid::regclass::text LIKE '%o''x%' ORDER BY 1;
SELECT attrelid::regclass, attnotnull FROM pg_attribute WHERE attname = 'k''ey' AND attnotnull ORDER BY 1;
SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'c';
-- the guard still fills
INSERT INTO "o'x"."Auto" ("Nr") VALUES (2000) RETURNING "k'ey" IS NOT NULL AS filled;

-- run again it finds nothing to do
\! psql -X -q -d "$EVMIG_DB" -f "$EVMIG_FILE" >/dev/null 2>&1; echo "psql ends with $?"
SELECT count(*), count(DISTINCT "k'ey") FROM "o'x"."Archive "".table";

\c :home
SET client_min_messages = warning;
DROP DATABASE runbook_script;

-- ---- path B
\setenv EVMIG_DB :home
CREATE ROLE script_owner LOGIN;
CREATE ROLE script_second LOGIN IN ROLE script_owner;
CREATE SCHEMA script AUTHORIZATION script_owner;
SET search_path = script, public;
SET SESSION AUTHORIZATION script_owner;
CREATE TABLE empty (request_id uuid, ts date);
SELECT evmig_runbook_open('empty') AS id \gset
SELECT evmig_runbook_attest(:id, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item));
SET SESSION AUTHORIZATION script_second;
SELECT evmig_runbook_approve(:id, 'reset', 'B');
SELECT evmig_runbook_script(:id) \g (format=unaligned tuples_only=on) :file
\! psql -X -q -d "$EVMIG_DB" -f "$EVMIG_FILE" >/dev/null 2>&1; echo "psql ends with $?"
SELECT indexrelid::regclass, indisunique FROM pg_index WHERE indrelid = 'empty'::regclass;
SELECT attnotnull FROM pg_attribute WHERE attrelid = 'empty'::regclass AND attname = 'request_id';
-- it looks at the table itself: a row is in the way
INSERT INTO empty VALUES (gen_random_uuid());
\! psql -X -q -d "$EVMIG_DB" -f "$EVMIG_FILE" >/dev/null 2>&1; echo "psql ends with $?"
RESET SESSION AUTHORIZATION;
DROP SCHEMA script, "o'x" CASCADE;
DROP PROCEDURE make_table(text);
DROP FUNCTION plan(text, text);
DROP ROLE script_owner, script_second;
