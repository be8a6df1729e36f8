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
case "$*" in
    "prefect worker start"*) ;;
    *) exec "$@" ;;
esac

# Prefect's worker kills its flows when it is stopped. Here they are stopped first, cleanly, and the
# worker, which meanwhile stands still and takes no new run, when they have ended.
patience_s=40 # a flow promises to end within 30 s

flows() { # the flows that this worker has started and that still run, or are about to
    for folder in /proc/[0-9]*; do
        if grep -qsF -e prefect.engine -e prefect.runner._workspace_supervisor "$folder/cmdline" &&
            descends "${folder#/proc/}"; then
            echo "${folder#/proc/}"
        fi
    done
}

descends() { # whether a process was started by the worker, or by one that it has started
    parent=$1
    while [ "${parent:-0}" -gt 1 ]; do
        if [ "$parent" = "$worker" ]; then return 0; fi
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$parent/status" 2>/dev/null) || parent=
    done
    return 1
}

listens() { # whether a process has a handler for SIGTERM: the third bit of the fourth digit
    case "$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null)" in
        *[4567cdef]???) return 0 ;;
    esac
    return 1
}

# A flow that is starting would die of the signal without a word: it is told once it listens.
stop() {
    trap '' TERM INT
    kill -STOP "$worker" 2>/dev/null || return 0
    told=" "
    left=$patience_s
    while [ "$left" -gt 0 ]; do
        running=$(flows)
        if [ -z "$running" ]; then break; fi
        for flow in $running; do
            case "$told" in *" $flow "*) continue ;; esac
            if listens "$flow"; then
                kill -TERM "$flow" 2>/dev/null || true
                told="$told$flow "
            fi
        done
        sleep 1
        left=$((left - 1))
    done
    kill -TERM "$worker" 2>/dev/null || true
    kill -CONT "$worker" 2>/dev/null || true
}

env --default-signal=INT "$@" & # a shell would have it ignore what it ends itself with
worker=$!
trap stop TERM INT
code=0
wait "$worker" || code=$?
# A signal ends `wait`, too: the worker has yet to end.
while kill -0 "$worker" 2>/dev/null; do
    code=0
    wait "$worker" || code=$?
done
exit "$code"
