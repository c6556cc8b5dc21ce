#!/usr/bin/env bash
# Runs a command with a RabbitMQ and a Redis to test against, and leaves nothing behind.
#
#   scripts/with-services.sh cargo test --locked
#   scripts/with-services.sh --stop-left-behind       stop what a killed run could not stop itself
#
# The command finds them in OTPOST_TEST_AMQP_URL and OTPOST_TEST_REDIS_URL, and its exit code is passed on.
# Each of the two services is searched for separately, in this order:
#
#   1. given      OTPOST_TEST_AMQP_URL or AMQP_URL; OTPOST_TEST_REDIS_URL or REDIS_URL
#   2. standing   what answers on the standard port of 127.0.0.1
#   3. docker     the service of docker-compose.yml, in a project of its own, on a random port
#   4. private    a copy of the installed server on a free port; apt-get installs the server where it is missing
#                 (Debian and Ubuntu, as root or with passwordless sudo)
#
# OTPOST_SERVICES=docker or OTPOST_SERVICES=private allows only that way; a given URL is used all the same.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runs=${TMPDIR:-/tmp}/otpost-services

main() {
    case ${1:-} in
        "") usage >&2 && exit 2 ;;
        -h | --help) usage && exit ;;
        --stop-left-behind) stop_left_behind && exit ;;
    esac

    run=$(mktemp -d "$runs.XXXXXX") # everything to be undone is noted in here
    echo "$$ $(birth $$)" >"$run/owner"
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'status=$?; trap "" HUP INT TERM; tear_down "$run"; exit "$status"' EXIT

    provide rabbitmq "${OTPOST_TEST_AMQP_URL:-${AMQP_URL:-}}"
    export OTPOST_TEST_AMQP_URL=$url
    provide redis "${OTPOST_TEST_REDIS_URL:-${REDIS_URL:-}}"
    export OTPOST_TEST_REDIS_URL=$url

    # In the background a terminal cannot be read (the attempt would stop the command), and only a `wait` lets a
    # signal through at once.
    [[ ! -t 0 ]] || exec </dev/null
    launch "$@"
    local command=$! status=0
    wait "$command" || status=$?
    kill -TERM -- "-$command" 2>/dev/null || true # servers that a failed test forgot
    exit "$status"
}

# Sets `url` to where service $1 is, or explains and ends the run.
provide() {
    if [[ -n $2 ]]; then
        url=$2
        say "$1: the one given" # not which: a URL may hold a password
        return
    fi
    case ${OTPOST_SERVICES:-auto} in
        auto) standing "$1" || in_docker "$1" || privately "$1" || explain "$1" ;;
        docker) in_docker "$1" || explain "$1" ;;
        private) privately "$1" || explain "$1" ;;
        *) say "OTPOST_SERVICES is one of auto, docker, private" && exit 2 ;;
    esac
    case $1 in
        rabbitmq) url="amqp://guest:guest@127.0.0.1:$port/%2f" ;;
        redis) url="redis://127.0.0.1:$port/0" ;;
    esac
    say "$1: $url ($way)"
}

# The three ways. Each sets `port` and `way`, or fails.

standing() {
    way=standing port=$(standard_port "$1")
    answers "$1" "$port"
}

in_docker() {
    docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 || return
    way=docker
    say "$1: starting in docker"
    [[ -e $run/compose ]] || echo "otpost-test-$$-$RANDOM" >"$run/compose"
    compose "$run" up --detach --wait --wait-timeout 180 "$1" >"$run/$1.log" 2>&1 || failed "$1" || return
    port=$(compose "$run" port "$1" "$(standard_port "$1")") && port=${port##*:} || return
    answers "$1" "$port"
}

privately() {
    way=private
    installed "$1" || install "$1" || return
    say "$1: starting a private copy"
    mkdir "$run/$1"
    case $1 in
        rabbitmq) start_rabbitmq ;;
        redis) start_redis ;;
    esac </dev/null >"$run/$1.log" 2>&1
    local deadline=$((SECONDS + 90)) server=$!
    until answers "$1" "$port"; do
        if ((SECONDS >= deadline)) || ! kill -0 "$server" 2>/dev/null; then
            failed "$1" || return
        fi
        sleep 0.2
    done
}

start_redis() {
    port=$(free_ports 1)
    launch redis-server --bind 127.0.0.1 --port "$port" --save "" --appendonly no --dir "$run/redis"
}

