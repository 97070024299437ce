# A job yields when the application's writes on its table get slow.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run qw(start);
use Measured;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

start_measuring(q(
evmig.adaptive = off
evmig.batch_size = 20
evmig.batch_sleep = '10ms'
));

# the writers' time is told by a trigger
sql(q(
CREATE EXTENSION evmig;
CREATE TABLE pace (ms float8);
INSERT INTO pace VALUES (100);
CREATE TABLE events (id int, request_id uuid, ts timestamptz);
INSERT INTO events SELECT g FROM generate_series(1, 100000) g;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(ms / 1000) FROM pace; RETURN new; END $$;
CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow();
));

sub start_job { return sql("SET evmig.throttle_$_[0] = $_[1]; SELECT evmig_backfill_request_id('events')"); }

sub end_job
{
	my ($job) = @_;
	sql("SELECT evmig_job_cancel($job)");
	wait_for("SELECT state = 'cancelled' FROM evmig_jobs WHERE job_id = $job", 'the job ends');
	return;
}

# what was measured so far is forgotten
sub watch_anew { sql(q(SELECT evmig_kpi_watch('events', false); SELECT evmig_kpi_watch('events'))); return; }

sub throttle { return "SELECT throttle ~ '$_[0]' FROM evmig_progress WHERE state = 'running'"; }

my $job = start_job('p95_ms', 50);
wait_for(throttle('^p95_ms could not be read: evmig_kpi_watch does not watch the table.*, paused'),
	'a latency that nobody measures stops the job that depends on it');
sql("SELECT evmig_kpi_watch('events')");
wait_for(q(SELECT throttle IS NULL AND rows_done > 0 FROM evmig_progress WHERE state = 'running'),
	'once it is measured the job goes on, and nobody writes');

my $file = $node->basedir . '/insert.sql';
append_to_file($file, "INSERT INTO events (ts) VALUES (now());\n");
my ($in, $out) = ('', '');
my $writers = start(['pgbench', '-n', '-c', 2, '-T', 600, '-f', $file, $node->connstr('postgres')], \$in, \$out, \$out);
wait_for(throttle('^p95_ms [0-9.]+ ms > 50 ms$'), 'slow writes slow it down');
sql('UPDATE pace SET ms = 1');
watch_anew();
wait_for(q(SELECT throttle IS NULL FROM evmig_progress WHERE state = 'running'), 'fast ones do not');
end_job($job);
wait_for("SELECT count(*) > 0 FROM evmig.kpi_sample WHERE label = 'job $job'", 'a job samples what writers bear from it');
like(sql("SELECT evmig_job_report($job, 'html')"), qr/<figcaption>Writes</, 'and its report has a plot of that');

# against the sample taken before
sql(q(SELECT evmig_kpi_sample('events', 'before')));
$job = start_job('p95_ratio', 3);
wait_for(q(SELECT throttle IS NULL AND rows_done > 0 FROM evmig_progress WHERE state = 'running'), 'as before');
sql('UPDATE pace SET ms = 3000');
watch_anew();
wait_for(throttle('^p95_ratio [0-9.]+ > 3$'), 'more than three times as slow as in the sample before');
end_job($job);

