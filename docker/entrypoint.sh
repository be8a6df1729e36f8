#!/bin/sh
# Runs a command with the settings that files hold: where NAME_FILE names one, NAME is its content.
# So no password stands in compose.yaml, nor in what `docker inspect` shows.
set -eu
for name in PREFECT_SERVER_API_AUTH_STRING PREFECT_API_AUTH_STRING PREFECT_SERVER_DATABASE_PASSWORD; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        if [ ! -s "$file" ]; then
            echo "${name}_FILE names $file, which is empty or cannot be read" >&2
            exit 2
        fi
        export "$name=$(cat "$file")"
        unset "${name}_FILE"
    fi
done
exec "$@"
