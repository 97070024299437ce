# What a backfill tells its server log, how it retries, what a second run reads,
# how a CALL in a session yields, and an undo log that has gone through a dump.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
max_worker_processes = 16
autovacuum = off
evmig.log_min_interval = 0
));
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE due (id int PRIMARY KEY, n int, call int);
INSERT INTO due SELECT g FROM generate_series(1, 500) g;
CREATE SEQUENCE tries;
));

sub job
{
	my ($job, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM evmig_jobs WHERE job_id = $job");
}

sub run_job
{
	my ($name) = @_;
	my $job = $node->safe_psql('postgres', "SELECT evmig_backfill_start('$name')");
	$node->poll_query_until('postgres', "SELECT finished_at IS NOT NULL FROM evmig_jobs WHERE job_id = $job");
	return $job;
}

sub log_lines
{
	my ($offset, $pattern) = @_;
	my $log = substr(slurp_file($node->logfile), $offset);
	my @lines = $log =~ /($pattern)/g;
	return scalar(@lines);
}

# ---- what clashes each time is tried ten times more; it runs beside the rest ----
my $start = -s $node->logfile;
$node->safe_psql('postgres', q(
CREATE TABLE clash (id int PRIMARY KEY, n int);
INSERT INTO clash VALUES (1), (2);
CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	RAISE EXCEPTION 'deadlock, for the test' USING ERRCODE = 'deadlock_detected'; END $$;
CREATE TRIGGER clash BEFORE UPDATE ON clash FOR EACH ROW EXECUTE FUNCTION clash();
SELECT evmig_backfill_register('clash', 'clash', 'n = 1', 'n IS NULL', max_failures => 10);
));
my $clash = $node->safe_psql('postgres', q(SELECT evmig_backfill_start('clash')));

# three clashes, then none
$node->safe_psql('postgres', q(
CREATE TABLE settles (id int PRIMARY KEY, n int DEFAULT 0);
INSERT INTO settles VALUES (1), (2);
CREATE FUNCTION settles() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF nextval('tries') <= 3 THEN RAISE EXCEPTION 'serialization failure, for the test' USING ERRCODE = 'serialization_failure'; END IF;
	RETURN NEW; END $$;
CREATE TRIGGER settles BEFORE UPDATE ON settles FOR EACH STATEMENT EXECUTE FUNCTION settles();
SELECT evmig_backfill_register('settles', 'settles', 'n = n + 1', 'n = 0');
));
my $settles = run_job('settles');
is(job($settles, 'state, rows_done, rows_failed'), 'succeeded|2|0', 'what clashes three times is tried until it works');
is($node->safe_psql('postgres', 'SELECT n, count(*) FROM settles GROUP BY n'), '1|2', 'and done once');
is(log_lines($start, qr/evmig job $settles: attempt \d of 10 failed: serialization failure, for the test/), 3,
	'each attempt is in the log');

# ---- a line every ten batches ----
$node->safe_psql('postgres', q(SELECT evmig_backfill_register('due', 'due', 'n = 1', 'n IS NULL',
	batch_size => 10, adaptive => false, sleep_ms => 0)));
my $job = run_job('due');
my $time = qr/\d+:\d\d:\d\d/;
is(job($job, 'state, rows_done'), 'succeeded|500', 'a backfill');
is(log_lines($start, qr/evmig job $job \(due\): \d+ rows, \d+ rows\/s, \d+\.\d %, ETA (?:not known|$time to $time)/), 5,
	'fifty batches: five lines with rows, rows/s, percent and ETA');

# started again it reads the table once and writes nothing
my $reads = q(SELECT pg_stat_get_tuples_returned('due'::regclass), pg_stat_get_numscans('due'::regclass),
	pg_stat_get_tuples_updated('due'::regclass));
$node->poll_query_until('postgres', q(SELECT pg_stat_get_tuples_updated('due'::regclass) = 500));
my ($read, $scans, $updated) = split /\|/, $node->safe_psql('postgres', $reads);
$job = run_job('due');
is(job($job, 'state, rows_done, rows_unchanged'), 'succeeded|0|0', 'run again, nothing is left to do');
$node->poll_query_until('postgres', q(SELECT pg_stat_get_numscans('due'::regclass) > ) . $scans);
my ($read2, $scans2, $updated2) = split /\|/, $node->safe_psql('postgres', $reads);
is($scans2 - $scans, 1, 'it scans the table once');
cmp_ok($read2 - $read, '<=', 500, 'and reads each row once');
is($updated2 - $updated, 0, 'and writes no row');

# but not more often than evmig.log_min_interval
$node->safe_psql('postgres', q(UPDATE due SET n = NULL; SELECT evmig_backfill_set('due', 'log_min_interval', '1h')));
$job = run_job('due');
is(log_lines($start, qr/evmig job $job \(due\): \d+ rows, /), 1, 'an interval of an hour: one line');

# ---- in a session: it yields too, and hears of changed limits ----
$node->safe_psql('postgres', q(
CREATE TABLE knob (value int);
INSERT INTO knob VALUES (1000);
SELECT evmig_backfill_register('call', 'due', 'call = 1', 'call IS NULL', batch_size => 10, adaptive => false, sleep_ms => 0);
SELECT evmig_backfill_set('call', 'throttle_query', 'SELECT value FROM knob');
SELECT evmig_backfill_set('call', 'throttle_query_hard', '100');
));
my ($in, $out, $err) = ('', '', '');
my $client = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('postgres'),
		'-c', q(CALL evmig_backfill_run('call')),
		'-c', q(SELECT 'limit ' || current_setting('evmig.throttle_query_hard')) ], \$in, \$out, \$err);
