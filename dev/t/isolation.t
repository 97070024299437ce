#!/bin/bash
# make installcheck: two sessions and more (test/specs), as TAP
. dev/t/tap.sh
installcheck "$(ls test/specs/*.spec 2>/dev/null)" output_iso/regression.diffs REGRESS= TAP_TESTS=