# against what it was when the job began
sql('DELETE FROM evmig.kpi_sample; UPDATE pace SET ms = 1');
watch_anew();
wait_for(q(SELECT writes > 20 FROM evmig_kpi('events', '10 seconds')), 'writers are fast again');
$job = start_job('p95_ratio', 3);
wait_for(q(SELECT throttle IS NULL AND rows_done > 0 FROM evmig_progress WHERE state = 'running'), 'no slower than when the job began');
sql('UPDATE pace SET ms = 3000');
watch_anew();
wait_for(throttle('^p95_ratio [0-9.]+ > 3$'), 'more than three times as slow as when it began');
end_job($job);
$writers->kill_kill;
# their servers finish the insert they were at, and that would count as one
wait_for(q(SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'), 'the writers are gone');

# none of the job's batches counts as a write of the application
sql('UPDATE pace SET ms = 0');
watch_anew();
$job = sql(q(SELECT evmig_backfill_request_id('events')));
wait_for("SELECT rows_done > 0 FROM evmig_jobs WHERE job_id = $job", 'a job at work');
is(sql(q(SELECT writes FROM evmig_kpi('events'))), '0', 'is no write of the application');
end_job($job);

# the shares of keys follow the ingest guard, and start from the last audit
sql(q(TRUNCATE events; DROP TRIGGER slow ON events; INSERT INTO events SELECT g FROM generate_series(1, 50) g));
sql(q(SELECT evmig_audit('events'); SELECT evmig_ingest_guard('events')));
sub shares { return sql(q(SELECT valid_request_id_pct || ' ' || unique_request_id_pct FROM evmig_kpi('events'))); }
is(shares(), '0 0', 'no row has a key');
sql('INSERT INTO events SELECT g FROM generate_series(51, 70) g');
sql('WITH a AS (INSERT INTO events SELECT g FROM generate_series(71, 80) g) SELECT 1');
sql('MERGE INTO events e USING generate_series(71, 90) g ON e.id = g WHEN MATCHED THEN UPDATE SET id = g WHEN NOT MATCHED THEN INSERT (id) VALUES (g)');
sql(q(CREATE UNIQUE INDEX upsert ON events (id);
INSERT INTO events SELECT g FROM generate_series(86, 100) g ON CONFLICT (id) DO UPDATE SET id = excluded.id;
DROP INDEX upsert));
is(shares(), '50 0', 'the guard filled half of them; duplicates are not its task');
sql(q(CREATE INDEX ON events (request_id); SELECT evmig_ingest_guard('events', duplicates => 'archive')));
sql(q(INSERT INTO events SELECT 1, md5('a')::uuid FROM generate_series(1, 3)));
is(sql(q(SELECT string_agg(kpi || ' ' || value, ' ' ORDER BY kpi) FROM evmig_kpi_detail('events') WHERE kpi LIKE 'guard_%')),
	'guard_archived 2 guard_filled 55 guard_let_null_in 0 guard_rekeyed 0', 'what the guard did');
is(sql(q(SELECT round(unique_request_id_pct::numeric, 2) FROM evmig_kpi('events'))), '50.50', 'now it keeps duplicates out');
$job = sql(q(SELECT evmig_backfill_request_id('events')));
wait_for("SELECT state = 'succeeded' FROM evmig_jobs WHERE job_id = $job", 'a fill');
is(sql(q(SELECT valid_request_id_pct FROM evmig_kpi('events'))), '100', 'has verified that no NULL is left');

# ---- where the library is not preloaded ----
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->append_conf('postgresql.conf', "fsync = off\n");
$plain->start;
sub plain { return $plain->psql('postgres', $_[0]); }
my ($code, $stdout, $stderr) = plain(q(
CREATE EXTENSION evmig; CREATE TABLE w (id int, x text);
SELECT evmig_kpi_watch('w'); INSERT INTO w VALUES (1); SELECT p50_ms IS NULL AND writes IS NULL FROM evmig_kpi('w')));
is($code, 0, 'nothing preloaded: no error');
like($stdout, qr/^t$/m, 'nothing preloaded: no figures');
like($stderr, qr/NOTICE:  evmig is not preloaded, so nothing is measured/, 'the watch says so');
like($stderr, qr/HINT:  Set shared_preload_libraries = 'evmig'/, 'and evmig_kpi what to do');

SKIP: {
	skip 'pg_stat_statements is not installed', 5
		if $plain->safe_psql('postgres', q(SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements')) == 0;
	$plain->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements'\n");
	$plain->restart;
	plain(q(CREATE SCHEMA "Odd 's"; CREATE EXTENSION pg_stat_statements SCHEMA "Odd 's"));
	plain(q(INSERT INTO w VALUES (1); UPDATE w SET x = 'w' WHERE id = 1; SELECT * FROM w; CREATE TABLE wide (w int); INSERT INTO wide VALUES (1)))
		for 1 .. 2;
	($code, $stdout, $stderr) = plain(q(WITH s AS (SELECT sum(calls * mean_exec_time) / sum(calls) AS mean, max(max_exec_time) AS longest
	FROM "Odd 's".pg_stat_statements WHERE query LIKE 'INSERT INTO w VALUES%' OR query LIKE 'UPDATE w %')
SELECT abs(p50_ms - mean) < 1e-6 AND p99_ms >= p95_ms AND max_ms = longest FROM s, evmig_kpi('w')));
	like($stdout, qr/^t$/m, 'the mean comes from pg_stat_statements, of the statements that write the table');
	like($stderr, qr/NOTICE:  latencies of table "w" come from pg_stat_statements: p50_ms is the mean/, 'labelled so');
	($code, $stdout, $stderr) = plain(q(SELECT count(*) FROM evmig_kpi_detail('w') WHERE source LIKE 'pg_stat_statements%'));
	is($stdout, '4', 'and in its source');

	plain(q(SELECT evmig_kpi_sample('w', 'x')));
	is($plain->safe_psql('postgres', q(SELECT figures -> 'latency_source' FROM evmig.kpi_sample WHERE label = 'x')),
		'"pg_stat_statements"', 'and in a sample');

	# the server folds the name of a statement, and doubles a quote
	plain(q(CREATE TABLE folded (a int); CREATE TABLE "Weird "".t" (a int);
INSERT INTO Folded VALUES (1); INSERT INTO "Weird "".t" VALUES (1)));
	($code, $stdout, $stderr) = plain(q(SELECT count(p50_ms) FROM unnest('{folded, "\\"Weird \\"\\".t\\""}'::regclass[]) t, evmig_kpi(t)));
	is($stdout, '2', 'written as FOLDED or "Weird "".t" as well');
}
done_testing();
