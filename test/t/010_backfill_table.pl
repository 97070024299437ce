# A backfill whose table grows, shrinks and is rewritten while it is at work,
# one that finds no free background worker, and one that kills its workers.
# Each row is incremented once, whatever happens.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Crash;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Wait;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'evmig'
max_logical_replication_workers = 0
restart_after_crash = on
autovacuum = off
max_prepared_transactions = 1
));
$node->start;
wait_on($node);
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE counted (id int PRIMARY KEY, n int DEFAULT 0, done boolean DEFAULT false, pad text);
INSERT INTO counted SELECT g, 0, false, repeat('x', 500) FROM generate_series(1, 40000) g;
CREATE TABLE deleted (id int, n int, done boolean);
CREATE TABLE short (id int, n int DEFAULT 0, done boolean DEFAULT false);
INSERT INTO short SELECT g FROM generate_series(1, 100) g;
CREATE TABLE deadly (id int, n int DEFAULT 0, done boolean DEFAULT false);
INSERT INTO deadly SELECT g FROM generate_series(1, 100) g;
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
CREATE TRIGGER die BEFORE UPDATE ON deadly FOR EACH ROW EXECUTE FUNCTION die();
SELECT evmig_backfill_register(t, t::regclass, 'n = n + 1, done = true', 'NOT done', batch_size => 20, sleep_ms => 60, adaptive => false, workers => 2)
FROM unnest('{counted, short, deadly}'::text[]) t;
));

my $job = $node->safe_psql('postgres', "SELECT evmig_backfill_start('counted')");

# Wait until the job gets on, and compare what it says with what there is.
sub goes_on
{
	my ($what) = @_;
	my $before = $node->safe_psql('postgres', "SELECT rows_done FROM evmig_jobs WHERE job_id = $job");
	wait_for("SELECT rows_done > $before + 100 FROM evmig_jobs WHERE job_id = $job", "$what: it goes on");
	is($node->safe_psql('postgres', qq(
SELECT rows_done - (SELECT count(*) FROM counted WHERE done) - (SELECT count(*) FROM deleted WHERE done), (SELECT max(n) FROM counted)
FROM evmig_jobs WHERE job_id = $job)), '0|1', "$what: exact");
	return;
}

goes_on('started');
$node->safe_psql('postgres', q(INSERT INTO counted SELECT g, 0, false, repeat('y', 500) FROM generate_series(40001, 45000) g));
goes_on('grown');
$node->safe_psql('postgres', q(UPDATE counted SET pad = repeat('z', 600) WHERE id % 10 = 0));
goes_on('rows moved to the end');
$node->safe_psql('postgres', 'WITH d AS (DELETE FROM counted WHERE id > 30000 RETURNING id, n, done) INSERT INTO deleted SELECT * FROM d');
my $size = $node->safe_psql('postgres', q(SELECT pg_relation_size('counted')));
$node->safe_psql('postgres', 'VACUUM FULL counted');
cmp_ok($node->safe_psql('postgres', q(SELECT pg_relation_size('counted'))), '<', $size, 'it is smaller now');
goes_on('shrunk');
$node->safe_psql('postgres', 'CLUSTER counted USING counted_pkey');
goes_on('clustered');
$node->safe_psql('postgres', 'ALTER TABLE counted ALTER n TYPE bigint');
goes_on('rewritten with another type');
crash($node, $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'evmig worker' ORDER BY random() LIMIT 1)));
goes_on('started again by the launcher');
$node->safe_psql('postgres', "SELECT evmig_job_set($job, s, v) FROM (VALUES ('batch_size', '5000'), ('batch_sleep', '0')) t (s, v)");
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $job", 'done');
is($node->safe_psql('postgres', 'SELECT n, done, count(*) FROM counted GROUP BY 1, 2'), '1|t|30000', 'each row once');

