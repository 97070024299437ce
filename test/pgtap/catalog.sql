-- What every object of the extension owes its users: a comment, row level
-- security where rows belong to somebody, and no way to more rights.
BEGIN;
SELECT plan(8);

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS what
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'evmig' AND d.deptype = 'e';

SELECT is_empty($$ SELECT what FROM member JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
	WHERE obj_description(objid, 'pg_proc') IS NULL ORDER BY 1 $$, 'every function has a comment');
SELECT is_empty($$ SELECT what FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
	WHERE relkind IN ('r', 'v') AND obj_description(objid, 'pg_class') IS NULL ORDER BY 1 $$,
	'every table and view has a comment');
SELECT is_empty($$ SELECT what FROM member JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
	WHERE prosecdef AND coalesce(array_to_string(proconfig, ' '), '') NOT LIKE 'search_path=pg_catalog, %pg_temp%' ORDER BY 1 $$,
	'no function runs as its owner without a pinned search_path');
SELECT is_empty($$ SELECT what FROM member JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
	WHERE prokind = 'p' AND (prosecdef OR proconfig IS NOT NULL) ORDER BY 1 $$,
	'no procedure has settings that would make its COMMIT fail');
SELECT is_empty($$ SELECT what FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
	WHERE relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (reloptions) OR 'security_invoker=on' = ANY (reloptions)
		OR 'security_invoker' = ANY (reloptions), false) ORDER BY 1 $$,
	'every view shows what the reader may see');
SELECT is_empty($$ SELECT what FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
	WHERE relkind = 'r' AND NOT relrowsecurity AND relname <> 'runbook_item'
	AND has_table_privilege('public', objid, 'SELECT') ORDER BY 1 $$,
	'every table that all may read hides the rows of others');
SELECT is_empty($$ SELECT what FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
	WHERE relkind = 'r' AND (has_table_privilege('public', objid, 'INSERT') OR has_table_privilege('public', objid, 'UPDATE')
		OR has_table_privilege('public', objid, 'DELETE') OR has_table_privilege('public', objid, 'TRUNCATE')) ORDER BY 1 $$,
	'no table can be written by all');
SELECT columns_are('evmig_progress', '{job_id, name, target, state, phase, percent, bar, rows_done, rows_skipped,
	rows_failed, rows_unchanged, rows_per_s, eta, batch_rows, batch_ms, throttle, blocked_by, workers, throttled}'::name[]);

SELECT * FROM finish();
ROLLBACK;
