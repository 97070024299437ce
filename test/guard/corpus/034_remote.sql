CREATE EXTENSION IF NOT EXISTS dblink;
SELECT dblink_exec('dbname=archive', 'DELETE FROM leads WHERE tenant_id = 3');
