# A cancel is not lost while a strong lock is polled, also when it comes in the
# moment in which a wait in the lock queue ends.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = 30;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE events (id int, request_id uuid, ts timestamptz)));

my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; INSERT INTO events VALUES (1)');

my $polling = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT evmig_ingest_guard(%'";
my $cancelled = 0;
for my $round (1 .. $rounds)
{
	my ($in, $out, $err) = ('', '', '');
	# short waits, so that many ends of a wait meet the cancel
	my $client = IPC::Run::start(['psql', '-Xq', '-d', $node->connstr('postgres'),
			'-c', "SET evmig.step_lock_timeout = '3ms'", '-c', "SELECT evmig_ingest_guard('events')"],
		\$in, \$out, \$err);
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($polling) p");
	usleep(rand(50_000));
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM ($polling) p");
	# a lost cancel would leave it there until evmig.lock_wait_max
	last unless $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM ($polling) p");
	$client->finish;
	$cancelled++ if $err =~ /canceling statement due to user request/;
}
is($cancelled, $rounds, 'every cancel was obeyed');

$blocker->query_safe('COMMIT');
$blocker->quit;
$node->safe_psql('postgres', "SELECT evmig_ingest_guard('events')");
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_trigger WHERE tgname = '~evmig_ingest_guard'"),
	'1', 'without a blocker the guard is set');

$node->stop;
done_testing();
