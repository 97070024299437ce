# A server that measures the writes on its tables, and what its tests share.
package Measured;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

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
	return;
}

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

sub wait_for
{
	my ($query, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until('postgres', $query), $what);
	return;
}

1;
