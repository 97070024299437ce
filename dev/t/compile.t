#!/bin/bash
# The other compiler finds nothing to warn about either.
clang=$(compgen -c clang | grep -Ex 'clang(-[0-9]+)?' | sort | head -n 1)
if [ -z "$clang" ]; then
	echo '1..0 # SKIP clang is not installed'
	exit
fi
echo 1..1
copy=$(mktemp -d ./clang.XXXXXX)
trap 'rm -rf "$copy"' EXIT
cp -R Makefile evmig.control evmig--1.0.sql src "$copy"
find "$copy" \( -name '*.o' -o -name '*.so' -o -name '*.bc' \) -delete
# the server may have been built by gcc, whose options clang does not know
if make -C "$copy" PG_CONFIG="$PG_CONFIG" CC="$clang" \
	COPT='-Wno-ignored-optimization-argument -Wno-ignored-attributes -Wno-unknown-warning-option' \
	 with_llvm=no WERROR=1 -j2 all >clang.log 2>&1; then
	echo 'ok 1 - compiles with clang'
else
	echo 'not ok 1 - compiles with clang'
	sed 's/^/# /' clang.log >&2
fi
