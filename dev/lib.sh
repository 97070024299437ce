# shellcheck shell=bash
# What the scripts here and in bench/ share: the packages, a private copy of
# the server with evmig built into it, and a throw-away cluster on a unix
# socket.  The server found on this machine is read, never changed.
#
# From the environment: PG_CONFIG (a server's pg_config) or PG_MAJOR (15 to
# 18) choose the server; the newest installed one otherwise.
#
# Everything that runs for long runs as SERVER_USER (an unprivileged user when
# we are root, else ourselves) below WORK, and ends with the script.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_CONFIG=${PG_CONFIG:-}
PG_MAJOR=${PG_MAJOR:-}

# nothing of the caller's connection settings reaches the private cluster
for name in "${!PG@}"; do
	case $name in PG_CONFIG | PG_MAJOR) ;; *) unset "$name" ;; esac
done

SERVER_USER=$(id -un)
WORK=       # all files of this run, removed in the end
SOCKET=     # directory of the cluster's socket
BINDIR=     # programs of the private copy
CHILD=      # the child started last
CHILDREN=   # process groups at work
KEEP_WORK=  # not empty: leave WORK behind if the script fails
LAST_LINE=  # said when everything else is done

say() { printf '%s\n' "$*"; }

die() {
	printf '%s: %s\n' "$(basename "$0")" "$1" >&2
	shift
	for line; do printf '  %s\n' "$line" >&2; done
	exit 1
}

# ---- packages ----

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif [ -n "${CI:-}" ] || ! [ -t 0 ]; then
		sudo -n "$@"
	else
		sudo "$@"
	fi
}

can_install() {
	command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# can apt-get install it?
offered() {
	apt_update_once
	# read to its end: pipefail would take apt-cache's SIGPIPE for a no
	apt-cache policy "$1" 2>/dev/null | grep 'Candidate: [^(]' >/dev/null
}

# newest server on this machine that we support
installed_major() {
	local major
	for major in 18 17 16 15; do
		if [ -x "/usr/lib/postgresql/$major/bin/postgres" ]; then
			echo "$major"
			return
		fi
	done
}

# the major version that the distribution's package "postgresql" means
default_major() {
	apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]\+\)$/\1/p' | head -n 1
}

apt_update_once() {
	[ -n "${APT_UPDATED:-}" ] && return
	APT_UPDATED=1
	as_root apt-get update -qq
}

# Install packages; the server's package is kept from creating a cluster.
apt_install() {
	local conf=/etc/postgresql-common/createcluster.conf
	local log

	say "installing: $*"
	log=$(mktemp)
	apt_update_once
	if ! installed postgresql-common && ! apt_get_install postgresql-common >"$log" 2>&1; then
		cat "$log" >&2
		die "could not install postgresql-common"
	fi
	if [ -f "$conf" ]; then
		as_root cp -p "$conf" "$conf.evmig"
		as_root sh -c "echo 'create_main_cluster = false' >> $conf"
	fi
	if ! apt_get_install "$@" >"$log" 2>&1; then
		restore_createcluster
		cat "$log" >&2
		die "could not install the packages named above"
	fi
	restore_createcluster
	rm "$log"
}

apt_get_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 \
		--no-install-recommends "$@"
}

restore_createcluster() {
	local conf=/etc/postgresql-common/createcluster.conf

	if [ -f "$conf.evmig" ]; then
		as_root mv "$conf.evmig" "$conf"
	fi
}

