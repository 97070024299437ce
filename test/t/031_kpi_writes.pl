# Every way to write a watched table is counted once: for the table, with its
# rows, as a write or as an error.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Crash;
use Measured;
use PostgreSQL::Test::Utils;
use Test::More;

start_measuring(q(
evmig.kpi_max_tables = 8
restart_after_crash = on
));

# one message each; returns psql's exit code
sub messages
{
	my (@texts) = @_;
	return system_log('psql', '-XqAt', '-d', $node->connstr('postgres'), '-v', 'ON_ERROR_STOP=1',
		map { ('-c', $_) } @texts);
}

# a script through the extended protocol, one client, one transaction
sub bench
{
	my ($mode, $script, @options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir . '/script.sql';
	append_to_file($file, '') unless -e $file;
	open(my $fh, '>', $file) or die;
	print $fh $script;
	close($fh);
	return system_log('pgbench', '-n', '-M', $mode, '-c', 1, '-t', 1, '-f', $file, @options, $node->connstr('postgres'));
}

my %before;

sub figures
{
	my ($table) = @_;
	my %now;
	for (split /\n/, sql("SELECT kpi, value FROM evmig_kpi_detail('$table', '10 minutes')"))
	{
		my ($kpi, $value) = split /\|/;
		$now{$kpi} = $value;
	}
	return %now;
}

# what is there now is what counted() compares with
sub mark { my ($table) = @_; $before{$table} = { figures($table) }; return; }

sub counted
{
	my ($table, $writes, $rows, $errors, $what) = @_;
	my %now = figures($table);
	my $got = join(' ', map { ($now{$_} // 0) - ($before{$table}{$_} // 0) } qw(writes rows_written write_errors));
	is($got, "$writes $rows $errors", $what);
	$before{$table} = \%now;
	return;
}

sub class
{
	my ($table, $class, $n, $what) = @_;
	my %now = figures($table);
	is(($now{"errors_class_$class"} // 0), $n, $what);
	return;
}

sql(q(
CREATE EXTENSION evmig;
CREATE TABLE w (id int, x text, UNIQUE (id) DEFERRABLE);
CREATE TABLE other (id int);
SELECT evmig_kpi_watch('w');
));
mark('w');

# ---- the simple protocol ----
messages('INSERT INTO w SELECT generate_series(1, 10)');
counted('w', 1, 10, 0, 'INSERT');
messages("UPDATE w SET x = 'a' WHERE id <= 3");
counted('w', 1, 3, 0, 'UPDATE');
messages('DELETE FROM w WHERE id > 8');
counted('w', 1, 2, 0, 'DELETE');
messages("MERGE INTO w USING (VALUES (1), (20)) v(id) ON w.id = v.id WHEN MATCHED THEN UPDATE SET x = 'm' WHEN NOT MATCHED THEN INSERT VALUES (v.id)");
counted('w', 1, 2, 0, 'MERGE');
messages('INSERT INTO w VALUES (1), (21) ON CONFLICT DO NOTHING');
counted('w', 0, 0, 1, 'ON CONFLICT, which a deferrable constraint cannot decide');
messages('CREATE UNIQUE INDEX w_x ON w (x) WHERE id > 20', "INSERT INTO w VALUES (22, 'p'), (23, 'q') ON CONFLICT (x) WHERE id > 20 DO NOTHING");
counted('w', 1, 2, 0, 'ON CONFLICT DO NOTHING');
messages("INSERT INTO w VALUES (24, 'q'), (25, 'r') ON CONFLICT (x) WHERE id > 20 DO NOTHING");
counted('w', 1, 1, 0, 'ON CONFLICT DO NOTHING: the rows that were inserted');
messages("INSERT INTO w VALUES (26, 'r'), (27, 's') ON CONFLICT (x) WHERE id > 20 DO UPDATE SET id = excluded.id", 'DROP INDEX w_x');
counted('w', 1, 2, 0, 'ON CONFLICT DO UPDATE');
messages("UPDATE w SET x = 'none' WHERE id = -1");
counted('w', 1, 0, 0, 'a statement that finds no row');
messages('SELECT count(*) FROM w', 'INSERT INTO other VALUES (1)', 'SELECT id FROM w FOR UPDATE');
counted('w', 0, 0, 0, 'reads, and writes elsewhere');
messages('INSERT INTO w VALUES (100); INSERT INTO other VALUES (1); INSERT INTO w VALUES (101), (102)');
counted('w', 2, 3, 0, 'two of the statements in one message');
messages('BEGIN', 'INSERT INTO w VALUES (110)', 'INSERT INTO w VALUES (111)', 'COMMIT');
counted('w', 2, 2, 0, 'a transaction block');
messages('BEGIN', 'INSERT INTO w VALUES (112)', 'ROLLBACK');
counted('w', 1, 1, 0, 'a statement that is rolled back later has been written');
messages('INSERT INTO w VALUES (120) RETURNING id');
counted('w', 1, 1, 0, 'RETURNING');
messages('INSERT INTO w (id) SELECT 120 WHERE false');
counted('w', 1, 0, 0, 'nothing to insert');
messages('WITH a AS (INSERT INTO w VALUES (130), (131)) SELECT 1');
counted('w', 1, 2, 0, 'a WITH that writes');
messages('WITH a AS (INSERT INTO w VALUES (132), (133) RETURNING id) INSERT INTO other SELECT id FROM a');
counted('w', 1, 2, 0, 'a WITH that writes, beside another table');
messages("WITH a AS (INSERT INTO w VALUES (134)) UPDATE w SET x = 'b' WHERE id IN (130, 131)");
counted('w', 1, 3, 0, 'a WITH and its statement write the same table');
messages('EXPLAIN INSERT INTO w VALUES (1000)');
counted('w', 0, 0, 0, 'EXPLAIN');
messages('EXPLAIN ANALYZE INSERT INTO w VALUES (140)');
counted('w', 1, 1, 0, 'EXPLAIN ANALYZE');
messages('PREPARE p(int) AS INSERT INTO w VALUES ($1)', 'EXECUTE p(150)', 'EXECUTE p(151)');
counted('w', 2, 2, 0, 'EXECUTE');
messages("COPY w (id) FROM PROGRAM 'printf ''160\\n161\\n162\\n'''");
counted('w', 1, 3, 0, 'COPY FROM');
messages("COPY w TO '/dev/null'");
counted('w', 0, 0, 0, 'COPY TO');
messages('CREATE VIEW v AS SELECT id FROM w', 'INSERT INTO v VALUES (170)', 'DROP VIEW v');
counted('w', 1, 1, 0, 'through a view');
messages('CREATE RULE also AS ON INSERT TO other DO ALSO INSERT INTO w VALUES (new.id)', 'INSERT INTO other VALUES (180)',
	'DROP RULE also ON other');
counted('w', 1, 1, 0, 'a rule');
messages('CREATE RULE twice AS ON INSERT TO other DO INSTEAD (INSERT INTO w VALUES (new.id); INSERT INTO w VALUES (new.id + 1000))',
	'INSERT INTO other VALUES (190)', 'DROP RULE twice ON other');
counted('w', 1, 2, 0, 'a rule that makes two statements of one');
sql(q(SELECT evmig_kpi_watch('w', false); SELECT evmig_kpi_watch('w')));
messages('CREATE RULE slow AS ON INSERT TO other DO INSTEAD (INSERT INTO w SELECT new.id FROM pg_sleep(0.2); UPDATE w SET x = x WHERE id = new.id)',
	'INSERT INTO other VALUES (195)', 'DROP RULE slow ON other');
is(sql(q(SELECT writes || ' ' || (p50_ms >= 195) FROM evmig_kpi('w'))), '1 true', 'whose time is that of both');
sql(q(SELECT evmig_kpi_watch('w', false); SELECT evmig_kpi_watch('w')));
messages('WITH a AS (INSERT INTO w SELECT 196 FROM pg_sleep(0.2)) SELECT 1');
is(sql(q(SELECT writes || ' ' || (p50_ms >= 195) FROM evmig_kpi('w'))), '1 true', 'a WITH that is read to its end, and has triggers: its time is all of it');
mark('w');

# ---- the extended protocol ----
my $n = 300;
for my $mode (qw(extended prepared))
{
	bench($mode, 'INSERT INTO w VALUES (' . ++$n . ");\n");
	counted('w', 1, 1, 0, "$mode: INSERT");
	bench($mode, "\\set a $n\nUPDATE w SET x = 'c' WHERE id = :a;\nSELECT 1;\nUPDATE w SET x = 'd' WHERE id = :a RETURNING id;\n", '-t', 7);
	counted('w', 14, 14, 0, "$mode: again and again");
	bench($mode, 'BEGIN;' . "\nINSERT INTO w VALUES (" . ++$n . ");\nCOMMIT;\n");
	counted('w', 1, 1, 0, "$mode: a transaction block");
	$n += 2;
	bench($mode, "\\startpipeline\nINSERT INTO w VALUES ($n);\nINSERT INTO w VALUES (-$n);\n\\endpipeline\n");
	counted('w', 2, 2, 0, "$mode: a pipeline");
}

# ---- from within ----
sql(q(
CREATE FUNCTION three(a int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1 .. 3 LOOP INSERT INTO w VALUES (a + i); END LOOP; END $$;
CREATE FUNCTION caught(a int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO w VALUES (a);
	BEGIN INSERT INTO w VALUES (a + 1), (1 / (a - a)); EXCEPTION WHEN division_by_zero THEN NULL; END;
END $$;
CREATE PROCEDURE commits(a int) LANGUAGE plpgsql AS $$
BEGIN INSERT INTO w VALUES (a); COMMIT; INSERT INTO w VALUES (a + 1); ROLLBACK; INSERT INTO w VALUES (a + 2); COMMIT; END $$;
CREATE FUNCTION to_w() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO w VALUES (new.id); RETURN NULL; END $$;
CREATE TABLE source (id int);
CREATE TRIGGER t AFTER INSERT ON source FOR EACH ROW EXECUTE FUNCTION to_w();
CREATE TABLE deferred (id int);
CREATE CONSTRAINT TRIGGER t AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION to_w();
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL);
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1), (1), (1), (2);
SELECT evmig_kpi_watch('child');
));
mark('child');
messages('SELECT three(400)');
counted('w', 1, 3, 0, 'a function that writes three times');
bench('extended', "SELECT three(410);\nSELECT 1;\n");
counted('w', 1, 3, 0, 'in the extended protocol');
messages('DO $$ BEGIN PERFORM three(420); PERFORM three(430); END $$');
counted('w', 1, 6, 0, 'a DO block');
messages('SELECT caught(440)');
counted('w', 1, 1, 0, 'an error that is caught is none');
messages('CALL commits(450)');
counted('w', 1, 3, 0, 'a procedure that commits');
messages('INSERT INTO source VALUES (460), (461)');
counted('w', 1, 2, 0, 'triggers');
messages('WITH a AS (INSERT INTO other SELECT 1 FROM three(480)) SELECT 1');
counted('w', 1, 3, 0, 'a function that is called when a WITH is read to its end');
messages('INSERT INTO deferred VALUES (470)');
counted('w', 1, 1, 0, 'a deferred trigger');
messages('BEGIN', 'INSERT INTO deferred VALUES (471), (472)', 'COMMIT');
counted('w', 1, 2, 0, 'deferred triggers in a transaction block');
messages('BEGIN', 'DECLARE c CURSOR FOR SELECT three(i) FROM generate_series(500, 520, 10) i', 'FETCH 1 FROM c', 'FETCH 2 FROM c', 'COMMIT');
counted('w', 2, 9, 0, 'a cursor: each FETCH is a statement');
messages('DELETE FROM parent WHERE id = 1');
counted('child', 1, 3, 0, 'a foreign key that cascades');
messages('UPDATE parent SET id = 3 WHERE id = 2');
counted('child', 1, 1, 0, 'one that sets NULL');
messages('BEGIN', 'SAVEPOINT s', 'INSERT INTO w VALUES (540)', 'ROLLBACK TO s', 'INSERT INTO w VALUES (541)', 'COMMIT');
counted('w', 2, 2, 0, 'savepoints');

# ---- partitions ----
sql(q(
CREATE TABLE parts (id int, x int) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE part2 PARTITION OF parts FOR VALUES FROM (100) TO (200) PARTITION BY LIST (x);
CREATE TABLE part2a PARTITION OF part2 DEFAULT;
SELECT evmig_kpi_watch('parts'); SELECT evmig_kpi_watch('part2');
));
mark($_) for qw(parts part2);
messages('INSERT INTO parts VALUES (1), (101)');
counted('parts', 1, 2, 0, 'partitions: INSERT into the root');
messages('INSERT INTO part1 VALUES (2)');
counted('parts', 1, 1, 0, 'partitions: INSERT into a leaf counts for the root');
mark('part2');
messages('INSERT INTO part2a VALUES (102)');
counted('parts', 1, 1, 0, 'partitions: two levels below the root');
counted('part2', 1, 1, 0, 'and for the level between');
messages('UPDATE parts SET x = 1');
counted('parts', 1, 4, 0, 'partitions: UPDATE of all');
messages('UPDATE parts SET id = id + 100 WHERE id = 1');
counted('parts', 1, 1, 0, 'partitions: a row that moves is one row');
messages("COPY parts FROM PROGRAM 'printf ''3\t1\n103\t1\n'''");
counted('parts', 1, 2, 0, 'partitions: COPY');
messages('DELETE FROM part1');
counted('parts', 1, 2, 0, 'partitions: DELETE from a leaf');
sql('ALTER TABLE parts DETACH PARTITION part1');
messages('INSERT INTO part1 VALUES (5)');
counted('parts', 0, 0, 0, 'a partition that was detached');
sql('ALTER TABLE parts ATTACH PARTITION part1 FOR VALUES FROM (0) TO (100)');
messages('INSERT INTO part1 VALUES (6)');
counted('parts', 1, 1, 0, 'and attached');

# ---- parallel plans: the leader alone ----
sql('INSERT INTO other SELECT generate_series(1, 20000); ANALYZE other');
mark('w');
messages(q(SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0),
	'CREATE TABLE made AS SELECT count(*) FROM other');
counted('w', 0, 0, 0, 'a parallel plan that writes elsewhere');
messages('CREATE FUNCTION gathers() RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE n bigint; BEGIN
	SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
	SELECT count(*) INTO n FROM other; INSERT INTO w VALUES (600); RETURN n; END $$', 'SELECT gathers()');
counted('w', 1, 1, 0, 'a parallel plan within the statement');

# ---- on and off ----
sql("SELECT evmig_kpi_watch('w', false)");
messages('INSERT INTO w VALUES (700)');
is(sql(q(SELECT writes IS NULL FROM evmig_kpi('w'))), 't', 'nothing is known of a table that is not watched');
sql("BEGIN; SELECT evmig_kpi_watch('w'); ROLLBACK");
is(sql(q(SELECT writes IS NULL FROM evmig_kpi('w'))), 't', 'what is rolled back is not watched');
sql("SELECT evmig_kpi_watch('w')");
is(sql(q(SELECT writes FROM evmig_kpi('w'))), '0', 'watched again, it starts from nothing');
mark('w');
messages('INSERT INTO w VALUES (701)');
counted('w', 1, 1, 0, 'and is counted');
sql("BEGIN; SELECT evmig_kpi_watch('w', false); ROLLBACK");
messages('INSERT INTO w VALUES (702)');
counted('w', 1, 1, 0, 'a rollback goes on watching');
sql("BEGIN; SELECT evmig_kpi_watch('w', false); SELECT evmig_kpi_watch('w'); COMMIT");
messages('INSERT INTO w VALUES (703)');
counted('w', 1, 1, 0, 'off and on in one transaction changes nothing');

# ---- the limit ----
sql('CREATE TABLE "Odd "".table" (id int); CREATE TABLE extra1 (); CREATE TABLE extra2 (); CREATE TABLE extra3 (); CREATE TABLE extra4 ();');
sql(q(SELECT evmig_kpi_watch('"Odd "".table"')));
messages('INSERT INTO "Odd "".table" VALUES (1)');
is(sql(q(SELECT writes FROM evmig_kpi('"Odd "".table"'))), '1', 'an odd name');
sql("SELECT evmig_kpi_watch('extra$_')") for 1 .. 3;
my ($code, $out, $err) = $node->psql('postgres', q(\set VERBOSITY sqlstate
SELECT evmig_kpi_watch('extra4')));
like($err, qr/54000/, 'one table too many is refused');
sql('DROP TABLE extra1');
is(sql("BEGIN; CREATE TABLE extra5 (); SELECT evmig_kpi_watch('extra4'); COMMIT"), '', 'a dropped one gives up its place');
is(sql('SELECT count(*) FROM evmig.kpi_watch WHERE target::oid NOT IN (SELECT oid FROM pg_class)'), '0', 'and its row');

# ---- a restart, and a crash ----
$node->restart;
messages('INSERT INTO w VALUES (800)');
is(sql(q(SELECT writes || ' ' || rows_written FROM evmig_kpi('w'))), '1 1', 'still watched after a restart, from the first write on');
my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('BEGIN; INSERT INTO w VALUES (801); SELECT pg_backend_pid()');
crash($node, $pid);
eval { $session->quit };
messages('INSERT INTO w VALUES (802)');
is(sql(q(SELECT writes || ' ' || rows_written || ' ' || write_errors FROM evmig_kpi('w'))), '1 1 0',
	'after a session was killed it begins anew, and is still watched');

# ---- windows ----
ok($node->poll_query_until('postgres', q(SELECT writes = 0 FROM evmig_kpi('w', '1 second'))), 'a short window forgets');
is(sql(q(SELECT writes FROM evmig_kpi('w', '10 minutes'))), '1', 'a long one does not');

done_testing();
