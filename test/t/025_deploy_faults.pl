# What goes wrong in a deployment leaves nothing half done: locks that add up,
# a cancel, a crash, a failing commit, plain roles, and the script around it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Crash;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use Wait;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
max_worker_processes = 16
max_prepared_transactions = 2
restart_after_crash = on
# a slow machine takes its time: what fails is to be dropped nevertheless, and what is locked to be waited for
autovacuum = off
evmig.step_lock_timeout = 60s
evmig.max_passes = 1000
log_error_verbosity = verbose
));
$node->start;
wait_on($node);
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE log (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE leads (id int PRIMARY KEY, status text);
CREATE TABLE calls (id int PRIMARY KEY, status text);
INSERT INTO leads SELECT g FROM generate_series(1, 100) g;
));

sub value { return $node->safe_psql('postgres', $_[0]); }
sub register { return value("SELECT evmig_migration_register('$_[0]', \$migration\$$_[1]\$migration\$)"); }

sub session
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe($sql);
	return $session;
}

# a deployment in the background; its output and exit code come later
sub start_deploy
{
	my ($settings, @call) = @_;
	my %run = (out => '', err => '', in => '');
	local $ENV{PGOPTIONS} = $settings;
	$run{handle} = IPC::Run::start([ @call ? @call : ('psql', '-XAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
		'-c', 'CALL evmig_deploy()') ], '<', \$run{in}, '>', \$run{out}, '2>', \$run{err});
	return \%run;
}

sub finish
{
	my ($run) = @_;
	IPC::Run::finish($run->{handle});
	return $run->{handle}->result(0);
}

sub deploy_with
{
	my $run = start_deploy($_[0]);
	my $code = finish($run);
	diag $run->{err} if $code;
	return $code;
}

my $waits = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted AND a.query LIKE 'CALL %evmig_deploy%'";
my $deployer = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL %evmig_deploy%' AND state = 'active'";

# ---- one deadline ----

# what the text may still wait, told by its comment on a table
my $left = q(EXECUTE format('COMMENT ON TABLE calls IS %L', current_setting('lock_timeout')););
sub left { return value("SELECT extract(epoch FROM obj_description('calls'::regclass)::interval) * 1000"); }
my $version = 0;

# a migration meets whoever holds up its lock on a table, for a second
sub wait_a_second
{
	my ($table, $text) = @_;
	wait_for("SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted"
		. " AND a.query LIKE 'CALL %evmig_deploy%' AND relation = '$table'::regclass AND clock_timestamp() - waitstart > '1 s'", $text);
}

# one statement that waits for two locks
my $reader = session('BEGIN; SELECT count(*) FROM log_1;');
my $other = session('BEGIN; SELECT count(*) FROM log_2;');
register(++$version, "DO \$\$ BEGIN LOCK TABLE log; $left END \$\$");
my $deploy = start_deploy('-c evmig.ddl_lock_timeout=90s');
wait_a_second('log_1', 'a migration waits for the first partition');
$reader->query_safe('COMMIT');
wait_a_second('log_2', 'then for the second one');
$other->query_safe('COMMIT');
is(finish($deploy), 0, 'and gets its locks') or diag $deploy->{err};
cmp_ok(left(), '<=', 88000, 'both waits of the statement count');
cmp_ok(left(), '>', 15, 'the next one has the rest');

# a strong lock is held from the first statement on
$reader->query_safe('BEGIN; SELECT count(*) FROM log_1;');
register(++$version, "ALTER TABLE leads ADD COLUMN note text; LOCK TABLE log_1; DO \$\$ BEGIN $left END \$\$");
$deploy = start_deploy('-c evmig.ddl_lock_timeout=90s');
wait_a_second('log_1', 'a later statement waits');
$reader->query_safe('COMMIT');
is(finish($deploy), 0, 'and gets its lock') or diag $deploy->{err};
cmp_ok(left(), '<=', 89000, 'the time since the first strong lock counts');

# nobody waits, but the application does
register(++$version, "DO \$\$ BEGIN LOCK TABLE leads; PERFORM pg_sleep(1.1); $left END \$\$");
is(deploy_with('-c evmig.ddl_lock_timeout=90s'), 0, 'a lock that is there at once');
cmp_ok(left(), '<=', 89000, 'counts from then on, inside a block as well');

