# Jobs when the ground moves: no free worker, a killed worker, a table that is
# rewritten, truncated, renamed, given away or dropped, an extension or a
# database that goes.
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
max_worker_processes = 8
restart_after_crash = on
autovacuum = off
));
$node->start;
wait_on($node);
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE ROLE app LOGIN;
CREATE ROLE other LOGIN;
GRANT CREATE ON SCHEMA public TO app, other;
ALTER DATABASE postgres SET evmig.adaptive = off;
CREATE TABLE seen (name text, id int);
GRANT INSERT ON seen TO app;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF OLD.request_id IS NULL THEN INSERT INTO seen VALUES (TG_TABLE_NAME, NEW.id); END IF; RETURN NEW; END $$;
));

# a table of n rows without a key
sub make_table
{
	my ($name, $rows) = @_;
	$node->safe_psql('postgres', qq(
SET ROLE app;
CREATE TABLE $name (id int, request_id uuid, ts timestamptz DEFAULT now());
INSERT INTO $name SELECT g FROM generate_series(1, $rows) g;
CREATE TRIGGER note BEFORE UPDATE OF request_id ON $name FOR EACH ROW EXECUTE FUNCTION public.note();
));
	return;
}

# a job on it that is not done before it is told to hurry: 100 rows a second
sub start_job
{
	my ($name, $workers) = @_;
	$workers //= 1;
	return $node->safe_psql('postgres', "SET evmig.batch_size = 20; SET evmig.batch_sleep = '200ms';"
		  . "SELECT evmig_backfill_request_id('$name', workers => $workers)");
}

sub hurry
{
	my ($job) = @_;
	$node->safe_psql('postgres', "SELECT evmig_job_set($job, s, v) FROM (VALUES ('batch_size', '1000'), ('batch_sleep', '0')) t (s, v)");
	return;
}

sub job
{
	my ($job, $column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM evmig_jobs WHERE job_id = $job");
}

sub started
{
	my ($job) = @_;
	wait_for("SELECT rows_done > 0 FROM evmig_jobs WHERE job_id = $job", 'the job is at work');
	return;
}

sub worker_pid
{
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'evmig worker' LIMIT 1");
}

# ---- a killed worker: the server restarts, the job goes on where it was ----
make_table('killed', 20000);
for my $round (1 .. 3)
{
	my $job = $round == 1 ? start_job('killed', 2) : $node->safe_psql('postgres',
		"SELECT max(job_id) FROM evmig_jobs");
	$node->safe_psql('postgres', 'SELECT evmig_jobs_recover()') if $round > 1;
	my $before = job($job, 'rows_done');
	wait_for("SELECT rows_done > $before + 50 FROM evmig_jobs WHERE job_id = $job", "round $round: the job is at work");
	crash($node, worker_pid());
	is(job($job, 'state'), 'interrupted', "round $round: the job is interrupted");
	is($node->safe_psql('postgres', 'SELECT count(request_id) FROM killed'),
		job($job, 'rows_done'), "round $round: counter and rows agree");
}
{
	my $job = $node->safe_psql('postgres', "SELECT max(job_id) FROM evmig_jobs");
	hurry($job);
	is($node->safe_psql('postgres', 'SELECT evmig_jobs_recover()'), '1', 'recovered');
	$node->safe_psql('postgres', "CALL evmig_wait($job)");
	is(job($job, 'state || rows_done'), 'succeeded20000', 'all rows, each counted once');
	is($node->safe_psql('postgres', "SELECT count(*) || ' ' || count(DISTINCT id) FROM seen WHERE name = 'killed'"),
		'20000 20000', 'no row was filled twice');
	is($node->safe_psql('postgres', 'SELECT evmig_jobs_recover()'), '0', 'nothing to recover');
}

# ---- rewritten midway: the pass starts again ----
make_table('rewritten', 2000);
{
	my $job = start_job('rewritten');
	started($job);
	$node->safe_psql('postgres', 'VACUUM FULL rewritten');
	hurry($job);
	$node->safe_psql('postgres', "CALL evmig_wait($job)");
	is(job($job, 'state || rows_done'), 'succeeded2000', 'VACUUM FULL midway: every row once');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM rewritten WHERE request_id IS NULL'), '0', 'no NULL is left');
}

# ---- truncated and filled again midway ----
make_table('emptied', 2000);
{
	my $job = start_job('emptied');
	started($job);
	$node->safe_psql('postgres', 'BEGIN; TRUNCATE emptied; INSERT INTO emptied SELECT g FROM generate_series(1, 100) g; COMMIT');
	hurry($job);
	$node->safe_psql('postgres', "CALL evmig_wait($job)");
	is($node->safe_psql('postgres', 'SELECT count(*) || \' \' || count(request_id) FROM emptied'), '100 100', 'TRUNCATE midway: what is there now is filled');
}

# ---- grown and shrunk midway ----
make_table('grown', 2000);
{
	my $job = start_job('grown');
	started($job);
	$node->safe_psql('postgres', 'INSERT INTO grown SELECT g FROM generate_series(2001, 3000) g; DELETE FROM grown WHERE id > 2900; VACUUM grown');
	hurry($job);
	$node->safe_psql('postgres', "CALL evmig_wait($job)");
	is(job($job, 'state || rows_done'), 'succeeded2900', 'rows that came in are filled too');
}

# ---- renamed, given away, dropped: one clear error, nothing more changes ----
my %midway = (
	renamed => ['ALTER TABLE renamed RENAME TO renamed2', qr/was renamed/],
	given => ['ALTER TABLE given OWNER TO other', qr/must be owner|another owner/],
	dropped => ['DROP TABLE dropped', qr/was dropped/],
	recolumned => ['ALTER TABLE recolumned RENAME request_id TO rid', qr/column "request_id" .* does not exist/],
	secured => ['ALTER TABLE secured ENABLE ROW LEVEL SECURITY; ALTER TABLE secured FORCE ROW LEVEL SECURITY', qr/row level security/],
);
for my $name (sort keys %midway)
{
	my ($sql, $expected) = @{ $midway{$name} };
	make_table($name, 2000);
	my $job = start_job($name);
	started($job);
	$node->safe_psql('postgres', $sql);
	my ($rc, $out, $err) = $node->psql('postgres', "CALL evmig_wait($job)");
	isnt($rc, 0, "$name: waiting fails");
	like($err, $expected, "$name: says why");
	is(job($job, 'state'), 'failed', "$name: the job failed");
}

# ---- no free worker: queued, with a warning; later it is started ----
$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$node->restart;
make_table('queued', 100);
{
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT evmig_backfill_request_id('queued')");
	is($rc, 0, 'a job is made without a free worker');
	like($err, qr/WARNING:  no background worker is free; job \d+ stays queued/, 'says so');
	like($err, qr/max_worker_processes/, 'names the setting');
	is(job($out, 'state'), 'queued', 'the job is queued');
	($rc, undef, $err) = $node->psql('postgres', "CALL evmig_wait($out, '3 s')");
	like($err, qr/waiting for a free background worker/, 'waiting says what it waits for');
	like($err, qr/is still queued/, 'and ends at its timeout');
	$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
	$node->restart;
	is($node->safe_psql('postgres', 'SELECT evmig_jobs_recover()'), '1', 'recovered');
	$node->safe_psql('postgres', "CALL evmig_wait($out)");
	is(job($out, 'state || rows_done'), 'succeeded100', 'and done');
}

# ---- a waiting session holds no snapshot ----
make_table('waited', 4000);
{
	my $job = start_job('waited');
	my $waiter = $node->background_psql('postgres');
	$waiter->query_until(qr/started/, "\\echo started\nCALL evmig_wait($job);\n");
	wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL evmig_wait%' AND wait_event = 'Extension'",
		'it waits');
	# between two looks at the job it has none; a look is short
	wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL evmig_wait%' AND wait_event = 'Extension' AND backend_xmin IS NULL AND backend_xid IS NULL",
		'without a snapshot');
	hurry($job);
	$waiter->quit;
	is(job($job, 'state'), 'succeeded', 'done when the waiting ended');
}

