#!/bin/sh
# UPDATE leads SET a = 1 is only said here
set -e
psql -c "TRUNCATE staging"
psql <<'SQL'
ALTER TABLE leads ADD COLUMN e int;
UPDATE leads SET e = 0;
SQL
