# A pause of a table's writers acts at once on all sessions, survives a restart,
# and does not end while a runbook is at work.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run qw(start);
use Measured;
use PostgreSQL::Test::Utils;
use Test::More;

start_measuring('log_min_messages = warning');

# the error of a statement
sub error
{
	my ($query) = @_;
	my ($code, $out, $err) = $node->psql('postgres', $query);
	return $err;
}

my $paused = qr/ERROR:  writes on table "w" are paused/;

sql(q(
CREATE EXTENSION evmig;
CREATE TABLE w (id int);
CREATE TABLE parts (id int) PARTITION BY LIST (id);
CREATE TABLE part1 PARTITION OF parts DEFAULT;
CREATE TABLE part7 PARTITION OF parts FOR VALUES IN (7);
CREATE ROLE clerk;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (1);
SELECT evmig_kpi_watch('w');
));

# a session that is at work, one with an open transaction, one with a plan
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
my $at_work = $node->background_psql('postgres');
$at_work->query_until(qr/begun/, q(\echo begun
INSERT INTO w SELECT 1 FROM pg_advisory_lock(1);
));
wait_for(q(SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'advisory')), 'a writer is at work');
my $open = $node->background_psql('postgres', on_error_stop => 0);
$open->query_safe('BEGIN; INSERT INTO w VALUES (2); PREPARE p AS INSERT INTO w VALUES (3); EXECUTE p');
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; LOCK TABLE w IN ROW SHARE MODE');

sql("SELECT evmig_ingest_pause('w', 'because of ''x''')");
like(error('INSERT INTO w VALUES (10)'), $paused, 'paused at once, with a writer at work and a reader');
like(error('INSERT INTO w VALUES (10)'), qr/DETAIL:  Role ".*" paused them at .*: because of 'x'/, 'who, when and why');
like(error('INSERT INTO w VALUES (10)'), qr/HINT:  Nothing was written. Try the transaction again later/, 'what to do');
like(error(q(COPY w FROM PROGRAM 'echo 10')), $paused, 'COPY');
like(error('MERGE INTO w USING (VALUES (1)) v(id) ON w.id = v.id WHEN MATCHED THEN DELETE'), $paused, 'MERGE');
like(error('DO $$ BEGIN DELETE FROM w; END $$'), $paused, 'within a function');
like(error(q(SET lock_timeout = '1ms'; TRUNCATE w)), $paused, 'TRUNCATE, without waiting for its lock');
like(error('DO $$ BEGIN TRUNCATE w; END $$'), $paused, 'within a function, too');
my $script = $node->basedir . '/insert.sql';
append_to_file($script, "INSERT INTO w VALUES (10);\n");
for my $mode (qw(extended prepared))
{
	my ($out, $err) = run_command(['pgbench', '-n', '-M', $mode, '-t', 1, '-f', $script, $node->connstr('postgres')]);
	like($err, $paused, $mode);
}
my ($out, $code) = $open->query('EXECUTE p');
like($open->{stderr}, $paused, 'a prepared statement in an open transaction');
$open->query('ROLLBACK');
is(sql('SELECT count(*) FROM w'), '0', 'reads go on');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_for('SELECT count(*) = 1 FROM w', 'who was at work ends as he would');
is(sql(q(SELECT reason || ' ' || active FROM evmig_ingest_pauses)), q(because of 'x' true), 'everybody sees it');
is(sql(q(SELECT value FROM evmig_kpi_detail('w') WHERE kpi = 'writes_refused')), '9', 'refused writes are counted');
is(sql(q(SELECT write_errors FROM evmig_kpi('w'))), '0', 'and are no errors of the application');

$node->restart;
like(error('TRUNCATE w'), $paused, 'still paused after a restart, from the first TRUNCATE on');
$node->restart;
like(error('INSERT INTO w VALUES (10)'), $paused, 'and from the first write on');
sql("BEGIN; SELECT evmig_ingest_resume('w'); ROLLBACK");
like(error('INSERT INTO w VALUES (10)'), $paused, 'a rollback resumes nothing');
sql("SELECT evmig_ingest_resume('w')");
is(error('INSERT INTO w VALUES (11)'), '', 'resumed at once');
sql("BEGIN; SELECT evmig_ingest_pause('w', 'x'); ROLLBACK");
is(error('INSERT INTO w VALUES (11)'), '', 'a rollback pauses nothing');
sql("BEGIN; SELECT evmig_ingest_pause('w', 'x'); SELECT evmig_ingest_resume('w'); COMMIT");
is(error('INSERT INTO w VALUES (11)'), '', 'paused and resumed in one transaction');
sql("SELECT evmig_ingest_pause('w', 'x'); BEGIN; SELECT evmig_ingest_resume('w'); SELECT evmig_ingest_pause('w', 'y'); COMMIT");
like(error('INSERT INTO w VALUES (10)'), qr/: y/, 'resumed and paused in one transaction');
sql("SELECT evmig_ingest_resume('w')");
sql("BEGIN; SELECT evmig_ingest_pause('w', 'z'); SAVEPOINT s; SELECT evmig_ingest_resume('w'); ROLLBACK TO s; COMMIT");
like(error('INSERT INTO w VALUES (10)'), qr/: z/, 'paused, and resumed in a savepoint that was rolled back');
sql("SELECT evmig_ingest_resume('w')");
my $pausing = $node->background_psql('postgres');
$pausing->query_safe("BEGIN; SELECT evmig_ingest_pause('w', 'x')");
sql("SELECT evmig_ingest_resume('w')");
$pausing->query_safe('COMMIT');
$pausing->quit;
like(error('INSERT INTO w VALUES (10)'), $paused, 'who resumes what is not yet paused does not take the pause away');
sql("SELECT evmig_ingest_resume('w')");
is(error('INSERT INTO w VALUES (11)'), '', 'and resumed');

