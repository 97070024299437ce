# evmig-guard over files: exit status, formats, baselines, audit, odd bytes and
# names, what is left behind, and the corpus of migrations in test/guard, which
# must give the same findings in a private cluster and in a database.
use strict;
use warnings;

use Cwd ();
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
chomp(my $bindir = `$pg_config --bindir`);
my $script = "$bindir/evmig-guard";
my $corpus = Cwd::abs_path(dirname(__FILE__) . '/../guard/corpus');
my $dir = tempdir(CLEANUP => 1);
$ENV{TMPDIR} = tempdir(CLEANUP => 1, DIR => '/tmp');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;
$node->safe_psql('postgres', q(
CREATE SCHEMA "To ols";
CREATE EXTENSION evmig SCHEMA "To ols";
CREATE DATABASE without;
CREATE TABLE public.known (id int PRIMARY KEY, a int);
SELECT "To ols".evmig_backfill_register('known_a', 'public.known', 'a = 1', 'a IS NULL');
));
my $dsn = $node->connstr('postgres');

sub file
{
	my ($name, $text) = @_;
	open my $out, '>:raw', "$dir/$name" or die "$name: $!";
	print $out $text;
	close $out;
	return $name;
}

# exit status, output, complaints
sub guard
{
	my ($in, @arguments) = @_;
	my ($out, $err);
	my $here = Cwd::getcwd();
	chdir $dir;
	IPC::Run::run([ $script, @arguments ], '<', \$in, '>', \$out, '2>', \$err);
	my $status = $?;
	chdir $here;
	return ($status >> 8, $out, $err);
}

sub guard_db { return guard('', '--dsn', $dsn, '--root', $dir, @_); }

my ($rc, $out, $err);

# ---- exit status ----

file('clean.sql', "CREATE TABLE t (id int PRIMARY KEY);\nINSERT INTO t SELECT 1;\n");
file('empty.sql', '');
file('bad.sql', "SELECT 1;\n  UPDATE leads SET a = 1 WHERE b;\n");
file('warn.sql', "INSERT INTO settings (a) VALUES (1);\n");
mkdir "$dir/sub";
mkdir "$dir/dir.sql";

($rc, $out) = guard('', qw(clean.sql empty.sql));
is($rc, 0, 'nothing found: 0, in a private cluster');
($rc, $out) = guard('', 'bad.sql');
is($rc, 1, 'an error: 1');
like($out, qr/^bad\.sql:2:3: error: .* \[data-update\]$/m, 'named as gcc does');
($rc, $out) = guard_db('warn.sql');
is($rc, 0, 'a warning is no error');
like($out, qr/^warn\.sql:1:1: warning: /, 'but shown');
($rc, $out, $err) = guard_db(qw(bad.sql missing.sql dir.sql));
is($rc, 2, 'a file that cannot be read: 2');
like($err, qr/missing\.sql: No such file/, 'a missing file is named');
like($err, qr/dir\.sql: is a directory/, 'a directory is named');
like($out, qr/^bad\.sql:2:3: error/, 'the others are inspected all the same');
($rc, $out, $err) = guard('', '--dsn', $node->connstr('without'), 'bad.sql');
is($rc, 2, 'a database without the extension: 2');
like($err, qr/CREATE EXTENSION evmig/, 'and what to do');
($rc) = guard('', '--dsn', 'host=/nowhere', 'bad.sql');
is($rc, 2, 'no server: 2');
($rc) = guard('', '--format=xml', 'bad.sql');
is($rc, 2, 'an unknown format: 2');
($rc) = guard('');
is($rc, 2, 'no files: 2');
($rc, $out) = guard('', '--version');
ok($rc == 0 && $out =~ /^evmig-guard \d/, '--version');
($rc, $out) = guard('', '--help');
ok($rc == 0 && $out =~ /^Usage: evmig-guard/, '--help');

# ---- standard input, settings ----

($rc, $out) = guard("x = \"DELETE FROM t WHERE a\"\n", '--dsn', $dsn, '--name', 'm/x.py', '-');
is($rc, 1, 'standard input');
like($out, qr{^m/x\.py:1:6: error: .*data-delete}, 'its name says the language');
($rc, $out) = guard("SELECT 1\n", '--dsn', $dsn, '--lang', 'text', '-');
is($rc, 0, '--lang');
($rc, $out) = guard_db('--set', 'evmig.guard_insert_values=error', 'warn.sql');
is($rc, 1, '--set');
($rc, $out, $err) = guard_db('--set', "evmig.guard_insert_values=x'; SELECT 1", 'warn.sql');
is($rc, 2, 'a setting that the server refuses: 2');

