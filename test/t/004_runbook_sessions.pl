# Who waits for a runbook may go away: the jobs go on, the next call finds them.
# While it waits it holds no snapshot.  A dump and restore keeps the evidence.
use strict;
use warnings;

use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_worker_processes = 16\nfsync = off\n");
$node->start;

sub sql
{
	my ($query, $db) = @_;
	return $node->safe_psql($db // 'postgres', $query);
}

sub make_runbook
{
	sql(q(
SET client_min_messages = warning;
DROP TABLE IF EXISTS business_events_dupes_archived CASCADE;
DROP TABLE IF EXISTS business_events;
CREATE TABLE business_events (id int PRIMARY KEY, request_id uuid, ts timestamptz);
INSERT INTO business_events
SELECT g, CASE WHEN g % 10 > 0 THEN md5((g % 950)::text)::uuid END, '2026-01-01' FROM generate_series(1, 1000) g));
	my $id = sql(q(SELECT evmig_runbook_open()));
	sql(qq(SELECT evmig_runbook_attest($id, (SELECT jsonb_object_agg(name, '{"evidence": "seen", "kept_until": "2099-01-01"}'::jsonb)
	FROM evmig.runbook_item)); SELECT evmig_runbook_approve($id, 'by the test')));
	return $id;
}

# CALL evmig_runbook_execute in a session of its own, under a name to find it by
sub start_execute
{
	my ($id, $settings) = @_;
	my ($in, $out, $err) = ('', '', '');
	my $h = start(['psql', '-XqAt', '-d', $node->connstr('postgres') . ' application_name=executes',
			'-v', 'ON_ERROR_STOP=1', '-c', $settings // 'SELECT 1', '-c', "CALL evmig_runbook_execute($id)"],
		\$in, \$out, \$err);
	return { handle => $h, err => \$err };
}

# an open snapshot that a concurrent build has to wait for
sub open_snapshot
{
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$session->query_safe('SELECT count(*) FROM business_events');
	return $session;
}

my $building = q(SELECT EXISTS (SELECT FROM pg_stat_activity
WHERE backend_type = 'evmig worker' AND query LIKE 'CREATE INDEX%' AND wait_event = 'virtualxid'));
my $waiting = q(SELECT EXISTS (SELECT FROM pg_stat_activity
WHERE application_name = 'executes' AND backend_xmin IS NULL AND backend_xid IS NULL AND wait_event = 'Extension'));
my $gone = q(SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'executes'));
my $find = q(FROM pg_stat_activity WHERE application_name = 'executes');

sub ends_well
{
	my ($id, $name) = @_;
	my $again = start_execute($id);
	$again->{handle}->finish;
	is($again->{handle}->result(0), 0, "$name: the next call ends well") or diag(${ $again->{err} });
	is(sql("SELECT state FROM evmig.runbook WHERE runbook_id = $id"), 'succeeded', "$name: done");
	is(sql('SELECT null_request_ids + duplicate_rows FROM evmig_audit()'), '0', "$name: clean");
	is(sql("SELECT count(*) FROM evmig.job WHERE runbook_id = $id AND kind = 'helper_index'"), '1',
		"$name: the job of the stopped call was waited for, not started again");
	is(sql("SELECT evmig_runbook_report($id, 'json')::jsonb #>> '{chain,whole}'"), 'true', "$name: the chain is whole");
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION evmig');
my %ways = (
	'cancelled' => "SELECT pg_cancel_backend(pid) $find",
	'terminated' => "SELECT pg_terminate_backend(pid) $find",
	'timed out' => "SELECT pg_cancel_backend(pid) $find");
for my $name (sort keys %ways)
{
	my $id = make_runbook();
	my $snapshot = open_snapshot();
	my $execute = start_execute($id);
	ok($node->poll_query_until('postgres', $building), "$name: a build waits for the snapshot");
	ok($node->poll_query_until('postgres', $waiting), "$name: whoever waits for it holds none");
	sql($ways{$name});
	$execute->{handle}->finish;
	if ($name eq 'timed out')
	{
		# the next call has nothing to do but to wait
		$execute = start_execute($id, "SET statement_timeout = '1s'");
		$execute->{handle}->finish;
		like(${ $execute->{err} }, qr/statement timeout/, "$name: by the server");
	}
	isnt($execute->{handle}->result(0), 0, "$name: the call ended");
	ok($node->poll_query_until('postgres', $gone), "$name: its session is gone");
	is(sql($building), 't', "$name: the job goes on");
	$snapshot->query_safe('COMMIT');
	$snapshot->quit;
	ends_well($id, $name);
}

# a failed step says where it stands; it is started anew by the next call
{
	my $id = make_runbook();
	my $snapshot = open_snapshot();
	my $execute = start_execute($id);
	ok($node->poll_query_until('postgres', $building), 'job cancelled: a build waits');
	sql("SELECT evmig_job_cancel(max(job_id)) FROM evmig.job");
	$execute->{handle}->finish;
	like(${ $execute->{err} }, qr/step 4 of 11 \(helper index\) of runbook $id failed: job \d+ is cancelled/,
		'job cancelled: the error names step and job');
	like(${ $execute->{err} }, qr/CALL evmig_runbook_execute\($id\) goes on at this step/, 'job cancelled: and what to do');
	is(sql("SELECT state FROM evmig.runbook WHERE runbook_id = $id"), 'executing', 'job cancelled: nothing else changed');
	$snapshot->query_safe('COMMIT');
	$snapshot->quit;
	my $again = start_execute($id);
	$again->{handle}->finish;
	is(sql("SELECT state FROM evmig.runbook WHERE runbook_id = $id"), 'succeeded', 'job cancelled: the next call ends well')
		or diag(${ $again->{err} });
}

# a guard that somebody removed midway is set again, and what follows is done again
{
	my $id = make_runbook();
	my $snapshot = open_snapshot();
	my $execute = start_execute($id);
	ok($node->poll_query_until('postgres', $building), 'guard removed: a build waits');
	sql("SELECT pg_cancel_backend(pid) $find");
	$execute->{handle}->finish;
	$snapshot->query_safe('COMMIT');
	$snapshot->quit;
	$node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM evmig.job ORDER BY job_id DESC LIMIT 1");
	sql("SELECT evmig_ingest_guard(mode => 'off')");
	sql('INSERT INTO business_events (id, ts) VALUES (5000, now())');
	my $again = start_execute($id);
	$again->{handle}->finish;
	like(${ $again->{err} }, qr/ingest guard \(fill\): is no longer there, done again/, 'guard removed: set again')
		or diag(${ $again->{err} });
	is(sql('SELECT null_request_ids + duplicate_rows FROM evmig_audit()'), '0', 'guard removed: what came in is filled');
}

# dump and restore
my $last = sql('SELECT max(runbook_id) FROM evmig.runbook');
my $head = sql("SELECT encode(head, 'hex') FROM evmig.runbook WHERE runbook_id = $last");
my $dump = $node->basedir . '/dump.sql';
$node->command_ok(['pg_dump', '-d', $node->connstr('postgres'), '-f', $dump], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok(['psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump], 'restored');
is(sql('SELECT count(*) FROM evmig.runbook', 'restored'), sql('SELECT count(*) FROM evmig.runbook'), 'all runbooks are there');
is(sql("SELECT evmig_runbook_report($last, 'json')::jsonb #>> '{chain,head}'", 'restored'), $head, 'with the same head');
is(sql("SELECT bool_and(evmig_runbook_report(runbook_id, 'json')::jsonb #>> '{chain,whole}' = 'true') FROM evmig.runbook", 'restored'),
	't', 'and whole chains');
cmp_ok(sql('SELECT evmig_runbook_open()', 'restored'), '>', $last, 'the next one has a new number');
my ($rc, $out, $err) = $node->psql('restored', 'DELETE FROM evmig.runbook_event');
like($err, qr/append-only/, 'still append-only');
($rc, $out, $err) = $node->psql('restored', "SELECT evmig_archive_purge(older_than => '0 s')");
like($err, qr/is to be kept until/, 'what was attested about keeping the archive still counts');

$node->stop;
done_testing();
