#!/bin/sh
# Makes sure that coturn's turnserver and turnutils_uclient are there: from PATH, or by apt-get where we are root.
# Otherwise names the package and fails: the tests never skip the relay.
set -eu

found() {
    command -v turnserver >/dev/null 2>&1 && command -v turnutils_uclient >/dev/null 2>&1
}

found && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    cat >&2 <<'WORDS'
The tests start a TURN server of their own and need turnserver and turnutils_uclient, which are not in PATH.
Install the package "coturn" (Debian, Ubuntu, Fedora, Arch, Alpine).
WORDS
    exit 1
fi

echo "Installing the package coturn, for the tests." >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends coturn >/dev/null
found
