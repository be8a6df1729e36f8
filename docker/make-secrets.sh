#!/bin/sh
# Makes the passwords of the API and of the database, once, each in a folder of its own: who mounts
# that of the API does not see that of the database.
set -eu
for name in api database; do
    folder=$1/$name
    mkdir -p "$folder"
    if [ ! -s "$folder/password" ]; then
        secret=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
        if [ "$name" = api ]; then secret=aimspax:$secret; fi # HTTP wants a name before the colon
        (umask 222 && printf %s "$secret" > "$folder/.new")
        mv "$folder/.new" "$folder/password"
    fi
done
