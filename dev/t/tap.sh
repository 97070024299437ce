# shellcheck shell=bash
# Run a part of make installcheck and say its results as TAP, also where
# pg_regress (before 16) does not do so itself.  Run from the top of the tree.

# installcheck FILES DIFFS MAKE-VARIABLE...
installcheck() {
	local files=$1 diffs=$2 status=0 count failed
	shift 2

	if [ -z "$files" ]; then
		echo '1..0 # SKIP no such tests'
		return
	fi
	rm -f "$diffs"
	set -o pipefail
	make --no-print-directory PG_CONFIG="$PG_CONFIG" with_llvm=no "$@" installcheck 2>&1 | awk '
		function result(good, name) {
			count++
			if (!good) failed++
			printf "%sok %d - %s\n", good ? "" : "not ", count, name
			fflush()
		}
		# test name ... ok 12 ms; in a parallel group without the word test
		match($0, / \.\.\. +(ok|FAILED)/) {
			name = substr($0, 1, RSTART - 1)
			sub(/^test +/, "", name); gsub(/^ +| +$/, "", name)
			result($0 !~ /\.\.\. +FAILED/, name)
			next
		}
		# ok 1 - name 12 ms
		/^(not )?ok +[0-9]+ +[-+] / {
			name = $0
			sub(/^(not )?ok +[0-9]+ +[-+] +/, "", name); sub(/ +[0-9]+ ms$/, "", name)
			result($0 !~ /^not /, name)
			next
		}
		/^1\.\.[0-9]+$/ { next }
		{ print "# " $0 }
		END { print count + 0, failed + 0 > ".installcheck_count" }' || status=$?
	read -r count failed <.installcheck_count

	# it may fail without a test that did
	if [ $status != 0 ] && [ "$failed" = 0 ]; then
		echo "not ok $((++count)) - make installcheck"
	fi
	if [ $status != 0 ] && [ -f "$diffs" ]; then
		sed 's/^/# /' "$diffs" >&2
	fi
	echo "1..$count"
}
