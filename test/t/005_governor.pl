# A standby whose replay lags slows a job down, stops it and lets it go on; so
# does a logical slot.  Limits come from the server's configuration here.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Wait;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 'logical');
$primary->append_conf('postgresql.conf', q(
autovacuum = off
evmig.adaptive = off
evmig.batch_size = 50
evmig.batch_sleep = '10ms'
evmig.throttle_replica_lag_soft = 0
evmig.throttle_replica_lag_hard = 0
evmig.throttle_replica_lag_bytes_soft = '64kB'
evmig.throttle_replica_lag_bytes_hard = '256kB'
));
$primary->start;
wait_on($primary);
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE events (id int, request_id uuid, ts timestamptz);
INSERT INTO events SELECT g FROM generate_series(1, 200000) g;
));
$primary->wait_for_catchup($standby);

sub progress
{
	return $primary->safe_psql('postgres', "SELECT $_[0] FROM evmig_progress");
}

# a plain role sees nothing of pg_stat_replication, its job does
my $job = $primary->safe_psql('postgres', "SET ROLE app; SELECT evmig_backfill_request_id('events')");
wait_for('SELECT rows_done > 0 AND throttle IS NULL FROM evmig_progress', 'the job is at work, and nothing slows it down');

$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
wait_for("SELECT throttle ~ '^replica_lag_bytes .* > 256 kB, paused' FROM evmig_progress",
	'a standby that does not replay stops it');
my $before = progress('rows_done');
wait_for("SELECT throttled > '3 s' FROM evmig_progress", 'it stays stopped');
is(progress('rows_done'), $before, 'and does nothing');

$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
wait_for("SELECT throttle IS NULL AND rows_done > $before FROM evmig_progress", 'it goes on by itself');

# seconds, though the server's own replay_lag stands still in a pause
$primary->append_conf('postgresql.conf', q(
evmig.throttle_replica_lag_bytes_soft = 0
evmig.throttle_replica_lag_bytes_hard = 0
evmig.throttle_replica_lag_soft = '1s'
evmig.throttle_replica_lag_hard = '6s'
));
$primary->reload;
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
wait_for("SELECT throttle ~ '^replica_lag [0-9.]+ s > 1.0 s' FROM evmig_progress", 'a lag of a second slows it down');
wait_for("SELECT throttle ~ '^replica_lag [0-9.]+ s > 6.0 s, paused' FROM evmig_progress", 'one of six stops it');

# other limits act while it is stopped
$primary->append_conf('postgresql.conf', q(
evmig.throttle_replica_lag_soft = '1h'
evmig.throttle_replica_lag_hard = '2h'
));
$before = progress('rows_done');
$primary->reload;
wait_for("SELECT throttle IS NULL AND rows_done > $before FROM evmig_progress", 'a limit that is raised lets it go on');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');

# a logical slot counts, at work or not
$primary->wait_for_catchup($standby);
$primary->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('s', 'test_decoding')");
$primary->append_conf('postgresql.conf', q(
evmig.throttle_replica_lag_bytes_hard = '256kB'
));
$primary->reload;
wait_for("SELECT throttle ~ '^replica_lag_bytes .* paused' FROM evmig_progress", 'a logical slot that lags stops it');
$before = progress('rows_done');
$primary->safe_psql('postgres', "SELECT pg_drop_replication_slot('s')");
wait_for("SELECT rows_done > $before FROM evmig_progress", 'until it is gone');

# a query on a standby that sends feedback holds back vacuum here
$standby->append_conf('postgresql.conf', q(
hot_standby_feedback = on
wal_receiver_status_interval = 1
));
$standby->reload;
my $reader = $standby->background_psql('postgres');
$reader->query_until(qr/begun/, "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 1;\n\\echo begun\n");
$primary->safe_psql('postgres', "SELECT evmig_job_set($job, 'throttle_snapshot_age_hard', '3s')");
wait_for("SELECT throttle ~ '^snapshot_age [0-9]+ s >=? 3 s, paused' FROM evmig_progress", 'an old snapshot on a standby stops it');
$before = progress('rows_done');
$reader->query_until(qr/done/, "COMMIT;\n\\echo done\n");
wait_for("SELECT rows_done > $before FROM evmig_progress", 'until it is gone');
$reader->quit;
$primary->safe_psql('postgres', "SELECT evmig_job_set($job, 'throttle_snapshot_age_hard', '0')");