# a lock that keeps no writer out
$other->query_safe('BEGIN; LOCK TABLE log_1 IN SHARE MODE;');
register(++$version, "DO \$\$ BEGIN LOCK TABLE log_1 IN ROW EXCLUSIVE MODE; PERFORM pg_sleep(0.1); $left END \$\$");
$deploy = start_deploy('-c evmig.ddl_lock_timeout=90s');
wait_a_second('log_1', 'a weak lock is waited for');
$other->query_safe('COMMIT');
is(finish($deploy), 0, 'and taken') or diag $deploy->{err};
is(left(), '90000.000000', 'which starts no deadline');

# a statement that failed, and was caught
register(++$version, "DO \$\$ BEGIN BEGIN ALTER TABLE calls ADD COLUMN id int; EXCEPTION WHEN duplicate_column THEN NULL; END; PERFORM pg_sleep(0.1); $left END \$\$");
is(deploy_with('-c evmig.ddl_lock_timeout=90s'), 0, 'a statement that failed');
is(left(), '90000.000000', 'has left neither a lock nor a deadline');

# a table that the migration makes itself keeps out nobody; its own lock_timeout counts where it is less
register(++$version, "CREATE TABLE made (a int); SET lock_timeout = '3s'; DO \$\$ BEGIN $left END \$\$");
is(deploy_with(''), 0, 'a table of its own');
is(value("SELECT obj_description('calls'::regclass)"), '3s', "the text's own lock_timeout counts where it is less");
is($node->safe_psql('postgres', "SET lock_timeout = '7s'; CALL evmig_deploy(); SHOW lock_timeout"), '7s', "the session's is what it was");

# past its deadline it waits for nobody, and says who is in the way
$reader->query_safe('BEGIN; SELECT count(*) FROM log_1;');
register(++$version, "LOCK TABLE leads; DO \$\$ BEGIN PERFORM pg_sleep(0.5); END \$\$; LOCK TABLE log_1");
$deploy = start_deploy('-c evmig.ddl_lock_timeout=200ms -c evmig.ddl_retries=0');
is(finish($deploy), 1, 'past its deadline a migration fails');
like($deploy->{err}, qr/try 1 of 1: canceling statement due to lock timeout.*In the way:\npid \d+/s, 'on a lock timeout, naming who is in the way');
$reader->query_safe('COMMIT');
# a prepared transaction has no session: who connects next has its place
value(q(BEGIN; INSERT INTO log VALUES (1, '2024-06-06'); PREPARE TRANSACTION 'o''x'));
$deploy = start_deploy('-c evmig.ddl_lock_timeout=200ms -c evmig.ddl_retries=0');
is(finish($deploy), 1, 'one that meets a prepared transaction');
like($deploy->{err}, qr/In the way:\nprepared transaction 'o''x' of role \S+, since [^\n]+\nERROR/, 'names it, and nobody else');
value("ROLLBACK PREPARED 'o''x'");
is(deploy_with(''), 0, 'free, it is applied');

# ---- cancel ----

$reader->query_safe('BEGIN; SELECT count(*) FROM leads;');
register('100', 'CREATE TABLE fourth (a int)');
register('101', 'CREATE TABLE fifth (a int); ALTER TABLE leads ADD COLUMN five int');
register('102', 'CREATE TABLE sixth (a int)');
$deploy = start_deploy('-c evmig.ddl_lock_timeout=180s');
wait_for($waits, 'a migration waits for its lock');
value("SELECT pg_cancel_backend(pid) FROM ($deployer) d");
isnt(finish($deploy), 0, 'a cancel ends the deployment');
like($deploy->{err}, qr/migration "101" failed: canceling statement due to user request/, 'and says where it was');
my $state = q(SELECT string_agg(version || ' ' || state, ', ' ORDER BY version_key) FROM evmig.migration WHERE version IN ('100', '101', '102'));
is(value($state), '100 applied, 101 pending, 102 pending', 'what was applied stays, the rest is left');
is(value("SELECT to_regclass('fifth') IS NULL"), 't', 'nothing of it is there');

# ---- a crash ----