# no background worker is free: nothing is lost, and it is said
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
$node->safe_psql('postgres', "UPDATE counted SET done = false, n = 0; SELECT evmig_backfill_replace('counted', 'counted', 'n = n + 1, done = true', 'NOT done', batch_size => 10, sleep_ms => 3600000, adaptive => false, workers => 2)");
$job = $node->safe_psql('postgres', "SELECT evmig_backfill_start('counted')");
wait_for("SELECT rows_done > 0 FROM evmig_jobs WHERE job_id = $job", 'a job of two workers makes do with one');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT evmig_backfill_start('short')");
like($err, qr/WARNING:  no background worker is free; job \d+ stays queued\nHINT:  Raise max_worker_processes/, 'the next one finds none, and says so');
is($node->safe_psql('postgres', "SELECT state FROM evmig_jobs WHERE name = 'short'"), 'queued', 'it waits');
($rc, $out, $err) = $node->psql('postgres', 'SELECT evmig_jobs_recover()');
like($err, qr/no background worker is free/, 'still none');
is($node->safe_psql('postgres', 'SELECT evmig_stop_all()'), '2', 'stop all');
wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'evmig worker'", 'nobody is at work');
is($node->safe_psql('postgres', 'SELECT count(*) FROM evmig_backfill_start_all()'), '1', 'what was stopped is left alone');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT name || ' ' || state, ', ') FROM evmig_jobs WHERE name <> 'deadly' AND finished_at > now() - interval '1 hour' AND state <> 'succeeded'"),
	'counted cancelled, short cancelled', 'and stays cancelled');
$node->safe_psql('postgres', q(SELECT evmig_job_cancel(job_id) FROM evmig_jobs WHERE name = 'deadly'));
$node->safe_psql('postgres', "SELECT evmig_backfill_start('counted')");
wait_for("SELECT max(job_id) > $job AND bool_or(rows_done > 0 AND state = 'running') FROM evmig_jobs WHERE name = 'counted'", 'started by name');
$node->psql('postgres', "SELECT evmig_backfill_start('short')");
$node->safe_psql('postgres', "SELECT evmig_job_cancel(max(job_id)) FROM evmig_jobs WHERE name = 'counted'");
wait_for("SELECT bool_or(state = 'succeeded') FROM evmig_jobs WHERE name = 'short'", 'a free worker is found for what waits');
is($node->safe_psql('postgres', 'SELECT n, done, count(*) FROM short GROUP BY 1, 2'), '1|t|100', 'each row once');

# one that kills its workers is not started again for ever
$job = $node->safe_psql('postgres', "SELECT evmig_backfill_start('deadly')");
wait_for("SELECT state = 'interrupted' FROM evmig_jobs WHERE job_id = $job", 'a worker ends without a word');
$node->safe_psql('postgres', "UPDATE evmig.job SET restarts = 9, restart_batches = 0 WHERE job_id = $job");
wait_for("SELECT v.state = 'interrupted' AND j.restarts = 10 FROM evmig_jobs v JOIN evmig.job j USING (job_id) WHERE job_id = $job", 'the launcher gives up');
($rc, $out, $err) = $node->psql('postgres', 'SELECT evmig_jobs_recover()');
is($out, '0', 'so does evmig_jobs_recover()');
like($err, qr/WARNING:  job $job was started again 10 times without getting on and is left interrupted\nHINT:  .*evmig_job_resume\($job\)/, 'and says so');
is($node->safe_psql('postgres', 'SELECT count(*) FROM evmig_backfill_start_all()'), '0', 'so does evmig_backfill_start_all()');
$node->safe_psql('postgres', "DROP TRIGGER die ON deadly; SELECT evmig_job_resume($job)");
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $job", 'by name it starts, and ends');
is($node->safe_psql('postgres', 'SELECT n, done, count(*) FROM deadly GROUP BY 1, 2'), '1|t|100', 'each row once');
# rows whose holder has no session are said to be held all the same
$node->safe_psql('postgres', q(
ALTER TABLE deadly ADD more boolean;
SELECT evmig_backfill_register('more', 'deadly', 'more = true', 'more IS NULL');
));
$node->safe_psql('postgres', q(BEGIN; UPDATE deadly SET n = n WHERE id <= 3; PREPARE TRANSACTION 'forgotten'));
$job = $node->safe_psql('postgres', q(SET evmig.max_passes = 2; SELECT evmig_backfill_start('more')));
wait_for("SELECT state = 'incomplete' FROM evmig_jobs WHERE job_id = $job", 'a prepared transaction is in the way');
is($node->safe_psql('postgres', "SELECT message FROM evmig_jobs WHERE job_id = $job"),
	'3 rows are left; 3 of them are locked by a prepared transaction', 'and named');
$node->safe_psql('postgres', q(ROLLBACK PREPARED 'forgotten'));

unlike(slurp_file($node->logfile), qr/TRAP|signal 11|PANIC/, 'no crash of our making');

$node->stop;
done_testing();
