# A deployment beside an application: a migration gets its lock by trying
# again, locked rows delay neither the deployment nor the backfill of the
# others, two deployments never run at once, and only a failing migration is
# an error.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
max_worker_processes = 16
# a slow machine takes its time until the locks are released
evmig.ddl_lock_timeout = 100ms
evmig.ddl_retries = 1000
evmig.max_passes = 1000
));
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE call_log (lead_id int, direction text, created_at timestamptz);
CREATE TABLE leads (id int PRIMARY KEY, tenant_id text, touched int DEFAULT 0, phone text);
INSERT INTO leads SELECT g, 't' || g % 8 FROM generate_series(1, 3000) g;
INSERT INTO call_log SELECT g, CASE g % 2 WHEN 0 THEN 'in' ELSE 'out' END, now() FROM generate_series(1, 3000) g;
CREATE INDEX ON call_log (lead_id);
CREATE TABLE stop ();
));

sub value { return $node->safe_psql('postgres', $_[0]); }

# a session that stays; \echo says that what was sent before is done
sub session
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe($sql) if $sql;
	return $session;
}

# a psql that runs one command on its own: its output and exit code come later
sub start_psql
{
	my ($sql) = @_;
	my %run = (out => '', err => '', in => '');
	$run{handle} = IPC::Run::start(
		[ 'psql', '-XAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $sql ],
		'<', \$run{in}, '>', \$run{out}, '2>', \$run{err});
	return \%run;
}

sub finish_psql
{
	my ($run) = @_;
	IPC::Run::finish($run->{handle});
	return $run->{handle}->result(0);
}

# ---- the guard at the door ----

my ($code, $out, $err) = $node->psql('postgres', q(
SELECT evmig_migration_register('1', 'ALTER TABLE leads ADD COLUMN last_call_direction text; UPDATE leads SET last_call_direction = ''in'' WHERE id > 0')));
isnt($code, 0, 'a migration that mixes DDL and data is refused');
like($err, qr/refused by the guard.*data-update.*backfill/s, 'and told the lane where the data belongs');

# ---- the lock by retries ----

value(q(SELECT evmig_migration_register('1', 'ALTER TABLE leads ADD COLUMN last_call_direction text')));
value(q(SELECT evmig_migration_register('2', 'CREATE TABLE second (a int)')));
value(q(SELECT evmig_backfill_register('leads_last_call_direction', 'leads',
	'phone = (SELECT c.direction FROM call_log c WHERE c.lead_id = leads.id ORDER BY c.created_at DESC LIMIT 1)',
	'phone IS NULL', priority => 'high', tenant_column => 'tenant_id', sleep_ms => 0)));

# the application: short transactions, one upon the other, until somebody says stop
my @traffic = map { start_psql(q(DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM stop) LOOP
		UPDATE leads SET touched = touched + 1 WHERE id = 200 + (random() * 2800)::int;
		PERFORM pg_sleep(0.02);
		COMMIT;
	END LOOP;
END $$)) } 1 .. 3;
ok($node->poll_query_until('postgres', q(SELECT sum(touched) > 20 FROM leads)), 'the table is busy');
my $reader = session('BEGIN; SELECT count(*) FROM leads WHERE id < 10;');
my $deploy = start_psql('CALL evmig_deploy()');
ok($node->poll_query_until('postgres',
	"SELECT count(*) >= 2 FROM evmig.deploy_item WHERE phase = 'migrations' AND status = 'retry'"),
	'a migration that meets a long lock tries again');
like(value("SELECT detail FROM evmig.deploy_item WHERE status = 'retry' LIMIT 1"), qr/in the way: pid \d+, application/,
	'and names who is in the way');
ok($node->poll_query_until('postgres', q(SELECT bool_or(backend_xmin IS NULL) FROM pg_stat_activity
	WHERE query LIKE 'CALL evmig_deploy%')), 'no snapshot is held between the tries');
ok(value(q(SELECT count(*) FROM (SELECT id FROM leads LIMIT 1) s)), 'readers get through meanwhile');

# ---- two at once ----

my $second = start_psql('CALL evmig_deploy()');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE 'CALL evmig_deploy%')),
	'a second deployment waits');
