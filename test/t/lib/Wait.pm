# Waiting for a state of the server, which is a test of its own.
package Wait;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

our @EXPORT = qw(wait_on wait_for);
my $node;

# whose states are waited for
sub wait_on
{
	($node) = @_;
	return;
}

# until the query returns true, or PG_TEST_TIMEOUT_DEFAULT is over
sub wait_for
{
	my ($query, $what, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until($database // 'postgres', $query), $what);
	return;
}

1;
