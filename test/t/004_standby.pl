# On a hot standby one can look, and nothing else.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE business_events (id bigint PRIMARY KEY, request_id uuid, ts timestamptz);
INSERT INTO business_events SELECT g, CASE WHEN g % 4 > 0 THEN md5((g % 30)::text)::uuid END, now() FROM generate_series(1, 100) g;
));
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

is($standby->safe_psql('postgres', 'SELECT evmig_audit()'),
	$primary->safe_psql('postgres', 'SELECT evmig_audit()'), 'the audit is the same');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM evmig_duplicates()'),
	$primary->safe_psql('postgres', 'SELECT count(*) FROM evmig_duplicates()'), 'so are the duplicates');
like($standby->safe_psql('postgres', q(SELECT detail FROM evmig_preflight() WHERE check_name = 'server' AND status = 'fail')),
	qr/standby/, 'preflight says that it is a standby');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM evmig_progress'), '0', 'the views work');

my @changes = (
	"SELECT evmig_ingest_guard()",
	"SELECT evmig_backfill_request_id()",
	"SELECT evmig_dedupe()",
	"SELECT evmig_unique_index()",
	"SELECT evmig_harden()",
	"SELECT evmig_restore()",
	"SELECT evmig_archive_purge()",
	"SELECT evmig_runbook_open()",
	"SELECT evmig_runbook_approve(1, 'x')",
	"CALL evmig_runbook_execute(1)",
	"CALL evmig_runbook_rollback(1)",
	"CALL evmig_path_a()",
	"SELECT evmig_jobs_recover()",
	"SELECT evmig_job_cancel(1)");
for my $sql (@changes)
{
	my ($rc, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	like($err, qr/ERROR:  25006: .*standby.*HINT:  Call it on the primary\./s, "refused on a standby: $sql");
}

$standby->stop;
$primary->stop;
done_testing();
