# pg_cron, the real one, starts a job again that nobody is at: the way for
# servers that do not preload us.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
my $share = `$pg_config --sharedir`;
chomp $share;
plan skip_all => 'pg_cron is not installed' unless -f "$share/extension/pg_cron.control";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq(
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
max_worker_processes = 16
autovacuum = off
));
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION pg_cron;
CREATE EXTENSION evmig;
CREATE ROLE app LOGIN;
GRANT USAGE ON SCHEMA cron TO app;
GRANT CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE events (id int, n int DEFAULT 0, request_id uuid, ts timestamptz);
INSERT INTO events SELECT g FROM generate_series(1, 5000) g;
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := OLD.n + 1; RETURN NEW; END $$;
CREATE TRIGGER count BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION count_up();
));

# at work, then its worker ends without a word
my $job = $node->safe_psql('postgres', q(
SET ROLE app;
SET evmig.adaptive = off;
SET evmig.batch_size = 10;
SELECT evmig_backfill_request_id('events')));
ok($node->poll_query_until('postgres', 'SELECT rows_done > 0 FROM evmig_jobs'), 'a job is at work');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'evmig worker'");
ok($node->poll_query_until('postgres', "SELECT state = 'interrupted' FROM evmig_jobs"), 'it is interrupted');
$node->safe_psql('postgres', "SELECT evmig_job_set($job, 'batch_size', '5000')");

$node->safe_psql('postgres', q(SET ROLE app; SELECT cron.schedule('evmig', '* * * * *', 'SELECT evmig_jobs_recover()')));
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded'"),
	'pg_cron has run evmig_jobs_recover()');
ok($node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM evmig_jobs"), 'the job is done');
is($node->safe_psql('postgres', "SELECT min(n) || ' ' || max(n) || ' ' || count(DISTINCT request_id) FROM events"),
	'1 1 5000', 'every row exactly once');
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'"), '0', 'no run failed');

$node->safe_psql('postgres', q(SET ROLE app; SELECT cron.unschedule('evmig')));
$node->stop;
done_testing();
