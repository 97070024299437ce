# The guard where nothing can be written: a standby, and a database that has
# no PL/pgSQL. Bodies are inspected all the same, and nothing of them is run.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = q($src$
CREATE FUNCTION own(q text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM guarded;
    EXECUTE q;
    RETURN stored(1);
END $$;
DO $$
DECLARE
    r guarded%ROWTYPE;
BEGIN
    UPDATE guarded SET a = 1;
    PERFORM own('TRUNCATE guarded');
    RAISE EXCEPTION 'it was run';
END $$;
$src$);
my $found = qq(4:5 data-delete\n6:12 data-insert-select\n12:5 data-update\n13:18 data-truncate);

sub inspect
{
	my ($node, $database) = @_;
	return $node->safe_psql($database, "SELECT line || ':' || col || ' ' || rule
		FROM evmig_guard($source) WHERE rule LIKE 'data-%' ORDER BY line, col");
}

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', 'autovacuum = off');
$primary->start;
$primary->safe_psql('postgres', q(
	CREATE EXTENSION evmig;
	CREATE TABLE guarded (a int);
	CREATE FUNCTION stored(i int) RETURNS int LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO guarded SELECT i; RETURN i; END $$));
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

is(inspect($primary, 'postgres'), $found, 'a source, on a primary');
is(inspect($standby, 'postgres'), $found, 'the same on a standby');
$standby->stop;

# the handler of DO is the server's, whether or not a database has the language
$primary->safe_psql('postgres', 'CREATE DATABASE bare');
$primary->safe_psql('bare', q(
	CREATE EXTENSION evmig;
	DROP EXTENSION plpgsql;
	CREATE TABLE guarded (a int);
	CREATE FUNCTION stored(i int) RETURNS int LANGUAGE sql AS
	$$ INSERT INTO guarded SELECT i; SELECT 1 $$));
is(inspect($primary, 'bare'), $found, 'the same without PL/pgSQL');

done_testing();
