-- doc/guard-rules.md; see dev/reference
SET search_path = public, pg_catalog;
SELECT '# Rules of the guard

Written by `dev/reference` from `evmig_guard_rules`. How to use them is in [guard.md](guard.md); where the catalog
knows better (a small table, a constraint that is there already), a finding''s severity is lower than the rule''s.';
SELECT format(E'\n## %s\n\n%s%s: %s.\n\n%s\n\n*Instead:* %s', id, upper(left(severity, 1)) || substr(severity, 2),
	CASE WHEN since IS NOT NULL THEN format(' (PostgreSQL %s and later)', since) ELSE '' END,
	rtrim(detects, '.'), danger, safe_way)
FROM evmig_guard_rules;
