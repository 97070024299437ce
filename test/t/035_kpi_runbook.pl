# A runbook measures the application while it is at work, and holds back at the
# limits that it was given.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run qw(start);
use Measured;
use PostgreSQL::Test::Utils;
use Test::More;

start_measuring();

sub make_table
{
	my ($rows) = @_;
	sql(qq(
SET client_min_messages = warning;
DROP TABLE IF EXISTS business_events_dupes_archived CASCADE;
DROP TABLE IF EXISTS business_events;
CREATE TABLE business_events (id int, request_id uuid, ts timestamptz, CHECK (id <> -1));
INSERT INTO business_events
SELECT g, CASE WHEN g % 2 > 0 THEN md5((g % ($rows * 19 / 20))::text)::uuid END, '2026-01-01' FROM generate_series(1, $rows) g;
CREATE TRIGGER slow BEFORE INSERT ON business_events FOR EACH ROW EXECUTE FUNCTION slow()));
	return;
}

sub approved
{
	my $id = sql('SELECT evmig_runbook_open(mode => $$archive$$)');
	sql(qq(SELECT evmig_runbook_attest($id, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item))));
	sql(qq(SELECT evmig_runbook_approve($id, 'by the test')));
	return $id;
}

# with a fill that takes its time
sub execute
{
	my ($id) = @_;
	my ($code, $out, $err) = $node->psql('postgres',
		"SET evmig.adaptive = off; SET evmig.batch_size = 50; SET evmig.batch_sleep = '100ms'; CALL evmig_runbook_execute($id)");
	return ($code, $err);
}

sub events { return sql("SELECT string_agg(event || coalesce(' ' || subject, ''), ', ' ORDER BY seq) FROM evmig.runbook_event WHERE runbook_id = $_[0] AND event $_[1]"); }

my @writers;

sub start_writers
{
	my ($insert) = @_;
	my $file = $node->basedir . '/insert' . @writers . '.sql';
	append_to_file($file, $insert);
	my ($in, $out) = ('', '');
	push @writers, start(['pgbench', '-n', '-c', 2, '-R', 40, '-T', 600, '-f', $file, $node->connstr('postgres')], \$in, \$out, \$out);
	return $writers[-1];
}

sql(q(
CREATE EXTENSION evmig;
CREATE TABLE pace (ms float8);
INSERT INTO pace VALUES (60);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(ms / 1000) FROM pace; RETURN new; END $$;
));
make_table(2000);

# ---- a runbook that a snapshot holds up, in a database of its own; see the end ----
$node->safe_psql('postgres', 'CREATE DATABASE held');
$node->safe_psql('held', q(
CREATE EXTENSION evmig;
CREATE TABLE business_events (id int, request_id uuid, ts timestamptz);
INSERT INTO business_events SELECT g, md5((g % 90)::text)::uuid, '2026-01-01' FROM generate_series(1, 100) g;
));
my $book = $node->safe_psql('held', 'SELECT evmig_runbook_open(mode => $$archive$$)');
$node->safe_psql('held', qq(
SELECT evmig_runbook_attest($book, (SELECT jsonb_object_agg(name, 'seen') FROM evmig.runbook_item));
SELECT evmig_runbook_approve($book, 'by the test');
));
my $snapshot = $node->background_psql('held');
$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM business_events');
my ($held_in, $held_out) = ('', '');
my $held = start(['psql', '-XqAt', '-d', $node->connstr('held'), '-c', "CALL evmig_runbook_execute($book)"], \$held_in, \$held_out, \$held_out);

# ---- arguments ----
my $id = approved();
is(sql('SELECT target FROM evmig.kpi_watch'), 'business_events', 'opening a runbook watches its table');
is(sql("SELECT label || ' ' || runbook_id FROM evmig.kpi_sample"), "before $id", 'a sample before the approval');
for my $case (["$id, 0, 1", 'write_error_rate must be greater than 0'], ["$id, 1.1, 1", 'write_error_rate must be .* at most 1'],
	["$id, NULL, 'NaN'", 'p95_ms must be'], ["$id, NULL, 1, 'stop'", 'unknown action "stop"'], ['4711, 0.1, 1', 'runbook 4711 does not exist'])
{
	my ($code, $out, $err) = $node->psql('postgres', "SELECT evmig_runbook_limits($case->[0])");
	like($err, qr/ERROR:  $case->[1]/, "refused: $case->[0]");
}

# ---- pause_runbook ----
sql("SELECT evmig_runbook_limits($id, NULL, 50)");
my $writers = start_writers("INSERT INTO business_events (id, ts) VALUES (1, now());\n");
wait_for(q(SELECT writes > 20 FROM evmig_kpi('business_events', '10 seconds')), 'writers are at work, and slow');
my ($code, $err) = execute($id);
isnt($code, 0, 'the execution ends');
like($err, qr/ERROR:  runbook $id paused at step 3 of 11 \(backfill\): p95_ms is [0-9.]+, its limit 50/, 'and says why');
wait_for(q(SELECT state = 'paused' FROM evmig_jobs WHERE kind = 'request_id'), 'the job pauses');
is(sql('SELECT state FROM evmig.runbook'), 'executing', 'the runbook has not ended');
is(events($id, "LIKE '%limit%'"), 'limits set, paused at a limit', 'both are events');
is(sql("SELECT data ->> 'reached' ~ '^p95_ms is ' AND (data ->> 'writes')::float8 >= 10 FROM evmig.runbook_event WHERE event = 'paused at a limit'"),
	't', 'with the figures');
