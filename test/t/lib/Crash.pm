# A crash of the server, from which it comes back by itself.
package Crash;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

our @EXPORT = qw(crash);

# Kill a process of the server, so that all others restart, and wait until the
# server is back.  It still answers until it hears of the death, which is a
# moment after the kill: when the process is gone for its parent, too.
sub crash
{
	my ($node, $pid) = @_;
	my $looks = 100 * $PostgreSQL::Test::Utils::timeout_default;
	kill 'KILL', $pid;
	usleep(10_000) while kill(0, $pid) && $looks-- > 0;
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server did not come back';
	return;
}

1;
