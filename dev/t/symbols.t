#!/bin/bash
# A function of ours that is named like one of the server's is never called:
# the server's is, with our arguments.  So the library shows nothing but what the
# server looks for by name.
library=evmig.so
if ! [ -f "$library" ] || ! command -v nm >/dev/null; then
	echo '1..0 # SKIP no shared library, or no nm'
	exit
fi
echo 1..2
names() { nm -D --defined-only "$1" | awk '{ print $3 }' | sort -u; }
both=$(comm -12 <(names "$library") <(names "$("$PG_CONFIG" --bindir)/postgres") |
	grep -vxE '_PG_init|_PG_fini|Pg_magic_func|_init|_fini|_edata|_end|__bss_start')
if [ -z "$both" ]; then
	echo 'ok 1 - no name of ours is one of the server'
else
	echo 'not ok 1 - no name of ours is one of the server'
	printf '%s\n' "$both" | sed 's/^/# /' >&2
fi
own=$(names "$library" | grep -vxE '_PG_init|_PG_fini|Pg_magic_func|_init|_fini|_edata|_end|__bss_start|evmig_[a-z]+_main' |
	sed 's/^pg_finfo_//' | sort | uniq -u)
if [ -z "$own" ]; then
	echo 'ok 2 - it exports the functions of SQL and the entries of workers alone'
else
	echo 'not ok 2 - it exports the functions of SQL and the entries of workers alone'
	printf '%s\n' "$own" | sed 's/^/# /' >&2
fi
