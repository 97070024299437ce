# A runbook under live ingest, struck down at random moments: a worker killed
# with SIGKILL (the server restarts all its processes), and the whole server
# stopped at once.  Resumed, it ends as if nothing had happened: no row is lost,
# no NULL, no duplicate, and the archive holds exactly what was removed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Crash;
use IPC::Run qw(start finish);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{EVMIG_CRASH_ROUNDS} // 10;
my $seed = $ENV{EVMIG_CRASH_SEED} // int(rand(1_000_000));
my $whole = 0;					# progress of a whole runbook
srand($seed);
note("EVMIG_CRASH_SEED=$seed");

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
max_worker_processes = 16
restart_after_crash = on
fsync = off
));
$node->start;
$node->safe_psql('postgres', q(
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
CREATE EXTENSION evmig;
ALTER ROLE app SET evmig.batch_size = 20;
ALTER ROLE app SET evmig.adaptive = off;
ALTER ROLE app SET evmig.batch_sleep = '5ms';
ALTER ROLE app SET evmig.max_loser_pct = 50;
));

# each transaction leaves a witness of what it sent
my $ingest = $node->basedir . '/ingest.pgbench';
append_to_file($ingest, q(
\set k random(1, 2000)
\set kind random(1, 10)
SELECT nextval('ids') AS id \gset
\if :kind <= 2
BEGIN;
INSERT INTO witness VALUES (:id, NULL);
INSERT INTO business_events (id, ts, payload) VALUES (:id, now(), 'live') ON CONFLICT DO NOTHING;
END;
\elif :kind <= 4
BEGIN;
INSERT INTO witness VALUES (:id, md5('k' || :k)::uuid);
INSERT INTO business_events (id, request_id, ts, payload) VALUES (:id, md5('k' || :k)::uuid, now(), 'live') ON CONFLICT DO NOTHING;
END;
\else
BEGIN;
INSERT INTO witness VALUES (:id, md5('n' || :id)::uuid);
INSERT INTO business_events (id, request_id, ts, payload) VALUES (:id, md5('n' || :id)::uuid, now(), 'live') ON CONFLICT DO NOTHING;
END;
UPDATE business_events SET payload = 'touched' WHERE id = :k;
\endif
));

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query, connstr => undef);
}

sub make_table
{
	sql(q(
SET client_min_messages = warning;
DROP TABLE IF EXISTS business_events_dupes_archived CASCADE;
DROP TABLE IF EXISTS business_events, witness;
DROP SEQUENCE IF EXISTS ids;
SET ROLE app;
CREATE SEQUENCE ids START 10001;
CREATE TABLE business_events (id bigint PRIMARY KEY, request_id uuid, ts timestamptz, payload text);
INSERT INTO business_events
SELECT g, CASE WHEN g % 10 = 0 THEN NULL WHEN g % 20 = 1 THEN md5('k' || (g % 500))::uuid ELSE md5('k' || g)::uuid END,
	now() - interval '1 day' + g * interval '1 s', 'old'
FROM generate_series(1, 3000) g;
CREATE TABLE witness (id bigint PRIMARY KEY, request_id uuid);
INSERT INTO witness SELECT id, request_id FROM business_events;
));
	return;
}

sub open_runbook
{
	my $id = sql(q(SET ROLE app; SELECT evmig_runbook_open(mode => 'archive')));
	sql(qq(SET ROLE app;
SELECT evmig_runbook_attest($id, (SELECT jsonb_object_agg(name, 'seen by the test') FROM evmig.runbook_item));
SELECT evmig_runbook_approve($id, 'by the test')));
	return $id;
}

# Start CALL evmig_runbook_execute in a session of its own.
sub start_execute
{
	my ($id) = @_;
	my ($in, $out, $err) = ('', '', '');
	my $h = start(['psql', '-XqAt', '-d', $node->connstr('postgres'), '-U', 'app',
			'-v', 'ON_ERROR_STOP=1', '-c', "CALL evmig_runbook_execute($id)"],
		\$in, \$out, \$err);
	return { handle => $h, err => \$err };
}

sub start_ingest
{
	my ($in, $out, $err) = ('', '', '');
	return start(['pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', 'app', '-c', '2',
			'-T', '120', '-R', '100', '-f', $ingest, 'postgres'], \$in, \$out, \$err);
}

sub stop_process
{
	my ($h) = @_;
	$h->kill_kill(grace => 1);
	return;
}