# ---- backfills that a private cluster does not have ----

file('one.sql', "-- backfill: leads_region\n-- and more\nALTER TABLE t ADD COLUMN a int;\n");
file('two_register.sql', "SELECT evmig_backfill_register(\n  'leads_region', 'leads', 'a = 1', 'a IS NULL');\n");
($rc, $out) = guard('', 'one.sql');
like($out, qr/\[backfill-comment\]/, 'a comment announces a backfill');
($rc, $out) = guard('', 'one.sql', 'two_register.sql');
unlike($out, qr/\[backfill-comment\]/, 'which another file registers');
($rc, $out) = guard('', '--backfill', 'leads_region', 'one.sql');
unlike($out, qr/\[backfill-comment\]/, 'or that is named');

# ---- formats ----

($rc, $out) = guard_db(qw(--format json bad.sql clean.sql));
my $json = JSON::PP->new->utf8->decode($out);
is(scalar @$json, 1, 'JSON: one finding');
is_deeply([ @{ $json->[0] }{qw(file line col rule severity relation)} ], [ 'bad.sql', 2, 3, 'data-update', 'error', 'leads' ],
	'JSON: its columns');
is($json->[0]{grandfathered}, JSON::PP::false, 'JSON: a boolean');
($rc, $out) = guard_db(qw(--format json clean.sql));
is_deeply(JSON::PP->new->utf8->decode($out), [], 'JSON: none');

my $odd = file("o'd d,:%\".sql", "UPDATE \"W\x{c3}\x{b6}rd \"\"x\" SET a = '\t\\' WHERE b;\n");
($rc, $out) = guard_db('--format', 'json', $odd);
$json = JSON::PP->new->utf8->decode($out);
is($json->[0]{file}, $odd, 'JSON: an odd name');
is($json->[0]{relation}, "\"W\x{f6}rd \"\"x\"", 'JSON: an odd table');
like($json->[0]{statement}, qr/\t\\/, 'JSON: a tab and a backslash');

($rc, $out) = guard_db('--format', 'sarif', $odd, 'bad.sql');
my $sarif = JSON::PP->new->utf8->decode($out);
is($sarif->{version}, '2.1.0', 'SARIF: its version');
like($sarif->{'$schema'}, qr/sarif-2\.1\.0/, 'SARIF: its schema');
my $run = $sarif->{runs}[0];
is($run->{tool}{driver}{name}, 'evmig-guard', 'SARIF: the tool');
my @rules = @{ $run->{tool}{driver}{rules} };
ok(@rules > 20 && !(grep { !$_->{id} || !$_->{shortDescription}{text} || !$_->{defaultConfiguration}{level} } @rules),
	'SARIF: the rules');
my @results = @{ $run->{results} };
is(scalar(grep { $_->{ruleId} eq $rules[ $_->{ruleIndex} ]{id} && $_->{message}{text}
		&& $_->{level} =~ /^(error|warning|note)$/ && $_->{partialFingerprints}{'evmigGuard/v1'} } @results),
	scalar @results, 'SARIF: results');
my ($place) = map { $_->{locations}[0]{physicalLocation} } grep { $_->{ruleId} eq 'data-update' } @results;
is($place->{artifactLocation}{uri}, 'o%27d%20d%2C%3A%25%22.sql', 'SARIF: a URI');
is_deeply($place->{region}, { startLine => 1, startColumn => 1 }, 'SARIF: a region');
is($run->{invocations}[0]{executionSuccessful}, JSON::PP::true, 'SARIF: all was read');

