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
passes("BEGIN; CREATE TABLE o (i int PRIMARY KEY) PARTITION BY RANGE (i); CREATE TABLE o1 PARTITION OF o DEFAULT; TRUNCATE o, o1 CASCADE; COMMIT", 'new partitions');
refused('BEGIN; CREATE TABLE parent (i int PRIMARY KEY); ALTER TABLE leads ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES parent NOT VALID; TRUNCATE parent CASCADE; COMMIT',
	'data-truncate', 'TRUNCATE CASCADE of a new table to which an old one refers');
refused('BEGIN; CREATE TABLE parent (id int, status text); ALTER TABLE leads INHERIT parent; TRUNCATE parent; COMMIT',
	'data-truncate', 'TRUNCATE of a new table from which an old one inherits');
refused('TRUNCATE o1', 'data-truncate', 'TRUNCATE of a partition');

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

# ---- the roles of the server's configuration ----
sub configure
{
	my (@lines) = @_;
	$node->append_conf('postgresql.conf', join("\n", @lines) . "\n");
	$node->reload;
	return;
}

# what the log says from here on
my $mark = 0;
sub log_from { $mark = -s $node->logfile; return; }
sub log_like { my ($re, $what) = @_; like(slurp_file($node->logfile, $mark), $re, $what); return; }
sub log_unlike { my ($re, $what) = @_; unlike(slurp_file($node->logfile, $mark), $re, $what); return; }

sub reload_until
{
	my ($line, $value) = @_;
	configure($line);
	ok($node->poll_query_until('postgres', "SELECT current_setting('evmig.guard_roles') = '$value'"), 'the configuration is read');
	return;
}

$node->safe_psql('postgres', q(
CREATE ROLE crew; CREATE ROLE strict LOGIN; CREATE ROLE listed LOGIN; CREATE ROLE member LOGIN IN ROLE crew;
CREATE ROLE "Odd ""Role" LOGIN; CREATE ROLE outsider LOGIN;
ALTER ROLE strict SET evmig.guard = off;
CREATE TABLE shared (id int, note text);
CREATE TABLE keyed (id int PRIMARY KEY);
INSERT INTO shared SELECT g FROM generate_series(1, 3) g;
GRANT ALL ON shared, keyed TO PUBLIC;
));
my $roles = ' strict = ERROR, listed=log,"Odd ""Role"=warn,crew=error , nobody=error';
reload_until("evmig.guard_roles = '$roles'", $roles);

my $update = "UPDATE shared SET note = 'x'";
refused($update, 'data-update', 'the stricter of two settings counts', role => 'strict');
refused($update, 'data-update', 'a member of a role', role => 'member');
refused("SET ROLE crew; $update", 'data-update', 'SET ROLE changes nothing', role => 'member');
refused("SET SESSION AUTHORIZATION strict; $update", 'data-update', 'SET SESSION AUTHORIZATION to it', role => 'postgres');
$node->safe_psql('postgres', 'CREATE ROLE boss LOGIN SUPERUSER IN ROLE crew');
refused("SET SESSION AUTHORIZATION outsider; $update", 'data-update', 'who logged in counts as well', role => 'boss');
passes($update, 'a role that is not listed', 'outsider');
passes("SET ROLE strict; $update", 'a superuser that sets the role', 'postgres');

log_from();
passes($update, 'level log', 'listed');
log_like(qr/evmig\.guard noted: UPDATE of table public\.shared, rule=data-update relation=public\.shared role=listed level=log application_name=/, 'level log: a line');
log_like(qr/Statement: UPDATE shared SET note = 'x'$/m, 'level log: and the statement');

