#!/usr/bin/env bash
# Runs the contract tests, the acceptance and a short chaos over the versions of RabbitMQ, Redis and Valkey that people run.
#
#   scripts/engines.sh                            every pair, then every cluster
#   scripts/engines.sh --list                     print their names
#   scripts/engines.sh rabbitmq-4.3+valkey-9      those whose names hold one of the words
#   scripts/engines.sh --given                    the servers of OTPOST_TEST_AMQP_URL and OTPOST_TEST_REDIS_URL, without chaos
#
# The servers are Debian's packages in root file systems of their own, made once by debootstrap (as root, 1.1 GB) in
# OTPOST_ENGINES, or else in ~/.cache/otpost/engines. DEBIAN_MIRROR names another mirror than that of this machine's apt.
# A version that is not to be had is a line of the table, not a failure. Logs are kept in target/engines.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${OTPOST_ENGINES:-${XDG_CACHE_HOME:-$HOME/.cache}/otpost/engines}
logs=$root/target/engines
temp=${TMPDIR:-/tmp}

brokers=(rabbitmq-3.10 rabbitmq-4.0 rabbitmq-4.3)
stores=(redis-7 redis-8 valkey-9)

# The Debian release that has an engine, and the packages taken from each release.
release() {
    case $1 in
        rabbitmq-3.10 | redis-7) echo bookworm ;;
        rabbitmq-4.0) echo trixie ;;
        rabbitmq-4.3 | redis-8 | valkey-9) echo forky ;;
    esac
}

packages() {
    case $1 in
        bookworm) echo rabbitmq-server,redis-server ;;
        trixie) echo rabbitmq-server ;;
        forky) echo rabbitmq-server,redis-server,valkey-server,valkey-tools ;;
    esac
}

main() {
    cd "$root"
    case ${1:-} in
        -h | --help) usage && exit ;;
        --list) names && exit ;;
        --given) given && exit ;;
    esac
    mkdir -p "$logs"
    build
    local name ran=0
    failed=0
    : >"$logs/table"
    while read -r name; do
        wanted "$name" "$@" || continue
        ran=$((ran + 1))
        one "$name"
    done < <(names)
    ((ran > 0)) || { say "no pair is called that; --list prints the names" && exit 2; }
    printf '\n' && cat "$logs/table"
    exit "$failed"
}

names() {
    local broker store
    for broker in "${brokers[@]}"; do
        for store in "${stores[@]}"; do echo "$broker+$store"; done
    done
    for broker in "${brokers[@]}"; do echo "cluster-of-three:$broker+redis-7"; done
    for store in "${stores[@]}"; do echo "cluster-and-sentinel:rabbitmq-3.10+$store"; done
}

wanted() {
    local name=$1 word
    shift
    (($# > 0)) || return 0
    for word; do [[ $name != *"$word"* ]] || return 0; done
    return 1
}

# Everything is compiled before the first server starts.
build() {
    cargo test --locked --no-run --test it --test chaos
    python3 -m venv target/acceptance
    target/acceptance/bin/pip install -q -r tests/acceptance/requirements.txt
}

# Runs the suites over one name of the list, and adds its line to the table.
one() {
    local name=$1 pair=${1#*:} bin="$logs/bin/$1"
    local broker=${pair%+*} store=${pair#*+}
    say "$name"
    local engine
    for engine in "$broker" "$store"; do
        file_system "$(release "$engine")" || {
            line "$name" "$engine is not to be had here (see $logs/$(release "$engine").log)"
            return 0
        }
    done
    wrap "$broker" "$store" "$bin"
    local versions
    versions="$(version "$broker" rabbitmq-server) + $(version "$store" "${store%-*}-server"),"
    case $name in
        cluster-of-three:*) suite "$name" "$versions" chaos --long rabbit_cluster ;;
        cluster-and-sentinel:*) suite "$name" "$versions" chaos --long redis_cluster redis_sentinel ;;
        *)
            suite "$name" "$versions" contracts
            suite "$name" "$versions" acceptance
            suite "$name" "$versions" chaos
            ;;
    esac
}

# Runs one suite with the wrapped servers first in PATH.
suite() {
    local name=$1 versions=$2 suite=$3 log began=$SECONDS verdict=holds
    shift 3
    log=$logs/$name.$suite.log
    within "$logs/bin/$name" "$suite" "$@" >"$log" 2>&1 || { verdict=FAILED && failed=1; }
    line "$name" "$versions" "$suite: $verdict, $(summary "$suite" "$log") ($((SECONDS - began)) s)"
}

within() {
    local bin=$1 suite=$2
    shift 2
    export PATH=$bin:$PATH OTPOST_TEST_RABBITMQ_SCRIPTS=$bin OTPOST_SERVICES=private
    unset OTPOST_TEST_AMQP_URL OTPOST_TEST_REDIS_URL AMQP_URL REDIS_URL
    case $suite in
        contracts) scripts/with-services.sh cargo test --locked --no-fail-fast --test it -- contract reshard model ;;
        acceptance) scripts/with-services.sh "${acceptance[@]}" ;;
        chaos) cargo test --locked --test chaos -- "$@" ;;
    esac
}

