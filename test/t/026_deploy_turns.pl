# The indexes of one table are built one at a time; those that wait have no
# worker, so that backfills get theirs.  A crash in the middle leaves none of
# them waiting for ever, with a launcher and without.
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
max_worker_processes = 12
restart_after_crash = on
autovacuum = off
evmig.max_workers = 2
));
$node->start;
wait_on($node);
$node->safe_psql('postgres', 'CREATE EXTENSION evmig; CREATE TABLE filled (id int, v int);');

sub value { return $node->safe_psql('postgres', $_[0]); }
sub deploy { return $node->psql('postgres', 'CALL evmig_deploy()', on_error_stop => 1); }

my $worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'evmig worker'";
my $builds = "FROM evmig_jobs WHERE kind = 'index' AND target = 'TABLE'::regclass";
my @columns = ('a', 'b', 'c');

# Register three indexes on a new table, deploy, and leave the first build waiting for a writer.
sub three_builds
{
	my ($table) = @_;
	value("CREATE TABLE $table (a int, b int, c int); INSERT INTO $table SELECT g, g, g FROM generate_series(1, 100) g");
	value("SELECT evmig_index_register('${table}_$_', 'CREATE INDEX ${table}_$_ ON $table ($_)')") foreach @columns;
	my $writer = $node->background_psql('postgres', on_error_stop => 0);
	$writer->query_safe("BEGIN; UPDATE $table SET a = a WHERE a = 1;");
	is(deploy(), 0, "$table: three indexes are deployed");
	wait_for("SELECT count(*) = 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for writers%'", 'one is being built');
	(my $query = $builds) =~ s/TABLE/$table/;
	is(value("SELECT string_agg(state || coalesce(': ' || phase, ''), ', ' ORDER BY job_id) $query"),
		"running: building index ${table}_a, queued: waiting for another index of the table, queued: waiting for another index of the table",
		'the others are queued');
	return ($writer, $query);
}

sub all_built
{
	my ($table, $query) = @_;
	wait_for("SELECT count(*) = 3 AND bool_and(state = 'succeeded') $query", "$table: each is built, none twice");
	is(value("SELECT count(*) FROM pg_index WHERE indrelid = '$table'::regclass AND indisvalid"), '3', 'and valid');
	is(value("SELECT bool_and(n IS NULL OR n >= finished_at) FROM (SELECT finished_at, lead(started_at) OVER (ORDER BY finished_at) AS n"
		. " $query AND job_id <> (SELECT min(job_id) $query)) s"), 't', 'one after the other');
	return;
}

# ---- a place for the backfill ----

value("SELECT evmig_backfill_register('fill', 'filled', 'v = 1', 'v IS NULL', sleep_ms => 0)");
value('INSERT INTO filled SELECT g FROM generate_series(1, 100) g');
my ($writer, $query) = three_builds('first');
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE name = 'fill'", 'the backfill is done meanwhile, with two workers at most');
is(value('SELECT count(*) FROM filled WHERE v IS NULL'), '0', 'all of it');
wait_for("SELECT count(*) = 1 FROM ($worker) w", 'the build alone has a worker');
is(value("SELECT count(*) $query AND state = 'queued'"), '2', 'the others wait');

# ---- paused, waited for ----

my ($last) = value("SELECT max(job_id) $query");
value("SELECT evmig_job_pause($last)");
is(value("SELECT state FROM evmig_jobs WHERE job_id = $last"), 'paused', 'one that waits is paused');
my ($code, $out, $err) = deploy();
is($code, 0, 'another deployment');
like($err, qr/WARNING:  index "first_c" is not built: its job $last is paused/, 'leaves it alone, and says so');
like($err, qr/indexes: first_a: started: taken up: job \d+ is at work.*indexes: first_b: started: taken up: job \d+ waits/s, 'as it does the others');
value("SELECT evmig_job_resume($last)");
wait_for("SELECT count(*) = 1 FROM ($worker) w", 'resumed, it waits for its turn');
is(value("SELECT state FROM evmig_jobs WHERE job_id = $last"), 'queued', 'in the queue');

# ---- kill -9, with a launcher ----

crash($node, value($worker));
all_built('first', $query);
$writer->quit;

