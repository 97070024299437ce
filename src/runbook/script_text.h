/*-------------------------------------------------------------------------
 *
 * script_text.h
 *	  The templates of the psql script of a runbook; see script.c.
 *
 * {name} is replaced: {table} and {key} are quoted identifiers, {..._literal}
 * are string literals, {q} is a dollar quote that nothing inside contains.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_SCRIPT_TEXT_H
#define EVMIG_SCRIPT_TEXT_H

/* what it is, and the session's settings */
#define SCRIPT_HEAD \
	"-- Path {path} for {target_comment} ({key_comment}), as approved in runbook {id}\n" \
	"-- by {approver} at {approved_at}.\n" \
	"-- Evidence up to here: sha256 {head}\n" \
	"--\n" \
	"-- Run it as the table's owner on PostgreSQL 15 or later, outside a transaction:\n" \
	"--     psql -X -f this_file\n" \
	"-- It may be run again after any failure: each step looks at what is there.\n" \
	"\\set ON_ERROR_STOP on\n" \
	"\\set AUTOCOMMIT on\n" \
	"\\set VERBOSITY default\n" \
	"SET client_min_messages = notice;\n" \
	"SET lock_timeout = '60s';\n" \
	"SET statement_timeout = 0;\n" \
	"SET idle_in_transaction_session_timeout = '120s';\n" \
	"SET default_transaction_isolation = 'read committed';\n" \
	"SET jit = off;\n"

/* only where the generator needs it */
#define SCRIPT_EXTENSION \
	"\n" \
	"CREATE EXTENSION IF NOT EXISTS pgcrypto;\n"

/* path B */
#define SCRIPT_RESET \
	"\n" \
	"\\echo the empty table: index and NOT NULL at once\n" \
	"BEGIN;\n" \
	"SET LOCAL lock_timeout = '200ms';\n" \
	"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;\n" \
	"DO {q}\n" \
	"BEGIN\n" \
	"\tIF EXISTS (SELECT FROM {table}) THEN\n" \
	"\t\tRAISE EXCEPTION 'the table has rows: path B would not be safe';\n" \
	"\tEND IF;\n" \
	"END\n" \
	"{q};\n" \
	"CREATE UNIQUE INDEX {unique} ON {table} ({key});\n" \
	"ALTER TABLE {table} ALTER COLUMN {key} SET NOT NULL;\n" \
	"COMMIT;\n" \
	"\\echo done\n"

/* functions of the session */
#define SCRIPT_TOOLS \
	"\n" \
	"-- Run statements under a strong lock that is polled for, so that nobody queues\n" \
	"-- behind it for more than 200 ms.\n" \
	"CREATE OR REPLACE FUNCTION pg_temp.evmig_locked(mode text, VARIADIC statements text[])\n" \
	"RETURNS void LANGUAGE plpgsql SET client_min_messages = warning AS {q}\n" \
	"DECLARE\n" \
	"\ttries int := 0;\n" \
	"\tstatement text;\n" \
	"BEGIN\n" \
	"\tLOOP\n" \
	"\t\tBEGIN\n" \
	"\t\t\tPERFORM set_config('lock_timeout', '200ms', true);\n" \
	"\t\t\tEXECUTE 'LOCK TABLE ' || {table_literal} || ' IN ' || mode || ' MODE';\n" \
	"\t\t\tEXIT;\n" \
	"\t\tEXCEPTION WHEN lock_not_available THEN\n" \
	"\t\t\ttries := tries + 1;\n" \
	"\t\t\tIF tries >= 300 THEN\n" \
	"\t\t\t\tRAISE;\n" \
	"\t\t\tEND IF;\n" \
	"\t\tEND;\n" \
	"\t\tPERFORM pg_sleep(0.4 + random());\n" \
	"\tEND LOOP;\n" \
	"\tFOREACH statement IN ARRAY statements LOOP\n" \
	"\t\tEXECUTE statement;\n" \
	"\tEND LOOP;\n" \
	"END\n" \
	"{q};\n" \
	"\n" \
	"CREATE OR REPLACE FUNCTION pg_temp.evmig_is_unique() RETURNS boolean LANGUAGE sql AS {q}\n" \
	"\tSELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid\n" \
	"\t\tWHERE i.indrelid = {table_literal}::regclass AND c.relname = {unique_literal}\n" \
	"\t\tAND i.indisunique AND i.indisvalid)\n" \
	"{q};\n" \
	"\n" \
	"CREATE OR REPLACE FUNCTION pg_temp.evmig_is_not_null() RETURNS boolean LANGUAGE sql AS {q}\n" \
	"\tSELECT attnotnull FROM pg_attribute\n" \
	"\tWHERE attrelid = {table_literal}::regclass AND attname = {key_literal}\n" \
	"{q};\n" \
	"\n" \
	"DO {q}\n" \
	"BEGIN\n" \
	"\tIF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = {table_literal}::regclass\n" \
	"\t\t\tAND confdeltype IN ('c', 'n', 'd')) THEN\n" \
	"\t\tRAISE EXCEPTION 'a foreign key ON DELETE CASCADE, SET NULL or SET DEFAULT points at the table'\n" \
	"\t\t\tUSING HINT = 'Removing duplicates would change other tables. Decide about their rows first.';\n" \
	"\tEND IF;\n" \
	"END\n" \
	"{q};\n"

