#!/usr/bin/env bash
# Studies on a machine with many cores or a GPU, as far as they come in a given time:
#     bash experiments/studies.sh WORK SECONDS STUDY...
# STUDY is the name of a file in this folder without its suffix, such as confirm_synthetic; folds/2 is a fold, and
# folds/2:chosen the methods of one of its families. WORK holds prepared folders as for run.py; what is missing and can
# be made without an archive is made. Two studies run at a time, so that the end of one leaves no core idle. The same
# command continues. The pages are written last.
set -u
work=$1 seconds=$2 cores=$(env -u OMP_NUM_THREADS nproc) here=$(dirname "$0")
shift 2
workers=$((cores * 5 / 8 + 1))
python=${PYTHON:-python3}
end=$((SECONDS + seconds))

run() { # STUDY
    local name=${1%%:*} options=() left=$((end - SECONDS))
    local study=${name%%/*} out=$name
    [ "$left" -gt 5 ] || return 0
    [ "$study" = "$name" ] || { out=$study/fold-${name#*/} options=(--fold "${name#*/}"); }
    [ "$name" = "$1" ] || options+=(--families "${1#*:}")
    timeout --signal TERM "$left" "$python" "$here/run.py" "$here/$study.yaml" --work "$work" --out "docs/results/$out" \
        --workers "$workers" --threads 1 ${options[@]+"${options[@]}"}
}

lane() { # STUDIES, of which it takes every second
    while [ $# -gt 0 ]; do
        run "$1"
        shift
        [ $# -eq 0 ] || shift
    done
}

if command -v nvidia-cuda-mps-control >/dev/null && nvidia-cuda-mps-control -d; then # processes share the GPU at once
    trap 'echo quit | nvidia-cuda-mps-control' EXIT
    "$python" -c 'import torch; print(torch.ones(2).cuda().sum())' || { echo quit | nvidia-cuda-mps-control; trap - EXIT; }
fi
lane "${@:2}" & second=$!
lane "$@"
wait $second
"$python" "$here/results.py"