# shellcheck disable=SC2120
# need_packages [test]: what is missing is installed, or named.
need_packages() {
	local wanted missing=() package

	if [ -n "$PG_CONFIG" ] || ! command -v dpkg-query >/dev/null; then
		PG_CONFIG=${PG_CONFIG:-pg_config}
		need_commands "${1:-}"
		return
	fi
	PG_MAJOR=${PG_MAJOR:-$(installed_major)}
	if [ -z "$PG_MAJOR" ] && can_install; then
		apt_update_once
		PG_MAJOR=$(default_major)
	fi
	case $PG_MAJOR in
		15 | 16 | 17 | 18) ;;
		'') die "no PostgreSQL server found" "Install PostgreSQL 15 to 18 with its development files, or set PG_CONFIG." ;;
		*) die "PostgreSQL $PG_MAJOR is not supported" \
			"evmig needs 15 to 18; apt.postgresql.org has them for this system. Choose one by PG_MAJOR." ;;
	esac

	wanted="gcc make libc6-dev postgresql-$PG_MAJOR postgresql-server-dev-$PG_MAJOR"
	if [ "${1:-}" = test ]; then
		wanted="$wanted postgresql-$PG_MAJOR-pgtap postgresql-$PG_MAJOR-cron"
		wanted="$wanted libtap-parser-sourcehandler-pgtap-perl libipc-run-perl"
	fi
	for package in $wanted; do
		installed "$package" || missing+=("$package")
	done
	# tests of what other programs make of our output; skipped on systems without them
	if [ "${1:-}" = test ] && can_install; then
		for package in chromium prometheus-postgres-exporter; do
			installed "$package" || ! offered "$package" || missing+=("$package")
		done
	fi
	if [ ${#missing[@]} -gt 0 ]; then
		can_install || die "packages are missing" "Install them and call this again: ${missing[*]}"
		apt_install "${missing[@]}"
	fi
	PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
}

# the same for systems without apt: only names what is missing
need_commands() {
	local missing=() command

	for command in make "$PG_CONFIG" cc; do
		command -v "$command" >/dev/null || missing+=("$command")
	done
	if [ "${1:-}" = test ]; then
		command -v prove >/dev/null || missing+=(prove)
		perl -MIPC::Run -e 1 2>/dev/null || missing+=("perl module IPC::Run")
		perl -MTAP::Parser::SourceHandler::pgTAP -e 1 2>/dev/null ||
			missing+=("perl module TAP::Parser::SourceHandler::pgTAP")
	fi
	if [ ${#missing[@]} -gt 0 ]; then
		local IFS=,
		die "needed and not found: ${missing[*]}" \
			"Install them, and the server's development files; PG_CONFIG names another server's pg_config."
	fi
	[ -f "$("$PG_CONFIG" --pgxs)" ] || die "the server's development files are missing" \
		"$PG_CONFIG --pgxs names a file that does not exist."
}

# ---- processes ----

# Run a command as the server's user, in WORK, with nothing of root's home.
as_server() {
	if [ "$SERVER_USER" = "$(id -un)" ]; then
		env HOME="$WORK" PATH="${BINDIR:+$BINDIR:}$PATH" ${SOCKET:+PGHOST="$SOCKET"} PGUSER=postgres "$@"
	else
		runuser -u "$SERVER_USER" -- env HOME="$WORK" PATH="${BINDIR:+$BINDIR:}$PATH" \
			${SOCKET:+PGHOST="$SOCKET"} PGUSER=postgres "$@"
	fi
}

# Run a command that takes long in a process group of its own and wait for it,
# so that a signal is acted upon at once; returns its status.
run_child() {
	start_child "$@"
	wait_child "$CHILD"
}

start_child() {
	set -m
	"$@" </dev/null &
	CHILD=$!
	set +m
	CHILDREN="$CHILDREN $CHILD"
}

wait_child() {
	local status=0
	wait "$1" || status=$?
	CHILDREN=${CHILDREN/ $1/}
	return $status
}

# End the servers whose data lie in WORK; tests start some of their own.
stop_servers() {
	local file pid
	while read -r file; do
		pid=$(head -n 1 "$file" 2>/dev/null) || continue
		case $(readlink "/proc/$pid/cwd" 2>/dev/null) in
			"$WORK"/*) ;;
			*) continue ;;
		esac
		as_server "$BINDIR/pg_ctl" -D "$(dirname "$file")" -m immediate -w stop >/dev/null 2>&1 || true
	done < <(find "$WORK" -name postmaster.pid 2>/dev/null)
}

group_alive() { kill -0 -- "-$1" 2>/dev/null; }

# shellcheck disable=SC2317,SC2329  # called by the trap
cleanup() {
	local status=$? group

	trap '' INT TERM HUP
	trap - EXIT
	for group in $CHILDREN; do
		kill -TERM -- "-$group" 2>/dev/null || true
	done
	for group in $CHILDREN; do
		for _ in $(seq 50); do
			group_alive "$group" || break
			sleep 0.1
		done
		kill -KILL -- "-$group" 2>/dev/null || true
	done
	restore_createcluster
	if [ -n "$WORK" ]; then
		stop_servers
		cd "$ROOT"
		if [ -n "$KEEP_WORK" ] && [ $status -gt 0 ] && [ $status -lt 128 ]; then
			say "files of this run are left in $WORK"
		else
			rm -rf "$WORK"
		fi
	fi
	[ -z "$SOCKET" ] || rm -rf "$SOCKET"
	[ -z "$LAST_LINE" ] || say "$LAST_LINE"
	exit $status
}

# ---- a place, a server, a cluster ----

# make_work NAME: WORK below build/, where the server's user can reach it.
make_work() {
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP

	if [ "$(id -u)" = 0 ]; then
		SERVER_USER=postgres
		if ! id "$SERVER_USER" >/dev/null 2>&1; then
			say "creating the system user $SERVER_USER"
			useradd --system --no-create-home --shell /bin/false "$SERVER_USER"
		fi
	fi
	mkdir -p "$ROOT/build"
	WORK=$(mktemp -d "$ROOT/build/$1.XXXXXX")
	chmod 755 "$WORK"
	if ! (cd / && as_server test -r "$WORK"); then
		rmdir "$WORK"
		WORK=$(mktemp -d "${TMPDIR:-/tmp}/evmig-$1.XXXXXX")
		chmod 755 "$WORK"
		say "user $SERVER_USER cannot reach $ROOT/build, using $WORK"
	fi

	# a socket's path must be short
	SOCKET=$(mktemp -d /tmp/evmig.XXXXXX)
	chmod 700 "$SOCKET"
	if [ "$(id -u)" = 0 ]; then
		chown "$SERVER_USER" "$WORK" "$SOCKET"
	fi
	cd "$WORK"
}

# A copy of the server that we may install into.  PostgreSQL finds its files
# relative to its programs, so programs are copied and the rest are links.
copy_server() {
	local copy=$WORK/server option dir

	BINDIR=$copy$("$PG_CONFIG" --bindir)
	as_server mkdir -p "$BINDIR"
	as_server cp -LR "$("$PG_CONFIG" --bindir)/." "$BINDIR"
	for option in pkglibdir sharedir; do
		dir=$("$PG_CONFIG" --$option)
		as_server mkdir -p "$copy$dir"
		as_server cp -RsT "$dir" "$copy$dir"
	done
	for option in includedir includedir-server pkgincludedir libdir localedir; do
		dir=$("$PG_CONFIG" --$option)
		[ -e "$copy$dir" ] || [ ! -d "$dir" ] && continue
		as_server mkdir -p "$(dirname "$copy$dir")"
		as_server ln -s "$dir" "$copy$dir"
	done
	# an evmig of the machine's own server must not be written through a link
	as_server rm -f "$copy$("$PG_CONFIG" --pkglibdir)/evmig.so" \
		"$copy$("$PG_CONFIG" --sharedir)"/extension/evmig*
	PG_CONFIG=$BINDIR/pg_config
	if [ ! -x "$PG_CONFIG" ]; then
		die "the server's pg_config is not beside its programs"
	fi
}

# shellcheck disable=SC2120
# build [make variables]: a copy of the tree is built and installed.
build() {
	local log=$WORK/build.log

	as_server mkdir "$WORK/src"
	tar -C "$ROOT" --exclude=./build --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' -cf - . |
		as_server tar -C "$WORK/src" --no-same-owner -xf -
	say "building evmig for $("$PG_CONFIG" --version)"
	if ! run_child as_server make -C "$WORK/src" PG_CONFIG="$PG_CONFIG" with_llvm=no \
		-j"$(getconf _NPROCESSORS_ONLN)" "$@" all >"$log" 2>&1 ||
		! run_child as_server make -C "$WORK/src" PG_CONFIG="$PG_CONFIG" with_llvm=no install >>"$log" 2>&1; then
		cat "$log" >&2
		die "the build failed"
	fi
}

# start_cluster: settings on standard input are added to postgresql.conf
start_cluster() {
	say "starting $("$BINDIR/postgres" --version) in $WORK/data, socket in $SOCKET"
	as_server "$BINDIR/initdb" -D "$WORK/data" -U postgres -A trust --encoding=UTF8 --no-locale >"$WORK/initdb.log" ||
		die "initdb failed"
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$SOCKET'"
		cat
	} | as_server tee -a "$WORK/data/postgresql.conf" >/dev/null
	if ! run_child as_server "$BINDIR/pg_ctl" -D "$WORK/data" -l "$WORK/server.log" -w start >/dev/null; then
		tail -n 20 "$WORK/server.log" >&2
		die "the server did not start"
	fi
}

stop_cluster() {
	as_server "$BINDIR/pg_ctl" -D "$WORK/data" -m fast -w stop >/dev/null
}

# psql as the cluster's superuser; errors end it
sql() { as_server "$BINDIR/psql" -X -q -v ON_ERROR_STOP=1 "$@"; }
