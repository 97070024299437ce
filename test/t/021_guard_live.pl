# The guard live: what a session's own statements may do, however they are
# sent, and that the role that is guarded cannot do anything about it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'evmig'
max_prepared_transactions = 2
autovacuum = off
log_min_messages = log
log_statement = none
));
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE ROLE migrator LOGIN;
CREATE ROLE app LOGIN;
ALTER ROLE migrator SET evmig.guard = error;
GRANT CREATE ON SCHEMA public TO migrator, app;
GRANT app TO migrator;
CREATE DATABASE owned OWNER migrator;
SET ROLE migrator;
CREATE TABLE leads (id int PRIMARY KEY, status text);
INSERT INTO leads SELECT g, 'new' FROM generate_series(1, 100) g;
CREATE TABLE "Weird "".tab'le" (id int);
INSERT INTO "Weird "".tab'le" VALUES (1);
CREATE FUNCTION change() RETURNS void LANGUAGE plpgsql AS
$$ BEGIN UPDATE leads SET status = 'f' WHERE id = 1; END $$;
CREATE FUNCTION change_sql() RETURNS void LANGUAGE sql AS
$$ UPDATE leads SET status = 'f' WHERE id = 1 $$;
CREATE PROCEDURE change_call() LANGUAGE plpgsql AS
$$ BEGIN COMMIT; UPDATE leads SET status = 'f' WHERE id = 1; END $$;
CREATE VIEW leads_view AS SELECT * FROM leads;
CREATE RULE again AS ON UPDATE TO "Weird "".tab'le" DO INSTEAD UPDATE leads SET status = 'r';
));

sub as
{
	my ($role, $sql, @more) = @_;
	return $node->psql('postgres', $sql, extra_params => [ '-U', $role ], on_error_stop => 1, @more);
}

my $digest = 'SELECT md5(string_agg(l::text, chr(10) ORDER BY id)) FROM leads l';
my $before = $node->safe_psql('postgres', $digest);

# refused as rule on relation, and nothing has changed
sub refused
{
	my ($sql, $rule, $what, %more) = @_;
	my $role = $more{role} // 'migrator';
	my ($rc, $out, $err) = as($role, "\\set VERBOSITY verbose\n$sql");
	like($err, qr/ERROR:  VG001: refused by evmig\.guard: .*Rule $rule;/s, "$what: refused");
	is($node->safe_psql('postgres', $digest), $before, "$what: nothing has changed");
	return $err;
}