# ---- a client that is lost, or a timeout, ends the waiting and not the job ----
make_table('lost', 4000);
{
	my $job = start_job('lost');
	my ($in, $out, $err) = ('', '', '');
	my $client = IPC::Run::start(['psql', '-Xq', '-d', $node->connstr('postgres'), '-c', "CALL evmig_wait($job)"], \$in, \$out, \$err);
	my $waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL evmig_wait%'";
	wait_for("SELECT ($waiting) = 1", 'a client waits');
	$client->kill_kill;
	wait_for("SELECT ($waiting) = 0", 'its backend ends with it');
	is(job($job, 'state'), 'running', 'the job goes on');
	my ($rc, undef, $error) = $node->psql('postgres', "SET statement_timeout = '200ms'; CALL evmig_wait($job)", on_error_stop => 0);
	is(job($job, 'state'), 'running', 'a timeout of the caller is not the job\'s');
	hurry($job);
	$node->safe_psql('postgres', "CALL evmig_wait($job)");
	is(job($job, 'state || rows_done'), 'succeeded4000', 'the job is done');
}

# ---- a role that cannot log in any more ----
make_table('locked_out', 10);
{
	my $job = $node->safe_psql('postgres',
		"BEGIN; SELECT evmig_backfill_request_id('locked_out'); ALTER ROLE app NOLOGIN; COMMIT");
	my ($rc, undef, $err) = $node->psql('postgres', "CALL evmig_wait($job)");
	like($err, qr/job $job does not start.*log in/s, 'waiting for a worker that cannot log in ends with an error');
	$node->safe_psql('postgres', 'ALTER ROLE app LOGIN');
	$node->safe_psql('postgres', "SELECT evmig_jobs_recover()");
	$node->safe_psql('postgres', "CALL evmig_wait($job)");
	is(job($job, 'state'), 'succeeded', 'and can be done later');
}

# ---- the extension goes while a job is at work ----
make_table('orphan', 4000);
{
	my $job = start_job('orphan');
	started($job);
	$node->safe_psql('postgres', 'DROP EXTENSION evmig CASCADE');
	wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'evmig worker'", 'DROP EXTENSION: the worker ends');
	is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server lives');
	unlike(slurp_file($node->logfile), qr/TRAP|signal 11/, 'no crash');
}

# ---- the database goes while a job is at work ----
$node->safe_psql('postgres', 'CREATE DATABASE doomed');
$node->safe_psql('doomed', q(
CREATE EXTENSION evmig;
CREATE TABLE events (id int, request_id uuid, ts timestamptz);
INSERT INTO events SELECT g FROM generate_series(1, 5000) g;
SET evmig.adaptive = off; SET evmig.batch_sleep = '50ms'; SET evmig.batch_size = 10;
SELECT evmig_backfill_request_id('events');
));
wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'evmig worker' AND datname = 'doomed'", 'a job is at work');
$node->safe_psql('postgres', 'DROP DATABASE doomed WITH (FORCE)');
wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'evmig worker'", 'DROP DATABASE: the worker ends');

$node->stop;
done_testing();
