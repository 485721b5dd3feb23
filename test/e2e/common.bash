# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# common -- what the end-to-end scripts share: a TAP line a check, a private directory, no leftovers
#
#   . "$(dirname "$0")/common.bash"
#   check "it adds" equals 50005000 "$(naru sum)"
#   finish
set -uo pipefail

NARU=${NARU:?the path of the command naru}
SCRATCH=$(mktemp -d /tmp/naru-e2e-XXXXXX)
UNIQUE="naru-e2e-$$"
tests=0
failed=0

# A check runs in a subshell of its own, whose jobs are not ours: what it starts in the background it
# names with `started PID`, and nothing of that outlives the script.
started() {
    echo "$1" >>"$SCRATCH/started"
}

clean_up() {
    local pid
    for pid in $(cat "$SCRATCH/started" 2>/dev/null); do
        [[ /proc/$pid/exe -ef $NARU ]] && kill -KILL "$pid" 2>/dev/null
    done
    rm -rf "$SCRATCH"
}
trap clean_up EXIT

naru() {
    # shellcheck disable=SC2086 # the wrapper is a command with its arguments
    ${NARU_TEST_WRAPPER:-} "$NARU" "$@"
}

# check NAME COMMAND...: one TAP line; what the command prints goes to the log.
check() {
    local name=$1 output
    shift
    tests=$((tests + 1))
    if output=$("$@" 2>&1); then
        echo "ok $tests - $name"
    else
        failed=$((failed + 1))
        echo "not ok $tests - $name"
        printf '%s\n' "$*" "$output" | head -n 20 | sed 's/^/# /'
    fi
}

skip() {
    tests=$((tests + 1))
    echo "ok $tests - $1 # SKIP $2"
}

equals() {
    [[ $1 == "$2" ]] || { echo "expected: $1"; echo "came:     $2"; return 1; }
}

contains() {
    [[ $2 == *"$1"* ]] || { echo "expected somewhere: $1"; echo "came: $2"; return 1; }
}

# exits CODE COMMAND...
exits() {
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    ((code == wanted)) || { echo "expected exit code $wanted, came $code"; return 1; }
}

same_file() {
    cmp "$1" "$2"
}

# Waits up to 5 s until COMMAND succeeds.
eventually() {
    local i
    for ((i = 0; i < 500; i++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.01
    done
    echo "not within 5 s: $*"
    return 1
}

# The names of POSIX queues, where they can be seen.
list_queues() {
    mountpoint -q /dev/mqueue && ls /dev/mqueue
    (($(id -u) == 0)) && unshare --mount sh -c 'mount -t mqueue none /mnt && ls /mnt' 2>/dev/null
}

finish() {
    echo "1..$tests"
    exit $((failed > 0))
}

URI_SCHEMES=${NARU_E2E_SCHEMES:-fifo mq sysv shm unix abstract tcp file}
TECHNIQUES=${NARU_E2E_TECHNIQUES:-file pipe fifo mq sysv shm signal semaphore unix abstract tcp}

# uri SCHEME N: a name that only this run uses
uri() {
    case $1 in
    fifo | file | unix) echo "$1://$SCRATCH/$1-$2" ;;
    sysv) echo "sysv://$((0x6e000000 + ($$ & 0xffff) * 64 + $2))" ;;
    tcp) echo "tcp://127.0.0.1:$((20000 + ($$ * 7 + $2) % 12000))" ;;
    *) echo "$1://$UNIQUE-$2" ;;
    esac
}
