# The launcher starts interrupted jobs again: after a killed or terminated
# worker, a crash and a restart; in the databases it is told, under the limit
# on workers, and without holding up anybody who drops a database.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Crash;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Wait;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'evmig'
max_worker_processes = 12
restart_after_crash = on
autovacuum = off
log_min_messages = log
evmig.adaptive = off
evmig.batch_size = 20
evmig.batch_sleep = '20ms'
));
$node->start;
wait_on($node);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE other; ');

sub make_table
{
	my ($database, $name, $rows) = @_;
	return $node->safe_psql($database, qq(
CREATE EXTENSION IF NOT EXISTS evmig;
GRANT CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE $name (id int, n int DEFAULT 0, request_id uuid, ts timestamptz);
INSERT INTO $name SELECT g FROM generate_series(1, $rows) g;
CREATE FUNCTION ${name}_count() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN NEW.n := OLD.n + 1; RETURN NEW; END \$\$;
CREATE TRIGGER count BEFORE UPDATE ON $name FOR EACH ROW EXECUTE FUNCTION ${name}_count();
SELECT evmig_backfill_request_id('$name');
));
}

my $worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'evmig worker' AND datname = 'postgres'";

# Wait until rows are done again; it should take less than ten seconds.
sub goes_on
{
	my ($job, $before, $what) = @_;
	my $start = time;
	wait_for("SELECT rows_done > $before AND state = 'running' FROM evmig_jobs WHERE job_id = $job", "$what: the job goes on");
	note(sprintf '%s: after %.1f s', $what, time - $start);
	return;
}

sub rows_done
{
	return $node->safe_psql('postgres', "SELECT rows_done FROM evmig_jobs WHERE job_id = $_[0]");
}

is($node->safe_psql('postgres', "SELECT count(*) || ' ' || count(datname) FROM pg_stat_activity WHERE backend_type = 'evmig launcher'"),
	'1 0', 'one launcher, connected to no database');

my $job = make_table('postgres', 'events', 60000);
goes_on($job, 0, 'started');

# a worker that ends without a word
my $terminated = $node->safe_psql('postgres', $worker);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($terminated)");
wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $terminated", 'it is gone');
goes_on($job, rows_done($job), 'terminated');

# one that takes the server with it
for my $round (1 .. 3)
{
	my $before = rows_done($job);
	crash($node, $node->safe_psql('postgres', $worker));
	goes_on($job, $before, "killed, round $round");
}

# the server stopped at once, and restarted
for my $mode ('immediate', 'fast')
{
	my $before = rows_done($job);
	$node->stop($mode);
	$node->start;
	goes_on($job, $before, "$mode restart");
}
is($node->safe_psql('postgres', "SELECT evmig_job_set($job, 'batch_size', '5000')"), '', 'hurry up');
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $job", 'done');
is($node->safe_psql('postgres', "SELECT min(n) || ' ' || max(n) || ' ' || count(DISTINCT request_id) FROM events"),
	'1 1 60000', 'every row exactly once');
is(rows_done($job), '60000', 'the counter too');

# nobody asked for what was paused
my $paused = make_table('postgres', 'paused', 20000);
wait_for("SELECT rows_done > 0 FROM evmig_jobs WHERE job_id = $paused", 'another job is at work');
$node->safe_psql('postgres', "SELECT evmig_job_pause($paused)");
wait_for("SELECT state = 'paused' FROM evmig_jobs WHERE job_id = $paused", 'it is paused');

# another database; one that it is told to leave alone
my $other = make_table('other', 'events', 40000);
wait_for("SELECT rows_done > 0 FROM evmig_jobs WHERE job_id = $other", 'at work in another database', 'other');
$node->append_conf('postgresql.conf', "evmig.databases = 'postgres'");
$node->restart;
wait_for("SELECT state = 'interrupted' FROM evmig_jobs WHERE job_id = $other", 'interrupted', 'other');
$node->safe_psql('postgres', "ALTER SYSTEM SET evmig.databases = '*'");
$node->reload;
wait_for("SELECT state = 'running' FROM evmig_jobs WHERE job_id = $other", 'started once its database is named', 'other');
is($node->safe_psql('postgres', "SELECT state FROM evmig_jobs WHERE job_id = $paused"), 'paused', 'what was paused stays so');