sub passes
{
	my ($sql, $what, $role) = @_;
	my ($rc, $out, $err) = as($role // 'migrator', $sql);
	is($rc, 0, "$what: passes");
	is($err, '', "$what: in silence");
	return $out;
}

# ---- the ways in which a statement comes ----
my $err = refused('UPDATE leads SET status = 1', 'data-update', 'UPDATE');
like($err, qr/SELECT public\.evmig_backfill_register\('leads_backfill', 'public\.leads', /, 'the hint names the table');
refused('DELETE FROM leads WHERE id = 1', 'data-delete', 'DELETE');
refused('INSERT INTO leads SELECT 1000', 'data-insert-select', 'INSERT ... SELECT');
refused('MERGE INTO leads USING (SELECT 1 AS i) s ON id = i WHEN MATCHED THEN DELETE', 'data-merge', 'MERGE');
refused('TRUNCATE leads', 'data-truncate', 'TRUNCATE');
refused("COPY leads FROM STDIN;\n1000\tx\n\\.\n", 'data-copy', 'COPY FROM STDIN');
refused("\\copy leads from program 'printf \"1000\\tx\\n\"'", 'data-copy', '\copy');
refused('WITH RECURSIVE a AS (SELECT 1), u AS (UPDATE leads SET status = 2 RETURNING 1) SELECT * FROM u', 'data-update', 'a CTE');
refused('EXPLAIN ANALYZE DELETE FROM leads', 'data-delete', 'EXPLAIN ANALYZE');
refused('COPY (UPDATE leads SET status = 3 RETURNING 1) TO STDOUT', 'data-update', 'COPY (UPDATE ... RETURNING) TO');
refused('PREPARE p AS UPDATE leads SET status = $1; EXECUTE p(4)', 'data-update', 'PREPARE and EXECUTE');
refused('SELECT change()', 'data-update', 'a PL/pgSQL function');
refused('SELECT change_sql()', 'data-update', 'an SQL function');
refused('CALL change_call()', 'data-update', 'a procedure');
refused(q(DO $$ BEGIN EXECUTE format('%s leads SET status = 5', reverse('ETADPU')); END $$), 'data-update', 'dynamic SQL');
refused(q(DO $$ BEGIN UPDATE leads SET status = 6; EXCEPTION WHEN division_by_zero THEN NULL; END $$), 'data-update', 'a DO block');
refused('UPDATE leads_view SET status = 7', 'data-update', 'a view');
refused(q(UPDATE "Weird "".tab'le" SET id = 2), 'data-update', 'a rule');
like(refused(q(DELETE FROM "Weird "".tab'le"), 'data-delete', 'an odd name'),
	qr/DELETE from table public\."Weird ""\.tab'le"/, 'which is quoted');
passes('EXPLAIN UPDATE leads SET status = 1', 'EXPLAIN');
passes('SELECT count(*) FROM leads', 'SELECT');
passes('COPY leads TO STDOUT', 'COPY TO');

# a prepared statement through libpq's extended protocol
my $script = $node->basedir . '/update.pgbench';
append_to_file($script, "UPDATE leads SET status = 8 WHERE id = 1;\n");
for my $protocol ('simple', 'extended', 'prepared')
{
	my ($out, $stderr);
	IPC::Run::run([ 'pgbench', '-n', '-t', '1', '-M', $protocol, '-f', $script, '-U', 'migrator',
			'-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$stderr);
	like($stderr, qr/refused by evmig\.guard: UPDATE of table public\.leads/, "libpq, $protocol: refused");
}
is($node->safe_psql('postgres', $digest), $before, 'libpq: nothing has changed');

# ---- rows that are nobody else's ----
passes('CREATE TEMP TABLE t AS SELECT 1 AS i; UPDATE t SET i = 2; TRUNCATE t; INSERT INTO t SELECT 3; DELETE FROM t', 'a temporary table');
passes("BEGIN; CREATE TABLE n (i int); INSERT INTO n SELECT 1; UPDATE n SET i = 2; COPY n FROM STDIN;\n1\n\\.\nCOMMIT", 'a new table');
refused('UPDATE n SET i = 3', 'data-update', 'a table of an earlier transaction');

# ---- attempts to switch it off ----
for my $attempt (
	'SET evmig.guard = off', 'RESET evmig.guard', 'SET LOCAL evmig.guard = off', 'ALTER ROLE migrator SET evmig.guard = off',
	'ALTER ROLE migrator IN DATABASE owned SET evmig.guard = off', 'ALTER DATABASE owned SET evmig.guard = off',
	'ALTER ROLE migrator RESET evmig.guard', 'SET SESSION AUTHORIZATION postgres',
	"SELECT set_config('evmig.guard', 'off', false)", "SET evmig.guard_bypass_reason = 'I want to'",
	'SET evmig.guard_roles = \'\'', 'ALTER SYSTEM SET evmig.guard_roles = \'\'',
	"UPDATE pg_settings SET setting = 'off' WHERE name = 'evmig.guard'",
	'CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET evmig.guard = off AS \'SELECT 1\'')
{
	my ($rc, $out, $stderr) = as('migrator', $attempt);
	like($stderr, qr/permission denied|cannot be changed/, "$attempt: denied");
}
for my $attempt ('SET ROLE app', 'RESET ALL', 'DISCARD ALL')
{
	refused("$attempt; RESET ROLE; UPDATE leads SET status = 9", 'data-update', $attempt);
}
{
	local $ENV{PGOPTIONS} = '-c evmig.guard=off';
	my ($rc, $out, $stderr) = as('migrator', 'UPDATE leads SET status = 9');
	like($stderr, qr/permission denied to set parameter "evmig\.guard"/, 'PGOPTIONS: denied');
}
is($node->safe_psql('postgres', $digest), $before, 'nothing has changed');

done_testing();
