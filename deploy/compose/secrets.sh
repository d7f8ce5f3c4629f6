#!/bin/sh
# Makes the secrets of a one-host installation, once; what is there already is kept.
#
#   deploy/compose/secrets.sh [FOLDER]     FOLDER: default secrets/ beside this file
#
# The folder is closed to other users of the host. The files in it are readable, because Compose
# mounts them as they are, and the programs in the containers are ordinary users.
set -eu

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 0700 "$folder"

random() {
  # 32 bytes as hexadecimal: nothing in it needs quoting, in a URL or anywhere else.
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

keep() {
  # keep NAME TEXT: write a secret unless it exists.
  if [ ! -s "$folder/$1" ]; then
    printf '%s\n' "$2" >"$folder/$1"
    chmod 0444 "$folder/$1"
    echo "made $1"
  fi
}

keep postgres_password "$(random)"
keep superuser_url "postgresql://postgres:$(cat "$folder/postgres_password")@postgres:5432/tollgate"

for service in metering wallet invoicing gateway identity; do
  keep "${service}_database_url" \
    "postgresql://${service}_app:$(random)@postgres:5432/tollgate"
  keep "${service}_migrate_database_url" \
    "postgresql://${service}_migrate:$(random)@postgres:5432/tollgate"
done

keep redis_password "$(random)"
keep redis_url "redis://:$(cat "$folder/redis_password")@redis:6379/0"
# Redis holds nothing that cannot be made again, so it writes nothing to disk.
keep redis_conf "requirepass $(cat "$folder/redis_password")
save \"\"
appendonly no
maxmemory 256mb
maxmemory-policy noeviction"

keep service_secret "$(random)"
keep api_key_pepper "1:$(random)"

# What provider accounts name as file:<name>; gateway alone sees it.
mkdir -p "$folder/providers"
chmod 0755 "$folder/providers"
