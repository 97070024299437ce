-- Comments: exceptions with a reason, and words that announce a backfill.
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.look(sql text) RETURNS TABLE (at text, rule text, severity text, message text)
LANGUAGE sql AS $$
	SELECT line || ':' || col, g.rule, g.severity, CASE WHEN g.rule !~ '^data-' THEN g.message END FROM evmig_guard(sql) g
	WHERE g.rule ~ '^(data-|backfill|allow|unused|unparsed)'
$$;

-- in front, behind on the line, within, several rules
SELECT * FROM pg_temp.look($$
-- evmig:allow data-update: nine rows
UPDATE leads SET a = 1;
DELETE FROM leads; -- evmig:allow data-delete: one row
UPDATE leads /* evmig:allow data-update: two rows */ SET a = 2;
/* evmig:allow data-update, data-delete: agreed with sales,
   on Monday */
WITH gone AS (DELETE FROM leads RETURNING id) UPDATE calls SET lead_id = NULL FROM gone WHERE calls.lead_id = gone.id;
$$);

-- only its own statement and its own rule
SELECT * FROM pg_temp.look($$
-- evmig:allow data-update: nine rows
UPDATE leads SET a = 1;
UPDATE leads SET a = 2;
-- evmig:allow data-update: nine rows
DELETE FROM leads;
$$);

-- without a reason, of no rule, of a rule that must not be excused, far from anything
SELECT * FROM pg_temp.look($$
-- evmig:allow data-update
UPDATE leads SET a = 1;
-- evmig:allow data-update:
UPDATE leads SET a = 2; /* evmig:allow data-update: */
-- evmig:allow data-updat: reviewed
UPDATE leads SET a = 3;
-- evmig:allow: reviewed
-- evmig:allow unparsed: reviewed
UPDATTE leads SET a = 4;
-- evmig:allow data-update: there is nothing behind
$$);

-- in a DO block, on one statement of it, and on all of it
SELECT * FROM pg_temp.look($$
DO $do$
BEGIN
	-- evmig:allow data-update: nine rows
	UPDATE leads SET a = 1;
	DELETE FROM leads WHERE a = 1;
END $do$;
-- evmig:allow data-delete: tried on a copy
DO $do$ BEGIN
	DELETE FROM leads WHERE a = 2;
	DELETE FROM leads WHERE a = 3;
END $do$;
$$);

-- a function's body, by its own statement and by the call
SELECT * FROM pg_temp.look($$
CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $f$
	UPDATE leads SET a = 1; -- evmig:allow data-update: nine rows
	DELETE FROM leads;
$f$;
-- evmig:allow data-delete: tried on a copy
SELECT f();
$$);

-- no statement, though it looks like a comment
SELECT * FROM pg_temp.look($$
SELECT '-- evmig:allow data-update: x', $q$ -- backfill $q$;
COMMENT ON TABLE leads IS 'backfill';
$$);

-- words that announce a backfill
CREATE TABLE guard_allow_t (id int PRIMARY KEY, direction text);
SELECT evmig_backfill_register('leads_last_call_direction', 'guard_allow_t', 'direction = ''in''', 'direction IS NULL');
SELECT evmig_backfill_register('Größe; "x"', 'guard_allow_t', 'direction = ''out''', 'direction IS NULL');
SELECT c.n, l.* FROM (VALUES
	(1, '-- backfill: leads_last_call_direction'),
	(2, '-- Backfill the direction'),
	(3, '/* we back-fill
	       it later */'),
	(4, '-- populate existing rows'),
	(5, E'-- then populate existing\n-- rows of leads'),
	(6, '-- data migration: leads_last_call_direction, as agreed'),
	(7, '-- DATA-MIGRATION'),
	(8, '-- backfill: leads_last_call_direction_2'),
	(9, '-- backfill: Größe; "x"'),
	(10, '-- no backfill is needed'),
	(11, '-- not a data migration, and without any backfill'),
	(12, '-- backfilled_at says when'),
	(13, '-- prebackfill'),
	(14, '-- no default, so we backfill'),
	(15, E'-- backfill\n\n-- backfill: leads_last_call_direction'),
	(16, E'-- backfill:\n-- leads_last_call_direction'),
	(17, E'DO $$ BEGIN -- backfill\nNULL; END $$'),
	(18, E'-- evmig:allow backfill-comment: history\n-- backfill of 2019')
) c (n, comment), LATERAL pg_temp.look(comment || E'\nALTER TABLE leads ADD COLUMN d text;') l ORDER BY c.n;

-- somebody else's backfill counts by its name, and its other columns stay hidden
CREATE ROLE guard_allow_other;
SET ROLE guard_allow_other;
SELECT count(*) FROM evmig_guard(E'-- backfill: leads_last_call_direction\nSELECT 1') WHERE rule = 'backfill-comment';
SELECT count(*) FROM evmig.backfill WHERE name = 'leads_last_call_direction';
RESET ROLE;

-- what the source registers itself, and what is said to be registered elsewhere
SELECT * FROM pg_temp.look($$
-- backfill: own_one
-- backfill: it's own
-- backfill: elsewhere
SELECT evmig_backfill_register ( 'own_one', 'leads', 'a = 1', 'a IS NULL');
SELECT evmig_backfill_replace_call('it''s own', 'leads', 'f(regclass, tid[])', 'a IS NULL');
-- backfill: own_two
SELECT evmig_backfill_register(name, 'own_two') FROM x;
$$);
SET evmig.guard_backfills = 'a, own_two , elsewhere';
SELECT * FROM pg_temp.look('-- backfill: own_two
SELECT 1;
-- backfill: elsewhere
SELECT 2;
-- backfill: own_three
SELECT 3;
-- back-fill: ä');
RESET evmig.guard_backfills;

-- a line full of words, and a reason that has them
SELECT count(*) FROM evmig_guard(repeat('-- evmig:allow data-update: ', 1) || repeat('backfill ', 50000) || E'\nSELECT 1;\n-- backfill');

-- two comments are two findings
SELECT count(DISTINCT fingerprint) FROM evmig_guard(E'-- backfill a\nSELECT 1; -- backfill b');

SELECT evmig_backfill_unregister('leads_last_call_direction'), evmig_backfill_unregister('Größe; "x"');
DROP TABLE guard_allow_t;
DROP ROLE guard_allow_other;