# ---- the one before ends ----

($writer, $query) = three_builds('second');
$writer->query_safe('COMMIT;');
all_built('second', $query);
$writer->quit;

# ---- kill -9, without one ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
($writer, $query) = three_builds('third');
value("SELECT pg_terminate_backend(pid) FROM ($worker) w");
wait_for("SELECT count(*) = 1 $query AND state = 'interrupted'", 'the builder is terminated');
value('SELECT evmig_jobs_recover()');
wait_for("SELECT string_agg(state, ', ' ORDER BY job_id) = 'running, queued, queued' $query", 'it is taken up, and nothing else');
is(value("SELECT count(*) FROM ($worker) w"), '1', 'by one worker');
crash($node, value($worker));
is(value("SELECT string_agg(state, ', ' ORDER BY job_id) $query"), 'interrupted, queued, queued', 'killed: nobody starts them');
is(deploy(), 0, 'the next deployment');
all_built('third', $query);
$writer->quit;

# one that is interrupted while another one has the turn goes to the queue
($writer, $query) = three_builds('fourth');
value("SELECT pg_terminate_backend(pid) FROM ($worker) w");
wait_for("SELECT count(*) = 1 $query AND state = 'interrupted'", 'the builder is terminated');
my ($first) = value("SELECT min(job_id) $query");
$last = value("SELECT max(job_id) $query");
value("SELECT evmig_job_resume($last)");
wait_for("SELECT state = 'running' FROM evmig_jobs WHERE job_id = $last", 'another one has its turn');
value("SELECT evmig_job_resume($first)");
wait_for("SELECT state = 'queued' FROM evmig_jobs WHERE job_id = $first", 'so it is queued');
value("SELECT evmig_job_cancel($last)");
wait_for("SELECT state = 'cancelled' FROM evmig_jobs WHERE job_id = $last", 'that one is cancelled');
wait_for("SELECT state = 'running' FROM evmig_jobs WHERE job_id = $first", 'and its turn passes on');

# what is registered anew while it is built, and what somebody is just registering
value("SELECT evmig_index_register('fourth_a', 'CREATE INDEX fourth_a ON fourth (a, b)')");
my $registrant = $node->background_psql('postgres', on_error_stop => 0);
$registrant->query_safe("BEGIN; SELECT evmig_index_register('third_a', 'CREATE INDEX third_a ON third (a DESC)');");
($code, $out, $err) = $node->psql('postgres', 'CALL evmig_deploy()', on_error_stop => 1,
	connstr => $node->connstr('postgres') . " options='-c evmig.ddl_lock_timeout=200ms'");
is($code, 0, 'a deployment beside somebody who registers an index');
like($err, qr/WARNING:  index "third_a" is not built: canceling statement due to lock timeout/, 'warns of it');
like($err, qr/WARNING:  index "fourth_a" is not built: job $first builds it as it was registered before/, 'and of a build that is out of date');
$registrant->query_safe('ROLLBACK;');
$registrant->quit;
value("SELECT evmig_index_register('fourth_a', 'CREATE INDEX fourth_a ON fourth (a)')");
$writer->query_safe('COMMIT;');
is(deploy(), 0, 'the one that was cancelled is deployed again');
wait_for("SELECT count(*) = 3 FROM pg_index WHERE indrelid = 'fourth'::regclass AND indisvalid", 'all are there');
$writer->quit;

# ---- what nobody wants any more goes first ----

($writer, $query) = three_builds('fifth');
my $drop = value("SELECT evmig_index_unregister('fifth_a', drop_index => true)");
wait_for("SELECT state = 'running' FROM evmig_jobs WHERE job_id = $drop", 'an index is dropped before others are built');
is(value("SELECT string_agg(state, ', ' ORDER BY job_id) $query"), 'cancelled, queued, queued', 'which wait, though they came before');
$writer->query_safe('COMMIT;');
wait_for("SELECT count(*) = 2 AND bool_and(indisvalid) FROM pg_index WHERE indrelid = 'fifth'::regclass", 'then they are built');
is(value("SELECT to_regclass('fifth_a') IS NULL"), 't', 'and that one is gone');
$writer->quit;

$node->stop;
done_testing();