($code, $out, $err) = $node->psql('postgres', 'CALL evmig_deploy()',
	extra_params => [ '-v', 'ON_ERROR_STOP=1' ], connstr => $node->connstr('postgres') . q( options='-c evmig.deploy_wait_max=0'));
isnt($code, 0, 'a third one that may not wait is refused');
like($err, qr/another deployment is at work/, 'and says so');

# ---- 100 rows stay locked ----

my $locker = session('BEGIN; SELECT count(*) FROM (SELECT id FROM call_log c JOIN leads l ON l.id = c.lead_id WHERE id <= 100 FOR UPDATE OF l) s;');
$reader->query_safe('COMMIT;');

# row locks hold ROW SHARE on the table, which ACCESS EXCLUSIVE waits for as well
my $retries = value("SELECT count(*) FROM evmig.deploy_item WHERE status = 'retry'");
ok($node->poll_query_until('postgres', "SELECT count(*) > $retries FROM evmig.deploy_item WHERE status = 'retry'"),
	'locked rows hold up a strong lock');
$locker->query_safe('COMMIT;');
is(finish_psql($deploy), 0, 'the deployment succeeds within its tries') or diag $deploy->{err};
like($deploy->{err}, qr/migration "1": try 1 of 1001.*migrations: 1: applied: \d+ tries.*migrations: 2: applied/s,
	'saying what it did');
is(finish_psql($second), 0, 'then the second one goes through') or diag $second->{err};
like($second->{err}, qr/waiting for the deployment.*migrations: all: skipped/s, 'having nothing left to migrate');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM leads WHERE phone IS NULL'), 'the backfill is done');
value('INSERT INTO stop DEFAULT VALUES');
is(join(' ', map { finish_psql($_) } @traffic), '0 0 0', 'the application has seen no error') or diag map { $_->{err} } @traffic;
ok($node->poll_query_until('postgres', "SELECT bool_and(state = 'succeeded') FROM evmig_jobs"), 'and says so');

value(q(UPDATE leads SET phone = NULL));
my $keeper = session('BEGIN; SELECT count(*) FROM (SELECT id FROM leads WHERE id <= 100 FOR UPDATE) s;');
is(finish_psql(start_psql('SET evmig.recheck_interval = 0')), 0, 'set');
is($node->psql('postgres', 'CALL evmig_deploy()', connstr => $node->connstr('postgres') . q( options='-c evmig.recheck_interval=0')),
	0, 'a deployment does not wait for locked rows');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 100 FROM leads WHERE phone IS NULL'),
	'the backfill does all rows but the locked ones');
is(value("SELECT status FROM evmig_deploy_report() WHERE phase = 'backfills'"), 'running', 'and goes on for those');
$keeper->query_safe('COMMIT;');
ok($node->poll_query_until('postgres', "SELECT status = 'succeeded' FROM evmig_deploy_report() WHERE phase = 'backfills'"),
	'which it does once they are free');
is(value('SELECT count(*) FROM leads l WHERE phone IS DISTINCT FROM (SELECT direction FROM call_log WHERE lead_id = l.id)'), '0',
	'with the right values');

# ---- giving up ----

value(q(SELECT evmig_migration_register('3', 'CREATE TABLE third (a int); ALTER TABLE leads ADD COLUMN three int')));
value(q(SELECT evmig_migration_register('4', 'CREATE TABLE fourth (a int)')));
$keeper->query_safe('BEGIN; SELECT count(*) FROM leads;');
($code, $out, $err) = $node->psql('postgres', 'CALL evmig_deploy()',
	on_error_stop => 1, connstr => $node->connstr('postgres') . q( options='-c evmig.ddl_retries=1'));