/* the guard that fills */
#define SCRIPT_GUARD_FILL \
	"\n" \
	"\\echo ingest guard: a missing key gets a value on the way in\n" \
	"CREATE OR REPLACE FUNCTION {guard}() RETURNS trigger\n" \
	"LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {q}\n" \
	"BEGIN\n" \
	"\tIF NEW.{key} IS NULL THEN\n" \
	"\t\tNEW.{key} := {generator};\n" \
	"\tEND IF;\n" \
	"\tRETURN NEW;\n" \
	"END\n" \
	"{q};\n"

/* its trigger */
#define SCRIPT_GUARD_ON \
	"SELECT pg_temp.evmig_locked('SHARE ROW EXCLUSIVE', {create_trigger}, {enable_trigger});\n"

/* missing keys */
#define SCRIPT_FILL \
	"\n" \
	"\\echo backfill\n" \
	"-- Some pages a transaction; what the application holds locked is skipped and\n" \
	"-- visited again, until a count says zero.\n" \
	"CREATE OR REPLACE PROCEDURE pg_temp.evmig_fill() LANGUAGE plpgsql AS {q}\n" \
	"DECLARE\n" \
	"\tpages constant int := 64;\n" \
	"\tlast_block bigint;\n" \
	"\tblock bigint;\n" \
	"\ttids tid[];\n" \
	"\tn bigint;\n" \
	"\tfilled bigint := 0;\n" \
	"\tmissing bigint;\n" \
	"BEGIN\n" \
	"\tFOR pass IN 1 .. 20 LOOP\n" \
	"\t\tSELECT count(*) INTO missing FROM ONLY {table} WHERE {key} IS NULL;\n" \
	"\t\tCOMMIT;\n" \
	"\t\tIF missing = 0 THEN\n" \
	"\t\t\tRAISE NOTICE 'filled % rows, none is left', filled;\n" \
	"\t\t\tRETURN;\n" \
	"\t\tEND IF;\n" \
	"\t\tlast_block := pg_relation_size({table_literal}::regclass) / current_setting('block_size')::bigint;\n" \
	"\t\tblock := 0;\n" \
	"\t\tWHILE block < last_block LOOP\n" \
	"\t\t\tSELECT array_agg(r.ctid) INTO tids FROM (\n" \
	"\t\t\t\tSELECT t.ctid FROM ONLY {table} t\n" \
	"\t\t\t\tWHERE t.ctid >= format('(%s,0)', block)::tid\n" \
	"\t\t\t\t\tAND t.ctid < format('(%s,0)', block + pages)::tid AND t.{key} IS NULL\n" \
	"\t\t\t\tFOR NO KEY UPDATE SKIP LOCKED) r;\n" \
	"\t\t\tIF tids IS NOT NULL THEN\n" \
	"\t\t\t\tUPDATE ONLY {table} t SET {key} = {generator}\n" \
	"\t\t\t\tWHERE t.ctid = ANY (tids) AND t.{key} IS NULL;\n" \
	"\t\t\t\tGET DIAGNOSTICS n = ROW_COUNT;\n" \
	"\t\t\t\tfilled := filled + n;\n" \
	"\t\t\t\tCOMMIT;\n" \
	"\t\t\t\tPERFORM pg_sleep(0.02);\n" \
	"\t\t\tEND IF;\n" \
	"\t\t\tCOMMIT;\n" \
	"\t\t\tblock := block + pages;\n" \
	"\t\tEND LOOP;\n" \
	"\tEND LOOP;\n" \
	"\tRAISE EXCEPTION 'rows still have no key: % at the last count', missing\n" \
	"\t\tUSING HINT = 'Other transactions hold them locked. Run the script again.';\n" \
	"END\n" \
	"{q};\n" \
	"CALL pg_temp.evmig_fill();\n"

