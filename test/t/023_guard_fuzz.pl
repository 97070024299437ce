# The guard inside the server survives what a mutator makes of the corpus: no
# crash, no error, no statement that takes long.  FUZZ_RUNS asks for more.
use strict;
use warnings;

use File::Basename qw(dirname);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $runs = $ENV{FUZZ_RUNS} || 3000;
my $seed = $ENV{FUZZ_SEED} || 42;
srand($seed);

my $top = dirname(__FILE__) . '/../..';
my @seeds = map { [ s{.*/}{}r, slurp_file($_) ] } sort grep { !/\.expected$/ } glob("$top/test/guard/corpus/* $top/fuzz/seeds/*");
ok(@seeds > 40, scalar(@seeds) . ' seeds');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "autovacuum = off\nlog_min_messages = warning\nlog_statement = none\n");
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION evmig;
CREATE TABLE leads (id int PRIMARY KEY, status text, phone text);
CREATE FUNCTION touch(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN UPDATE leads SET status = 1; RETURN touch($1); END';
));

my @words = (
	"'", '"', '$$', '$a$', ';', '--', '/*', '*/', "\\", "\n", '(', ')', '{{', '}}', "E'", ',', '.', '=', "\0", "\xFF",
	' UPDATE leads SET status = 1 ', ' DELETE FROM leads ', ' SELECT touch(1) ', ' BEGIN ', ' END ', ' DO $$ ', ' LOOP ',
	' EXECUTE ', ' format(', ' CREATE TABLE t (', ' ALTER TABLE leads ', ' WITH x AS (', ' RETURNING * ', ' CASE ', ' IF ',
	' CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS ', ' AS $f$ ', ' $f$ ', ' BEGIN ATOMIC ', ' COMMIT;', ' NULL ',
	' COPY leads FROM stdin;', "\n\\.\n", '-- evmig:allow data-update: x', '-- backfill', ' CONCURRENTLY ', ' NOT VALID ',
	'9999999999999999999', ' %ROWTYPE ', ' DECLARE r leads; ', ' FOR r IN ', ' CALL f(', ' PREPARE p AS ', ' EXPLAIN ANALYZE ',
	' @extschema@', ' DEFAULT touch(1) ', ' CREATE AGGREGATE a(int) (SFUNC = touch, STYPE = int); ', ' ALTER TABLE leads VALIDATE CONSTRAINT c; ',
	' ADD CONSTRAINT c CHECK (touch(1) = 1) NOT VALID; ', ' STABLE ', ' OPERATOR(+) ', ' ON COMMIT DROP ', ' CASCADE;'
);

sub mutate
{
	my ($text) = @_;
	for (1 .. 1 + int rand 6)
	{
		my $at = int rand(1 + length $text);
		my $n = int rand 40;
		my $kind = int rand 5;
		if ($kind == 0) { substr($text, $at, $n, ''); }
		elsif ($kind == 1) { substr($text, $at, 0, substr $text, $at, $n); }
		elsif ($kind == 2 && $at < length $text) { substr($text, $at, 1, chr int rand 256); }
		elsif ($kind == 3)
		{
			my $other = $seeds[ rand @seeds ][1];
			substr($text, $at, 0, substr $other, int rand length $other, 5 * $n);
		}
		else { substr($text, $at, 0, $words[ rand @words ]); }
	}
	return $text;
}

my @inputs;
my $script = "SET statement_timeout = '60s';\n\\set VERBOSITY verbose\n";
for my $run (1 .. $runs)
{
	# each seed as it is, then mutations
	my ($name, $text) = @{ $seeds[ $run <= @seeds ? $run - 1 : rand @seeds ] };
	my $hex = unpack 'H*', $run <= @seeds ? $text : mutate($text);
	push @inputs, "evmig_guard('\\x$hex'::bytea, '$name')";
	$script .= "SELECT count(*) AS n FROM $inputs[-1] \\gset\n\\if :ERROR\n\\else\n\\echo $run\n\\endif\n";
}
# from a file: a psql that has lost its server does not read on
my $file = "${PostgreSQL::Test::Utils::tmp_check}/fuzz.sql";
append_to_file($file, $script);
my ($out, $err);
IPC::Run::run([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr('postgres'), '-f', $file ], '>', \$out, '2>', \$err);
is($? >> 8, 0, 'the session lives on');
my %done = map { $_ => 1 } split /\n/, $out;
my ($failed) = grep { !$done{$_} } 1 .. $runs;
is($failed, undef, "no error in $runs runs from $seed on") or diag("SELECT * FROM $inputs[$failed - 1]");
is($err, '', 'nor a message');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP/, 'no crash');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_class WHERE relname = 't')), '0', 'nothing was executed');

done_testing();
