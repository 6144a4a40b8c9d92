#!/usr/bin/env bash
# Runs the whole suite: `PY=.venv/bin/python scripts/test.sh -n 3`; MARKS chooses other tests than the usual ones. A few
# tests that fail next to others are run once more, by themselves, and named: what passes only then is a fault of the
# test or a race in the code, and what fails again fails the run.
set -uo pipefail

cd "$(dirname "$0")/.."
most=10
status=0
marks=(${MARKS:+-m "$MARKS"})
"$PY" -m pytest --cache-clear "${marks[@]}" "$@" || status=$?
[ "$status" = 1 ] || exit "$status"

failed=$("$PY" -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))))' .pytest_cache/v/cache/lastfailed) || exit 1
if printf '%s\n' "$failed" | grep -qv ::; then # a module, or a process of pytest's
    exit 1
fi
count=$(printf '%s\n' "$failed" | grep -c .)
if [ "$count" = 0 ] || [ "$count" -gt "$most" ]; then
    exit 1
fi
printf '\ntest: %s failed next to others, and run once more by themselves:\n%s\n\n' "$count" "$failed"
"$PY" -m pytest "${marks[@]}" --last-failed --last-failed-no-failures none
