#!/usr/bin/env bash
# N processes of one jaxattack command on this machine's CPU, as a pod would run it.
#
#   launch/local.sh 2 -- jaxattack --config=configs/quickstart.py --workdir=runs/mine \
#       --config.mesh="(1,-1,1)"
#
# The mesh has to use the devices of all processes; JAX_NUM_CPU_DEVICES=4 gives each of them four.
# Process 0 has the terminal; of another that fails the last lines are shown. LOGS=DIR keeps what
# they all write. If one fails, or the launcher is killed, all are stopped. Nobody outside this
# machine can reach them, and nothing of the launcher's stays behind.
usage() { echo "usage: launch/local.sh N -- COMMAND [ARGUMENT ...]" >&2; exit 2; }
[[ ${1:-} =~ ^[1-9][0-9]*$ && ${2:-} == -- && $# -ge 3 ]] || usage
count=$1; shift 2

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])') || exit 1
kept=${LOGS:-}
logs=${kept:-$(mktemp -d "${TMPDIR:-/tmp}/jaxattack-local.XXXXXX")} || exit 1
mkdir -p "$logs" || exit 1
export JAX_PLATFORMS=cpu JAXATTACK_DISTRIBUTED=1
export NPROC=${NPROC:-32}  # XLA's threads: virtual devices that wait for each other hold some
export JAXATTACK_COORDINATOR=127.0.0.1:$port JAXATTACK_PROCESSES=$count

pids=()  # of the processes that run, by number
stop() {
    ((${#pids[@]})) || return
    kill "${pids[@]}" 2>/dev/null
    for _ in {1..50}; do kill -0 "${pids[@]}" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "${pids[@]}" 2>/dev/null
    wait 2>/dev/null
}
clear() { [[ $kept ]] || rm -rf "$logs"; }
trap clear EXIT
trap 'stop; echo "local.sh: stopped; the same command goes on from there" >&2; exit 130' \
    INT TERM HUP

# A killed launcher cannot stop anybody: one who outlives it does, and clears up.
launcher=$$
watch() {
    trap '' INT HUP
    while kill -0 "$launcher" 2>/dev/null; do sleep 0.5; done
    kill "$@" 2>/dev/null
    for _ in {1..50}; do kill -0 "$@" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$@" 2>/dev/null
    clear
}

for ((i = 0; i < count; i++)); do
    if ((i == 0)); then
        JAXATTACK_PROCESS=0 "$@" &
    else
        JAXATTACK_PROCESS=$i "$@" >"$logs/$i.log" 2>&1 &
        [[ $kept ]] && echo "local.sh: process $i writes $logs/$i.log" >&2
    fi
    pids[i]=$!
done
watch "${pids[@]}" >/dev/null 2>&1 </dev/null &
watcher=$!
trap 'kill -KILL $watcher 2>/dev/null; clear' EXIT
disown "$watcher"  # `wait` below is for the processes

failed=-1 code=0
until ((${#pids[@]} == 0)); do
    for i in "${!pids[@]}"; do
        kill -0 "${pids[i]}" 2>/dev/null && continue
        wait "${pids[i]}"; ended=$?
        unset "pids[i]"
        ((ended && failed < 0)) || continue
        failed=$i code=$ended
        # The others often end by themselves, with a word on what is wrong.
        for _ in {1..30}; do kill -0 "${pids[@]}" 2>/dev/null || break; sleep 0.1; done
        stop
        pids=()
        break
    done
    sleep 0.1
done
((failed >= 0)) || exit 0
echo "local.sh: process $failed ended with $code, so the others were stopped" >&2
((failed == 0)) || tail -n 20 "$logs/$failed.log" >&2
exit "$code"
