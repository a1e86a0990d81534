# One function for each step of run.sh; each is skipped where it was done before. $root is the folder everything goes to, $teacher the
# dual encoder that all begin from.
source_options="--source Beir --source.root $root/data"
data_options="--data.source.init_args.root $root/data"
here=experiments/medquad

prepare() {  # splits, the teacher's vectors, hard negatives of both training splits
    [ -d "$root/data" ] || python $here/splits.py "$1" "$root/data"
    distill encode --teacher "$teacher" $source_options --splits "[teach,student,dev,test]" --out "$root/teacher"
    # cosines differ by 2 at most, so a margin of -2 takes any unjudged document of the first 100. At 0 none that outranks the positive
    # would be one, and those are what the teacher gets wrong
    for split in teach student; do
        distill mine --store "$root/teacher" $source_options --split $split --margin -2 --out "$root/negatives-$split"
    done
}

mined() {  # the options that name the hard negatives of the labelled queries
    echo --data.negatives MinedNegatives --data.negatives.init_args.path "$root/negatives-teach/negatives.jsonl"
}

cross() {  # cross NAME SEED [OPTION...]: a cross encoder taught on labels, and the test queries' documents in its order
    local run="$root/$1-$2"
    distill teach --config $here/cross.yaml --model.init_args.start_from "$teacher" $data_options $(mined) "${@:3}" --seed_everything "$2" \
        --data.first_stage "$root/teacher" --out "$run"
    rerank "$1-$2" "$run/teacher"
}

dual() {  # dual NAME SEED OPTION...: the teacher fine-tuned on the same labels; the options say where its negatives come from
    local run="$root/$1-$2"
    distill teach --config $here/dual.yaml --model.init_args.start_from "$teacher" $data_options "${@:3}" --seed_everything "$2" --out "$run"
    distill encode --teacher "$run/teacher" $source_options --splits "[dev,test]" --out "$root/vectors/$1-$2"
}

rerank() {  # rerank NAME FOLDER
    [ -e "$root/rerank/$1/results.json" ] ||
        distill rerank --teacher "$2" $source_options --first_stage "$root/teacher" --split test --top 20 --out "$root/rerank/$1"
}

read_pairs() {  # read_pairs NAME-SEED: what a cross encoder says of the student's queries, which it never saw, and their candidates
    distill encode --teacher "$root/$1/teacher" $source_options --splits "[student]" --candidates "$root/negatives-student" \
        --out "$root/pairs/$1"
}

student() {  # student NAME SEED CROSS LOSSES [OPTION...]: trained beside the cross encoder CROSS, measured on the whole corpus
    local run="$root/$1-$2"
    distill train --config $here/student.yaml $data_options --data.store "$root/teacher" --data.teachers "{\"ce\": \"$root/pairs/$3\"}" \
        --model.losses "$4" "${@:5}" --seed_everything "$2" --out "$run"
    [ -e "$run/results.json" ] || distill evaluate "$run" --split test
}

labels='"one_hot": {"class_path": "OneHot"}'
scores() {  # scores TEACHER: that teacher's softmax over the candidates, whose scores are logits
    echo "\"score\": {\"class_path\": \"ScoreDistillation\", \"init_args\": {\"teacher\": \"$1\", \"teacher_temperature\": 1.0}}"
}
matching() {  # matching TEACHER [WEIGHT]: query and document vectors of that teacher as targets
    local given="{\"teacher\": \"$1\", \"weight\": ${2:-1.0}}"
    echo "\"query_$1\": {\"class_path\": \"QueryMatching\", \"init_args\": $given}, \"document_$1\": {\"class_path\": \"DocumentMatching\", \"init_args\": $given}"
}

regularised() {  # regularised WEIGHT SEED: and the student that learns from its vectors alone, which tells what they are worth
    cross ce_dual_$1 $2 --model.init_args.regulariser $1
    read_pairs ce_dual_$1-$2
    student student_only_$1 $2 ce_dual_$1-$2 "{$(matching ce)}"
}

students() {  # students SEED CROSS: each objective once: what CROSS, a regularised cross encoder, adds to labels
    student student_labels $1 $2-$1 "{$labels}"
    student student_scores $1 $2-$1 "{$labels, $(scores ce)}"
    student student_embeddings $1 $2-$1 "{$labels, $(scores ce), $(matching ce 0.3)}"  # weights: see searched
    student student_anchored $1 $2-$1 "{$labels, $(scores ce), $(matching store)}"
    student student_labels_matching $1 $2-$1 "{$labels, $(matching store)}"
    student student_only_plain $1 ce_dual-$1 "{$(matching ce)}"
}

searched() {  # searched SEED CROSS: what else was tried to learn from cross encoders
    for weight in 0.1 1.0 3.0; do
        student student_embeddings_$weight $1 $2-$1 "{$labels, $(scores ce), $(matching ce $weight)}"
    done
    student student_anchored_embeddings $1 $2-$1 "{$labels, $(scores ce), $(matching store), $(matching ce 0.3)}"
    student student_embeddings_plain $1 ce_dual-$1 "{$labels, $(scores ce), $(matching ce 0.3)}"
    read_pairs ce_cls-$1
    student student_scores_cls $1 ce_cls-$1 "{$labels, $(scores ce)}"
    for weights in equal margin learned; do  # both teachers' scores as one
        student student_ensemble_$weights $1 $2-$1 "{$labels, $(scores ensemble)}" \
            --model.ensemble "{\"temperatures\": {\"store\": 0.05, \"ce\": 1.0}, \"weights\": \"$weights\"}"
    done
}
