# A server that measures the writes on its tables, and what its tests share.
package Measured;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use Wait;

our @EXPORT = qw($node start_measuring sql wait_for);
our $node;

# settings and arguments of init() beside those that all need
sub start_measuring
{
	my ($settings, @init) = @_;
	$node = PostgreSQL::Test::Cluster->new('main');
	$node->init(@init);
	$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'evmig'
fsync = off
autovacuum = off
max_worker_processes = 16
max_prepared_transactions = 2
) . ($settings // ''));
	$node->start;
	wait_on($node);
	return;
}

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

1;
