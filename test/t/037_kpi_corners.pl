# Writes that are easily counted twice, or not at all: what rules, partitions,
# caught errors, chained blocks, deferred triggers, the planner and the messages
# of the extended protocol make of a statement.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Measured;
use PostgreSQL::Test::Utils;
use Test::More;
use Wire;

start_measuring();

# one message each, also behind an error
sub messages
{
	my (@texts) = @_;
	return system_log('psql', '-XqAt', '-d', $node->connstr('postgres'), map { ('-c', $_) } @texts);
}

my %last;

sub figures
{
	my ($table) = @_;
	my %now = map { split /\|/ } split /\n/, sql("SELECT kpi, value FROM evmig_kpi_detail('$table', '10 minutes')");
	return \%now;
}

# watch them, or go on; what is there now is what counted() compares with
sub watch { my (@tables) = @_; sql(join(';', map { "SELECT evmig_kpi_watch('$_')" } @tables)); mark(@tables); return; }
sub mark { $last{$_} = figures($_) for @_; return; }

# writes, rows, errors and commits, and the classes of the errors
sub counted
{
	my ($table, $expected, $what) = @_;
	my ($now, $before) = (figures($table), $last{$table});
	my @classes = sort map { /^errors_class_(.*)/ && $now->{$_} != ($before->{$_} // 0) ? $1 : () } keys %$now;
	is(join(' ', (map { $now->{$_} - $before->{$_} } qw(writes rows_written write_errors commits)), @classes),
		$expected, "$table: $what");
	$last{$table} = $now;
	return;
}

# u is checked at the commit; what goes into deferred comes into w then
sql(q(
CREATE EXTENSION evmig;
CREATE TABLE w (id int, x text, u int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE other (id int);
CREATE TABLE deferred (id int);
CREATE FUNCTION to_w() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO w VALUES (new.id); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER t AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION to_w();
CREATE FUNCTION three(a int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1 .. 3 LOOP INSERT INTO w VALUES (a + i); END LOOP; RETURN 1; END $$;
-- the planner calls it
CREATE FUNCTION fails_early() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM 1 / count(*) FROM pg_class WHERE oid = 0; RETURN 1; END $$;
));
watch('w');
my $twice = 'INSERT INTO w VALUES (1, NULL, 1), (2, NULL, 1)';

# ---- the ends of a block ----
messages('BEGIN', 'SELECT 1 / 0', 'ROLLBACK AND CHAIN', $twice, 'INSERT INTO w VALUES (3)', 'COMMIT');
counted('w', '2 3 1 0 23', 'the next block of one that had failed');
messages('BEGIN', 'ROLLBACK AND CHAIN', $twice, 'COMMIT');
counted('w', '1 2 1 0 23', 'the next block of another');
messages('ROLLBACK AND CHAIN', $twice);
counted('w', '0 0 1 0 23', 'no block, so none to follow');
messages('BEGIN', $twice, 'COMMIT AND CHAIN', $twice);
counted('w', '1 2 2 0 23', 'a COMMIT that fails is followed by none');
messages('BEGIN', 'INSERT INTO w VALUES (4)', 'COMMIT AND CHAIN', 'INSERT INTO w VALUES (5)', 'COMMIT');
counted('w', '2 2 0 2', 'COMMIT AND CHAIN');
messages('BEGIN', 'SAVEPOINT s', 'SELECT 1 / 0', 'COMMIT AND CHAIN', 'INSERT INTO w VALUES (6)', 'COMMIT', $twice);
counted('w', '1 1 1 1 23', 'of a block whose savepoint has failed');
messages('BEGIN', $twice, "PREPARE TRANSACTION 'p'");
counted('w', '1 2 1 0 23', 'PREPARE TRANSACTION fails');
messages('BEGIN', 'INSERT INTO w VALUES (7)', 'INSERT INTO deferred VALUES (8), (9)', 'COMMIT');
counted('w', '1 3 0 1', 'rows of deferred triggers, in a block that had written itself');
messages('INSERT INTO w VALUES (10); BEGIN; INSERT INTO w VALUES (11); COMMIT; INSERT INTO w VALUES (12)');
counted('w', '3 3 0 3', 'a block that begins within a message');
messages('INSERT INTO w VALUES (13); COMMIT; INSERT INTO w VALUES (14); ROLLBACK; INSERT INTO w VALUES (15)');
counted('w', '3 3 0 2', 'COMMIT and ROLLBACK of no block');
my $idle = $node->background_psql('postgres', on_error_stop => 0);
$idle->query("SET application_name = 'idle'; BEGIN;");
$idle->query('SELECT 1 / 0;');
$idle->query('COMMIT;');
$idle->query('BEGIN; INSERT INTO w VALUES (16);');
sql(q(SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'idle'));
eval { $idle->quit };
counted('w', '1 1 0 0', 'a session is ended in its block: no statement failed');

# ---- errors that are caught, or hidden ----
messages(q(DO $$ BEGIN
	FOR i IN 1 .. 20 LOOP
		BEGIN
			WITH a AS (INSERT INTO w VALUES (i) RETURNING id) INSERT INTO other SELECT 1 / (id - id) FROM a;
		EXCEPTION WHEN division_by_zero THEN NULL; END;
	END LOOP;
	WITH a AS (INSERT INTO w VALUES (1), (2)) INSERT INTO other VALUES (1);
END $$));
counted('w', '1 2 0 1', 'the rows of a WITH behind twenty that failed');
messages('SET log_min_messages = panic', 'BEGIN', 'INSERT INTO w VALUES (1)', 'SAVEPOINT s',
	'INSERT INTO w VALUES (1 / (random() * 0)::int)', 'ROLLBACK TO s', 'INSERT INTO w VALUES (1)', 'COMMIT');
counted('w', '2 2 1 1 22', 'an error before a savepoint that the log hides');
sql(q(CREATE TABLE paused (id int); SELECT evmig_ingest_pause('paused', 'test')));
messages(q(DO $$ BEGIN
	BEGIN INSERT INTO paused VALUES (1); EXCEPTION WHEN lock_not_available THEN NULL; END;
	INSERT INTO w VALUES (1 / (random() * 0)::int);
END $$));
counted('w', '0 0 1 0 22', 'an error behind a refusal that was caught');
sql(q(SELECT evmig_ingest_resume('paused')));

messages('WITH a AS (INSERT INTO w VALUES (1)) UPDATE w SET id = 1 / 0');
counted('w', '0 0 1 0 22', 'a WITH and its statement write the same table, and fail when they are planned');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE w IN ACCESS EXCLUSIVE MODE');
{
	local $ENV{PGOPTIONS} = '-c lock_timeout=50ms';
	messages('WITH a AS (DELETE FROM w RETURNING id) INSERT INTO w SELECT id FROM a');
}
$holder->quit;
counted('w', '0 0 1 0 55', 'or wait for its lock in vain');

# ---- rules ----
messages('CREATE RULE twice AS ON INSERT TO other DO INSTEAD (INSERT INTO w VALUES (new.id); INSERT INTO w VALUES (-new.id))');
my $ruled = 'INSERT INTO other VALUES (1)';
messages("$ruled; $ruled");
counted('w', '2 4 0 2', 'two statements that a rule doubles, in one message');
messages("BEGIN; $ruled; $ruled; $ruled; COMMIT");
counted('w', '3 6 0 1', 'in a block, too');
messages('BEGIN', $ruled, $ruled, 'COMMIT');
counted('w', '2 4 0 1', 'in a message each');
messages('BEGIN', $ruled, 'SELECT fails_early()', 'ROLLBACK');
counted('w', '1 2 0 0', 'the next statement fails when it is planned');
messages('DROP RULE twice ON other');

# ---- partitions ----
sql(q(
CREATE TABLE parts (id int, x int) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE part2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
INSERT INTO parts SELECT i, 1 FROM generate_series(0, 199) i;
CREATE FUNCTION one() RETURNS int STABLE LANGUAGE plpgsql AS $$
DECLARE n int; BEGIN SELECT count(*) INTO n FROM pg_class WHERE oid = 'pg_class'::regclass; RETURN n; END $$;
CREATE TABLE many (id int, x int) PARTITION BY LIST (id);
SELECT format('CREATE TABLE many%s PARTITION OF many FOR VALUES IN (%s)', i, i) FROM generate_series(1, 30) i \gexec
INSERT INTO many SELECT i, 1 FROM generate_series(1, 30) i;
));
watch(qw(parts part1 many many30));
mark('w');
messages('UPDATE parts SET x = 2 WHERE id = one()');
counted('parts', '1 1 0 1', 'a query prunes partitions before the statement is executed');
counted('part1', '1 1 0 1', 'for the partition, too');
messages('INSERT INTO w SELECT 1 FROM parts WHERE id = one()');
counted('w', '1 1 0 1', 'of another table');
messages('INSERT INTO w SELECT 1 FROM parts WHERE id = one() AND 1 / (id - 1) = 1');
counted('w', '0 0 1 0 22', 'and an error later');
messages('WITH a AS (UPDATE parts SET x = 3 RETURNING id) SELECT count(*) FROM a');
counted('parts', '1 200 0 1', 'a WITH that writes all partitions');
counted('part1', '1 100 0 1', 'of these one');
messages('UPDATE many SET x = 2', 'WITH a AS (UPDATE many SET x = 3 RETURNING id) SELECT count(*) FROM a');
counted('many', '2 60 0 2', 'many partitions');
counted('many30', '2 2 0 2', 'the last of them');
sql('SELECT evmig_kpi_watch((\'many\' || i)::regclass) FROM generate_series(1, 29) i');
mark('many29');
messages('UPDATE many SET x = 4');
counted($_, '1 ' . ($_ eq 'many' ? 30 : 1) . ' 0 1', 'all of them watched') for qw(many many29 many30);

# what is sent to the root counts for a watched partition that its rows come into
mark(qw(parts part1));
messages('INSERT INTO parts VALUES (3), (4), (103)', "COPY parts FROM PROGRAM 'printf ''3\t1\n103\t1\n'''");
counted('parts', '2 5 0 2', 'rows are routed');
counted('part1', '2 3 0 2', 'into a watched partition');
messages('INSERT INTO parts VALUES (103)', "COPY parts FROM PROGRAM 'printf ''104\t1\n'''", 'INSERT INTO parts VALUES (1000)');
counted('parts', '2 2 1 2 23', 'into another one, or none');
counted('part1', '0 0 0 0', 'so not into the watched one');
messages('WITH a AS (INSERT INTO w VALUES (1), (2), (150) RETURNING id) INSERT INTO parts SELECT id, 1 FROM a');
counted('parts', '1 3 0 1', 'a WITH, and rows that are routed');
counted('part1', '1 2 0 1', 'of these in a watched partition');
messages(q(DO $$ BEGIN FOR i IN 1 .. 3 LOOP INSERT INTO parts VALUES (i), (i + 100); END LOOP; END $$));
counted('parts', '1 6 0 1', 'a function whose rows are routed');
counted('part1', '1 3 0 1', 'into a watched partition');
sql('CREATE TABLE part3 PARTITION OF parts FOR VALUES FROM (200) TO (300)');
messages('UPDATE parts SET id = 7 WHERE id = 107', 'UPDATE parts SET id = 207 WHERE id = 108');
counted('parts', '2 2 0 2', 'a row that moves is one row');
counted('part1', '1 1 0 1', 'in a watched partition that the planner had pruned');
messages('MERGE INTO parts USING (VALUES (109), (30), (31)) v(i) ON id = i AND id > 100
	WHEN MATCHED THEN UPDATE SET id = 9 WHEN NOT MATCHED THEN INSERT VALUES (i)');
counted('parts', '1 3 0 1', 'MERGE, too');
counted('part1', '1 3 0 1', 'which inserts and moves');

# what a watched partition refuses is its error, whoever sent it
sql(q(DELETE FROM part1; ALTER TABLE part1 ADD CHECK (x <> 13), ADD UNIQUE (id, x), ALTER x SET NOT NULL;
INSERT INTO part1 VALUES (3, 3);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON part1 FOR EACH ROW WHEN (new.x = 14) EXECUTE FUNCTION refuse()));
mark(qw(parts part1));
for my $case (['INSERT INTO parts VALUES (3, 3)', '23', 'a key'], ['INSERT INTO parts VALUES (3, 13)', '23', 'a check'],
	['INSERT INTO parts VALUES (3, 14)', 'P0', 'a trigger'], ['UPDATE parts SET id = 3, x = 13 WHERE id = 110', '23', 'a row that moves'],
	['DO $$ BEGIN INSERT INTO parts VALUES (3, NULL); END $$', '23', 'from within a function'],
	["COPY parts FROM PROGRAM 'printf ''3\\t3\\n'''", '23', 'a key, by COPY'],
	["COPY parts FROM PROGRAM 'printf ''4\\t4\\n3\\t13\\n'''", '23', 'a check, by COPY'],
	['WITH a AS (SELECT 3 AS id) MERGE INTO parts USING a ON false WHEN NOT MATCHED THEN INSERT VALUES (3, 13)', '23', 'by MERGE'])
{
	my ($statement, $class, $what) = @$case;
	messages($statement);
	counted('part1', "0 0 1 0 $class", "the partition refuses $what");
}
counted('parts', '0 0 8 0 23 P0', 'and so does the root');
messages(q(INSERT INTO parts VALUES (104, 13), (1000, 1)), q(COPY parts FROM PROGRAM 'printf ''104\t1\n1000\t1\n'''));
counted('part1', '0 0 0 0', 'other errors are not the partition\'s');
messages(q(DO $$ BEGIN BEGIN INSERT INTO parts VALUES (3, 3); EXCEPTION WHEN unique_violation THEN NULL; END;
	INSERT INTO parts VALUES (3, 4); END $$));
counted('part1', '1 1 0 1', 'nor those that are caught');
my $ended = $node->background_psql('postgres');
$ended->query_until(qr/begun/, "SET application_name = 'ended';\n\\echo begun\nINSERT INTO parts SELECT 20, 1 FROM generate_series(1, 2) i WHERE i = 1 OR pg_sleep(600) IS NULL;\n");
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'ended' AND wait_event = 'PgSleep')), 'at work');
sql(q(SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'ended'));
eval { $ended->quit };
counted('part1', '0 0 1 0 57', 'a session is ended after a row has come there');

my $routing = $node->background_psql('postgres');
$routing->query_safe('CREATE TABLE upper (id int) PARTITION BY LIST (id);
CREATE TABLE middle PARTITION OF upper FOR VALUES IN (1, 2) PARTITION BY LIST (id);
CREATE TABLE lower1 PARTITION OF middle FOR VALUES IN (1); INSERT INTO upper VALUES (1)');
sql('CREATE TABLE lower2 (id int)');
watch('lower2');
$routing->query_safe('INSERT INTO upper VALUES (1)');
sql('ALTER TABLE middle ATTACH PARTITION lower2 FOR VALUES IN (2)');
$routing->query_safe('INSERT INTO upper VALUES (2)');
counted('lower2', '1 1 0 1', 'a partition that has come two levels below');
watch('middle');
$routing->query_safe('INSERT INTO upper VALUES (2)');
counted('lower2', '1 1 0 1', 'it goes on');
counted('middle', '1 1 0 1', 'and the level between');
sql('ALTER TABLE middle DETACH PARTITION lower2; CREATE TABLE lower3 PARTITION OF middle FOR VALUES IN (2)');
$routing->query_safe('INSERT INTO upper VALUES (2); INSERT INTO lower2 VALUES (2)');
counted('lower2', '1 1 0 1', 'and gone');
counted('middle', '1 1 0 1', 'and replaced');
$routing->quit;

# ---- tables that change ----
mark('w');
messages('BEGIN', 'INSERT INTO w VALUES (1)', 'TRUNCATE w', 'INSERT INTO w VALUES (1)', 'ALTER TABLE w ALTER id TYPE bigint',
	'INSERT INTO w VALUES (3)', 'CREATE SCHEMA elsewhere', 'ALTER TABLE w SET SCHEMA elsewhere',
	'INSERT INTO elsewhere.w VALUES (1)', 'ALTER TABLE elsewhere.w SET SCHEMA public', 'COMMIT');
counted('w', '4 4 0 1', 'emptied, rewritten and moved in between');
messages('BEGIN', 'SAVEPOINT s', "SELECT evmig_kpi_watch('other')", 'ROLLBACK TO s', 'INSERT INTO w VALUES (1)', 'COMMIT');
counted('w', '1 1 0 1', 'beside a table that is watched for a moment');
is(sql(q(SELECT writes IS NULL FROM evmig_kpi('other'))), 't', 'which it is not any more');
messages('BEGIN', 'SAVEPOINT s', "SELECT evmig_kpi_watch('other')", 'SELECT 1 / 0', 'ROLLBACK TO s',
	"SELECT evmig_kpi_watch('other')", 'COMMIT');
is(sql(q(SELECT writes FROM evmig_kpi('other'))), '0', 'at the second attempt it is');
sql(q(CREATE TABLE kept (id int); CREATE TABLE left_out (id int); SELECT evmig_kpi_watch('left_out')));
messages('BEGIN', "SELECT evmig_kpi_watch('kept')", 'SAVEPOINT s', "SELECT evmig_kpi_watch('kept', false)", "SELECT evmig_kpi_watch('kept')",
	"SELECT evmig_kpi_watch('kept', false)", 'ROLLBACK TO s', 'COMMIT', 'INSERT INTO kept VALUES (1)');
is(sql(q(SELECT writes FROM evmig_kpi('kept'))), '1', 'given up before a savepoint was rolled back');
messages('BEGIN', "SELECT evmig_kpi_watch('left_out', false)", 'SAVEPOINT s', "SELECT evmig_kpi_watch('left_out')", 'ROLLBACK TO s', 'COMMIT');
is(sql(q(SELECT writes IS NULL FROM evmig_kpi('left_out'))), 't', 'or taken back');
messages('BEGIN', "SELECT evmig_kpi_watch('other', false)", "PREPARE TRANSACTION 'p'");
messages('BEGIN', "SELECT evmig_kpi_watch('other', false)", 'SELECT 1 / 0', 'COMMIT');
is(sql(q(SELECT writes FROM evmig_kpi('other'))), '0', 'and goes on where that is undone');
sql('CREATE TABLE doomed (id int)');
watch('doomed');
messages('BEGIN', 'DROP TABLE doomed', "SELECT evmig_kpi_watch('other')", 'ROLLBACK', 'INSERT INTO doomed VALUES (1)');
counted('doomed', '1 1 0 1', 'a DROP that is undone');
messages('BEGIN', 'DROP TABLE doomed', 'CREATE TABLE doomed (id int)', "SELECT evmig_kpi_watch('doomed')", 'COMMIT',
	'INSERT INTO doomed (no_such_column) VALUES (1)');
is(sql(q(SELECT write_errors FROM evmig_kpi('doomed'))), '1', 'another table takes its name');

# two of one name, and errors before anybody has looked the name up
sql('CREATE ROLE twin; CREATE SCHEMA twin AUTHORIZATION twin; CREATE TABLE twin.w (id int); ALTER TABLE twin.w OWNER TO twin');
watch(qw(w twin.w));
my $fails = 'INSERT INTO w (no_such_column) VALUES (1)';
messages('SET search_path = public', $fails, 'SET search_path = nowhere, TWIN, "public"', $fails, 'RESET search_path', 'SET ROLE twin', $fails, 'SET search_path = nowhere', $fails);
counted('w', '0 0 1 0 42', 'found by search_path');
counted('twin.w', '0 0 2 0 42', 'and so is its twin');

# ---- cursors, functions, procedures ----
mark('w');
messages('BEGIN', 'DECLARE c CURSOR WITH HOLD FOR SELECT three(i) FROM generate_series(1, 2) i', 'FETCH 1 FROM c', 'COMMIT', 'FETCH ALL FROM c');
counted('w', '2 9 0 1', 'WITH HOLD: the COMMIT begins anew and reads to the end');
messages('CREATE TABLE made AS SELECT three(1)', 'SELECT three(2) AS a INTO made2');
counted('w', '2 6 0 2', 'CREATE TABLE AS, SELECT INTO');
messages('PREPARE p AS INSERT INTO w VALUES (1)', 'EXPLAIN ANALYZE EXECUTE p');
counted('w', '1 1 0 1', 'EXPLAIN ANALYZE EXECUTE');
messages(q(CREATE PROCEDURE fails(late boolean) LANGUAGE plpgsql AS $$
BEGIN INSERT INTO w VALUES (1, NULL, 2); INSERT INTO w VALUES (1, NULL, CASE WHEN late THEN 3 ELSE 2 END); COMMIT;
PERFORM 1 / (random() * 0)::int; END $$), 'CALL fails(false)', 'CALL fails(true)');
counted('w', '0 0 2 1 22 23', 'procedures whose COMMIT fails, or what comes behind it');
messages(q(CREATE VIEW v AS SELECT 1 AS id), q(CREATE TRIGGER t INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION to_w()),
	'INSERT INTO v VALUES (1), (2)', "COPY v FROM PROGRAM 'echo 1'");
counted('w', '2 3 0 2', 'INSTEAD OF triggers');
messages('SET track_counts = off', 'INSERT INTO w VALUES (1)', 'DELETE FROM w WHERE id = -1');
counted('w', '2 1 0 2', 'nobody counts for pg_stat_user_tables');

# ---- message by message ----
my $client = Wire->new($node);

# the types of what comes back up to the end of a Sync
sub synced { $client->sync; return $client->until('Z'); }
sub bound { my ($name, @values) = @_; $client->bind('', $name, @values); $client->execute(''); return; }

$client->parse('begin', 'BEGIN');
$client->parse('commit', 'COMMIT');
$client->parse('insert', 'INSERT INTO w VALUES ($1, $2)');
$client->parse('late', 'INSERT INTO w VALUES ($1, NULL, 9)');
$client->parse('call', 'SELECT three(i) FROM generate_series(1, 4) i');
$client->parse('more', 'INSERT INTO w SELECT generate_series(1, 5) RETURNING id');
synced();
bound('insert', 'x', 'a');
is(synced(), 'EZ', 'a parameter that is no number');
counted('w', '0 0 1 0 22', 'an error in Bind');
$client->bind('a', 'insert', 1, 'a');
$client->bind('b', 'insert', 2, 'b');
$client->execute($_) for qw(a b);
synced();
counted('w', '2 2 0 2', 'two portals, executed later');
bound('insert', 1, 'a');
bound('insert', 'y', 'b');
bound('insert', 3, 'c');
is(synced(), '2CEZ', 'the second one fails, the third one is skipped');
counted('w', '1 1 1 0 22', 'an error in Bind behind a statement');
bound(@$_) for ['begin'], ['insert', 1, 'a'], ['commit'], ['begin'], ['late', 1], ['late', 2], ['commit'];
is(synced(), '2C2C2C2C2C2C2EZ', 'two blocks in one go');
counted('w', '3 3 1 1 23', 'of which the second COMMIT fails');
$client->query('BEGIN; SAVEPOINT s');
bound('insert', 'x', 'a');
synced();
$client->query('ROLLBACK TO s');
bound('insert', 1, 'a');
synced();
$client->query('COMMIT');
counted('w', '1 1 1 1 22', 'a savepoint between messages');
for my $case (['more', '1 5 0 1', 'RETURNING'], ['call', '1 12 0 1', 'a function'])
{
	my ($name, $expected, $what) = @$case;
	$client->bind('p', $name);
	$client->execute('p', $_) for 1, 2, 2;
	synced();
	counted('w', $expected, "$what: fetched in parts");
}
$client->query('BEGIN');
$client->bind('p', 'call');
$client->execute('p', 1);
synced();
$client->query('SELECT fails_early()');
$client->query('ROLLBACK');
counted('w', '1 3 0 0', 'a portal is left, and another statement fails when it is planned');
$client->query('SET log_min_messages = fatal');
bound('insert', 1, 'a');
bound('insert', 'y', 'b');
synced();
counted('w', '1 1 1 0 22', 'an error in Bind that the log hides');
bound(@$_) for ['late', 1], ['late', 2];
synced();
counted('w', '0 0 1 0 23', 'or in Sync');
sql(q(CREATE FUNCTION by_oid() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO w VALUES (1); RETURN 1 / (random() * 0)::int; END $$));
$client->put('F', pack('Nnnn', sql(q(SELECT 'by_oid'::regproc::oid)), 0, 0, 0));
$client->ready;
counted('w', '0 0 1 0 22', 'or of a function that is called by a message of its own');
$client->query('RESET log_min_messages');
$client->query('INSERT INTO w VALUES (1);' x 10000);
counted('w', '10000 10000 0 10000', 'very many statements in one message');

# the client's error is told, whatever we make of its text
$client->parse('odd', q(INSERT INTO w VALUES ($1, '\')));
synced();
$client->query('SET standard_conforming_strings = off');
bound('odd', 'x');
synced();
is("@{ $client->{errors} }", '22P02', 'a text that cannot be read twice');
$client->query('RESET standard_conforming_strings');
counted('w', '0 0 0 0', 'is not read again');
bound('odd', 'x');
synced();
counted('w', '0 0 1 0 22', 'one with a backslash that can be is');

bound('insert', 1, 'a');
$client->flush;
$client->until('C');
$client->close;
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'wire')), 'the client leaves');
counted('w', '1 1 0 0', 'before its Sync');
done_testing();
