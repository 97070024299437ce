# Who is measured, and where: clients, not workers; the table of this database,
# not of another; what is watched when the statement ends; a standby.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";

use Measured;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

start_measuring('', allows_streaming => 'logical');

# writes, rows and errors of the last ten minutes
sub measured
{
	my ($table, $database, $server) = @_;
	return ($server // $node)->safe_psql($database // 'postgres',
		"SELECT concat_ws(' ', writes, rows_written, write_errors) FROM evmig_kpi('$table', '10 minutes')");
}

# forget what was measured
sub again { sql("SELECT evmig_kpi_watch('w', false); SELECT evmig_kpi_watch('w')"); return; }

sql(q(
CREATE EXTENSION evmig;
CREATE TABLE w (id int PRIMARY KEY, x text);
CREATE TABLE other (id int);
INSERT INTO w SELECT generate_series(1, 1000);
SELECT evmig_kpi_watch('w');
));

# ---- workers ----
sql(q(SELECT evmig_backfill_register('b', 'w', $$x = 'y'$$, 'x IS NULL')));
sql(q(CALL evmig_backfill_run('b')));
is(sql(q(SELECT count(*) FROM w WHERE x = 'y')), 1000, 'a backfill changes all rows');
is(measured('w'), '0 0 0', 'and none of its writes is the application\'s');
sql('VACUUM FULL w; CLUSTER w USING w_pkey; REINDEX TABLE w; ANALYZE w; TRUNCATE w');
is(measured('w'), '0 0 0', 'nor is maintenance');
sql('CREATE DATABASE publisher');
$node->safe_psql('publisher', q(CREATE TABLE w (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE w;
SELECT pg_create_logical_replication_slot('s', 'pgoutput')));
my $publisher = $node->connstr . ' dbname=publisher';
sql("CREATE SUBSCRIPTION s CONNECTION \$\$$publisher\$\$ PUBLICATION p WITH (create_slot = false, copy_data = false)");
$node->safe_psql('publisher', 'INSERT INTO w VALUES (1), (2), (3)');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 3 FROM w'), 'rows are replicated');
is(measured('w'), '0 0 0', 'by no client');
sql('DROP SUBSCRIPTION s');

# ---- watched, or not, in the middle of a statement ----
my $gate = $node->background_psql('postgres');
my $session = $node->background_psql('postgres');
my $id = 10;

# change something while a statement waits in its execution
sub midway
{
	my ($before, $change) = @_;
	$id++;
	$gate->query_safe('SELECT pg_advisory_lock(7)');
	$session->query_until(qr/begun/, "\\echo begun\n$before INSERT INTO w SELECT $id FROM pg_advisory_xact_lock(7);\n");
	$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted))
	  or die 'nobody waits';
	$change->();
	$gate->query_safe('SELECT pg_advisory_unlock(7)');
	$session->query_safe('SELECT 1');
	return;
}
midway('', sub { sql(q(SELECT evmig_kpi_watch('other'))) });
is(measured('w'), '1 1 0', 'another table is watched in the middle of a statement');
sql(q(SELECT evmig_kpi_watch('other', false); SELECT evmig_kpi_watch('w', false)));
midway('', \&again);
is(measured('w'), '1 1 0', 'its table is: it is counted');
midway('BEGIN;', sub { sql(q(SELECT evmig_kpi_watch('w', false))) });
again();
$session->query_safe('INSERT INTO w VALUES (1000); COMMIT');
is(measured('w'), '1 1 0', 'its table is not any more: only the next one is counted');
$_->quit for $gate, $session;

# ---- databases ----
sql('CREATE DATABASE two');
$node->safe_psql('two', q(CREATE EXTENSION evmig; CREATE TABLE w (id int); SELECT evmig_kpi_watch('w')));
$node->safe_psql('two', 'INSERT INTO w VALUES (1)');
sql('CREATE DATABASE three TEMPLATE two');
$node->safe_psql('three', 'INSERT INTO w VALUES (1), (2)');
is(measured('w', 'two'), '1 1 0', 'a table of that name in another database');
is(measured('w', 'three'), '1 2 0', 'and in its copy');
is(measured('w'), '1 1 0', 'not here');
sql("DROP DATABASE $_ WITH (FORCE)") for qw(two three);
sql('INSERT INTO w VALUES (1001)');
is(measured('w'), '2 2 0', 'they are gone, nothing else');

# ---- a standby ----
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
for my $text ('INSERT INTO w VALUES (1002)', "COPY w FROM '/dev/null'")
{
	my ($code, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\n$text");
	like($err, qr/25006/, "a standby: $text");
}
is(measured('w', 'postgres', $standby), '0 0 2', 'these are errors there');
$standby->promote;
$standby->safe_psql('postgres', 'INSERT INTO w VALUES (1002)');
is(measured('w', 'postgres', $standby), '1 1 2', 'promoted, it counts');
is(measured('w'), '2 2 0', 'for itself');
$standby->stop;
done_testing();
