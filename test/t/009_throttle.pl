# Signals that only a real server gives, each one seen to bite and to let go:
# vacuum against wraparound, dead rows, a standby that is gone, a signal that
# cannot be read any more.  A job that starts under a hard limit does nothing,
# and one in the session of its caller yields as a worker does.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Wait;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q(
autovacuum_naptime = 1
max_worker_processes = 16
evmig.max_workers = 8
));
$node->start;
wait_on($node);
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE frozen (id int, done boolean) WITH (autovacuum_enabled = off, autovacuum_freeze_max_age = 100000, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
CREATE TABLE dead (id int, done boolean, n int DEFAULT 0) WITH (autovacuum_enabled = off);
CREATE TABLE stale (id int, done boolean);
CREATE TABLE called (id int, done boolean);
CREATE TABLE knob AS SELECT 0 AS value;
INSERT INTO frozen SELECT g FROM generate_series(1, 200000) g;
INSERT INTO dead SELECT g FROM generate_series(1, 5000) g;
INSERT INTO stale SELECT g FROM generate_series(1, 200000) g;
INSERT INTO called SELECT g FROM generate_series(1, 20000) g;
SELECT evmig_backfill_register(t, t::regclass, 'done = true', 'done IS NULL', batch_size => 10, sleep_ms => 20, adaptive => false)
FROM unnest('{frozen, dead, stale, called}'::text[]) t;
));

sub progress
{
	my ($what, $job) = @_;
	return $node->safe_psql('postgres', "SELECT $what FROM evmig_progress WHERE job_id = $job");
}

sub start
{
	my ($name, @set) = @_;
	return $node->safe_psql('postgres', join('', 'SET ROLE app;', map { "SET evmig.$_;" } @set)
		. "SELECT evmig_backfill_start('$name')");
}

sub goes_on
{
	my ($job, $what) = @_;
	my $before = progress('rows_done', $job);
	wait_for("SELECT throttle IS NULL AND rows_done > $before FROM evmig_progress WHERE job_id = $job", $what);
	return;
}

# a query that was answered and then is not: 15 seconds later that reads as hard.
# The seconds pass while the rest is tried.
my $stale = start('stale', "throttle_query = 'SELECT value FROM knob'", 'throttle_query_hard = 10');
wait_for("SELECT rows_done > 0 FROM evmig_progress WHERE job_id = $stale", 'the query is answered');
$node->safe_psql('postgres', 'REVOKE SELECT ON knob FROM app');

# vacuum against wraparound, held up by its cost delay
my $frozen = start('frozen');
wait_for("SELECT rows_done > 0 AND throttle IS NULL FROM evmig_progress WHERE job_id = $frozen", 'a job is at work');
$node->safe_psql('postgres', q(
CREATE TABLE burn (i int);
DO $$ BEGIN FOR i IN 1..110000 LOOP BEGIN INSERT INTO burn VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
DROP TABLE burn;
));
wait_for("SELECT throttle = 'wraparound_vacuum 1 >= 1, paused' FROM evmig_progress WHERE job_id = $frozen",
	'it yields to autovacuum that prevents wraparound');
my $before = progress('rows_done', $frozen);
my ($worked, $throttled) = split /\|/, $node->safe_psql('postgres', "SELECT worked_ms, throttled_ms FROM evmig.job WHERE job_id = $frozen");
wait_for("SELECT throttled_ms > $throttled + 3000 FROM evmig.job WHERE job_id = $frozen", 'the time is counted apart');
is(progress('rows_done', $frozen), $before, 'nothing is done meanwhile');
is($node->safe_psql('postgres', "SELECT worked_ms - $worked < (throttled_ms - $throttled) / 2 FROM evmig.job WHERE job_id = $frozen"),
	't', 'and not as time at work, which the time left is taken from');
my $altered = $node->background_psql('postgres', on_error_stop => 0);
$altered->query_until(qr/altering/, "\\echo altering\nALTER TABLE frozen SET (autovacuum_vacuum_cost_delay = 0);\n");
wait_for("SELECT count(*) > 0 FROM pg_locks WHERE relation = 'frozen'::regclass AND NOT granted", 'somebody wants to hurry it up');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_vacuum WHERE relid = 'frozen'::regclass");
goes_on($frozen, 'it goes on by itself');
$altered->quit;
$node->safe_psql('postgres', "SELECT evmig_job_cancel($frozen)");