/* an index for the guard's look-ups */
#define SCRIPT_HELPER \
	"\n" \
	"\\echo helper index\n" \
	"SET lock_timeout = 0;\n" \
	"SELECT format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname)\n" \
	"FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace\n" \
	"WHERE i.indrelid = {table_literal}::regclass AND NOT i.indisvalid\n" \
	"\tAND c.relname IN ({helper_literal}, {unique_literal}) \\gexec\n" \
	"SELECT {create_helper}\n" \
	"WHERE NOT pg_temp.evmig_is_unique() AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid\n" \
	"\tWHERE i.indrelid = {table_literal}::regclass AND c.relname = {helper_literal}) \\gexec\n" \
	"SET lock_timeout = '60s';\n"

/* where removed rows go */
#define SCRIPT_ARCHIVE_TABLE \
	"\n" \
	"CREATE TABLE IF NOT EXISTS {archive} (LIKE {table});\n"

/* where old keys go */
#define SCRIPT_REKEY_TABLE \
	"\n" \
	"CREATE TABLE IF NOT EXISTS {rekeyed} (old_key text, new_key text, row_identity jsonb,\n" \
	"\tat timestamptz NOT NULL DEFAULT clock_timestamp());\n"

/* the guard that archives duplicates too */
#define SCRIPT_GUARD_ARCHIVE \
	"\n" \
	"\\echo ingest guard: incoming duplicates are archived\n" \
	"-- Nobody waits: where two transactions send one key at once, the second may get\n" \
	"-- in, and the next dedupe settles it. A transaction takes at most 256 locks.\n" \
	"CREATE OR REPLACE FUNCTION {guard}() RETURNS trigger\n" \
	"LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {q}\n" \
	"BEGIN\n" \
	"\tIF NEW.{key} IS NULL THEN\n" \
	"\t\tNEW.{key} := {generator};\n" \
	"\t\tRETURN NEW;\n" \
	"\tEND IF;\n" \
	"\tIF TG_OP = 'INSERT' THEN\n" \
	"\t\tIF pg_try_advisory_xact_lock(TG_RELID::int, hash_array(ARRAY[NEW.{key}]) & 255)\n" \
	"\t\t\tAND EXISTS (SELECT FROM ONLY {table} t WHERE t.{key} {eq} NEW.{key}) THEN\n" \
	"\t\t\tINSERT INTO {archive} ({columns}) VALUES ({new_columns});\n" \
	"\t\t\tRETURN NULL;\n" \
	"\t\tEND IF;\n" \
	"\tEND IF;\n" \
	"\tRETURN NEW;\n" \
	"END\n" \
	"{q};\n"