# What the runbook has done so far, as a number that only grows.
sub progress
{
	my ($rc, $out) = $node->psql('postgres', q(
SELECT (SELECT count(*) FROM evmig.runbook_event) * 10 + (SELECT coalesce(sum(batches), 0) FROM evmig.job_chunk)));
	return $rc == 0 && $out ne '' ? $out : 0;
}

# Wait for a random moment of the execution, or its end.
sub random_moment
{
	my ($execute) = @_;
	my $until = progress() + int(rand($whole));
	while ($execute->{handle}->pumpable && progress() < $until)
	{
		$execute->{handle}->pump_nb;
		usleep(rand(20_000));
	}
	return;
}

# How much progress a runbook makes that nobody disturbs.
sub measure_whole
{
	make_table();
	my $ingest_handle = start_ingest();
	my $id = open_runbook();
	my $before = progress();
	sql("SET ROLE app; CALL evmig_runbook_execute($id)");
	stop_process($ingest_handle);
	check_round('undisturbed');
	return progress() - $before;
}

sub check_round
{
	my ($name) = @_;
	is(sql('SELECT count(*) FROM business_events WHERE request_id IS NULL'), '0', "$name: no NULL");
	is(sql('SELECT count(*) - count(DISTINCT request_id) FROM business_events'), '0', "$name: no duplicate");
	is(sql(q(SELECT count(*) FROM witness w
WHERE NOT EXISTS (SELECT FROM business_events b WHERE b.id = w.id)
AND NOT EXISTS (SELECT FROM business_events_dupes_archived a WHERE a.id = w.id)
AND (w.request_id IS NULL OR NOT EXISTS (SELECT FROM business_events b WHERE b.request_id = w.request_id)))),
		'0', "$name: no row is lost");
	is(sql(q(SELECT count(*) FROM business_events_dupes_archived a JOIN business_events b USING (id))),
		'0', "$name: no row is both archived and there");
	is(sql(q(SELECT count(*) - count(DISTINCT id) FROM business_events_dupes_archived)),
		'0', "$name: no row is archived twice");
	is(sql(q(SELECT count(*) FROM business_events_dupes_archived a
WHERE NOT EXISTS (SELECT FROM business_events b WHERE b.request_id = a.request_id))),
		'0', "$name: each archived key has its keeper");
	is(sql(q(SELECT count(*) FROM business_events b JOIN witness w USING (id) WHERE w.request_id IS NOT NULL AND b.request_id <> w.request_id)),
		'0', "$name: no key was changed");
	is(sql(q(SELECT string_agg(check_name, ', ') FROM evmig_verify() WHERE NOT ok)), '', "$name: evmig_verify agrees");
	is(sql(q(SELECT attnotnull FROM pg_attribute WHERE attrelid = 'business_events'::regclass AND attname = 'request_id')),
		't', "$name: NOT NULL is in force");
	return;
}

sub play
{
	my ($name, $strike) = @_;
	make_table();
	my $ingest_handle = start_ingest();
	my $id = open_runbook();
	my $execute = start_execute($id);
	random_moment($execute);
	note("$name: struck at " . sql("SELECT coalesce(string_agg(kind || ' ' || state, ', '), 'no job yet') FROM evmig.job WHERE runbook_id = $id"));
	$strike->();
	stop_process($execute->{handle});
	stop_process($ingest_handle);
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';

	$ingest_handle = start_ingest();
	my $again = start_execute($id);
	$again->{handle}->finish;
	is($again->{handle}->result(0), 0, "$name: resumed and finished") or diag(${ $again->{err} });
	stop_process($ingest_handle);
	check_round($name);
	return;
}

$whole = measure_whole();
for my $round (1 .. $rounds)
{
	play("worker killed, round $round", sub {
		# between two jobs there is none: then the session that executes
		my ($rc, $pid) = $node->psql('postgres', q(SELECT pid FROM pg_stat_activity
WHERE backend_type = 'evmig worker' OR query LIKE 'CALL evmig_runbook_execute%'
ORDER BY backend_type = 'evmig worker' DESC LIMIT 1));
		crash($node, $pid) if $pid;
	});
}
for my $round (1 .. $rounds)
{
	play("server stopped, round $round", sub {
		$node->stop('immediate');
		$node->start;
	});
}

unlike(slurp_file($node->logfile), qr/TRAP|terminated by signal (?!9)/, 'nothing crashed on its own');
$node->stop;
done_testing();
