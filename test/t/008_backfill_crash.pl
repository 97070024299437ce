# kill -9 of workers (the server restarts) and immediate stops of the server at
# random moments of a backfill that increments: each row is changed exactly
# once, and counters, undo log and tenants agree after each blow.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Crash;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = 20;
my $rows = 60000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
max_worker_processes = 8
restart_after_crash = on
autovacuum = off
));
$node->start;
$node->safe_psql('postgres', qq(
CREATE EXTENSION evmig;
CREATE TABLE counted (id int PRIMARY KEY, tenant int, n int DEFAULT 0, done boolean DEFAULT false, pad text);
INSERT INTO counted SELECT g, g % 5, 0, false, repeat('x', 500) FROM generate_series(1, $rows) g;
SELECT evmig_backfill_register('counted', 'counted', 'n = n + 1, done = true', 'NOT done',
	workers => 2, batch_size => 100, adaptive => false, sleep_ms => 10, undo => true, tenant_column => 'tenant');
));
my $job = $node->safe_psql('postgres', q(SELECT evmig_backfill_start('counted')));

my $seed = time;
srand($seed);
note "seed $seed";
foreach my $round (1 .. $rounds)
{
	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 OR (SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $job)"
		  . " FROM pg_stat_activity WHERE backend_type = 'evmig worker'");
	usleep(int(rand(150_000)));
	my $pid = $node->safe_psql('postgres',
		q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'evmig worker' ORDER BY random() LIMIT 1));
	if ($round % 2 && $pid)
	{
		crash($node, $pid);
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	is($node->safe_psql('postgres', qq(
SELECT (SELECT count(*) FROM counted WHERE done) = rows_done,
	(SELECT count(*) FROM evmig.job_undo WHERE job_id = $job) = rows_done,
	(SELECT coalesce(sum(t.rows_done), 0) FROM evmig_job_tenants t WHERE t.job_id = $job) = rows_done,
	(SELECT max(n) <= 1 FROM counted)
FROM evmig_jobs WHERE job_id = $job)), 't|t|t|t', "round $round: exact");
	$node->safe_psql('postgres', 'SELECT evmig_jobs_recover()');
}
$node->safe_psql('postgres', q(CALL evmig_backfill_run_all('10 min')));
is($node->safe_psql('postgres', "SELECT state, rows_done, remaining FROM evmig_jobs WHERE job_id = $job"),
	"succeeded|$rows|0", 'done in the end');
is($node->safe_psql('postgres', 'SELECT n, done, count(*) FROM counted GROUP BY 1, 2'), "1|t|$rows", 'each row once');

$node->stop;
done_testing();