/* the guard that re-keys duplicates too */
#define SCRIPT_GUARD_REKEY \
	"\n" \
	"\\echo ingest guard: incoming duplicates are given a key of their own\n" \
	"-- Nobody waits: where two transactions send one key at once, the second may get\n" \
	"-- in, and the next dedupe settles it. A transaction takes at most 256 locks.\n" \
	"CREATE OR REPLACE FUNCTION {guard}() RETURNS trigger\n" \
	"LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {q}\n" \
	"DECLARE\n" \
	"\tformer text := NEW.{key}::text;\n" \
	"BEGIN\n" \
	"\tIF NEW.{key} IS NULL THEN\n" \
	"\t\tNEW.{key} := {generator};\n" \
	"\t\tRETURN NEW;\n" \
	"\tEND IF;\n" \
	"\tIF TG_OP = 'INSERT' THEN\n" \
	"\t\tIF pg_try_advisory_xact_lock(TG_RELID::int, hash_array(ARRAY[NEW.{key}]) & 255)\n" \
	"\t\t\tAND EXISTS (SELECT FROM ONLY {table} t WHERE t.{key} {eq} NEW.{key}) THEN\n" \
	"\t\t\tNEW.{key} := {generator};\n" \
	"\t\t\tINSERT INTO {rekeyed} (old_key, new_key, row_identity)\n" \
	"\t\t\t\tVALUES (former, NEW.{key}::text, jsonb_build_object({new_identity}));\n" \
	"\t\tEND IF;\n" \
	"\tEND IF;\n" \
	"\tRETURN NEW;\n" \
	"END\n" \
	"{q};\n"

/* the dedupe up to a batch's locks */
#define SCRIPT_DEDUPE_BEGIN \
	"\n" \
	"\\echo duplicates\n" \
	"-- The earliest row of each key stays. Losers and keepers are locked, read again\n" \
	"-- by a later statement, and only then moved, some hundred a transaction.\n" \
	"CREATE OR REPLACE PROCEDURE pg_temp.evmig_dedupe() LANGUAGE plpgsql AS {q}\n" \
	"DECLARE\n" \
	"\tsize constant int := 500;\n" \
	"\tbatch bigint;\n" \
	"\tlast bigint;\n" \
	"\tlosers tid[];\n" \
	"\tkeepers tid[];\n" \
	"\tn bigint;\n" \
	"\tmoved bigint := 0;\n" \
	"BEGIN\n" \
	"\tCREATE TEMP TABLE IF NOT EXISTS evmig_loser (n bigint PRIMARY KEY, loser tid, keeper tid);\n" \
	"\tFOR pass IN 1 .. 20 LOOP\n" \
	"\t\tTRUNCATE pg_temp.evmig_loser;\n" \
	"\t\tINSERT INTO pg_temp.evmig_loser\n" \
	"\t\tSELECT row_number() OVER (ORDER BY s.loser), s.loser, s.keeper FROM (\n" \
	"\t\t\tSELECT t.ctid AS loser, first_value(t.ctid) OVER w AS keeper, row_number() OVER w AS place\n" \
	"\t\t\tFROM ONLY {table} t WHERE t.{key} IS NOT NULL\n" \
	"\t\t\tWINDOW w AS (PARTITION BY t.{key} ORDER BY t.{order} NULLS LAST, t.ctid)) s\n" \
	"\t\tWHERE s.place > 1;\n" \
	"\t\tGET DIAGNOSTICS last = ROW_COUNT;\n" \
	"\t\tCOMMIT;\n" \
	"\t\tIF last = 0 THEN\n" \
	"\t\t\tRAISE NOTICE 'settled % duplicates, none is left', moved;\n" \
	"\t\t\tRETURN;\n" \
	"\t\tEND IF;\n" \
	"\t\tbatch := 1;\n" \
	"\t\tWHILE batch <= last LOOP\n" \
	"\t\t\tPERFORM set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);\n" \
	"\t\t\tSELECT array_agg(p.loser), array_agg(p.keeper) INTO losers, keepers\n" \
	"\t\t\tFROM pg_temp.evmig_loser p WHERE p.n >= batch AND p.n < batch + size;\n" \
	"\t\t\tSELECT array_agg(r.ctid) INTO losers FROM (SELECT t.ctid FROM ONLY {table} t\n" \
	"\t\t\t\tWHERE t.ctid = ANY (losers) FOR UPDATE SKIP LOCKED) r;\n" \
	"\t\t\tSELECT array_agg(r.ctid) INTO keepers FROM (SELECT t.ctid FROM ONLY {table} t\n" \
	"\t\t\t\tWHERE t.ctid = ANY (keepers) FOR SHARE SKIP LOCKED) r;\n"