sql("SELECT evmig_ingest_pause('parts', 'x')");
like(error('INSERT INTO parts VALUES (1)'), qr/writes on table "parts" are paused/, 'a partitioned table');
like(error('INSERT INTO part1 VALUES (1)'), qr/writes on table "parts" are paused/, 'its partitions');
like(error(q(COPY part1 FROM PROGRAM 'echo 1')), qr/writes on table "parts" are paused/, 'by COPY, too');
like(error('TRUNCATE part1'), qr/writes on table "parts" are paused/, 'by TRUNCATE');
sql("SELECT evmig_ingest_resume('parts'); SELECT evmig_ingest_pause('part1', 'x')");
like(error('INSERT INTO parts VALUES (1)'), qr/writes on table "part1" are paused/, 'rows that come by way of the parent');
like(error('WITH i AS (INSERT INTO parts VALUES (1) RETURNING id) SELECT * FROM i'), qr/writes on table "part1" are paused/, 'from a WITH, too');
is(error('INSERT INTO parts VALUES (7)'), '', 'not those for another partition');
like(error(q(COPY parts FROM PROGRAM 'echo 1')), qr/writes on table "part1" are paused/, 'a COPY, as nobody knows yet what comes');
sql('GRANT INSERT (id) ON part1 TO clerk');
like(error(q(SET ROLE clerk; COPY part1 (id) FROM STDIN)), qr/writes on table "part1" are paused/, 'by the privilege for a column');
like(error('TRUNCATE ONLY parts'), qr/cannot truncate only a partitioned table/, 'the server says itself what it does not do');
like(error('TRUNCATE w, parts'), qr/writes on table "part1" are paused/, 'TRUNCATE of a parent reaches a partition');
sql("SELECT evmig_ingest_pause('child', 'x')");
like(error('TRUNCATE parent'), qr/cannot truncate a table referenced in a foreign key constraint/, 'and what it does not do without CASCADE');
like(error('TRUNCATE parent CASCADE'), qr/writes on table "child" are paused/, 'TRUNCATE by CASCADE');
like(error('DELETE FROM parent'), qr/writes on table "child" are paused/, 'a foreign key that cascades');
is(sql('SELECT count(*) FROM parent, child'), '1', 'nothing is half done');

# the pause outlasts its time while a runbook is at work, and no longer
sql(q(
CREATE TABLE business_events (id int PRIMARY KEY, request_id uuid, ts timestamptz);
INSERT INTO business_events SELECT g, CASE WHEN g % 10 > 0 THEN md5((g % 950)::text)::uuid END, '2026-01-01' FROM generate_series(1, 1000) g;
));
my $snapshot = $node->background_psql('postgres');
$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM business_events');
my ($in, $stdout) = ('', '');
my $runbook = start(['psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', 'CALL evmig_path_a()'], \$in, \$stdout, \$stdout);
wait_for(q(SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'evmig worker' AND wait_event = 'virtualxid')),
	'a runbook waits for a snapshot');
sql(q(SET evmig.ingest_pause_max = '1s'; SELECT evmig_ingest_pause('business_events', 'for the runbook')));
wait_for('SELECT bool_and(until < clock_timestamp()) FROM evmig_ingest_pauses WHERE reason = $$for the runbook$$', 'the time of the pause is over');
like(error('DELETE FROM business_events'), qr/are paused/, 'but a runbook is at work');
is(sql('SELECT active FROM evmig_ingest_pauses WHERE reason = $$for the runbook$$'), 't', 'as everybody sees');
$snapshot->query_safe('COMMIT');
$runbook->finish;
is(sql("SELECT state FROM evmig.runbook"), 'succeeded', 'whose own jobs pass, and end well');
ok($node->poll_query_until('postgres', 'WITH u AS (UPDATE business_events SET ts = ts WHERE id = 1 RETURNING 1) SELECT count(*) = 1 FROM u'),
	'then the pause ends by itself');
is(sql('SELECT active FROM evmig_ingest_pauses WHERE reason = $$for the runbook$$'), 'f', 'as everybody sees');
done_testing();
