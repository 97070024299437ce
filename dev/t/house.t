#!/bin/bash
# Rules of the house that a compiler does not check.
n=0
# rule NAME FINDINGS: holds when there are none
rule() {
	n=$((n + 1))
	if [ -z "$2" ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
		printf '%s\n' "$2" | sed 's/^/# /' >&2
	fi
}

rule 'only base/compat.h looks at the version of the server' \
	"$(grep -rn 'PG_VERSION_NUM' src --include='*.[ch]' | grep -v '^src/base/compat\.h:')"
rule 'only base/spi.c includes the server'\''s SPI' \
	"$(grep -rn 'executor/spi\.h' src --include='*.[ch]' | grep -v '^src/base/spi\.c:.*#include' | grep '#include')"
rule 'noreturn is said by compat_noreturn' \
	"$(grep -rn 'pg_attribute_noreturn\|pg_noreturn' src --include='*.[ch]' | grep -v '^src/base/compat\.h:')"
# pace.c and histogram.c are arithmetic, without the server
rule 'postgres.h comes first in every C file' \
	"$(find src -name '*.c' ! -path src/job/pace.c ! -path src/kpi/histogram.c -exec awk 'FNR == 1 { done = 0 }
		/^#include/ && !done { done = 1; if ($0 != "#include \"postgres.h\"") print FILENAME ": " $0 }' {} +)"
rule 'no source file has 600 lines or more' \
	"$(find src -name '*.[ch]' -exec wc -l {} + | awk '$2 != "total" && $1 >= 600 { print $2 ": " $1 }')"
rule 'no function has more than 80 lines' \
	"$(find src -name '*.c' -exec awk 'FNR == 1 { start = 0 }
		/^\{/ { start = FNR } /^\}/ { if (start && FNR - start - 1 > 80) print FILENAME ":" start ": " FNR - start - 1 " lines"; start = 0 }' {} +)"
rule 'no floor calls a higher one' \
	"$(grep -n '#include "\(job\|backfill\|integrity\|runbook\|deploy\|guard\|kpi\)/' src/base/* | grep -v 'job/kinds'
	grep -n '#include "\(backfill\|integrity\|runbook\|deploy\|guard\|kpi\)/' src/job/*
	grep -n '#include "\(runbook\|deploy\|guard\)/' src/backfill/* src/integrity/* 2>/dev/null
	grep -n '#include "\(job\|backfill\|integrity\|runbook\|deploy\|kpi\)/' src/guard/* 2>/dev/null
	grep -n '#include "\(runbook\|deploy\|guard\)/' src/kpi/* 2>/dev/null)"
rule 'every job kind is in the table' \
	"$(sed -n 's/^extern const JobKind \([a-z_]*\);.*/\1/p' src/job/kinds.h |
	while read -r kind; do grep -q "&$kind," src/kinds.c || echo "$kind"; done)"
echo "1..$n"