like(sql("SELECT evmig_runbook_report($id)"), qr/^\*\*NOT finished, last step: backfill, paused at a limit: p95(?:\\)?_ms is [0-9.]+, its limit 50; job \d+ is paused; CALL/m,
	'its report says so first');
like(sql("SELECT evmig_runbook_report($id)"), qr/^\| [-0-9: ]+ UTC \| paused at a limit \| .*reached: p95(?:\\)?_ms is [0-9.]+, its limit 50/m, 'and has the figures');
sql("SELECT evmig_runbook_limits($id, NULL, 5000); UPDATE pace SET ms = 0");
($code, $err) = execute($id);
is($code, 0, 'with other limits it goes on, and to its end') or diag($err);
is(sql('SELECT count(*) FROM evmig_jobs WHERE kind = $$request_id$$'), '1', 'with the job that had paused');
is(sql('SELECT bool_and(ok) FROM evmig_verify()'), 't', 'well');
like(sql("SELECT string_agg(DISTINCT label, ' ' ORDER BY label) FROM evmig.kpi_sample WHERE runbook_id = $id"),
	qr/^after before( during)?$/, 'with samples before and after');
is(sql("SELECT count(*) > 0 FROM evmig_kpi_compare('business_events', 'before', 'after') WHERE kpi = 'p95_ms' AND after > 0"), 't',
	'that can be compared');
$writers->kill_kill;

# ---- pause_ingest_and_finish ----
make_table(8000);
$id = approved();
sql("SELECT evmig_runbook_limits($id, 0.3, NULL, 'pause_ingest_and_finish')");
start_writers("INSERT INTO business_events (id, ts) VALUES (1, now());\n");
my $stop = $node->basedir . '/stop';
my $failing = start(['sh', '-c', "while [ ! -e $stop ]; do echo 'INSERT INTO business_events (id) VALUES (-1);'; sleep 0.02; done |
	psql -Xq -d '" . $node->connstr('postgres') . "' >/dev/null 2>&1"]);
sql('UPDATE pace SET ms = 200');
wait_for(q(SELECT write_error_rate > 0.3 AND write_errors > 10 FROM evmig_kpi('business_events', '10 seconds')), 'writers fail');
($code, $err) = execute($id);
is($code, 0, 'the runbook comes to its end') or diag($err);
like($err, qr/NOTICE:  write_error_rate is [0-9.]+, its limit 0.3: writers are paused/, 'it pauses the writers');
like($err, qr/NOTICE:  writers go on/, 'and lets them go on');
# though they fail as before: behind the index there is nothing to be away for
is(events($id, "IN ('ingest paused', 'ingest resumed', 'finished')"), 'ingest paused, ingest resumed, finished', 'in this order, once');
is(sql(q(SELECT bool_and(reason ~ '^runbook [0-9]+: write_error_rate is' AND NOT active AND ended_by IS NOT NULL) FROM evmig_ingest_pauses)), 't',
	'as everybody could see');
is(sql(q(SELECT value > 0 FROM evmig_kpi_detail('business_events', '10 minutes') WHERE kpi = 'writes_refused')), 't', 'writers were refused');
is(sql("SELECT count(*) > 0 FROM evmig.kpi_sample WHERE runbook_id = $id AND label = 'during'"), 't', 'samples were taken meanwhile');
append_to_file($stop, '');
$failing->finish;
$_->kill_kill for @writers;

# ---- samples every ten seconds ----
# Never more often; how late they come is the machine's affair as well, but one
# of the two pauses at least is no longer than three of them.
ok($node->poll_query_until('held', "SELECT count(*) >= 2 FROM evmig.kpi_sample WHERE label = 'during' AND runbook_id = $book"),
	'samples are taken as long as the runbook is held up');
$snapshot->query_safe('COMMIT');
$held->finish;
is($node->safe_psql('held', 'SELECT state FROM evmig.runbook'), 'succeeded', 'it goes on to its end') or diag($held_out);
is($node->safe_psql('held', qq(
WITH e AS (SELECT (SELECT at FROM evmig.runbook_event WHERE runbook_id = $book AND event = 'execution started') AS started,
		(SELECT at FROM evmig.runbook_event WHERE runbook_id = $book AND event = 'approved') AS approved,
		(SELECT at FROM evmig.runbook_event WHERE runbook_id = $book AND event = 'finished') AS finished),
	s AS (SELECT label, sampled_at, sampled_at - lag(sampled_at, 1, started) OVER (PARTITION BY label ORDER BY sampled_at) AS pause
		FROM evmig.kpi_sample, e WHERE runbook_id = $book)
SELECT count(*) FILTER (WHERE label = 'before' AND sampled_at <= approved), count(*) FILTER (WHERE label = 'before'),
	bool_and(sampled_at BETWEEN started AND finished) FILTER (WHERE label = 'during'),
	min(pause) FILTER (WHERE label = 'during') BETWEEN '10 s' AND '30 s',
	count(*) FILTER (WHERE label = 'after' AND sampled_at BETWEEN started + '20 s' AND finished), count(*) FILTER (WHERE label = 'after')
FROM s, e)), '1|1|t|t|1|1', 'one before the approval, one every ten seconds during, one after');
done_testing();
