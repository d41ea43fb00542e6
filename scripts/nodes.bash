# shellcheck shell=bash
# A NATS server and nodes for scripts/demo and scripts/outage, which source this. All that is started here is ended by `clean_up`, and
# nothing else is. Every function that starts a process closes descriptor 7, the sender's input: who inherits it keeps it open.

if ((BASH_VERSINFO[0] < 4)); then
    echo "this needs bash 4 or newer, this is $BASH_VERSION (macOS: brew install bash)" >&2
    exit 1
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly channel=voyage
readonly sender=ship

work=          # a folder for all files
waypost=       # the program
port=0         # of the server, once it was started
declare -A pids=()  # of what runs, by name
failed=0

# --- telling ---

# What shellcheck takes for unused is used by the scripts that source this.

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    readonly bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' reset=$'\e[0m'
    readonly -a colours=($'\e[36m' $'\e[33m' $'\e[35m' $'\e[34m')
else
    # shellcheck disable=SC2034
    readonly bold='' dim='' red='' green='' reset=''
    # shellcheck disable=SC2034
    readonly -a colours=('' '' '' '')
fi

say() { printf '%s%s%s\n' "$bold" "$*" "$reset"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Milliseconds; only differences of it are used.
now_ms() {
    if [[ -n ${EPOCHREALTIME:-} ]]; then
        local micros=${EPOCHREALTIME/[.,]/}
        echo $((micros / 1000))
    else
        echo $(($(date +%s) * 1000))
    fi
}

# --- building ---

# build debug|release; with WAYPOST_PROGRAMS nothing.
build() {
    if [[ -n ${WAYPOST_PROGRAMS:-} ]]; then
        waypost=$(cd "$WAYPOST_PROGRAMS" && pwd)/waypost || die "no folder $WAYPOST_PROGRAMS"
        [[ -x $waypost ]] || die "no program waypost in $WAYPOST_PROGRAMS: build it there, or leave WAYPOST_PROGRAMS away"
        return
    fi
    local -a options=(--quiet --locked --package waypost-cli)
    if [[ $1 == release ]]; then options+=(--release); fi
    command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
    command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null ||
        die "a C compiler is missing, which SQLite is built with: apt-get install gcc, dnf install gcc, xcode-select --install"
    say "Building the command ($1; the first time takes a minute or two)"
    (cd "$root" && cargo build "${options[@]}") || die "it does not build"
    local target=${CARGO_TARGET_DIR:-$root/target}
    [[ $target == /* ]] || target=$root/$target
    waypost=$target/$1/waypost
}

# --- the server: always one of our own, since it is to be killed ---

nats() { env -u WAYPOST_NATS XDG_RUNTIME_DIR="$work" "$root/scripts/nats" "$@" 7>&- 2>>"$work/nats.log"; }

server_start() {
    local url
    url=$(nats start --port "$port") || die "no NATS server: $(tail -n 2 "$work/nats.log")"
    port=${url##*:}
    port=${port%%/*}
    export WAYPOST_NATS=nats://127.0.0.1:$port
}

# A port that is free now, for nodes that start before their server.
server_choose_port() {
    server_start
    nats stop --port "$port" >/dev/null
}

server_kill() { nats kill --port "$port" >/dev/null; }

# --- nodes ---

# A reader that writes what it receives to NAME.out; started again, it carries on in the same file.
reader_start() {
    "$waypost" recv "$channel" --from all --json --id "$1" --db "$work/{id}.db" \
        </dev/null >>"$work/$1.out" 2>>"$work/$1.log" 7>&- &
    pids[$1]=$!
}

# The sender: what is written to descriptor 7 is sent, a message a line; the ids of what is durable go to sent.
sender_start() {
    rm -f "$work/feed"
    mkfifo "$work/feed"
    : >"$work/sent"
    "$waypost" send "$channel" --lines --wait 60s --id "$sender" --db "$work/{id}.db" \
        <"$work/feed" >>"$work/sent" 2>>"$work/$sender.log" 7>&- &
    pids[$sender]=$!
    exec 7>"$work/feed"
}

# send_messages FIRST LAST PAUSE
send_messages() {
    local n
    for ((n = $1; n <= $2; n++)); do
        printf 'message %d\n' "$n" >&7
        if [[ $3 != 0 ]]; then sleep "$3"; fi
    done
}

# Ends the input; the sender ends once all is settled.
sender_finish() {
    exec 7>&-
    local code=0
    wait "${pids[$sender]}" || code=$?
    unset "pids[$sender]"
    if ((code != 0)); then
        # shellcheck disable=SC2034
        failed=1
        printf '%sthe sender ended with %d: %s%s\n' "$red" "$code" "$(tail -n 2 "$work/$sender.log")" "$reset"
    fi
}

node_kill() {
    kill -KILL "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}

node_stop() {
    kill -TERM "${pids[$1]}" 2>/dev/null || true
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}

# --- looking ---

lines_of() { if [[ -s $1 ]]; then wc -l <"$1" | tr -d ' '; else echo 0; fi; }

# Different messages that a reader has received.
received() { numbers "$1" | sort -u | lines; }
lines() { wc -l | tr -d ' '; }
numbers() { if [[ -e $work/$1.out ]]; then sed -n 's/.*"text":"message \([0-9]*\)".*/\1/p' "$work/$1.out"; fi; }

# await_received COUNT SECONDS NAME...: whether all of these have so many within the time.
await_received() {
    local count=$1 deadline=$((SECONDS + $2)) name
    shift 2
    for name in "$@"; do
        until (($(received "$name") >= count)); do
            if ((SECONDS >= deadline)); then return 1; fi
            sleep 0.05
        done
    done
}

# await_sent COUNT SECONDS: whether so many ids are printed within the time.
await_sent() {
    local deadline=$((SECONDS + $2))
    until (($(lines_of "$work/sent") >= $1)); do
        if ((SECONDS >= deadline)); then return 1; fi
        sleep 0.05
    done
}

# judge NAME SENT: prints `received repeated out-of-order lost`, of what should be message 1 to SENT. A repeat is the same message
# again; it is not counted as out of order, any other step back is.
judge() {
    numbers "$1" | awk -v sent="$2" '
        { if ($1 in seen) repeated++
          else { seen[$1] = 1; received++; if ($1 < last) disorder++; last = $1 } }
        END {
            for (n = 1; n <= sent; n++) if (!(n in seen)) lost++
            print received + 0, repeated + 0, disorder + 0, lost + 0
        }'
}

# Ends what was started here, by its id, and removes the folder.
clean_up() {
    local name
    exec 7>&-
    for name in "${!pids[@]}"; do
        kill -KILL "${pids[$name]}" 2>/dev/null || true
        wait "${pids[$name]}" 2>/dev/null || true
    done
    pids=()
    if ((port != 0)) && [[ -d $work ]]; then nats stop --port "$port" >/dev/null || true; fi
    if [[ -n $work ]]; then rm -rf "$work"; fi
}

# Makes the folder, and sees to it that nothing stays behind however the script ends.
begin() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/waypost-${0##*/}.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
