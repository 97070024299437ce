# The report that is attached to a change ticket, as a browser shows it: its
# DOM is read, and a picture of it is taken.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($browser) = grep { -x } map { ("$_/chromium", "$_/chromium-browser", "$_/google-chrome") } split /:/, $ENV{PATH};
plan skip_all => 'chromium is not installed' unless $browser;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE "<script>alert(1)</script>" (id int PRIMARY KEY, request_id uuid, ts timestamptz);
INSERT INTO "<script>alert(1)</script>"
	SELECT g, CASE WHEN g % 10 > 0 THEN md5(g::text)::uuid END, now() FROM generate_series(1, 500) g));
$node->safe_psql('postgres', q(CALL evmig_path_a('"<script>alert(1)</script>"', dry_run => false)));
$node->safe_psql('postgres', q(
INSERT INTO evmig.kpi_sample (target, label, sampled_at, figures)
	SELECT '"<script>alert(1)</script>"', 'during', started_at + g * interval '1 second',
		jsonb_build_object('p50_ms', 1, 'p95_ms', 2, 'p99_ms', 3 + g, 'writes_per_s', 100, 'write_error_rate', 0)
	FROM evmig.runbook, generate_series(-5, 5) g));

my $dir = PostgreSQL::Test::Utils::tempdir();
my $page = "$dir/report.html";
open(my $file, '>:raw', $page) or die "$page: $!";
print $file $node->safe_psql('postgres', "SELECT evmig_runbook_report(1, 'html')");
close $file;

# Chromium's sandbox needs rights that a container often does not give
sub browse
{
	my (@options) = @_;
	local $ENV{HOME} = $dir;
	local $ENV{XDG_CONFIG_HOME} = $dir;
	my ($out, $err) = ('', '');
	IPC::Run::run([ $browser, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
			"--user-data-dir=$dir/profile", @options, "file://$page" ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return ($out, $err);
}

my ($dom, $err) = browse('--dump-dom');
like($dom, qr{<title>Runbook 1: public\."&lt;script&gt;alert\(1\)&lt;/script&gt;"</title>}, 'the title is text') or diag $err;
unlike($dom, qr/<script/i, 'nothing of the table\'s name became an element');
my @sections = $dom =~ /<section id="([a-z-]+)"/g;
is_deeply(\@sections, [qw(decision checks attestations approval audits steps time-line limits application verification rollback evidence)],
	'all sections are there');
my @plots = $dom =~ m{<figcaption>([^<]*)</figcaption>}g;
is_deeply(\@plots, [ 'Steps', 'Latency of writes', 'Writes', 'Writes that failed', 'Rows done' ], 'and the plots');
cmp_ok(scalar(() = $dom =~ /<path class="line s/g), '>=', 6, 'with their lines');
like($dom, qr{<rect class="band[^>]*><title>dedupe</title>}, 'and the steps as bands');

for my $scheme ('', '--blink-settings=preferredColorScheme=0')
{
	my $picture = $dir . ($scheme ? '/dark.png' : '/light.png');
	($dom, $err) = browse('--window-size=1000,3000', ($scheme ? $scheme : ()), "--screenshot=$picture");
	cmp_ok(-s $picture // 0, '>', 20_000, $scheme ? 'a picture of it in the dark' : 'a picture of it') or diag $err;
}

$node->stop;
done_testing();
