#!/bin/sh
# Makes sure that there is a real S3 server for the tests: versitygw, a Go module, built once and kept in the user's cache
# directory. Go comes from PATH, or by apt-get where we are root; one that is too old fetches a newer one of its own.
# Prints where the program is.
set -eu

version=v1.2.0
toolchain=v0.0.1-go1.24.1
program=${XDG_CACHE_HOME:-$HOME/.cache}/guildhall/versitygw-$version

if [ -x "$program" ]; then
    echo "$program"
    exit 0
fi

if ! command -v go >/dev/null 2>&1; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        cat >&2 <<'WORDS'
The tests keep files in an S3 server of their own, versitygw, which is built by Go, which is not in PATH.
Install the package "golang" (Debian, Ubuntu, Fedora) or "go" (Arch, Alpine).
WORDS
        exit 1
    fi
    echo "Installing the package golang, for the tests." >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --no-install-recommends golang-go ca-certificates >/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Nothing of what building takes is left behind; modules are not written read-only, so that they can be deleted.
export GOPATH="$work/go" GOCACHE="$work/cache" GOFLAGS=-modcacherw GOBIN="$work/bin"
cd "$work"

go=go
minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
if [ "${minor:-0}" -lt 24 ]; then
    # From 1.21 on Go would do this by itself. Older ones can fetch the module that a toolchain is, too.
    echo "This Go is too old; fetching a newer one." >&2
    name=$toolchain.$(go env GOOS)-$(go env GOARCH)
    go mod download "golang.org/toolchain@$name"
    newer=$GOPATH/pkg/mod/golang.org/toolchain@$name
    chmod -R +x "$newer/bin" "$newer/pkg/tool"
    unset GOROOT
    go=$newer/bin/go
fi

echo "Building versitygw, an S3 server, for the tests: some minutes, once." >&2
"$go" install -trimpath "github.com/versity/versitygw/cmd/versitygw@$version" >&2
mkdir -p "$(dirname "$program")"
mv "$work/bin/versitygw" "$program.unfinished"
mv "$program.unfinished" "$program"
echo "$program"
