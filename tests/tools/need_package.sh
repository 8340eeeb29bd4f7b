#!/bin/sh
# need_package.sh PACKAGE PROGRAM...: makes sure that the programs of a Debian package are there: from PATH, or by apt-get
# where we are root. Otherwise names the package and fails: the tests never skip what they need a real program for.
set -eu

package=$1
shift

missing() {
    for program in "$@"; do
        PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null 2>&1 || return 0
    done
    return 1
}

missing "$@" || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    cat >&2 <<WORDS
The tests start programs of their own that are not in PATH: $*.
Install the package "$package" (so Debian calls it).
WORDS
    exit 1
fi

echo "Installing the package $package, for the tests." >&2
# Services that come with it are not started: RUNLEVEL is how invoke-rc.d is told so.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
apt-get install -qq --no-install-recommends "$package" >/dev/null
! missing "$@"
