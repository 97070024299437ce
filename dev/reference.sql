-- doc/reference.md; see dev/reference
SET search_path = public, pg_catalog;
LOAD 'evmig';
CREATE TEMP TABLE section (place int, title text, pattern text);
INSERT INTO section VALUES
	(1, 'Look', '^evmig_(audit|duplicates|preflight|verify)$'),
	(2, 'Steps', '^evmig_(ingest_.*|backfill_request_id|dedupe|unique_index|harden|restore|archive_purge)$'),
	(3, 'Runbook', '^evmig_(runbook_.*|path_a)$'),
	(4, 'Jobs', '^evmig_(progress|jobs|failures|job_.*|wait|jobs_recover|stop_all)$'),
	(5, 'Guard', '^evmig_guard'),
	(9, 'More', '^evmig_');

CREATE TEMP VIEW public_object AS
SELECT p.oid, p.proname AS name, format('%s %s(%s)%s', CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, p.proname,
		regexp_replace(pg_get_function_arguments(p.oid), '(DEFAULT [^,:]+)::[a-z ]+(\[\])?', '\1', 'g'), CASE p.prokind WHEN 'p' THEN '' ELSE ' → ' || pg_get_function_result(p.oid) END) AS synopsis,
	obj_description(p.oid, 'pg_proc') AS comment
FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'evmig')
	AND p.pronamespace = 'public'::regnamespace
UNION ALL
SELECT c.oid, c.relname, format('view %s: %s', c.relname,
		(SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)),
	obj_description(c.oid, 'pg_class')
FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND c.relkind = 'v'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'evmig')
	AND c.relnamespace = 'public'::regnamespace;

SELECT '# Reference

Written by `dev/reference` from the comments in the catalog; `\df+ evmig_*` shows the same.
Functions are in the schema of the extension, tables in schema `evmig`.';

WITH placed AS (
	SELECT DISTINCT ON (o.oid) o.*, s.place, s.title FROM public_object o JOIN section s ON o.name ~ s.pattern
	ORDER BY o.oid, s.place),
part AS (
	SELECT place, 0 AS o, 0::oid AS oid, format(E'\n## %s', title) AS line FROM placed GROUP BY place, title
	UNION ALL
	SELECT place, 1, oid, format(E'\n### %s\n\n    %s\n\n%s.', name, synopsis,
		upper(left(comment, 1)) || rtrim(substr(comment, 2), '.')) FROM placed)
SELECT line FROM part ORDER BY place, o, oid;

SELECT E'\n## Tables\n\n| table | holds |\n|---|---|';
SELECT format('| `evmig.%s` | %s |', c.relname, obj_description(c.oid, 'pg_class'))
FROM pg_class c WHERE c.relnamespace = 'evmig'::regnamespace AND c.relkind = 'r' ORDER BY c.relname;

SELECT E'\n## Settings\n\n| setting | default | who may change it | meaning |\n|---|---|---|---|';
SELECT format('| `%s` | %s | %s | %s |', name,
	coalesce(nullif(boot_val || CASE WHEN unit IS NOT NULL THEN ' ' || unit ELSE '' END, ''), 'empty'),
	CASE context WHEN 'user' THEN 'everybody' WHEN 'superuser' THEN 'superuser' ELSE context END, short_desc)
FROM pg_settings WHERE name LIKE 'evmig.%' ORDER BY name;