# a standby that is gone is known by its slot
my $gone = start('frozen', 'throttle_replica_lag_bytes_hard = 64');
wait_for("SELECT rows_done > 0 FROM evmig_progress WHERE job_id = $gone", 'at work');
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('gone', true)");
wait_for("SELECT throttle ~ '^replica_lag_bytes .* > 64 kB, paused' FROM evmig_progress WHERE job_id = $gone",
	'the slot of a standby that is gone stops it');
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('gone')");
goes_on($gone, 'until it is dropped');
$node->safe_psql('postgres', "SELECT evmig_job_cancel($gone)");

# dead rows that vacuum may not remove yet
my $old = $node->background_psql('postgres');
$old->query_until(qr/begun/, "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 1;\n\\echo begun\n");
$node->safe_psql('postgres', 'UPDATE dead SET n = 1') for 1 .. 3;
wait_for("SELECT n_dead_tup >= 15000 FROM pg_stat_user_tables WHERE relname = 'dead'", 'the statistics tell of dead rows');
my $dead = start('dead', 'throttle_dead_rows_hard = 70');
wait_for("SELECT throttle ~ '^dead_rows [0-9.]+ % > 70 %, paused' FROM evmig_progress WHERE job_id = $dead", 'dead rows stop it');
is(progress('rows_done', $dead), '0', 'a job that starts under a hard limit does nothing');
$old->query_until(qr/done/, "COMMIT;\n\\echo done\n");
$old->quit;
# any other snapshot, also of a worker, makes vacuum leave some
for (1 .. 100)
{
	$node->safe_psql('postgres', 'VACUUM dead');
	last if $node->safe_psql('postgres', "SELECT n_dead_tup < 5000 FROM pg_stat_user_tables WHERE relname = 'dead'") eq 't';
}
wait_for("SELECT rows_done > 0 FROM evmig_progress WHERE job_id = $dead", 'vacuum lets it go on');
$node->safe_psql('postgres', "SELECT evmig_job_cancel($dead)");

# in the session of its caller; a limit changes while it is at work
my $caller = $node->background_psql('postgres', on_error_stop => 0);
$caller->query_until(qr/calling/, "SET SESSION AUTHORIZATION app;\nSET evmig.throttle_query = 'SELECT 15';\n\\echo calling\nCALL evmig_backfill_run('called');\n");
wait_for("SELECT rows_done > 0 FROM evmig_progress WHERE name = 'called'", 'a procedure is at work');
$node->safe_psql('postgres', "LOAD 'evmig'; ALTER SYSTEM SET evmig.throttle_query_hard = 10");
$node->reload;
wait_for("SELECT throttle = 'throttle_query 15 > 10, paused' FROM evmig_progress WHERE name = 'called'", 'it yields as a worker does');
$before = $node->safe_psql('postgres', "SELECT rows_done FROM evmig_progress WHERE name = 'called'");
wait_for("SELECT throttled > '2 s' FROM evmig_progress WHERE name = 'called'", 'it stays stopped');
is($node->safe_psql('postgres', "SELECT rows_done FROM evmig_progress WHERE name = 'called'"), $before, 'and does nothing');
$node->safe_psql('postgres', q(SELECT evmig_job_set(job_id, s, v) FROM evmig_jobs, (VALUES ('throttle_query_hard', '20'), ('batch_size', '1000'), ('batch_sleep', '0')) t (s, v) WHERE name = 'called'));
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE name = 'called'", 'a limit of its own lets it end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM called WHERE done'), '20000', 'every row is done');
$caller->quit;

# long enough ago by now
wait_for("SELECT throttle ~ '^throttle_query could not be read: permission denied for table knob, paused' FROM evmig_progress WHERE job_id = $stale",
	'a signal that is stale stops it');
$before = progress('rows_done', $stale);
$throttled = progress('throttled', $stale);
wait_for("SELECT throttled > interval '$throttled' + '1 s' FROM evmig_progress WHERE job_id = $stale", 'it stays stopped');
is(progress('rows_done', $stale), $before, 'and does nothing');
$node->safe_psql('postgres', 'GRANT SELECT ON knob TO app');
goes_on($stale, 'an answer lets it go on');

$node->stop;
done_testing();