is($code, 3, 'a migration that never gets its lock fails the deployment');
like($err, qr/migration "3" failed: canceling statement due to lock timeout.*line 1: ALTER TABLE leads/s, 'with its statement');
is(value(q(SELECT to_regclass('third') IS NULL AND to_regclass('fourth') IS NULL)), 't', 'and leaves nothing behind');
is(value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = x'E5'::int"), '0', 'nor its lock');
$keeper->query_safe('COMMIT;');
is($node->psql('postgres', 'CALL evmig_deploy()'), 0, 'the next deployment goes on');
is(value(q(SELECT to_regclass('third') IS NOT NULL AND to_regclass('fourth') IS NOT NULL)), 't', 'with what was left');

# ---- other sessions ----

value('CREATE TABLE unfinished (a int)');
value(q(SELECT evmig_migration_register('5', 'ALTER TABLE unfinished ADD COLUMN b int')));
$keeper->query_safe('BEGIN; SELECT count(*) FROM unfinished;');
is($node->psql('postgres', q(CALL evmig_deploy(phases => '{connections}'))), 0, 'other sessions are listed');
like(value("SELECT string_agg(detail, ' ') FROM evmig_deploy_report()"), qr/locks on targets: AccessShareLock on unfinished/,
	'with their locks on what a migration is about to change');
$keeper->query_safe('COMMIT;');

($code, $out, $err) = $node->psql('postgres', q(CALL evmig_deploy(quiesce => 'fail')));
isnt($code, 0, 'quiesce fail: refused beside other sessions');
like($err, qr/other sessions? (is|are) connected/, 'saying so');
like(value('SELECT evmig_deploy_summary()'), qr/: failed: other sessions are connected; nothing was deployed$/m, 'and so does the verdict');
ok(value("SELECT count(*) > 0 FROM evmig_deploy_report() WHERE phase = 'connections' AND item LIKE 'pid %'"), 'they are listed');
($code, $out, $err) = $node->psql('postgres', q(CALL evmig_deploy(quiesce => 'wait')),
	connstr => $node->connstr('postgres') . q( options='-c evmig.quiesce_timeout=1ms'));
isnt($code, 0, 'quiesce wait: up to its timeout');
value('CREATE ROLE deployer LOGIN; GRANT CREATE ON DATABASE postgres TO deployer');
($code, $out, $err) = $node->psql('postgres', q(CALL evmig_deploy(quiesce => 'terminate')),
	connstr => $node->connstr('postgres') . ' user=deployer');
like($err, qr/permission denied to terminate/, 'quiesce terminate needs the right to');
is($node->psql('postgres', q(CALL evmig_deploy(quiesce => 'terminate'))), 0, 'quiesce terminate: done');
ok($node->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"),
	'the others are gone, and so is the deployment itself');

# a pool whose sessions connect again at once
my $enough = $node->basedir . '/enough';
my @pool = map {
	my ($in, $printed) = ('', '');
	IPC::Run::start([ 'sh', '-c', "until [ -e $enough ]; do psql -XAt -d '" . $node->connstr('postgres') . "' -c 'SELECT pg_sleep(0.1)'; done" ],
		'<', \$in, '>', \$printed, '2>', \$printed);
} 1 .. 3;
ok($node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(0.1)')), 'a pool is connected');
($code, $out, $err) = $node->psql('postgres', q(CALL evmig_deploy(quiesce => 'terminate', phases => '{connections}')));
is($code, 0, 'it may connect again') or diag $err;
append_to_file($enough, '');
IPC::Run::finish($_) foreach @pool;

# who may signal ends whom the server lets them end, all or none
value('CREATE ROLE signaler LOGIN IN ROLE pg_signal_backend; GRANT CREATE ON DATABASE postgres TO signaler');
my $plain = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'deployer' ]);
my $super = session('SELECT 1;');
my $pid = $super->query_safe('SELECT pg_backend_pid();');
my @as_signaler = (q(CALL evmig_deploy(quiesce => 'terminate', phases => '{connections}')),
	connstr => $node->connstr('postgres') . ' user=signaler');
($code, $out, $err) = $node->psql('postgres', @as_signaler);
like($err, qr/permission denied to terminate/, "a superuser's session is not for pg_signal_backend to end");
is($plain->query_safe('SELECT 1;'), '1', 'so nobody was ended');
$super->quit;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'it goes by itself');
($code, $out, $err) = $node->psql('postgres', @as_signaler);
is($code, 0, 'the others are ended') or diag $err;
is(value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'deployer'"), '0', 'and are gone');

$node->stop;
done_testing();
