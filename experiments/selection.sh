#!/usr/bin/env bash
# The studies that select an objective, on a machine with many cores or a GPU, as far as they come in a given time:
#     bash experiments/selection.sh WORK SECONDS
# WORK holds prepared folders as for run.py; what is missing and can be made without an archive is made. Two studies run
# at a time, so that the end of one leaves no core idle. The same command continues. The tables come last.
set -u
work=$1 seconds=$2 cores=$(env -u OMP_NUM_THREADS nproc) here=$(dirname "$0")
workers=$((cores * 5 / 8 + 1))
python=${PYTHON:-python3}
end=$((SECONDS + seconds))

run() { # STUDY OUT OPTIONS...
    local study=$1 out=$2 left=$((end - SECONDS))
    shift 2
    [ "$left" -gt 5 ] || return 0
    timeout --signal TERM "$left" "$python" "$here/run.py" "$here/$study.yaml" --work "$work" --out "docs/results/$out" \
        --workers "$workers" --threads 1 "$@"
}

synthetic() {
    run factorial factorial --families factorial
    run longer longer
}
folds() {
    for fold in 0 1 2 3 4; do run folds "folds/fold-$fold" --fold $fold --families factorial; done
    run factorial factorial --families temperatures
}

if command -v nvidia-cuda-mps-control >/dev/null && nvidia-cuda-mps-control -d; then # processes share the GPU at once
    trap 'echo quit | nvidia-cuda-mps-control' EXIT
    "$python" -c 'import torch; print(torch.ones(2).cuda().sum())' || { echo quit | nvidia-cuda-mps-control; trap - EXIT; }
fi
folds & second=$!
synthetic
wait $second
"$python" "$here/results.py" && cat docs/hierarchy.md