/* all losers of a batch */
#define SCRIPT_DEDUPE_ARCHIVE \
	"\t\t\tWITH gone AS (\n" \
	"\t\t\t\tDELETE FROM ONLY {table} l USING pg_temp.evmig_loser p, ONLY {table} k\n" \
	"\t\t\t\tWHERE p.n >= batch AND p.n < batch + size AND p.loser = ANY (losers) AND p.keeper = ANY (keepers)\n" \
	"\t\t\t\t\tAND l.ctid = p.loser AND k.ctid = p.keeper AND l.{key} {eq} k.{key}\n" \
	"\t\t\t\tRETURNING l.*)\n" \
	"\t\t\tINSERT INTO {archive} ({columns}) SELECT {columns} FROM gone;\n" \
	"\t\t\tGET DIAGNOSTICS n = ROW_COUNT;\n" \
	"\t\t\tmoved := moved + n;\n"

/* the exact repeats of a batch */
#define SCRIPT_DEDUPE_ARCHIVE_SAME \
	"\t\t\tWITH gone AS (\n" \
	"\t\t\t\tDELETE FROM ONLY {table} l USING pg_temp.evmig_loser p, ONLY {table} k\n" \
	"\t\t\t\tWHERE p.n >= batch AND p.n < batch + size AND p.loser = ANY (losers) AND p.keeper = ANY (keepers)\n" \
	"\t\t\t\t\tAND l.ctid = p.loser AND k.ctid = p.keeper AND l.{key} {eq} k.{key}\n" \
	"\t\t\t\t\tAND ({same_payload})\n" \
	"\t\t\t\tRETURNING l.*)\n" \
	"\t\t\tINSERT INTO {archive} ({columns}) SELECT {columns} FROM gone;\n" \
	"\t\t\tGET DIAGNOSTICS n = ROW_COUNT;\n" \
	"\t\t\tmoved := moved + n;\n"

/* the losers of a batch that are left */
#define SCRIPT_DEDUPE_REKEY \
	"\t\t\tWITH changed AS (\n" \
	"\t\t\t\tUPDATE ONLY {table} l SET {key} = {generator} FROM pg_temp.evmig_loser p, ONLY {table} k\n" \
	"\t\t\t\tWHERE p.n >= batch AND p.n < batch + size AND p.loser = ANY (losers) AND p.keeper = ANY (keepers)\n" \
	"\t\t\t\t\tAND l.ctid = p.loser AND k.ctid = p.keeper AND l.{key} {eq} k.{key}\n" \
	"\t\t\t\tRETURNING k.{key}::text AS old_key, l.{key}::text AS new_key,\n" \
	"\t\t\t\t\tjsonb_build_object({identity}) AS row_identity)\n" \
	"\t\t\tINSERT INTO {rekeyed} (old_key, new_key, row_identity)\n" \
	"\t\t\tSELECT c.old_key, c.new_key, c.row_identity FROM changed c;\n" \
	"\t\t\tGET DIAGNOSTICS n = ROW_COUNT;\n" \
	"\t\t\tmoved := moved + n;\n"

