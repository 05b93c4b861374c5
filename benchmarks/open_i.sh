#!/usr/bin/env bash
# Open-i end to end: three seeds of recipes/open_i_small.yaml against the untrained network and raw pixels.
# usage: benchmarks/open_i.sh OPEN_I_RAW CHESTXRAY14_RAW WORK   (writes docs/results/open_i/*.json; about 12 minutes on two cores)
set -euo pipefail
raw=$1 nih=$2 work=$3 out=docs/results/open_i recipe=recipes/open_i_small.yaml
imitate=${IMITATE:-.venv/bin/imitate}
$imitate prepare open-i --raw "$raw" --out "$work/open-i" --size 72
$imitate prepare chestxray14 --raw "$nih" --out "$work/chestxray14" --size 72 --split-by patient
runs=()
for seed in 0 1 2; do
  $imitate pretrain $recipe --data "$work/open-i" --out "$work/run-$seed" --threads 1 --settings training.seed=$seed &
  runs+=("$work/run-$seed")
  [ $seed = 0 ] || wait -n  # two at a time, a core each
done
wait
measure() {  # task, name of the results file, data, further options
  local task=$1 name=$2 data=$3
  shift 3
  $imitate evaluate "$task" --data "$work/$data" --out "$work/results/$name.json" --cache "$work/cache" "$@"
  mkdir -p $out && cp "$work/results/$name.json" $out/
}
common=macro_least=10  # AUROC over a handful of positive images is noise: such classes stay out of the mean
measure retrieval retrieval-imitate open-i --name IMITATE --model "${runs[@]}" --settings split=val
measure retrieval retrieval-untrained open-i --name untrained --model random --like $recipe --seeds 3 --settings split=val
measure zero-shot zero-shot-imitate open-i --name IMITATE --model "${runs[@]}" --settings split=val $common
measure zero-shot zero-shot-untrained open-i --name untrained --model random --like $recipe --seeds 3 --settings split=val $common
for data in open-i chestxray14; do
  split="split=$([ $data = open-i ] && echo val || echo test) $common"
  measure linear-classification linear-$data-imitate $data --name IMITATE --model "${runs[@]}" --settings $split
  measure linear-classification linear-$data-untrained $data --name untrained --model random --like $recipe --seeds 3 --settings $split
  measure linear-classification linear-$data-pixels $data --name "24x24 pixels" --model pixels --like $recipe --settings $split
  measure finetune-classification supervised-$data $data --name "supervised from scratch" --model random --like $recipe --seeds 3 --settings $split epochs=20
done
$imitate compare "$work/results/retrieval-imitate.json" "$work/results/retrieval-untrained.json" --out $out/compare-retrieval.json
