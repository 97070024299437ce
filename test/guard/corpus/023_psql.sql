\set ON_ERROR_STOP on
\timing
\ir ../shared/roles.sql
ALTER TABLE :schema.leads ADD COLUMN c int;
\copy leads from 'leads.csv' csv
