#!/bin/sh
# Holds our count of segments against the provider's own calculator, which npm brings: see compare.mjs.
# run.sh [--write]; OTPOST_BIN names the binary, else it is built.
set -eu
cd "$(dirname "$0")/../../.."
here=tests/compare/segments
installed=$PWD/target/segments
mkdir -p "$installed"
cp "$here/package.json" "$installed/"
[ -d "$installed/node_modules/sms-segments-calculator" ] ||
  npm install --prefix "$installed" --ignore-scripts --no-audit --no-fund --no-package-lock --silent
if [ -z "${OTPOST_BIN:-}" ]; then
  cargo build --quiet --bin otpost
  OTPOST_BIN=$PWD/target/debug/otpost
fi
exec node "$here/compare.mjs" "$OTPOST_BIN" "$installed" "$@"