($rc, $out) = guard_db('--format', 'github', $odd);
like($out, qr/^::error file=o'd d%2C%3A%25"\.sql,line=1,col=1,title=evmig data-update::[^\n]*%0A/m, 'GitHub: escaped, on one line');

# ---- bytes and names that are trouble, and nothing is executed ----

file('nul.sql', "SELECT 1;\n\0DELETE FROM t WHERE a;\n");
file('latin.sql', "SELECT '\xE9';\n");
file('bom.sql', "\xEF\xBB\xBFDELETE FROM t WHERE a;\n");
file('trap.sql', "'; CREATE TABLE public.executed_1 (a int); --\n\\! touch executed\n\\q\nCREATE TABLE public.executed_2 (a int);\n"
	  . "DO \$\$ BEGIN CREATE TABLE public.executed_3 (a int); END \$\$;\n\\.\n");
file("new\nline.sql", "DELETE FROM t WHERE a;\n");
file("\xFF.sql", "DELETE FROM t WHERE a;\n");
($rc, $out) = guard_db(qw(nul.sql latin.sql bom.sql));
is($rc, 1, 'bytes that are no text');
like($out, qr/^$_\.sql:\d+:\d+: error: .*\[invalid-encoding\]$/m, "$_ is named") for qw(nul latin);
like($out, qr/^bom\.sql:1:\d: error: .*\[data-delete\]$/m, 'a byte-order mark hides nothing');
($rc, $out, $err) = guard_db('trap.sql', "new\nline.sql", "\xFF.sql");
is($rc, 1, 'odd names and hostile text');
is(scalar(() = $out =~ /data-delete\]/g), 2, 'both odd names are inspected');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_class WHERE relname LIKE 'executed%')), '0', 'no SQL was executed');
ok(!-e "$dir/executed", 'and no command of psql');

# ---- the baseline as a file ----

file('sub/z.sql', "DELETE FROM z WHERE a;\n");
file('two.sql', "UPDATE leads SET a = 1 WHERE b;\nUPDATE leads SET a = 1 WHERE b;\n");
($rc, $out, $err) = guard_db(qw(--write-baseline base.txt --priority high --reason), "before\tthe  guard", qw(two.sql sub/z.sql));
is($rc, 0, 'a baseline is written');
my @lines = grep { !/^#/ } split /\n/, slurp_file("$dir/base.txt");
is_deeply(\@lines, [ sort @lines ], 'in order');
like($lines[0], qr{^sub/z\.sql\tdata-delete\t[0-9a-f]{16}\thigh\t-\tbefore the guard$}, 'a line an entry');
is(scalar(grep { /^two\.sql\tdata-update\t/ } @lines), 2, 'an entry an occurrence');
($rc, $out) = guard_db(qw(--baseline base.txt two.sql sub/z.sql));
is($rc, 0, 'what is grandfathered is no new error');
like($out, qr/\[data-update, grandfathered\]/, 'and shown as such');
($rc, $out) = guard_db(qw(--baseline base.txt --new-only two.sql));
is($out, '', '--new-only does not show it');
($rc, $out) = guard('', '--baseline', 'base.txt', '--root', $dir, 'two.sql', 'sub/z.sql');
is($rc, 0, 'the same in a private cluster');
($rc, $out) = guard('', '--dsn', $dsn, '--baseline', 'base.txt', '--root', $dir, "$dir/sub/../two.sql");
is($rc, 0, 'however the file is called');
file('two.sql', "UPDATE leads SET a = 1 WHERE b;\n-- moved\nupdate leads set a = 1 where b;\nUPDATE leads SET a=1 WHERE b;\n");
($rc, $out) = guard_db(qw(--baseline base.txt --new-only two.sql));
is($rc, 1, 'one more occurrence is new');
is(scalar(() = $out =~ /^two\.sql:4:1: error/mg), 1, 'the last one');
file('sub/z.sql', "SELECT 1;\n");
($rc, $out) = guard_db(qw(--baseline base.txt --audit two.sql sub/z.sql warn.sql));
like($out, qr/^files audited +3$/m, 'audit: files');
like($out, qr/^statements audited +5$/m, 'audit: statements');
like($out, qr/^findings +2 new \(1 errors\), 2 grandfathered \(0 of these replaced.*\), 1 gone$/m, 'audit: new, grandfathered, gone');
like($out, qr/^  data-update +3  \(1 new\)$/m, 'audit: by rule');
like($out, qr/^  priority high, grandfathered +2  \(0 replaced\)$/m, 'audit: by priority');
($rc, $out) = guard_db(qw(--write-baseline base.txt --replaced-by known_a two.sql));
@lines = grep { !/^#/ } split /\n/, slurp_file("$dir/base.txt");
is(scalar(grep { /^two\.sql\t.*\thigh\t-\tbefore the guard$/ } @lines), 2, 'known entries keep what was written about them');
is(scalar(grep { /^two\.sql\t.*\tmedium\tknown_a\t-$/ } @lines), 1, 'a new one has its own');
is(scalar(grep { /^sub\/z\.sql\t/ } @lines), 1, 'entries of other files stay');
($rc, $out) = guard_db(qw(--baseline base.txt --audit --format json two.sql));
$json = JSON::PP->new->utf8->decode($out);
is_deeply([ @{$json}{qw(files grandfathered replaced new gone)} ], [ 1, 3, 1, 0, 0 ], 'audit as JSON');
file('broken.txt', "two.sql data-update\n");
($rc, $out, $err) = guard_db(qw(--baseline broken.txt two.sql));
is($rc, 2, 'a baseline that is none: 2');
like($err, qr/broken\.txt:1: /, 'with its line');
($rc) = guard_db(qw(--baseline missing.txt two.sql));
is($rc, 2, 'a baseline that is missing: 2');

# ---- the baseline of the database ----

$node->safe_psql('postgres', q(SELECT "To ols".evmig_guard_baseline_add(E'SELECT 1;\nUPDATE leads SET a = 1 WHERE b;',
	'bad.sql', 'old', 'known_a', 'low')));
($rc, $out) = guard_db('--audit', 'bad.sql');
is($rc, 0, 'the database grandfathers too');
like($out, qr/^  priority low, grandfathered +1  \(1 replaced\)$/m, 'audit: its entries');

# ---- nothing is left behind ----

my @left = glob "$ENV{TMPDIR}/evmig-guard.*";
is(scalar @left, 0, 'no files are left');
for my $signal (qw(TERM KILL))
{
	# a script that waits for its input has its cluster up
	pipe my $read, my $write;
	my $pid = fork // die;
	if ($pid == 0)
	{
		close $write;
		open STDIN, '<&', $read;
		open STDERR, '>', '/dev/null';
		exec $script, '-';
	}
	close $read;
	my $up = 0;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default) { last if $up = grep { -e } glob "$ENV{TMPDIR}/evmig-guard.*/s/.s.PGSQL.5432"; select undef, undef, undef, 0.1; }
	ok($up, "a private cluster is up before $signal");
	kill $signal, $pid;
	waitpid $pid, 0;
	close $write;
	my $gone = 0;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default) { last if $gone = !(() = glob "$ENV{TMPDIR}/evmig-guard.*"); select undef, undef, undef, 0.1; }
	ok($gone, "and goes with its script on $signal");
}