acceptance=(target/acceptance/bin/python tests/acceptance/acceptance.py --binary target/debug/otpost
    --messages 2000 bulk hammer guess poison secrets)

# The end of a log in a few words.
summary() {
    case $1 in
        contracts) sed -n 's/^test result: [a-zA-Z]*\. \([0-9]* passed; [0-9]* failed\).*/\1/p' "$2" | tail -n 1 ;;
        acceptance) echo "$(grep -c ': held$' "$2") scenarios held" ;;
        chaos) echo "$(grep -c '  holds  ' "$2") scenarios hold" ;;
    esac
}

given() {
    : "${OTPOST_TEST_AMQP_URL:?names the RabbitMQ}" "${OTPOST_TEST_REDIS_URL:?names the Redis}"
    build
    cargo test --locked --no-fail-fast --test it -- contract reshard model
    "${acceptance[@]}"
}

# Makes the root file system of a release, once.
file_system() {
    local release=$1 script=()
    [[ ! -e $cache/$release/usr/sbin/policy-rc.d ]] || return 0
    if ((EUID != 0)) || ! command -v debootstrap >/dev/null; then
        echo "a root file system needs root and debootstrap" >"$logs/$release.log"
        return 1
    fi
    say "$release: making a root file system"
    mkdir -p "$cache"
    # An older debootstrap does not know the name of a newer release, which is made as `sid` is.
    [[ -e /usr/share/debootstrap/scripts/$release ]] || script=(sid)
    rm -rf "${cache:?}/$release"
    debootstrap --variant=minbase --include="$(packages "$release")" "$release" "$cache/$release" "$(mirror)" \
        "${script[@]}" >"$logs/$release.log" 2>&1 || return 1
    # Erlang's node names end in localhost.
    echo "127.0.0.1 localhost" >"$cache/$release/etc/hosts"
    # The last step: its file says that the file system is whole. No package starts a server in it.
    printf '#!/bin/sh\nexit 101\n' >"$cache/$release/usr/sbin/policy-rc.d"
    chmod 755 "$cache/$release/usr/sbin/policy-rc.d"
}

# The mirror of this machine's apt.
mirror() {
    local apt=/etc/apt/sources.list
    [[ -z ${DEBIAN_MIRROR:-} ]] || { echo "$DEBIAN_MIRROR" && return; }
    cat "$apt" "$apt".d/*.list "$apt".d/*.sources 2>/dev/null |
        sed -n -E 's/^(URIs:|deb( \[[^]]*\])?) +([^ ]*debian\/?)( .*)?$/\3/p' | head -n 1
}

version() { chroot "$cache/$(release "$1")" dpkg-query --show --showformat "\${source:Upstream-Version}" "$2"; }

# Fills folder $3 with programs that run the servers in their root file systems, under the names that the tests know.
wrap() {
    local broker=$1 store=$2 bin=$3 program
    mkdir -p "$bin"
    for program in rabbitmq-server rabbitmqctl rabbitmq-plugins rabbitmq-diagnostics; do
        wrapper "$bin/$program" "$broker" "/usr/lib/rabbitmq/bin/$program"
    done
    wrapper "$bin/epmd" "$broker" /usr/bin/epmd
    for program in server cli; do
        wrapper "$bin/redis-$program" "$store" "/usr/bin/${store%-*}-$program"
    done
}

# A namespace of its own holds the mounts, so that they go with the process. The tests keep data in the temporary folder, and
# their certificates in the repository.
wrapper() {
    local tree
    tree=$cache/$(release "$2")
    mkdir -p "$tree$temp" "$tree$root"
    cat >"$1" <<END
#!/bin/sh
exec unshare --mount sh -c 'mount --bind "$temp" "$tree$temp" && mount --bind "$root" "$tree$root" && mount -t proc proc "$tree/proc" &&
    exec chroot "$tree" env --chdir="\$PWD" "\$@"' sh $3 "\$@"
END
    chmod 755 "$1"
}

line() {
    printf '%-44s %s\n' "$1" "${*:2}" >>"$logs/table"
    say "$*"
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

say() { printf '%s\n' "engines: $*" >&2; }

main "$@"
