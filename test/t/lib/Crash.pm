# A crash of the server, from which it comes back by itself.
package Crash;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(crash);

my $checkpointer = "FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

# Kill a process of the server, so that all others restart, and wait until they
# have: there is another checkpointer.  Right after the kill the server may
# still answer, because it hears of the death a moment later.
sub crash
{
	my ($node, $pid) = @_;
	my $before = $node->safe_psql('postgres', "SELECT pid $checkpointer");
	kill('KILL', $pid) == 1 or return;    # it has ended by itself
	$node->poll_query_until('postgres', "SELECT pid <> $before $checkpointer")
		or die 'the server did not come back';
	return;
}

1;
