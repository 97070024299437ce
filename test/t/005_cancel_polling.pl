# A cancel is not lost while a strong lock is polled, also when it comes in the
# moment in which a wait in the lock queue begins or ends.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use Wire;

my $rounds = 300;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE events (id int, request_id uuid, ts timestamptz)));

my ($blocker, $canceller, $client) = map { Wire->new($node) } 1 .. 3;
$blocker->query('BEGIN; INSERT INTO events VALUES (1)');

# short waits, so that many of their ends meet the cancel; a lost one shows
# itself by another error in the end
$client->query("SET evmig.step_lock_timeout = '3ms'; SET evmig.lock_wait_max = '2min'");

my $guard = "SELECT evmig_ingest_guard('events')";
my $polling = "FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT evmig_ingest_guard(%'";
my %errors;
for my $round (1 .. $rounds)
{
	$client->put('Q', "$guard\0");
	# an idle session would not obey
	$canceller->query("DO \$\$ BEGIN WHILE NOT EXISTS (SELECT $polling) LOOP PERFORM pg_stat_clear_snapshot(); END LOOP; END \$\$");
	usleep(rand(30_000));
	$canceller->query("SELECT pg_cancel_backend(pid) $polling");
	$client->ready;
	$errors{ $client->{errors}[0] // 'none' }++;
}
is_deeply(\%errors, { '57014' => $rounds }, 'every cancel was obeyed');

$blocker->query('COMMIT');
$client->query($guard);
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_trigger WHERE tgname = '~evmig_ingest_guard'"),
	'1', 'without a blocker the guard is set');

$node->stop;
done_testing();
