# A write that fails at any stage is one error of its table, by the class of
# its SQLSTATE; one that waits for its table's lock is measured with the wait.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run qw(start);
use Measured;
use PostgreSQL::Test::Utils;
use Test::More;

start_measuring();

sub command
{
	my (@texts) = @_;
	return ('psql', '-XqAt', '-d', $node->connstr('postgres') . ' application_name=writer', map { ('-c', $_) } @texts);
}

sub messages { return system_log(command(@_)); }

my $scripts = 0;

sub bench_command
{
	my ($mode, $script, $transactions) = @_;
	my $file = $node->basedir . '/script' . ++$scripts;
	append_to_file($file, $script);
	return ('pgbench', '-n', '-M', $mode, '-t', $transactions // 1, '-f', $file,
		$node->connstr('postgres') . ' application_name=writer');
}

sub background
{
	my (@command) = @_;
	my ($in, $out) = ('', '');
	return start(\@command, \$in, \$out, \$out);
}

my %last;

sub figures
{
	my %now;
	for (split /\n/, sql(q(SELECT kpi, value FROM evmig_kpi_detail('w', '10 minutes'))))
	{
		my ($kpi, $value) = split /\|/;
		$now{$kpi} = $value;
	}
	return %now;
}

# writes, errors, and the class that the one error is of
sub counted
{
	my ($writes, $errors, $class, $what) = @_;
	my %now = figures();
	my %classes = map { /^errors_class_(.*)/ && $now{$_} != ($last{$_} // 0) ? ($1 => 1) : () } keys %now;
	my $got = join(' ', map({ ($now{$_} // 0) - ($last{$_} // 0) } qw(writes write_errors)), sort keys %classes);
	is($got, join(' ', $writes, $errors, $class ? $class : ()), $what);
	%last = %now;
	return;
}

sub logged
{
	my ($n, $what) = @_;
	my %now = figures();
	is($now{errors_logged} - ($last{errors_logged} // 0), $n, $what);
	%last = %now;
	return;
}

sql(q(
CREATE EXTENSION evmig;
CREATE ROLE reader LOGIN;
CREATE TABLE w (id int PRIMARY KEY, x text CHECK (x <> 'bad'), d int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE other (id int);
CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE 'refused' USING ERRCODE = CASE WHEN new.id = -1 THEN 'P0001' ELSE 'ZZ001' END; END $$;
CREATE TRIGGER refuses BEFORE INSERT ON w FOR EACH ROW WHEN (new.id < 0) EXECUTE FUNCTION refuses();
SELECT evmig_kpi_watch('w');
INSERT INTO w VALUES (1);
));
%last = figures();

# ---- stages of one statement ----
messages('INSERT INTO w VALUES (1)');
counted(0, 1, '23', 'a unique key');
messages("INSERT INTO w VALUES (2, 'bad')");
counted(0, 1, '23', 'a check');
messages('INSERT INTO w VALUES (1 / (random() * 0)::int)');
counted(0, 1, '22', 'an expression');
messages('INSERT INTO w VALUES (1 / 0)');
counted(0, 1, '22', 'an expression, when it is planned');
messages('INSERT INTO w (no_such_column) VALUES (1)');
counted(0, 1, '42', 'a column that is not there, when it is analysed');
messages('INSERT INTO w VALUES (');
counted(0, 0, '', 'a syntax error names no table for sure');
messages('SET ROLE reader; INSERT INTO w VALUES (3)');
counted(0, 1, '42', 'a privilege');
messages('INSERT INTO w VALUES (-1)');
counted(0, 1, 'P0', 'a trigger');
messages('INSERT INTO w VALUES (-2)');
counted(0, 1, '??', 'a class of one\'s own');
messages('INSERT INTO w VALUES (10, NULL, 1), (11, NULL, 1)');
counted(0, 1, '23', 'a deferred constraint at the commit');
messages('BEGIN', 'INSERT INTO w VALUES (10, NULL, 1), (11, NULL, 1)', 'COMMIT');
counted(1, 1, '23', 'in a transaction block: the COMMIT failed, the statement did not');
messages('BEGIN', 'INSERT INTO w VALUES (10, NULL, 1), (11, NULL, 1)', 'SET CONSTRAINTS ALL IMMEDIATE', 'ROLLBACK');
counted(1, 1, '23', 'checked before the COMMIT');
messages('BEGIN', 'INSERT INTO w VALUES (10, NULL, 1)', 'SET CONSTRAINTS no_such_constraint IMMEDIATE', 'ROLLBACK');
counted(1, 0, '', 'or not, as the check does not exist');
messages('INSERT INTO w VALUES (20); INSERT INTO w VALUES (20)');
counted(1, 1, '23', 'the second statement of a message');
messages('INSERT INTO w VALUES (21); SELECT 1; INSERT INTO w (no_such_column) VALUES (1); SELECT 2');
counted(1, 1, '42', 'one that is not the last, when it is analysed');
messages('INSERT INTO w VALUES (22); SELECT 1 / (random() * 0)::int');
counted(1, 0, '', 'another statement of the same message');
messages("COPY w (id) FROM PROGRAM 'printf ''30\\nx\\n'''");
counted(0, 1, '22', 'COPY');
messages('WITH a AS (INSERT INTO w VALUES (1) RETURNING id) SELECT * FROM a');
counted(0, 1, '23', 'WITH');
messages('PREPARE p AS INSERT INTO w VALUES (1)', 'EXECUTE p');
counted(0, 1, '23', 'EXECUTE');
messages('DO $$ BEGIN INSERT INTO w VALUES (1); END $$');
counted(0, 1, '23', 'within a function');
messages('DO $$ BEGIN INSERT INTO w VALUES (40); PERFORM 1 / (random() * 0)::int; END $$');
counted(0, 1, '22', 'elsewhere in a function that wrote');
messages('BEGIN', 'INSERT INTO w VALUES (41)', 'SAVEPOINT s', 'INSERT INTO w VALUES (41)', 'ROLLBACK TO s', 'COMMIT');
counted(1, 1, '23', 'after a savepoint');
messages('BEGIN', 'INSERT INTO w VALUES (42)', 'SELECT 1 / (random() * 0)::int', 'COMMIT');
counted(1, 0, '', 'an error of another statement in the block');
%last = figures();
for my $mode (qw(extended prepared))
{
	system_log(bench_command($mode, "INSERT INTO w VALUES (1);\n"));
	counted(0, 1, '23', "$mode: a unique key");
	system_log(bench_command($mode, "INSERT INTO w (no_such_column) VALUES (1);\n"));
	counted(0, 1, '42', "$mode: a column that is not there");
	system_log(bench_command($mode, "INSERT INTO w VALUES (50, NULL, 2), (51, NULL, 2);\n"));
	counted(0, 1, '23', "$mode: a deferred constraint");
	system_log(bench_command($mode, "INSERT INTO w VALUES (50, NULL, 2), (51, NULL, 2);\n"));
	counted(0, 1, '23', "$mode: a deferred constraint");
}
messages('BEGIN', 'INSERT INTO w VALUES (60)', "PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'");
counted(1, 0, '', 'a prepared transaction');

# the log hides errors, so that nobody reports them
{
	local $ENV{PGOPTIONS} = '-c log_min_messages=fatal';
	messages('INSERT INTO w VALUES (1)');
	counted(0, 1, '23', 'hidden: a unique key');
	messages('INSERT INTO w (no_such_column) VALUES (1)');
	counted(0, 1, '42', 'hidden: a column that is not there');
	messages('INSERT INTO w VALUES (1 / 0)');
	counted(0, 1, '22', 'hidden: an expression, when it is planned');
	messages('SET ROLE reader; INSERT INTO w VALUES (3)');
	counted(0, 1, '42', 'hidden: a privilege');
	messages('INSERT INTO w VALUES (10, NULL, 1), (11, NULL, 1)');
	counted(0, 1, '23', 'hidden: a deferred constraint at the commit');
	messages('BEGIN', 'INSERT INTO w VALUES (10, NULL, 1), (11, NULL, 1)', 'COMMIT');
	counted(1, 1, '23', 'hidden: a COMMIT');
	messages('INSERT INTO w VALUES (63); SELECT 1; INSERT INTO w (no_such_column) VALUES (1)');
	counted(1, 1, '42', 'hidden: one that is not the first of its message');
	messages('BEGIN', 'SAVEPOINT s', 'INSERT INTO w (no_such_column) VALUES (1)', 'ROLLBACK TO s', 'INSERT INTO w VALUES (61)', 'COMMIT');
	counted(1, 1, '42', 'hidden: before a savepoint');
	messages('BEGIN', 'INSERT INTO w VALUES (62)', 'SELECT 1 / (random() * 0)::int', 'SELECT 1', 'ROLLBACK', 'BEGIN', 'ROLLBACK');
	counted(1, 0, '', 'hidden: an error of another statement in the block');
	messages(q(DO $$ BEGIN BEGIN INSERT INTO w VALUES (1); EXCEPTION WHEN unique_violation THEN NULL; END; END $$));
	counted(1, 0, '', 'hidden: an error that is caught');
	messages('SET log_min_messages = log; INSERT INTO w (no_such_column) VALUES (1)');
	counted(0, 1, '42', 'hidden by another level');
	messages('INSERT INTO w (no_such_column) VALUES (1) /* ' . 'x' x 1100 . ' */');
	counted(0, 0, '', 'hidden: a text that pg_stat_activity cuts off');
	for my $mode (qw(extended prepared))
	{
		system_log(bench_command($mode, "INSERT INTO w VALUES (1);\n"));
		counted(0, 1, '23', "hidden, $mode: a unique key");
		system_log(bench_command($mode, "INSERT INTO w (no_such_column) VALUES (1);\n"));
		counted(0, 1, '42', "hidden, $mode: a column that is not there");
		system_log(bench_command($mode, "INSERT INTO w VALUES (50, NULL, 2), (51, NULL, 2);\n"));
		counted(0, 1, '23', "hidden, $mode: a deferred constraint");
	}
}

# ---- errors of sessions that wrote the table ----
logged(0, 'no more so far');
messages('INSERT INTO w VALUES (70)', 'SELECT 1 / (random() * 0)::int', 'SELECT no_such_column');
logged(2, 'errors after a write are told');
messages('SELECT 1 / (random() * 0)::int', 'INSERT INTO w VALUES (71)');
logged(0, 'those before it are not');
messages('INSERT INTO other VALUES (1 / (random() * 0)::int)');
logged(0, 'nor those of others');
%last = figures();

# a pipeline is one transaction: what comes behind the error is not executed
for my $mode (qw(extended prepared))
{
	my $id = $mode eq 'extended' ? 500 : 600;
	my $pipeline = sub { return "\\startpipeline\n" . join('', map { "INSERT INTO w VALUES ($_);\n" } @_) . "\\endpipeline\n"; };
	system_log(bench_command($mode, $pipeline->($id, 1, 0)));
	counted(1, 1, '23', "$mode: a pipeline whose second statement fails");
	system_log(bench_command($mode, $pipeline->($id + 1 . ', NULL, 3', $id + 2 . ', NULL, 3')));
	counted(0, 1, '23', "$mode: a pipeline whose commit fails");
	system_log(bench_command($mode, "INSERT INTO w VALUES ($id, 'x', 2 / 0);\n"));
	counted(0, 1, '22', "$mode: an expression, when it is planned");
}

# ---- locks before the executor ----
my $holder = $node->background_psql('postgres');
my $blocked = q(SELECT count(*) > 0 FROM pg_stat_activity a JOIN pg_locks l USING (pid)
WHERE application_name = 'writer' AND NOT granted);
my $two_seconds = q(SELECT count(*) > 0 FROM pg_stat_activity a JOIN pg_locks l USING (pid)
WHERE application_name = 'writer' AND NOT granted AND clock_timestamp() - waitstart > interval '2 s');

sub lock_table { $holder->query_safe('BEGIN; LOCK TABLE w IN ACCESS EXCLUSIVE MODE'); return; }
sub unlock_table { $holder->query_safe('COMMIT'); return; }

for my $case (['simple', command('INSERT INTO w VALUES (100)')],
	['extended, in Parse', bench_command('extended', "INSERT INTO w VALUES (101);\n")],
	['EXECUTE', command('PREPARE p AS INSERT INTO other VALUES (1)', 'EXECUTE p', 'INSERT INTO w VALUES (102)')],
	['COPY', command("COPY w (id) FROM PROGRAM 'echo 103'")],
	['the second statement of a message', command('SELECT 1; INSERT INTO w VALUES (104)')])
{
	my ($name, @command) = @$case;
	sql(q(SELECT evmig_kpi_watch('w', false); SELECT evmig_kpi_watch('w')));
	lock_table();
	my $writer = background(@command);
	wait_for($two_seconds, "$name: waits for two seconds");
	unlock_table();
	$writer->finish;
	is(sql(q(SELECT writes || ' ' || (max_ms >= 2000) || ' ' || (p50_ms >= 1950) || ' ' || (commit_p95_ms >= 1950) FROM evmig_kpi('w'))),
		'1 true true true', "$name: and that is measured");
}

# a prepared statement waits in Bind, when its plan is looked up
my $prepared = "UPDATE w SET x = 'p' WHERE id = 1;\nSELECT pg_advisory_xact_lock(7);\nSELECT set_config('lock_timeout', current_setting('test.timeout'), false);\n";
for my $timeout (0, 100)
{
	sql("ALTER DATABASE postgres SET test.timeout = $timeout; SELECT evmig_kpi_watch('w', false); SELECT evmig_kpi_watch('w')");
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT pg_advisory_lock(7)');
	my $writer = background(bench_command('prepared', $prepared, 2));
	wait_for($blocked, 'Bind: prepared, and executed once');
	lock_table();
	$gate->query_safe('SELECT pg_advisory_unlock(7)');
	wait_for($two_seconds, 'Bind: waits for two seconds') if $timeout == 0;
	$writer->finish if $timeout > 0;
	unlock_table();
	$writer->finish if $timeout == 0;
	my $long = $timeout == 0 ? q( || ' ' || (max_ms >= 2000)) : '';
	is(sql("SELECT writes || ' ' || write_errors $long FROM evmig_kpi('w')"),
		$timeout == 0 ? '2 0 true' : '1 1', $timeout == 0 ? 'Bind: and that is measured' : 'Bind: a lock timeout is an error');
	$gate->quit;
}

%last = figures();
lock_table();
$ENV{PGOPTIONS} = '-c lock_timeout=50ms';
messages('INSERT INTO w VALUES (200)');
counted(0, 1, '55', 'a lock timeout of the first statement of a session');
messages('INSERT INTO public.w VALUES (200)');
counted(0, 1, '55', 'with its schema');
messages('INSERT INTO no_such_schema.w VALUES (200)');
counted(0, 0, '', 'with another schema');
messages('SELECT 1; DELETE FROM w');
counted(0, 1, '55', 'as the second statement of a message');
messages('SELECT count(*) FROM w');
counted(0, 0, '', 'a read');
messages("COPY w FROM '/dev/null'");
counted(0, 1, '55', 'COPY');
system_log(bench_command('extended', "UPDATE w SET x = 'y';\n"));
counted(0, 1, '55', 'in Parse');
messages('WITH a AS (DELETE FROM w RETURNING id) SELECT * FROM a');
counted(0, 1, '55', 'WITH');
delete $ENV{PGOPTIONS};

for my $end (['pg_cancel_backend', 'a cancel'], ['pg_terminate_backend', 'a termination'])
{
	my $writer = background(command('INSERT INTO w VALUES (300)'));
	wait_for($blocked, "$end->[1]: waits for the lock");
	sql("SELECT $end->[0](pid) FROM pg_stat_activity WHERE application_name = 'writer'");
	$writer->finish;
	counted(0, 1, '57', "$end->[1] before the executor");
}
unlock_table();
for my $end (['pg_cancel_backend', 'a cancel'], ['pg_terminate_backend', 'a termination'])
{
	my $writer = background(command('INSERT INTO w SELECT 300 FROM pg_sleep(600)'));
	wait_for(q(SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'writer' AND wait_event = 'PgSleep'),
		"$end->[1]: at work");
	sql("SELECT $end->[0](pid) FROM pg_stat_activity WHERE application_name = 'writer'");
	$writer->finish;
	counted(0, 1, '57', "$end->[1] in the executor");
}
my $idle = $node->background_psql('postgres');
$idle->query_safe("SET application_name = 'writer'; BEGIN; INSERT INTO w VALUES (301)");
counted(1, 0, '', 'an open transaction');
sql(q(SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'writer'));
counted(0, 0, '', 'whose session is ended: no statement failed');
eval { $idle->quit };

# a renamed table is found by its new name
sql(q(ALTER TABLE w RENAME TO "o'x ""y"""; INSERT INTO "o'x ""y""" VALUES (400)));
$holder->query_safe(q(BEGIN; LOCK TABLE "o'x ""y""" IN ACCESS EXCLUSIVE MODE));
$ENV{PGOPTIONS} = '-c lock_timeout=50ms';
messages(q(INSERT INTO "o'x ""y""" VALUES (401)));
delete $ENV{PGOPTIONS};
unlock_table();
is(sql(q(SELECT value FROM evmig_kpi_detail('"o''x ""y"""', '10 minutes') WHERE kpi = 'errors_class_55')),
	$last{errors_class_55} + 1, 'a lock timeout on a renamed table');
$holder->quit;
done_testing();
