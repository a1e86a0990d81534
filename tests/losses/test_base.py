from dataclasses import replace

import pytest
import torch

from distill import losses
from distill.files.configs import from_config, to_config
from distill.losses.base import Loss, LossInputs, batch_scores, default_temperature, false_negative_mask, membership_mask
from distill.records import BadInput
from distill.teachers.teacher import score_candidates

ROWS = torch.tensor([[4, 7], [9, 4], [5, 6]])


def test_scores_of_a_batch_start_with_its_own_at_i_times_k():
    torch.manual_seed(0)
    encoded = score_candidates(torch.randn(3, 5), torch.randn(3, 2, 5), ROWS)
    scores = batch_scores(encoded)
    assert scores.shape == (3, 6)
    for query in range(3):
        torch.testing.assert_close(scores[query, 2 * query : 2 * query + 2], encoded.scores[query])
        for other in range(3):
            for candidate in range(2):
                by_hand = sum(encoded.query[query, d] * encoded.document[other, candidate, d] for d in range(5))
                torch.testing.assert_close(scores[query, 2 * other + candidate], by_hand)


def test_own_documents_in_others_columns_are_no_negatives():
    encoded = score_candidates(torch.zeros(3, 1), torch.zeros(3, 2, 1), ROWS)
    assert false_negative_mask(encoded).tolist() == [
        [False, False, False, True, False, False],  # 4 again, as the second document of query 1
        [True, False, False, False, False, False],  # 4 again, as the first document of query 0
        [False, False, False, False, False, False],
    ]


def test_relevant_documents_are_no_negatives_wherever_they_are_but_the_answer_stays():
    relevant = torch.tensor([[4, 9, 5], [9, 100, -1], [6, 5, 4]])
    encoded = score_candidates(torch.zeros(3, 1), torch.zeros(3, 2, 1), ROWS, relevant)
    assert false_negative_mask(encoded).tolist() == [
        [False, False, True, True, True, False],  # 9 and 4 of query 1, 5 of query 2; 4, its answer, stays
        [True, False, False, False, False, False],  # 4 again; 9 is its answer
        [True, False, False, True, False, True],  # 4 twice, and 6, its own second candidate
    ]


def test_without_judgments_nothing_more_is_left_out():
    nothing = torch.empty(3, 0, dtype=torch.int64)
    plain, empty = (
        false_negative_mask(score_candidates(torch.zeros(3, 1), torch.zeros(3, 2, 1), ROWS, relevant)) for relevant in (None, nothing)
    )
    assert plain.equal(empty)


# what every loss is


def inputs(**known) -> LossInputs:
    """A training of a student with its own documents on labels, by a teacher in its own space, unless `known` says otherwise."""
    usual = LossInputs(
        student_width=8,
        inherits_documents=False,
        teacher="store",
        teacher_width=8,
        teacher_reads_pairs=False,
        candidates=4,
        labelled=True,
    )
    return replace(usual, **known)


ALL = [getattr(losses, name)() for name in losses.__all__ if name not in ("Loss", "LossInputs")]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_a_training_with_everything_is_accepted_by_every_loss(loss):
    loss.check(inputs())


REFUSED = {
    "no vectors": (
        {"teacher_width": 0},
        {"QueryMatching", "DocumentMatching", "ContrastiveMatching", "SimilarityMatching"},
        "store has scores, no vectors: match another teacher",
    ),
    "another space": (
        {"teacher_width": 6},
        {"QueryMatching", "DocumentMatching", "ContrastiveMatching"},
        "store has vectors 6 wide, the student 8: match another teacher",
    ),
    "pairs": ({"teacher_reads_pairs": True}, {"ContrastiveMatching", "SimilarityMatching"}, "a cross encoder has no vector of a query"),
    "no labels": ({"labelled": False}, {"OneHot"}, "OneHot needs a judged document for every training query"),
    "inherited": ({"inherits_documents": True}, {"DocumentMatching"}, "this student inherits the teacher's documents"),
    "queries alone": (
        {"candidates": 0},
        {"DocumentMatching", "OneHot", "ScoreDistillation", "MarginMSE", "ScoreMSE"},
        "scores documents, but data.candidates is 0: set",
    ),
    "one document": ({"candidates": 1}, {"ScoreDistillation", "MarginMSE"}, "scores documents, but data.candidates is 1: set 2 or more"),
}


@pytest.mark.parametrize(("known", "refusing", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_training_lacks_is_refused_by_the_losses_that_need_it(known, refusing, words):
    for loss in ALL:
        if type(loss).__name__ in refusing:
            with pytest.raises(BadInput, match=words):
                loss.check(inputs(**known))
        else:
            loss.check(inputs(**known))


@pytest.mark.parametrize(("loss", "at_least"), [(losses.ScoreDistillation(), 2), (losses.MarginMSE(), 2), (losses.ScoreMSE(), 1)], ids=str)
def test_each_refuses_too_few_candidates(loss, at_least):
    loss.check(inputs(candidates=at_least))
    with pytest.raises(BadInput, match=rf"scores documents, but data\.candidates is {at_least - 1}: set {at_least} or more"):
        loss.check(inputs(candidates=at_least - 1))


def test_losses_that_read_queries_alone_say_so():
    assert {type(loss).__name__ for loss in ALL if not loss.reads_documents} == {"QueryMatching", "ContrastiveMatching"}


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_a_configuration_makes_the_same_loss_again(loss):
    again = from_config(to_config(loss))
    assert type(again) is type(loss) and again.init_args == loss.init_args


def test_parameters_and_settings_of_a_loss_of_ones_own():
    class Head(Loss):
        def __init__(self, width: int, weight: float = 1.0, teacher: str | None = None):
            super().__init__(weight, teacher)
            self.layer = torch.nn.Linear(width, width)

    loss = Head(3, weight=0.5)
    assert loss.init_args == {"width": 3, "weight": 0.5, "teacher": None}
    assert [name for name, _ in loss.named_parameters()] == ["layer.weight", "layer.bias"]


def test_the_default_temperature_fits_cosines_or_logits():
    assert (default_temperature(True), default_temperature(False)) == (0.05, 1.0)


def test_membership_equals_a_comparison_of_all() -> None:
    random = torch.Generator().manual_seed(0)
    for most in (1, 3, 50):
        rows = torch.randint(-1, most, (7, 5), generator=random)
        columns = torch.randint(0, most, (11,), generator=random)
        assert torch.equal(membership_mask(rows, columns), (rows[:, :, None] == columns).any(dim=1))


@pytest.mark.parametrize("kind", [losses.OneHot, losses.ContrastiveMatching, losses.ScoreDistillation])
@pytest.mark.parametrize("temperature", [0, -0.05, float("nan"), float("inf")])
def test_a_temperature_that_nothing_can_be_divided_by(kind, temperature):
    with pytest.raises(BadInput, match=r"temperature: .*: scores are divided by it: set a number above 0"):
        kind(temperature=temperature)