/* to the next batch */
#define SCRIPT_DEDUPE_END \
	"\t\t\tCOMMIT;\n" \
	"\t\t\tPERFORM pg_sleep(0.02);\n" \
	"\t\t\tCOMMIT;\n" \
	"\t\t\tbatch := batch + size;\n" \
	"\t\tEND LOOP;\n" \
	"\tEND LOOP;\n" \
	"\tRAISE EXCEPTION 'duplicates remain: % at the last count', last\n" \
	"\t\tUSING HINT = 'Other transactions hold them locked, or more keep coming in. Run the script again.';\n" \
	"END\n" \
	"{q};\n"

/* the build, and what to do when it fails */
#define SCRIPT_UNIQUE \
	"\n" \
	"\\echo unique index, tried again while duplicates come in\n" \
	"\\set ON_ERROR_STOP off\n" \
	"SET lock_timeout = 0;\n" \
	"SELECT format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname)\n" \
	"FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace\n" \
	"WHERE i.indrelid = {table_literal}::regclass AND NOT i.indisvalid AND c.relname = {unique_literal} \\gexec\n" \
	"SELECT 'CALL pg_temp.evmig_dedupe()' WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SELECT {create_unique} WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SELECT format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname)\n" \
	"FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace\n" \
	"WHERE i.indrelid = {table_literal}::regclass AND NOT i.indisvalid AND c.relname = {unique_literal} \\gexec\n" \
	"SELECT 'CALL pg_temp.evmig_dedupe()' WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SELECT {create_unique} WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SELECT format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname)\n" \
	"FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace\n" \
	"WHERE i.indrelid = {table_literal}::regclass AND NOT i.indisvalid AND c.relname = {unique_literal} \\gexec\n" \
	"SELECT 'CALL pg_temp.evmig_dedupe()' WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SELECT {create_unique} WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SELECT format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname)\n" \
	"FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace\n" \
	"WHERE i.indrelid = {table_literal}::regclass AND NOT i.indisvalid AND c.relname = {unique_literal} \\gexec\n" \
	"SELECT 'CALL pg_temp.evmig_dedupe()' WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SELECT {create_unique} WHERE NOT pg_temp.evmig_is_unique() \\gexec\n" \
	"SET lock_timeout = '60s';\n" \
	"\\set ON_ERROR_STOP on\n"

/* the proof */
#define SCRIPT_VERIFY \
	"\n" \
	"\\echo verify\n" \
	"DO {q}\n" \
	"BEGIN\n" \
	"\tIF NOT pg_temp.evmig_is_unique() THEN\n" \
	"\t\tRAISE EXCEPTION 'there is no valid unique index on the key'\n" \
	"\t\t\tUSING HINT = 'See the errors above, and run the script again.';\n" \
	"\tEND IF;\n" \
	"\tIF EXISTS (SELECT FROM ONLY {table} WHERE {key} IS NULL) THEN\n" \
	"\t\tRAISE EXCEPTION 'there are rows without a key' USING HINT = 'Run the script again.';\n" \
	"\tEND IF;\n" \
	"END\n" \
	"{q};\n" \
	"SET lock_timeout = 0;\n" \
	"DROP INDEX CONCURRENTLY IF EXISTS {helper_name};\n" \
	"SET lock_timeout = '60s';\n"

/* NOT NULL */
#define SCRIPT_HARDEN \
	"\n" \
	"\\echo NOT NULL, without a long lock\n" \
	"SELECT pg_temp.evmig_locked('ACCESS EXCLUSIVE', {add_check}) WHERE NOT pg_temp.evmig_is_not_null();\n" \
	"SELECT {validate} WHERE NOT pg_temp.evmig_is_not_null() \\gexec\n" \
	"SELECT pg_temp.evmig_locked('ACCESS EXCLUSIVE', {set_not_null}, {drop_check}) WHERE NOT pg_temp.evmig_is_not_null();\n"

/* the last words */
#define SCRIPT_END \
	"\n" \
	"\\echo done: the ingest guard still fills missing keys\n"

#endif							/* EVMIG_SCRIPT_TEXT_H */