# a session that does the same over and over does not flood the log; nothing is left uncounted
log_from();
passes("$update;\n" x 100 . "SELECT FROM pg_sleep(1.1);\n$update", 'level log: the same again and again', 'listed');
{
	my @lines = slurp_file($node->logfile, $mark) =~ /noted: UPDATE of table public\.shared,(.*)/g;
	my $counted = @lines;
	$counted += $_ for map { / repeated=(\d+)/ ? $1 : () } @lines;
	cmp_ok(scalar(@lines), '<', 101, 'level log: some are only counted');
	is($counted, 101, 'level log: and none is lost');
}
{
	log_from();
	my ($rc, $out, $stderr) = as('Odd "Role', "SET application_name = 'it''s'; $update");
	is($rc, 0, 'level warn: passes');
	like($stderr, qr/WARNING:  evmig\.guard: UPDATE of table public\.shared/, 'level warn: with a warning');
	log_like(qr/role="Odd ""Role" level=warn application_name='it''s'/, 'level warn: and a line');
	($rc, $out, $stderr) = as('Odd "Role', "BEGIN; $update; $update; COMMIT; $update");
	is(() = $stderr =~ /WARNING:/g, 2, 'told once in a transaction');
	($rc, $out, $stderr) = as('strict', 'INSERT INTO shared VALUES (4)');
	is($rc, 0, 'INSERT ... VALUES: passes');
	like($stderr, qr/WARNING:  evmig\.guard: INSERT into table public\.shared/, 'INSERT ... VALUES: with a warning');
}
refused('INSERT INTO shared VALUES ((SELECT count(*) FROM shared))', 'data-insert-select', 'VALUES with a query in it', role => 'strict');
refused('INSERT INTO keyed VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2', 'data-update', 'ON CONFLICT DO UPDATE', role => 'strict');

# a running session follows the configuration; what nobody understands changes nothing
my $session = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'strict' ]);
my $effective = 'SELECT effective FROM evmig_guard_status() LIMIT 1';
log_from();
configure(q(evmig.guard_roles = 'strict=error, member'));
ok($node->poll_query_until('postgres', q(SELECT true FROM pg_file_settings WHERE setting = 'strict=error, member' AND error IS NOT NULL)), 'malformed: seen');
log_like(qr/invalid value for parameter "evmig\.guard_roles": "strict=error, member"/, 'malformed: a clear error');
for my $bad ('=error', 'a=', 'a=error,', 'a=error b=log', '"a=error', 'a=fatal', ',', 'a b=error')
{
	isnt((as('postgres', "ALTER SYSTEM SET evmig.guard_roles = '$bad'"))[0], 0, "malformed: $bad");
}
is($session->query_safe($effective), 'error', 'what was in force stays in force');
reload_until(q(evmig.guard_roles = 'public=log'), 'public=log');
$session->query_safe('SELECT 1');
is($session->query_safe($effective), 'log', 'a running session follows the configuration');
$session->quit;
reload_until(q(evmig.guard_roles = 'crew=error, strict=error'), 'crew=error, strict=error');
is(passes(q(SELECT string_agg(effective, ' ') FROM evmig_guard_status() WHERE setting IN ('session', 'evmig.guard', 'evmig.guard_roles')),
	'the status of the session'), 'error error off', 'which says why');

# membership counts from when it is given
$session = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'outsider' ]);
$session->query_safe($update);
$node->safe_psql('postgres', 'GRANT crew TO outsider');
is($session->query_safe($effective), 'error', 'a new member is judged at once');
$session->quit;

# ---- in an emergency ----
my $set = "SET evmig.guard = error; SET evmig.guard_bypass_reason = 'disk is full'";
log_from();
passes("$set; SET SESSION AUTHORIZATION migrator; BEGIN; UPDATE leads SET status = 'b'; DELETE FROM leads WHERE id = 1; ROLLBACK", 'one transaction', 'postgres');
log_like(qr/evmig\.guard lets a transaction of role "migrator" through: disk is full/, 'with a line in the log');
log_like(qr/evmig\.guard let through: DELETE from table public\.leads/, 'and one for each statement');
like(refused("$set; BEGIN; UPDATE leads SET status = 'b'; ROLLBACK; UPDATE leads SET status = 'b'", 'data-update', 'not the next one', role => 'postgres'),
	qr/WARNING: .*evmig\.guard_bypass_reason was used up by an earlier transaction/, 'with a warning');
refused("$set; BEGIN; UPDATE leads SET status = 'b'; ROLLBACK; BEGIN; SET evmig.guard_bypass_reason = 'again'; ROLLBACK; UPDATE leads SET status = 'b'",
	'data-update', 'a reason that comes back is used up', role => 'postgres');
refused("SET evmig.guard = error; BEGIN; SET LOCAL evmig.guard_bypass_reason = 'y'; UPDATE leads SET status = 'b'; ROLLBACK; UPDATE leads SET status = 'b'",
	'data-update', 'SET LOCAL', role => 'postgres');