$deploy = start_deploy('-c evmig.ddl_lock_timeout=180s');
wait_for($waits, 'again, it waits for its lock');
crash($node, value($deployer));
isnt(finish($deploy), 0, 'the session is killed');
is(value($state), '100 applied, 101 pending, 102 pending', 'the record is what was committed');
is(value("SELECT to_regclass('fifth') IS NULL"), 't', 'and nothing of it is there');
like(value('SELECT evmig_deploy_summary()'), qr/^# Deployment \d+: interrupted: deploy again/, 'the summary says so');
is($node->psql('postgres', 'CALL evmig_deploy()'), 0, 'the next deployment goes on');
is(value($state), '100 applied, 101 applied, 102 applied', 'to the end');
is(value(q(SELECT to_regclass('fifth') IS NOT NULL AND to_regclass('sixth') IS NOT NULL)), 't', 'once each');

# ---- a commit that fails ----

register('207', 'CREATE TEMP TABLE one (id int PRIMARY KEY) ON COMMIT DELETE ROWS; CREATE TEMP TABLE two (id int REFERENCES one); CREATE TABLE seventh (a int)');
my ($code, $out, $err) = $node->psql('postgres', 'CALL evmig_deploy()', on_error_stop => 1);
is($code, 3, 'an error at the commit fails the deployment');
like($err, qr/migration "207" failed: unsupported ON COMMIT.*at its commit/s, 'and says so');
unlike($err, qr/207: applied/, 'never having said that it is applied');
is(value("SELECT status FROM evmig_deploy_report() WHERE item = '207'"), 'failed', 'nor does the record');
like(value('SELECT evmig_deploy_summary()'), qr/: failed at migration 207; nothing of it is left$/m, 'the verdict names it');
is(value("SELECT to_regclass('seventh') IS NULL"), 't', 'nothing of it is there');
register('207', 'CREATE TABLE seventh (a int)');

# ---- the text changes meanwhile ----

my $registrant = session(q(BEGIN; SELECT evmig_migration_register('207', 'CREATE TABLE seventh_anew (a int)');));
$deploy = start_deploy('-c evmig.ddl_lock_timeout=180s');
wait_for($waits, 'a deployment waits for who registers');
$registrant->query_safe('COMMIT');
is(finish($deploy), 0, 'and goes on') or diag $deploy->{err};
is(value(q(SELECT to_regclass('seventh') IS NULL AND to_regclass('seventh_anew') IS NOT NULL)), 't', 'with the newer text');

# ---- plain roles ----

value(q(
CREATE ROLE app LOGIN;
CREATE ROLE team NOLOGIN;
GRANT team TO app;
GRANT CREATE ON DATABASE postgres TO app, team;
CREATE SCHEMA app AUTHORIZATION app;
));
my $app = $node->connstr('postgres') . ' user=app';
sub as_app { my ($code, $out, $err) = $node->psql('postgres', $_[0], connstr => $app, on_error_stop => 1); diag $err if $code && !$_[1]; return ($code, $err); }
as_app(q(CREATE TABLE app.orders (id int PRIMARY KEY, total int, "odd ""name" text)));
as_app(q(INSERT INTO app.orders SELECT g FROM generate_series(1, 1000) g));
as_app(q(SELECT evmig_migration_register('210', 'ALTER TABLE app.orders ADD COLUMN state text')));
as_app(q(SELECT evmig_index_register('orders_odd', 'CREATE INDEX ON app.orders ("odd ""name" text_pattern_ops DESC NULLS LAST, (id % 7)) INCLUDE (total) WITH (fillfactor = 70) WHERE id > 3')));
as_app(q(SELECT evmig_index_register('orders_dup', 'CREATE UNIQUE INDEX ON app.orders ((id % 7))')));
as_app(q(SELECT evmig_backfill_register('orders total', 'app.orders', 'total = 1', 'total IS NULL', sleep_ms => 0)));
as_app(q(SELECT evmig_backfill_register('orders poisoned', 'app.orders', '"odd ""name" = (1 / (id - 7))::text', '"odd ""name" IS NULL', sleep_ms => 0)));
($code, $err) = as_app(q(CALL evmig_deploy(wait_for => 'backfills')));
is($code, 0, 'a plain role deploys: an index and a backfill that fail are warnings');
like($err, qr/WARNING.*index orders_dup.*failed.*WARNING.*orders poisoned.*incomplete|WARNING.*orders poisoned.*failed/s, 'which say why');
is(value(q(SELECT count(*) FROM app.orders WHERE total IS NULL)), '0', 'the backfill is done');
is(value(q(SELECT string_agg(item || ' ' || status, ', ' ORDER BY item) FROM evmig_deploy_report() WHERE phase = 'indexes')),
	'orders_dup failed, orders_odd succeeded', 'the report says which');
like(value(q(SELECT detail FROM evmig_deploy_report() WHERE item = 'orders_dup')), qr/could not create unique index.*Key.*is duplicated/s,
	'and what the duplicate is');
is(value(q(SELECT count(*) FROM pg_index WHERE indrelid = 'app.orders'::regclass AND NOT indisvalid)), '0', 'no invalid index is left');
is(value("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = 'orders_odd' AND indisvalid"), '1', 'the other one is valid');
as_app(q(CALL evmig_deploy(wait_for => 'indexes', phases => '{indexes}')));
is(value(q(SELECT status || ' ' || detail FROM evmig_deploy_report() WHERE item = 'orders_odd')), 'skipped is there and valid', 'it is not built twice');

# as a member of a team that cannot log in
($code, $err) = as_app(q(SET ROLE team; SELECT evmig_migration_register('211', 'CREATE SCHEMA team')));
as_app(q(CALL evmig_deploy(phases => '{migrations}')));
is(value("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'team'"), 'team', "a migration of the team's is its own");

# ---- the script ----

my $script = `pg_config --bindir`;
chomp $script;
$script .= '/evmig-deploy';
my @script = ($script, '--dsn', $node->connstr('postgres'));
my $notes = $node->basedir . '/notes';
sub run_script
{
	my @args = @_;
	unlink $notes;
	my $run = start_deploy('', @script, '--stop', "echo stop >> $notes", '--start', "echo start \$EVMIG_DEPLOY_STATUS >> $notes", @args);
	$run->{code} = finish($run);
	$run->{notes} = -e $notes ? slurp_file($notes) : '';
	return $run;
}
my $run = run_script();
is($run->{code}, 0, 'the script succeeds') or diag $run->{err};
is($run->{notes}, "stop\nstart succeeded\n", 'its hooks have run, in order');
like($run->{out}, qr/^# Deployment \d+: succeeded/m, 'it prints the summary');
register('212', 'ALTER TABLE nowhere ADD COLUMN a int');
$run = run_script('--summary=json');
is($run->{code}, 1, 'a migration that fails: 1');
is($run->{notes}, "stop\nstart failed\n", 'the application is started again');
like($run->{out}, qr/"state": "failed"/, 'the summary is what was asked for');
$run = run_script('--start', "sh -c 'kill -TERM \$\$; echo deaf >> $notes'; kill -INT \$\$; echo started >> $notes");
is($run->{notes}, "stop\nstarted\n", 'what the start hook starts can be ended by a signal, the hook not by a second Ctrl-C');
register('212', 'CREATE TABLE twelfth (a int)');
$run = run_script('--stop', 'false');
is($run->{code}, 3, 'a stop hook that fails: 3');
is($run->{notes}, '', 'nothing else is run');
is(value("SELECT to_regclass('twelfth') IS NULL"), 't', 'nor deployed');
$run = run_script('--start', 'false');
is($run->{code}, 3, 'a start hook that fails: 3');
is(value("SELECT to_regclass('twelfth') IS NOT NULL"), 't', 'what was deployed stays');
is(run_script('--nonsense')->{code}, 2, 'called wrongly: 2');
is(run_script('--dsn', $node->connstr('postgres') . ' port=1')->{code}, 2, 'no database: 2');
is(run_script('--dsn', $node->connstr('template1'))->{code}, 2, 'no extension: 2');
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$node->safe_psql('elsewhere', 'CREATE SCHEMA "else where"; CREATE EXTENSION evmig SCHEMA "else where"');
$run = run_script('--dsn', $node->connstr('elsewhere'));
is($run->{code}, 0, "an extension in a schema of its own: 0") or diag $run->{err};
like($run->{out}, qr/^# Deployment 1: succeeded/m, 'with the summary');
for my $wrong ([ '--quiesce', "o'x" ], [ '--wait-for', 'connections' ], [ '--phases', 'migrations,indices' ], [ '--summary', 'pdf' ])
{
	$run = run_script(@$wrong);
	is("$run->{code} $run->{notes}", '2 ', "@$wrong: 2, and nobody is stopped");
}
like($run->{err}, qr/unknown summary: "pdf" \(known are markdown/, 'and says why');
is(run_script('--phases', 'migrations, indexes', '--summary', 'none')->{code}, 0, 'a list may have spaces');

# a signal: the call is cancelled, and the application started again
$reader = session('BEGIN; SELECT count(*) FROM leads;');
register('213', 'ALTER TABLE leads ADD COLUMN thirteen int');
unlink $notes;
$run = start_deploy('-c evmig.ddl_lock_timeout=180s', @script, '--start', "echo start \$EVMIG_DEPLOY_STATUS >> $notes");
wait_for($waits, 'the script deploys');
$run->{handle}->signal('TERM');
finish($run);
isnt($run->{handle}->result(0), 0, 'a signal ends it');
is(slurp_file($notes), "start failed\n", 'not without the start hook');
wait_for("SELECT count(*) = 0 FROM ($deployer) d", 'nobody deploys any more');
is(value("SELECT state FROM evmig.migration WHERE version = '213'"), 'pending', 'nothing was applied');
$reader->query_safe('COMMIT');

# while the application is being stopped
my $go = $node->basedir . '/go';
unlink $notes;
$run = start_deploy('', @script, '--stop', "echo stop >> $notes; until [ -e $go ]; do sleep 0.1; done",
	'--start', "echo start \$EVMIG_DEPLOY_STATUS >> $notes");
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default) { last if -e $notes; sleep 0.1; }
$run->{handle}->signal('TERM');
append_to_file($go, '');
finish($run);
isnt($run->{handle}->result(0), 0, 'a signal that comes while the application stops ends it');
is(slurp_file($notes), "stop\nstart failed\n", 'having started the application again');
is(value("SELECT state FROM evmig.migration WHERE version = '213'"), 'pending', 'and deployed nothing');

# ---- an index that nobody wants any more ----

is(deploy_with(''), 0, 'all migrations are applied');
$reader->query_safe("BEGIN; UPDATE leads SET status = 'here' WHERE id = 1;");
value("SELECT evmig_index_register('one', 'CREATE INDEX one ON leads (status)'), evmig_index_register('two', 'CREATE INDEX two ON leads (status, id)')");
is(deploy_with(''), 0, 'a writer holds up two indexes');
wait_for("SELECT count(*) = 1 FROM pg_stat_progress_create_index", 'one is being built');
wait_for("SELECT count(*) = 1 FROM evmig.job WHERE phase LIKE 'waiting for another index%'", 'the other one waits for it');
my $dropped = q(FROM evmig.job WHERE kind = 'index' AND spec ->> 'index_name' IN ('one', 'two'));
value("SELECT evmig_index_unregister('one', drop_index => true), evmig_index_unregister('two', drop_index => true)");
$reader->query_safe('ROLLBACK');
wait_for("SELECT bool_and(state = 'cancelled') $dropped", 'both are cancelled when they are unregistered');
wait_for("SELECT count(*) = 0 FROM evmig.job WHERE state IN ('queued', 'running')", 'no job is left');
is(value("SELECT to_regclass('one') IS NULL AND to_regclass('two') IS NULL"), 't', 'and neither index is there');

# ---- an unfinished backfill ----

value(q(SELECT evmig_backfill_register('status', 'leads', 'status = ''new'' || id', 'status IS NULL', sleep_ms => 0)));
$reader->query_safe('BEGIN; SELECT id FROM leads WHERE id = 7 FOR UPDATE;');
is(deploy_with(''), 0, 'a row of a backfill is locked');
wait_for('SELECT count(*) = 1 FROM leads WHERE status IS NULL', 'all others are done');
is(value("SELECT status FROM evmig_deploy_report() WHERE item = 'status'"), 'running', 'it goes on');
$node->restart;
is(value("SELECT status FROM evmig_deploy_report() WHERE item = 'status'"), 'interrupted', 'the server is restarted: it stands still');
$deploy = start_deploy('', 'psql', '-XAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
	'-c', "CALL evmig_deploy(wait_for => 'backfills')");
is(finish($deploy), 0, 'the next deployment') or diag $deploy->{err};
like($deploy->{err}, qr/backfills: status: started/, 'takes it up');
is(value("SELECT status FROM evmig_deploy_report() WHERE item = 'status'"), 'succeeded', 'to its end');
is(value('SELECT count(*) FROM leads WHERE status IS NULL'), '0', 'which has all rows');
is(value("SELECT count(*) FROM evmig.job WHERE name = 'status'"), '1', 'and it is the same job');

$node->stop;
done_testing();