start_rabbitmq() {
    port=$(free_ports 3)
    local home=$run/rabbitmq distribution=$((port + 1)) names=$((port + 2)) # of epmd
    # Debian's rabbitmq-server in the PATH insists on its own user; the script that it wraps does not.
    local server=${OTPOST_TEST_RABBITMQ_SCRIPTS:-/usr/lib/rabbitmq/bin}/rabbitmq-server
    [[ -x $server ]] || server=rabbitmq-server
    echo "[]." >"$home/enabled_plugins"

    # Erlang would start an epmd that outlives the node, so it finds one that is ours to stop.
    launch epmd -address 127.0.0.1 -port "$names"
    launch env HOME="$home" ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$names" ERL_CRASH_DUMP="$home/crash" \
        RABBITMQ_NODENAME="otpost-$$@localhost" \
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" RABBITMQ_DIST_PORT="$distribution" \
        RABBITMQ_CONF_ENV_FILE="$home/none" RABBITMQ_CONFIG_FILE="$home/none" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$home/none" RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" \
        RABBITMQ_MNESIA_BASE="$home/data" RABBITMQ_LOG_BASE="$home/log" RABBITMQ_LOGS=- \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}" \
        "$server"
}

installed() {
    case $1 in
        rabbitmq) { [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || have rabbitmq-server; } && have epmd ;;
        redis) have redis-server ;;
    esac
}

install() {
    have apt-get && as_root true 2>/dev/null || return
    say "$1: installing $1-server"
    # The package would start its server at once; this file forbids it for as long as it is there.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        touch "$run/policy"
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 755 /usr/sbin/policy-rc.d
    fi
    { as_root apt-get -q -o DPkg::Lock::Timeout=120 update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 \
            install --yes --no-install-recommends "$1-server"; } </dev/null >"$run/$1.log" 2>&1 || failed "$1"
}

explain() {
    local variable=OTPOST_TEST_AMQP_URL example=amqp://user:password@host:5672/%2f
    [[ $1 == rabbitmq ]] || variable=OTPOST_TEST_REDIS_URL example=redis://host:6379/0
    cat >&2 <<END

There is no $1 to test against, and none could be started (OTPOST_SERVICES=${OTPOST_SERVICES:-auto}).
Do one of these, then try again:
  export $variable=$example    # use one that you have
  docker compose up --detach --wait $1    # needs a running docker engine
  sudo apt-get install $1-server    # a private copy is then started for each run
END
    exit 1
}

# Which services are installed?

standard_port() { case $1 in rabbitmq) echo 5672 ;; redis) echo 6379 ;; esac }

# A port may be taken by anything: RabbitMQ replies to a protocol header with a method frame (its first byte is 1),
# Redis to PING with PONG; one that wants a password replies something else and is of no use here.
answers() (
    exec 3<>"/dev/tcp/127.0.0.1/$2" || exit
    case $1 in
        rabbitmq) printf 'AMQP\x00\x00\x09\x01' >&3 && IFS= read -r -t 3 -n 1 reply <&3 && [[ $reply == $'\x01' ]] ;;
        redis) printf 'PING\r\n' >&3 && read -r -t 3 reply <&3 && [[ $reply == +PONG* ]] ;;
    esac
) 2>/dev/null

# The first of $1 free ports in a row, below those that the kernel hands out by itself.
free_ports() {
    local first port
    while true; do
        first=$((20000 + RANDOM % 12000))
        for ((port = first; port < first + $1; port++)); do
            (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
        done
        echo "$first"
        return
    done
}

have() { command -v "$1" >/dev/null; }

# Start and stop.

# Starts a command in the background and notes it. Job control gives it a process group of its own: it can be
# stopped with all its children, and a Ctrl-C in the terminal reaches this script alone.
launch() {
    set -m
    "$@" &
    set +m
    echo "$! $(birth $!)" >>"$run/processes"
}

# When process $1 began: it distinguishes the process from a later one with the same number.
birth() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null || ps -o lstart= -p "$1"; }

# Undoes what is noted in folder $1, the newest process first.
tear_down() {
    local pid born
    while read -r pid born; do
        [[ $(birth "$pid") != "$born" ]] || stop "$pid"
    done < <([[ ! -e $1/processes ]] || sed '1!G;h;$!d' "$1/processes")
    [[ ! -e $1/compose ]] || compose "$1" down --volumes --timeout 5 >/dev/null 2>&1 || true
    [[ ! -e $1/policy ]] || as_root rm -f /usr/sbin/policy-rc.d
    rm -rf "$1"
}

stop() {
    kill -TERM -- "-$1" 2>/dev/null || return 0
    for _ in {1..100}; do
        kill -0 -- "-$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null || true
}

stop_left_behind() {
    local left pid born
    for left in "$runs".*; do
        [[ -O $left && -e $left/owner ]] || continue
        read -r pid born <"$left/owner"
        [[ $(birth "$pid") != "$born" ]] || continue # still at work
        say "stopping what $left left behind"
        tear_down "$left"
    done
}

# Random ports: the compose file publishes on these when they are set, and empty means any.
compose() {
    local noted=$1
    shift
    AMQP_PORT="" MANAGEMENT_PORT="" REDIS_PORT="" docker compose --file "$root/docker-compose.yml" \
        --project-name "$(<"$noted/compose")" "$@"
}

as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }

failed() {
    say "$1: that did not work ($way); the end of its log:"
    tail -n 30 "$run/$1.log" >&2
    return 1
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

say() { printf '%s\n' "with-services: $*" >&2; }

main "$@"
