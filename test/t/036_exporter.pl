# The same figures for monitoring stacks: prometheus-postgres-exporter is run
# with our queries and its /metrics read; the other files name the same ones.
use strict;
use warnings;

use File::Basename qw(dirname);
use HTTP::Tiny ();
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $contrib = dirname(__FILE__) . '/../../contrib';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'evmig'
max_worker_processes = 16
));
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE "odd ""leads" (id int PRIMARY KEY, request_id uuid);
SELECT evmig_kpi_watch('"odd ""leads"');
));
$node->safe_psql('postgres', qq(INSERT INTO "odd ""leads" VALUES ($_))) for 1 .. 7;
# one that is dropped later is no reason to fail
$node->safe_psql('postgres', q(CREATE TABLE gone (); SELECT evmig_kpi_watch('gone'); DROP TABLE gone; CREATE ROLE monitor LOGIN IN ROLE pg_monitor));

# ---- the files name every figure ----

my @kpis = split /\n/, $node->safe_psql('postgres',
	q(SELECT name FROM (SELECT unnest(proargnames) AS name, unnest(proargmodes) AS mode FROM pg_proc WHERE proname = 'evmig_kpi') p WHERE mode = 'o'));
my %text = map { $_ => slurp_file("$contrib/$_") }
	('postgres_exporter/queries.yaml', 'sql_exporter/evmig.collector.yml', 'grafana/evmig.json');
for my $name (sort keys %text)
{
	my @missing = grep { $text{$name} !~ /\b(?:evmig_kpi_)?$_\b/ } @kpis;
	is("@missing", '', "$name has all figures of evmig_kpi");
}
ok(JSON::PP->new->decode($text{'grafana/evmig.json'})->{panels}[0], 'the dashboard is JSON');

# ---- the queries of the collector run ----

for my $query ($text{'sql_exporter/evmig.collector.yml'} =~ /query: \|\n\s+(SELECT .*)/g)
{
	my ($code, $out, $err) = $node->psql('postgres', $query, extra_params => [ '-U', 'monitor' ]);
	is($code, 0, 'a query of sql_exporter runs') or diag $err;
	like($out, qr/^"odd ""leads"\|7\|7\|/m, 'a role that monitors sees the figures') if $query =~ /kpi_watch/;
}

# ---- the exporter itself ----

SKIP:
{
	my ($exporter) = grep { -x } map { "$_/prometheus-postgres-exporter" } split /:/, $ENV{PATH};
	skip 'prometheus-postgres-exporter is not installed', 3 unless $exporter;

	my $port = PostgreSQL::Test::Cluster::get_free_port();
	local $ENV{DATA_SOURCE_NAME} = sprintf 'host=%s port=%s dbname=postgres sslmode=disable user=%s',
	  $node->host, $node->port, $node->safe_psql('postgres', 'SELECT current_user');
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start([ $exporter, "--web.listen-address=127.0.0.1:$port",
			"--extend.query-path=$contrib/postgres_exporter/queries.yaml" ], '<', \undef, '>', \$out, '2>', \$err);
	my $metrics = '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $answer = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/metrics");
		$metrics = $answer->{content} if $answer->{success};
		last if $metrics =~ /^evmig_kpi_writes\{/m;
		select(undef, undef, undef, 0.1);
	}
	my ($writes) = $metrics =~ /^evmig_kpi_writes\{[^}]*target="\\"odd \\"\\"leads\\""[^}]*\} (\S+)/m;
	is($writes, 7, 'the exporter counts the writes of a watched table') or diag $err;
	my @absent = grep { $metrics !~ /^evmig_kpi_$_\{/m } @kpis;
	is("@absent", '', 'all figures are in /metrics');
	my ($p95) = $metrics =~ /^evmig_kpi_p95_ms\{[^}]*\} (\S+)/m;
	cmp_ok($p95, '>', 0, 'the latency among them');
	$run->kill_kill;
}

$node->stop;
done_testing();