for my $stored ("ALTER ROLE migrator SET evmig.guard_bypass_reason = 'x'", "ALTER SYSTEM SET evmig.guard_bypass_reason = 'x'",
	"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET evmig.guard_bypass_reason = 'x' AS 'SELECT 1'", "SET evmig.guard_bypass_reason = '  '")
{
	isnt((as('postgres', $stored))[0], 0, "$stored: refused");
}

# ---- not the session's own statements ----
$node->safe_psql('postgres', q(
CREATE TABLE ddl_log (tag text);
CREATE FUNCTION note_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN INSERT INTO public.ddl_log SELECT TG_TAG; END $$;
CREATE EVENT TRIGGER note_ddl ON ddl_command_end EXECUTE FUNCTION note_ddl();
SET ROLE migrator;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE audit (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO audit SELECT TG_TABLE_NAME; UPDATE audit SET what = what; RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON parent FOR EACH ROW EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER note_later AFTER INSERT OR UPDATE OR DELETE ON child DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION note();
GRANT INSERT ON parent, child TO strict;
GRANT ALL ON audit TO strict;
RESET ROLE;
ALTER ROLE strict SET evmig.guard_insert_values = off;
));
passes('CREATE TABLE noted (id int)', 'an event trigger');
is($node->safe_psql('postgres', "SELECT count(*) > 0 FROM ddl_log WHERE tag = 'CREATE TABLE'"), 't', 'which has noted it');
log_from();
passes('SET evmig.guard = log; SET ROLE migrator;'
	. ' INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1); UPDATE parent SET id = 2; DELETE FROM parent', 'triggers and foreign keys', 'postgres');
log_like(qr/noted: DELETE from table public\.parent/, 'the statement is noted');
log_unlike(qr/noted: \w+ (?:of|from) table public\.child|noted: .*audit/, 'what it brings about is not');
passes('INSERT INTO parent VALUES (10)', 'a trigger of an accepted row', 'strict');
passes('INSERT INTO child VALUES (10)', 'a deferred trigger of an accepted row', 'strict');

# but a trigger of rows that are nobody's is no way around it
my $tricky = 'CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE leads SET status = 4; RETURN NULL; END $$;';
refused("CREATE TEMP TABLE t (i int); $tricky CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION pg_temp.f(); INSERT INTO t VALUES (1)",
	'data-update', 'a trigger of a temporary table');
refused("CREATE TEMP TABLE t (i int); $tricky CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION pg_temp.f();\nCOPY t FROM STDIN;\n1\n\\.\n",
	'data-update', 'a trigger of a temporary table that COPY fires');
refused("CREATE TEMP TABLE t (i int); $tricky CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.f(); INSERT INTO t VALUES (1)",
	'data-update', 'a deferred trigger of a temporary table');
refused("CREATE TEMP VIEW v AS SELECT 1 AS i; $tricky CREATE TRIGGER x INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION pg_temp.f(); INSERT INTO v VALUES (1)",
	'data-update', 'a trigger of a view');
refused('BEGIN; CREATE TABLE p (id int, status text) PARTITION BY LIST (status); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);'
	. " ALTER TABLE p ATTACH PARTITION old DEFAULT; INSERT INTO p SELECT 1, 2", 'data-insert-select', 'a table attached to a new one')
	if $node->safe_psql('postgres', 'SET ROLE migrator; CREATE TABLE old (id int, status text)') eq '';

# this extension's own work, in the session and beside it
my $filled = q(SELECT count(*) FROM leads WHERE status = );
passes(q(
SELECT evmig_backfill_register('fill', 'leads', set_list => 'status = ''done''', where_clause => 'status IS DISTINCT FROM ''done''');
SET client_min_messages = warning;
CALL evmig_backfill_run('fill');
), 'a backfill in the session');
is($node->safe_psql('postgres', "$filled 'done'"), '100', 'which fills all');
passes(q(SELECT evmig_backfill_replace('fill', 'leads', set_list => 'status = ''again''', where_clause => 'status IS DISTINCT FROM ''again''')), 'another definition');
my $job = passes("SELECT evmig_backfill_start('fill')", 'a backfill in a worker');
passes("SET client_min_messages = warning; CALL evmig_wait($job)", 'waiting for it');
is($node->safe_psql('postgres', "$filled 'again'"), '100', 'which fills all');
$before = $node->safe_psql('postgres', $digest);
refused('UPDATE leads SET status = 1', 'data-update', 'behind it');
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
is($node->psql('fresh', 'SET evmig.guard = error; CREATE EXTENSION evmig; DROP EXTENSION evmig'), 0, "our own script");
SKIP:
{
	my $dir = $node->config_data('--sharedir') . '/extension';
	my $name = 'evmig_guard_probe';

	skip 'the extension directory is not ours', 2 unless -w $dir;
	append_to_file("$dir/$name.control", "default_version = '1'\nrelocatable = true\n");
	append_to_file("$dir/$name--1.sql", "UPDATE public.shared SET note = 'by a script';\n");
	passes("SET evmig.guard = error; CREATE EXTENSION $name", "an extension's script", 'postgres');
	is($node->safe_psql('postgres', "SELECT count(*) > 0 FROM shared WHERE note = 'by a script'"), 't', 'which has run');
	unlink("$dir/$name.control", "$dir/$name--1.sql");
}
passes(q(CREATE MATERIALIZED VIEW m AS SELECT id FROM leads; CREATE UNIQUE INDEX ON m (id); REFRESH MATERIALIZED VIEW CONCURRENTLY m; REFRESH MATERIALIZED VIEW m), 'a refresh');
{
	my ($out, $stderr);
	ok(IPC::Run::run([ 'pg_dump', '-U', 'migrator', '-t', 'leads', '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$stderr), 'pg_dump');
	is($stderr, '', 'pg_dump: in silence');
}

# ---- strong locks on large tables ----
$node->safe_psql('postgres', q(
SET ROLE migrator;
CREATE TABLE big (id int, note text);
CREATE TABLE wide (id int);
INSERT INTO big SELECT g FROM generate_series(1, 2000) g;
INSERT INTO wide SELECT g FROM generate_series(1, 2000) g;
RESET ROLE;
ANALYZE big, wide;
ALTER ROLE migrator SET evmig.guard_small_table = '1000';
));
like(refused('CREATE INDEX ON big (id)', 'index-not-concurrent', 'CREATE INDEX'),
	qr/It takes ShareLock, which blocks writes.*HINT:  CREATE INDEX CONCURRENTLY ON public\.big \(id\);/s, 'with the lock and the safe way');
refused('ALTER TABLE big ALTER id SET NOT NULL', 'set-not-null', 'SET NOT NULL');
refused(q(DO $$ BEGIN EXECUTE 'ALTER TABLE big ALTER id TYPE bigint'; END $$), 'change-column-type', 'dynamic DDL');
refused('VACUUM FULL big', 'cluster-vacuum-full', 'VACUUM FULL');
refused('BEGIN; ALTER TABLE big ADD CONSTRAINT c CHECK (id > 0) NOT VALID; ALTER TABLE big VALIDATE CONSTRAINT c',
	'validate-in-same-tx', 'VALIDATE in the same transaction');
passes('CREATE INDEX CONCURRENTLY big_id ON big (id); REINDEX INDEX CONCURRENTLY big_id; DROP INDEX CONCURRENTLY big_id', 'what runs concurrently');
passes('CREATE INDEX ON "Weird "".tab\'le" (id)', 'a small table');
passes('BEGIN; CREATE TABLE copy (LIKE big); INSERT INTO copy SELECT * FROM big; ALTER TABLE copy ALTER id TYPE bigint; COMMIT', 'a new table');
passes('BEGIN; SAVEPOINT a; ALTER TABLE big ADD COLUMN a int; ROLLBACK TO a; ALTER TABLE wide ADD COLUMN a int; ROLLBACK', 'a rolled back statement');
passes(q(DO $$ BEGIN BEGIN ALTER TABLE big ADD COLUMN a int; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; ALTER TABLE wide ADD COLUMN a int; END $$), 'the same in a handler');
passes('BEGIN; LOCK TABLE wide IN SHARE MODE; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT', 'LOCK TABLE takes no snapshot');
for my $taken ('ALTER TABLE big ADD COLUMN a int', 'SAVEPOINT a; ALTER TABLE big ADD COLUMN a int; RELEASE a',
	'SAVEPOINT a; SAVEPOINT b; ALTER TABLE big ADD COLUMN a int; RELEASE b; RELEASE a',
	'SAVEPOINT a; SAVEPOINT b; ALTER TABLE big ADD COLUMN a int; RELEASE b; SAVEPOINT c; ROLLBACK TO c')
{
	my ($rc, $out, $stderr) = as('migrator', "BEGIN; $taken; ALTER TABLE wide ADD COLUMN b int; ROLLBACK");
	is($rc, 0, "$taken: passes");
	like($stderr, qr/WARNING:  evmig\.guard: the transaction holds ACCESS EXCLUSIVE on public\.big/, "$taken: and is remembered");
}
{
	my ($rc, $out, $stderr) = as('migrator', 'CREATE TABLE big_copy AS SELECT * FROM (SELECT * FROM big) b; CREATE VIEW big_view AS SELECT * FROM big; SELECT * INTO big_too FROM big_view');
	is($rc, 0, 'copies of a large table: pass');
	like($stderr, qr/CREATE TABLE AS from large table public\.big .*SELECT INTO from large table public\.big /s, 'copies of a large table: with warnings');
}
for my $missing ('CREATE INDEX ON nosuch (id)', 'REFRESH MATERIALIZED VIEW nosuch', 'TRUNCATE nosuch', 'DROP TABLE nosuch')
{
	my ($rc, $out, $stderr) = as('migrator', $missing);
	like($stderr, qr/^psql:<stdin>:1: ERROR:  .*does not exist$/, "$missing: the server's own error");
}

# ---- DDL does not queue for ever ----
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM audit');
for my $ddl ('ALTER TABLE audit ADD COLUMN n int', 'VACUUM FULL audit', 'DROP TABLE audit', 'LOCK TABLE audit',
	'DO $$ BEGIN ALTER TABLE audit ADD COLUMN n int; END $$')
{
	my ($rc, $out, $stderr) = as('migrator', "SET evmig.ddl_lock_timeout = '50ms';\n" . ($ddl =~ /^LOCK/ ? "BEGIN;\n" : '') . $ddl);
	like($stderr, qr/canceling statement due to lock timeout.*HINT: .*evmig\.ddl_lock_timeout \(50 ms\)/s, "$ddl: gives up");
}
{
	my ($rc, $out, $stderr) = $node->psql('postgres', q(
SET evmig.ddl_lock_timeout = '50ms';
SET lock_timeout = '1h';
VACUUM FULL audit;
ALTER TABLE audit ADD COLUMN n int;
SHOW lock_timeout;), on_error_stop => 0, extra_params => [ '-U', 'migrator' ]);
	is(() = $stderr =~ /due to lock timeout/g, 2, 'also where lock_timeout is longer');
	is($out, '1h', 'which is as it was');
	is(passes('BEGIN; CREATE TABLE quick (id int); SHOW lock_timeout; COMMIT', 'DDL that need not wait'), '0', 'which leaves lock_timeout alone');
	($rc, $out, $stderr) = as('migrator', "SET lock_timeout = '20ms'; ALTER TABLE audit ADD COLUMN n int");
	like($stderr, qr/due to lock timeout/, 'a shorter lock_timeout stays in force');
	unlike($stderr, qr/HINT/, 'without our hint');
}
$holder->query_safe('COMMIT');
$holder->quit;

# ---- a library that is not loaded protects nothing ----
my $preflight = "SELECT status || ': ' || detail FROM evmig_preflight('leads', 'id') WHERE check_name = 'guard'";
like($node->safe_psql('postgres', $preflight), qr/^pass: /, 'preflight: loaded');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is($node->safe_psql('postgres', $preflight),
	'fail: the guard is set for role migrator, and the library is not preloaded: sessions go unjudged', 'preflight: not loaded');
refused('SELECT count(*) FROM evmig_guard_status(); UPDATE leads SET status = 1', 'data-update', 'a session that has called evmig');
$node->safe_psql('postgres', 'ALTER ROLE migrator RESET evmig.guard');
like($node->safe_psql('postgres', $preflight), qr/^fail: the guard is set for the server or this session/, 'preflight: evmig.guard_roles alone');
reload_until(q(evmig.guard_roles = ''), '');
like($node->safe_psql('postgres', $preflight), qr/^pass: /, 'preflight: nothing is set');

done_testing();