# ---- the corpus ----

my @files = sort grep { !/\.expected$/ } map { s{.*/}{}r } glob "$corpus/*";
my $data = qr/^(data-.*|dynamic-sql|unknown-routine|unparsed|unterminated-quote|include-not-inspected|invalid-encoding|byte-order-mark
	|backfill-comment|unused-allow|allow-.*)$/x;
my %expected;
my ($changes, $grep_hits, $grep_right) = (0, 0, 0);
for my $name (@files)
{
	$expected{$name} = slurp_file("$corpus/$name.expected");
	my @rows = map { [ split /[: ]/ ] } grep { / data-/ } split /\n/, $expected{$name};
	my %line = map { $_->[0] => 1 } @rows;
	$changes += @rows;
	my $n = 0;
	for my $line (split /\n/, slurp_file("$corpus/$name"))
	{
		$n++;
		next unless $line =~ /UPDATE.*SET|INSERT INTO|DELETE FROM/i;
		$grep_hits++;
		$grep_right++ if $line{$n};
	}
}
for my $way ([ 'a private cluster' ], [ 'a database', '--dsn', $dsn ])
{
	my ($name, @how) = @$way;
	($rc, $out, $err) = guard('', @how, '--root', $corpus, '--format', 'json', map { "$corpus/$_" } @files);
	my %found = map { $_ => '' } @files;
	for my $f (@{ JSON::PP->new->utf8->decode($out) })
	{
		$found{ $f->{file} } .= "$f->{line}:$f->{col} $f->{rule} $f->{severity}\n" if $f->{rule} =~ $data;
	}
	is_deeply(\%found, \%expected, "the corpus of " . @files . " migrations, in $name");
}
note sprintf 'grep for the three statements: finds %d of %d data changes, %d of its %d lines are right',
  $grep_right, $changes, $grep_right, $grep_hits;

done_testing();
