#!/bin/sh
# Makes the passwords of the API and of the database, once; whoever mounts the folder can read them.
set -eu
folder=$1
for name in api database; do
    if [ ! -s "$folder/$name" ]; then
        secret=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
        if [ "$name" = api ]; then secret=aimspax:$secret; fi # HTTP wants a name before the colon
        (umask 222 && printf %s "$secret" > "$folder/.$name.new")
        mv "$folder/.$name.new" "$folder/$name"
    fi
done
