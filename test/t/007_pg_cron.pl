# pg_cron, the real one, starts a job again that nobody is at: the way for
# servers that do not preload us.  And it does whole backfills on its own:
# overlapping calls never do a row twice, and a failure shows in its log.
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
cron.host = '@{[ $node->host ]}'
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
CREATE TABLE leads (id int PRIMARY KEY, n int DEFAULT 0, direction text);
INSERT INTO leads SELECT g FROM generate_series(1, 5000) g;
CREATE TRIGGER count BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION count_up();
CREATE TABLE poisoned (id int PRIMARY KEY, half int);
INSERT INTO poisoned SELECT g FROM generate_series(1, 100) g;
SELECT evmig_backfill_register('leads_direction', 'leads', 'direction = ''in''', 'direction IS NULL', priority => 'high');
SELECT evmig_backfill_register('poisoned_half', 'poisoned', 'half = 100 / (id - 50)', 'half IS NULL');
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

# all three in the same minute
$node->safe_psql('postgres', q(SET ROLE app;
SELECT cron.schedule('evmig', '* * * * *', 'SELECT evmig_jobs_recover()');
SELECT cron.schedule('start', '* * * * *', 'SELECT evmig_backfill_start_all()');
SELECT cron.schedule('run', '* * * * *', 'CALL evmig_backfill_run_all()')));
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded'"),
	'pg_cron has run evmig_jobs_recover()');
ok($node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $job"), 'the job is done');
is($node->safe_psql('postgres', "SELECT min(n) || ' ' || max(n) || ' ' || count(DISTINCT request_id) FROM events"),
	'1 1 5000', 'every row exactly once');
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job_run_details WHERE status = 'failed' AND command !~ 'run_all'"),
	'0', 'no such run failed');

ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM cron.job_run_details WHERE command ~ 'run_all' AND status IN ('succeeded', 'failed')"),
	'evmig_backfill_run_all has ended');
like($node->safe_psql('postgres', "SELECT status || ' ' || return_message FROM cron.job_run_details WHERE command ~ 'run_all' AND status IN ('succeeded', 'failed') ORDER BY runid LIMIT 1"),
	qr/^failed .*poisoned_half/s, 'its failure shows in the log, by name');
is($node->safe_psql('postgres', "SELECT min(n) || ' ' || max(n) || ' ' || count(direction) FROM leads"),
	'1 1 5000', 'a whole backfill, every row exactly once');
is($node->safe_psql('postgres', "SELECT count(*) FROM evmig_jobs WHERE name = 'leads_direction' AND rows_done > 0"),
	'1', 'by one job, although two were asked for at once');
like($node->safe_psql('postgres', "SELECT row_key || ' ' || f.sqlstate FROM evmig_failures f JOIN evmig_jobs j USING (job_id) WHERE j.name = 'poisoned_half' LIMIT 1"),
	qr/50.* 22012/, 'the row that fails is named');

$node->safe_psql('postgres', q(SET ROLE app; SELECT cron.unschedule(jobname) FROM cron.job));
$node->stop;
done_testing();