# the limit on workers counts over all databases; who waits is next
$node->safe_psql('postgres', "ALTER SYSTEM SET evmig.max_workers = 1");
$node->reload;
my $waiting = make_table('postgres', 'waiting', 100);
wait_for("SELECT phase LIKE 'waiting for a worker%' FROM evmig_jobs WHERE job_id = $waiting", 'the second job waits for a worker');
is($node->safe_psql('postgres', "SELECT state FROM evmig_jobs WHERE job_id = $waiting"), 'queued', 'queued');
$node->safe_psql('other', 'SELECT evmig_stop_all()');
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $waiting", 'and starts when the first has ended');
wait_for("SELECT max(workers) = 0 FROM evmig_progress", 'nobody is at work');

# a role that may no longer log in, a job that never gets on: left alone, no storm
$node->safe_psql('postgres', "ALTER ROLE app NOLOGIN; SELECT evmig_job_set($paused, 'batch_size', '5000'); SELECT evmig_job_resume($paused)");
wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'evmig worker'", 'no worker');
$node->reload;
$node->safe_psql('postgres', "ALTER ROLE app LOGIN");
$node->reload;
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $paused", 'started once it may again');

# somebody's own schema and table of our names: not read, not run
$node->safe_psql('postgres', 'CREATE DATABASE trap');
$node->safe_psql('trap', q(
CREATE SCHEMA evmig;
CREATE TABLE evmig.ran (who name);
CREATE FUNCTION evmig.bang() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evmig.ran VALUES (current_user); RETURN 1; END $$;
CREATE VIEW evmig.job AS SELECT evmig.bang() AS job_id, 'running'::text AS state;
));
$node->reload;
my $again = make_table('postgres', 'again', 500);
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $again", 'the launcher has been round');
is($node->safe_psql('trap', 'SELECT count(*) FROM evmig.ran'), '0', 'nothing of a stranger is run');

# a database that lets nobody in does not hold up the others
my $held = make_table('postgres', 'held', 1000);
wait_for("SELECT rows_done > 0 FROM evmig_jobs WHERE job_id = $held", 'a job is at work');
my $renaming = $node->background_psql('postgres');
$renaming->query_until(qr/renamed/, "BEGIN;\nALTER DATABASE other RENAME TO another;\n\\echo renamed\n");
$node->reload;
wait_for("SELECT count(*) = 1 FROM pg_locks WHERE classid = 'pg_database'::regclass AND NOT granted", 'the launcher looks into it');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM ($worker) w");
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $held", 'the job goes on');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'other'"), '1', 'while the other is still closed');
$renaming->query_until(qr/done/, "ROLLBACK;\n\\echo done\n");
$renaming->quit;

# dropping a database does not wait for us
for my $round (1 .. 5)
{
	$node->safe_psql('postgres', "CREATE DATABASE gone$round");
	$node->reload;
	my ($rc, undef, $err) = $node->psql('postgres', "DROP DATABASE gone$round");
	is($rc, 0, "round $round: a database can be dropped while the launcher looks");
}

# on a standby it waits for the promotion
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
my $moved = make_table('postgres', 'moved', 4000);
wait_for("SELECT rows_done > 0 FROM evmig_jobs WHERE job_id = $moved", 'a job is at work on the primary');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evmig%'"), '0', 'nothing of ours on a standby');
$node->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('postgres', "SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $moved"), 'after the promotion it goes on and ends');
is($standby->safe_psql('postgres', 'SELECT min(n) || \' \' || max(n) FROM moved'), '1 1', 'every row exactly once');
unlike(slurp_file($_->logfile), qr/TRAP|signal 11|PANIC/, 'no crash of our making') for $node, $standby;
$standby->stop;
done_testing();