my $paused = q(SELECT throttle = 'throttle_query 1000 > %s, paused' FROM evmig_progress WHERE name = 'call');
ok($node->poll_query_until('postgres', sprintf($paused, 100)), 'a hard limit pauses a CALL');
my $call = $node->safe_psql('postgres', q(SELECT job_id FROM evmig_jobs WHERE name = 'call'));
my $before = job($call, 'rows_done');
cmp_ok($before, '<', 500, 'before it is done');
$node->safe_psql('postgres', "SELECT evmig_job_set($call, 'throttle_query_hard', '200')");
ok($node->poll_query_until('postgres', sprintf($paused, 200)), 'a changed limit is heard of');
is(job($call, 'rows_done'), $before, 'nothing was done meanwhile');
# a look at the signals is short
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL evmig%' AND backend_xmin IS NULL)),
	'and it holds no snapshot');
$node->safe_psql('postgres', 'UPDATE knob SET value = 0');
$client->finish;
is(job($call, 'state, rows_done'), 'succeeded|500', 'it goes on by itself');
like($err, qr/NOTICE:  job $call \(call\) succeeded: 500 rows changed/, 'and tells its caller');
like($out, qr/limit 0/, 'whose own settings are as before');

# ---- an undo log survives a dump; the job itself does not ----
$node->safe_psql('postgres', q(CREATE DATABASE there));
$node->safe_psql('there', q(
CREATE EXTENSION evmig;
CREATE TABLE keyed (id int PRIMARY KEY, n int);
CREATE TABLE keyless (n int);
INSERT INTO keyed SELECT g, g FROM generate_series(1, 10) g;
INSERT INTO keyless SELECT g FROM generate_series(1, 10) g;
SELECT evmig_backfill_register('keyed', 'keyed', 'n = -n', 'n > 0', undo => true);
SELECT evmig_backfill_register('keyless', 'keyless', 'n = -n', 'n > 0', undo => true);
SELECT evmig_backfill_set('keyed', 'duty_cycle', '1');
));
$node->safe_psql('there', "CALL evmig_backfill_run_all('10 min')");
my $keyed = $node->safe_psql('there', q(SELECT job_id FROM evmig_jobs WHERE name = 'keyed'));
my $keyless = $node->safe_psql('there', q(SELECT job_id FROM evmig_jobs WHERE name = 'keyless'));
my $file = $node->basedir . '/there.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, 'there' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE here');
$node->command_ok([ 'pg_restore', '-e', '-d', 'here', $file ], 'pg_restore');
is($node->safe_psql('here', q(SELECT settings FROM evmig.backfill WHERE name = 'keyed')), '{"evmig.duty_cycle": "1"}',
	'settings of a backfill come along');
my ($rc, undef, $why) = $node->psql('here', "SELECT evmig_backfill_undo($keyless)");
like($why, qr/cannot be found any more.*no primary key/s, 'without a key rows cannot be found again');
my $undo = $node->safe_psql('here', "SELECT evmig_backfill_undo($keyed)");
cmp_ok($undo, '>', $keyless, 'numbers of jobs go on');
$node->safe_psql('here', "CALL evmig_wait($undo)");
is($node->safe_psql('here', 'SELECT count(*) FROM keyed WHERE n = id'), '10', 'the old values are back');
is($node->safe_psql('here', "SELECT evmig_backfill_undo_purge($keyed)"), '10', 'and the log can go');

# ---- the clash from the beginning ----
$node->poll_query_until('postgres', "SELECT finished_at IS NOT NULL FROM evmig_jobs WHERE job_id = $clash");
is(job($clash, 'state, sqlstate, rows_done, rows_failed'), 'failed|40P01|0|0', 'the eleventh clash is too many');
is(log_lines($start, qr/evmig job $clash: attempt \d+ of 10 failed: deadlock, for the test/), 10, 'after ten retries');

$node->stop;
done_testing();
