#!/bin/sh
# Makes sure that PostgreSQL's initdb is there: from PATH, or where Debian keeps it, or by apt-get where we are root.
# Otherwise names the package and fails: the tests never skip a database.
set -eu

found() {
    command -v initdb >/dev/null 2>&1 && return 0
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$initdb" ] && return 0
    done
    return 1
}

found && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    cat >&2 <<'WORDS'
The tests start a PostgreSQL of their own and need its initdb, which is neither in PATH nor in /usr/lib/postgresql.
Install the package "postgresql" (Debian, Ubuntu, Arch), "postgresql-server" (Fedora) or "postgresql15" (Alpine).
WORDS
    exit 1
fi

echo "Installing the package postgresql, for the tests." >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends postgresql-common >/dev/null
# Debian would otherwise make a database of its own, and keep it running.
sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
apt-get install -qq --no-install-recommends postgresql >/dev/null
found
