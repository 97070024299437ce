#!/bin/bash
# make installcheck: what users see (sql/, expected/), as TAP
. dev/t/tap.sh
installcheck "$(ls sql/*.sql 2>/dev/null)" regression.diffs ISOLATION= TAP_TESTS=
