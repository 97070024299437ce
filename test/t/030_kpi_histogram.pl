# The scale of the KPIs' latencies, compiled and run without a server.
use strict;
use warnings;

use FindBin;
use File::Temp qw(tempdir);

my $top = "$FindBin::RealBin/../..";
my $cc = $ENV{CC} || 'cc';
my $program = tempdir(CLEANUP => 1) . '/histogram_test';

if (system("$cc --version >/dev/null 2>&1") != 0)
{
	print "1..0 # SKIP no C compiler\n";
	exit 0;
}
if (system($cc, '-std=c99', '-Wall', '-Wextra', '-Werror', '-O1', "-I$top/src", '-o', $program,
		"$top/test/unit/histogram_test.c", "$top/src/kpi/histogram.c", '-lm') != 0)
{
	print "1..1\nnot ok 1 - histogram.c compiles without the server\n";
	exit 1;
}
exit(system($program) >> 8);