# the rest without limits: exact in the end
$primary->safe_psql('postgres', "SELECT evmig_job_set($job, s, v) FROM (VALUES ('throttle_replica_lag_bytes_hard', '0'), ('batch_size', '20000'), ('batch_sleep', '0')) t (s, v)");
$primary->safe_psql('postgres', "CALL evmig_wait($job)");
is($primary->safe_psql('postgres', 'SELECT count(*) || \' \' || count(DISTINCT request_id) FROM events'),
	'200000 200000', 'every row is filled');
is(progress('rows_done'), '200000', 'and counted once');
cmp_ok($primary->safe_psql('postgres', 'SELECT throttled_ms FROM evmig.job'), '>', 4000, 'the time lost is counted');

$standby->stop;

# whoever waits behind a lock of the job makes it rest
$primary->safe_psql('postgres', q(
DELETE FROM evmig.job;
SET ROLE app;
UPDATE events SET request_id = NULL WHERE id <= 5000;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION slow();
CREATE PROCEDURE lock_again() LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		LOCK TABLE events IN SHARE MODE;
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
));
my $heard = $primary->safe_psql('postgres', "LISTEN evmig; SET evmig.batch_size = 20; SELECT evmig_backfill_request_id('events')");
like($heard, qr/notification "evmig" with payload "\{"job_id" : \d+, "kind" : "request_id", .*"target" : "public.events", "state" : "queued"\}"/,
	'whoever listens hears of each state');
my $application = $primary->background_psql('postgres', on_error_stop => 0);
$application->query_until(qr/begun/, "\\echo begun\nSET ROLE app;\nCALL lock_again();\n");
wait_for("SELECT throttle ~ '^lock_waiters 1 >= 1, paused' FROM evmig_progress", 'a session that waits for the job makes it rest');
$before = progress('rows_done');
wait_for("SELECT rows_done > $before FROM evmig_progress", 'it goes on after a second');
$primary->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL lock_again%'");
eval { $application->quit };

# an old snapshot, and vacuum against wraparound
my $old = $primary->background_psql('postgres');
$old->query_until(qr/begun/, "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 1;\n\\echo begun\n");
$primary->append_conf('postgresql.conf', "evmig.throttle_snapshot_age_hard = '1s'");
$primary->reload;
wait_for("SELECT throttle ~ '^snapshot_age [0-9]+ s >=? 1 s, paused' FROM evmig_progress", 'an old snapshot stops it');
$old->query_until(qr/done/, "COMMIT;\n\\echo done\n");
$before = progress('rows_done');
wait_for("SELECT rows_done > $before FROM evmig_progress", 'until it is gone');
$old->quit;

# each of the others can bite
for my $signal ('wal_rate', 'checkpoint', 'active_sessions')
{
	$primary->safe_psql('postgres', "SELECT evmig_job_set(max(job_id), 'throttle_${signal}_soft', '0.000001') FROM evmig.job");
	wait_for("SELECT coalesce(throttle ~ '^$signal .* > ', false) FROM evmig_progress, (SELECT sum(g) FROM generate_series(1, 100000) g) s", "$signal slows it down");
	$primary->safe_psql('postgres', "SELECT evmig_job_set(max(job_id), 'throttle_${signal}_soft', '0') FROM evmig.job");
}
is($primary->safe_psql('postgres', 'SELECT evmig_stop_all()'), '1', 'stopped');
wait_for("SELECT state = 'cancelled' FROM evmig_jobs", 'cancelled');
$primary->stop;
done_testing();
