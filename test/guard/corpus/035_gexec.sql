SELECT format('ALTER TABLE %I.leads ADD COLUMN f int', nspname) FROM pg_catalog.pg_namespace WHERE nspname LIKE 'tenant%' \gexec
