#!/bin/sh
# Trains the iris classifier, registers it, and runs the three commands, showing each and what it prints.
set -eu
cd "$(dirname "$0")/.."
for name in $(env | sed -n 's/^\(MLFLOW_[A-Z_]*\|FORETELL_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
mkdir -p build/demo
cd build/demo
rm -rf .foretell batch_output.csv serve.out

show() { printf '\n$ %s\n' "$1"; eval "$1"; }

python ../../scripts/train_iris.py
show "foretell registry add my-model iris.skops --stage Production"
show "foretell models predict -m models:/my-model/Production -i batch_input.csv -o batch_output.csv"
show "head -3 batch_output.csv"

printf '\n$ %s\n' "foretell models serve -m models:/my-model/Production -p 1234"
foretell models serve -m models:/my-model/Production -p 1234 > serve.out 2> serve.err &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
tries=0
until [ -s serve.out ]; do
    kill -0 "$server" 2>/dev/null || { cat serve.err >&2; exit 1; }
    tries=$((tries + 1)); [ "$tries" -lt 600 ] || { echo "The server did not start in a minute" >&2; exit 1; }
    sleep 0.1
done
cat serve.out
show "curl -sS -X POST -H 'Content-Type:application/json' -d '{\"data\": [[5.1, 3.5, 1.4, 0.2]]}' http://localhost:1234/invocations"
printf '\n'
kill "$server"
wait "$server"
trap - EXIT
show "foretell models compare -m models:/my-model/Production -i batch_input.csv --scenario daily --budget 40s -o report.html" ||
    { [ $? -eq 2 ] || exit 1; printf 'This machine is too busy to measure in so short a time.\n'; }
printf '\nAll three worked. The files are in build/demo.\n'
