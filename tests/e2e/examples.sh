#!/usr/bin/env bash
# Runs the examples against the real otpost, as a person does: `examples.sh [python] [node] [rust]`.
#
# RabbitMQ and Redis come from scripts/with-services.sh. Each language has its own gateway and prefix, deleted at the end.
# A language without its tools is skipped with a message.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/debug
gateway=''

# The simulation reports nothing for the last number, so its request ends as `unknown`: sooner than by default.
export ENVIRONMENT=development PROVIDER_TIMEOUT_SECONDS=4 IN_DOUBT_POLICY=never_resend
export AMQP_URL=${OTPOST_TEST_AMQP_URL:?run me under scripts/with-services.sh} REDIS_URL=$OTPOST_TEST_REDIS_URL
export PYTHONUNBUFFERED=1

main() {
    run=$(mktemp -d "${TMPDIR:-/tmp}/otpost-examples.XXXXXX")
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'status=$?; trap "" HUP INT TERM; tear_down; exit "$status"' EXIT

    cargo build --locked --quiet --bin otpost --example send_and_verify --test clean_up
    (($#)) || set -- python node rust
    local language ran=0
    for language; do
        [[ $(type -t "prepare_$language") == function ]] || failed "no such example: $language"
        echo "== $language =="
        if "prepare_$language" >"$run/prepare.log" 2>&1; then
            start_gateway "$language"
            play
            stop_gateway
            ran=$((ran + 1))
        else
            tail -n 3 "$run/prepare.log"
            echo "skipped: $language (its tools or packages are not available here)"
        fi
    done
    echo "examples that ran: $ran of $#; every check held"
}

# Each sets `example` to the command that runs it, or fails.

prepare_python() {
    python3 -m venv "$built/../examples-python" &&
        "$built/../examples-python/bin/pip" install -q --retries 1 --timeout 20 -r "$root/examples/python/requirements.txt" || return
    example=("$built/../examples-python/bin/python" "$root/examples/python/send_and_verify.py")
}

# Installed beside a copy, so that nothing is left in the working tree.
prepare_node() {
    rm -rf "$built/../examples-node" && cp -r "$root/examples/node" "$built/../examples-node" &&
        npm ci --prefix "$built/../examples-node" --ignore-scripts --no-audit --no-fund --silent \
            --fetch-retries=1 --fetch-timeout=20000 || return
    example=(node "$built/../examples-node/send-and-verify.js")
}

prepare_rust() { example=("$built/examples/send_and_verify"); }

# The normal path, the outcomes of the simulated numbers, and the errors of a first run.
play() {
    set -m # a process group of its own, which can be stopped with all that is in it
    not_verified +573005550505 "unknown: it may have been sent" >"$run/unknown.log" 2>&1 &
    local unknown=$!
    set +m
    trouble "" "usage: "
    OTPOST_TOKEN='' trouble +573001230009 "OTPOST_TOKEN is not set"
    AMQP_URL=amqp://user:secret@127.0.0.1:1 trouble +573001230002 "RabbitMQ at 127.0.0.1:1 cannot be reached"
    local unused_prefix=$AMQP_PREFIX-none
    AMQP_PREFIX=$unused_prefix trouble +573001230002 "does otpost run with AMQP_PREFIX=$unused_prefix?"
    verified +573001230001
    typed=123456 OTPOST_URL=http://127.0.0.1:1 not_verified +573001230002 \
        "no answer of otpost at http://127.0.0.1:1: try again with the same code"
    typed=123456 OTPOST_URL="http://$OPS_ADDR/livez?" not_verified +573001230003 "no answer of otpost at .*: try again"
    typed=123456 OTPOST_TOKEN=none not_verified +573001230004 "invalid_token: fix the token"
    not_verified +573001230001 "rejected, cooldown: wait [0-9]* s"
    not_verified +576012345678 "rejected, landline: let the person give another number"
    not_verified nonsense "rejected, invalid_recipient: let the person give another number"
    not_verified +573005551614 "failed, provider_rejected: offer the person another way"
    not_verified +573005551614 "rejected, suppressed: offer the person another way"
    wait "$unknown" || { cat "$run/unknown.log" && exit 1; }
    grep -q "^still waiting" "$run/unknown.log" || failed "it did not say that it waits"
    cat "$run/unknown.log"
    left_alone
    ! grep -q 'to="+57[*]*0009"' "$run/gateway.log" || failed "it requested a code that it cannot verify"
}

# The broker closes the connection while the example waits for a result, which never comes: the kill switch is on.
left_alone() {
    local port
    port=$(free_ports)
    type -P python3 >/dev/null || { echo "skipped: a broker that goes (no python3)" && return; }
    "$built/otpost" kill-switch on >/dev/null
    # The worker reads the switch at its next heartbeat: a request before it would be sent.
    until grep -q 'consumption paused channel="sms"' "$run/gateway.log"; do
        kill -0 "$gateway" 2>/dev/null || failed "otpost ended"
        sleep 0.1
    done
    : >"$run/broker.log"
    python3 "$root/tests/e2e/broker_that_goes.py" "$port" "$AMQP_URL" >"$run/broker.log" 2>&1 &
    local broker=$!
    until grep -q listening "$run/broker.log"; do
        kill -0 "$broker" 2>/dev/null || failed "$(<"$run/broker.log")"
        sleep 0.1
    done
    AMQP_URL=$(sed -E "s|//([^@/]*@)?[^/]*|//\\1127.0.0.1:$port|" <<<"$AMQP_URL") \
        trouble +573001230005 "RabbitMQ ended the connection, .* may be published again"
    wait "$broker" || failed "the broker that goes, exit code $?"
    "$built/otpost" kill-switch off >/dev/null
}

# Types an invalid code, a wrong code, and then the right one from the gateway's console, with a space.
verified() {
    mkfifo "$run/typed"
    echo "\$ ${example[*]##*/} $1"
    "${example[@]}" "$1" <"$run/typed" >"$run/said" 2>&1 &
    local person=$!
    exec 3>"$run/typed"
    said "Code: " "$person"
    local code
    code=$(grep -A 1 "Para: .*${1: -4}$" "$run/gateway.log" | sed -n 's/.*Código: //p' | tail -n 1)
    [[ $code ]] || failed "no code on the console"
    echo "l2345O" >&3
    said "invalid_request: type it again" "$person"
    echo "${code:0:5}$(((${code:5} + 1) % 10))" >&3
    said "wrong_code: attempts left: 4" "$person" # of five
    echo "${code:0:3} ${code:3}" >&3
    exec 3>&-
    wait "$person" || failed "exit code $?"
    grep -q "^.*verified: +57\*\*\*\*\*\*${1: -4}$" "$run/said" || failed "it was not verified"
    cat "$run/said"
    rm "$run/typed"
}

# Expects the output $2 and exit code 1 for the number $1, with $typed as the only input.
not_verified() {
    echo "\$ ${example[*]##*/} $1"
    local status=0
    said=$(printf '%s' "${typed:+$typed$'\n'}" | timeout --foreground 100 "${example[@]}" ${1:+"$1"} 2>&1) || status=$?
    echo "$said"
    if ((status != 1)) || ! grep -q "$2" <<<"$said"; then
        failed "exit code $status; expected were 1, and: $2"
    fi
}

# The same, on a single line.
trouble() {
    not_verified "$@"
    [[ $said != *$'\n'* ]] || failed "that is more than a line"
}

# Waits for $1 in the output of process $2.
said() {
    for _ in {1..300}; do
        ! grep -qs "$1" "$run/said" || return 0
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    failed "it did not say: $1"
}

failed() {
    echo "FAILED: $1"
    tail -n 20 "$run/said" "$run/gateway.log" 2>/dev/null || true
    exit 1
}

start_gateway() {
    local port
    port=$(free_ports)
    export AMQP_PREFIX=e2e-examples-$1-$$ HTTP_ADDR=127.0.0.1:$port OPS_ADDR=127.0.0.1:$((port + 1))
    export OTPOST_URL=http://$HTTP_ADDR OTPOST_TOKEN
    clean_up=(env "AMQP_URL=$AMQP_URL" cargo test --locked --quiet --test clean_up -- "$AMQP_PREFIX") # a check may run with others when it fails
    OTPOST_TOKEN=$("$built/otpost" token --scope otp:verify)
    "$built/otpost" serve >"$run/gateway.log" 2>&1 &
    gateway=$!
    for _ in {1..300}; do
        ! "$built/otpost" health >/dev/null 2>&1 || return 0
        kill -0 "$gateway" 2>/dev/null || break
        sleep 0.1
    done
    failed "otpost serve is not ready"
}

stop_gateway() {
    kill -TERM "$gateway" 2>/dev/null || true
    wait "$gateway" || true
    gateway=''
    "${clean_up[@]}"
}

tear_down() {
    local left
    for left in $(jobs -p); do
        [[ $left == "$gateway" ]] || kill -TERM -- "-$left" 2>/dev/null || kill -TERM "$left" 2>/dev/null || true
    done
    [[ ! $gateway ]] || stop_gateway || true
    rm -rf "$run"
}

# The first of two consecutive free ports, below the ephemeral range.
free_ports() {
    local first
    while true; do
        first=$((20000 + RANDOM % 12000))
        (: <"/dev/tcp/127.0.0.1/$first") 2>/dev/null || (: <"/dev/tcp/127.0.0.1/$((first + 1))") 2>/dev/null || break
    done
    echo "$first"
}

main "$@"
