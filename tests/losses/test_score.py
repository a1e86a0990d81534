import math

import pytest
import torch

from distill.losses import MarginMSE, ScoreDistillation, ScoreMSE
from distill.records import Encoded


def scored(scores: torch.Tensor) -> Encoded:
    """Vectors do not matter here."""
    empty = torch.zeros(*scores.shape, 1)
    return Encoded(torch.zeros(len(scores), 1), empty, scores, torch.zeros(scores.shape, dtype=torch.int64))


TEACHER = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # shares 3/4 1/4 and 1/2 1/2
STUDENT = torch.tensor([[0.0, 0.0], [0.0, math.log(9.0)]])  # shares 1/2 1/2 and 1/10 9/10


def test_kl_divergence_of_the_shares():
    first = 3 / 4 * math.log(3 / 4 / (1 / 2)) + 1 / 4 * math.log(1 / 4 / (1 / 2))
    second = 1 / 2 * math.log(1 / 2 / (1 / 10)) + 1 / 2 * math.log(1 / 2 / (9 / 10))
    assert ScoreDistillation(temperature=1.0)(scored(STUDENT), scored(TEACHER)).item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_temperature_divides_both_sides():
    warm = ScoreDistillation(temperature=2.0)(scored(2 * STUDENT), scored(2 * TEACHER))
    torch.testing.assert_close(warm, ScoreDistillation(temperature=1.0)(scored(STUDENT), scored(TEACHER)))


def test_zero_where_the_student_scores_as_the_teacher_or_all_higher_by_the_same():
    assert ScoreDistillation()(scored(TEACHER), scored(TEACHER)).item() == 0.0
    assert ScoreDistillation()(scored(TEACHER + 5.0), scored(TEACHER)).item() == pytest.approx(0.0, abs=1e-4)


def test_the_gradient_is_the_difference_of_the_shares():
    student = STUDENT.clone().requires_grad_()
    ScoreDistillation(temperature=0.5)(scored(student), scored(TEACHER)).backward()
    shares, wanted = torch.softmax(STUDENT / 0.5, 1), torch.softmax(TEACHER / 0.5, 1)
    torch.testing.assert_close(student.grad, (shares - wanted) / 0.5 / 2)


def test_gradient_against_finite_differences():
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda scores: ScoreDistillation(temperature=0.7)(scored(scores), scored(teacher)), (student,))


def test_a_teacher_sure_of_one_document_gives_a_finite_loss():
    student = STUDENT.clone().requires_grad_()
    loss = ScoreDistillation(temperature=0.01)(scored(student), scored(torch.tensor([[50.0, -50.0], [50.0, -50.0]])))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_the_teacher_may_have_a_temperature_of_its_own():
    own = ScoreDistillation(temperature=0.5, teacher_temperature=2.0)(scored(0.5 * STUDENT), scored(2 * TEACHER))
    torch.testing.assert_close(own, ScoreDistillation(temperature=1.0)(scored(STUDENT), scored(TEACHER)))


def fitted(loss: ScoreDistillation, student: float, teacher: float | None = None) -> tuple[float, float]:
    """The temperatures that a loss uses once it knows the defaults."""
    loss.set_default_temperatures(student, teacher)
    return loss.temperatures_in_use


def test_logits_of_the_teacher_are_not_divided_by_default():
    loss = ScoreDistillation(weight=3.0, teacher="ce")
    assert fitted(loss, 0.05, 1.0) == (0.05, 1.0)
    assert (loss.temperature, loss.teacher_temperature, loss.weight, loss.teacher) == (None, None, 3.0, "ce")  # what was given stays
    torch.testing.assert_close(
        loss(scored(0.05 * STUDENT), scored(TEACHER)), ScoreDistillation(temperature=1.0)(scored(STUDENT), scored(TEACHER))
    )
    assert fitted(ScoreDistillation(teacher_temperature=2.0), 0.05, 1.0) == (0.05, 2.0)


def test_temperatures_that_are_not_given_fit_the_scores():
    """A teacher whose scores are like the student's follows the temperature that was given; one of another kind does not."""
    assert fitted(ScoreDistillation(), 1.0) == (1.0, 1.0)
    assert fitted(ScoreDistillation(temperature=0.1), 1.0) == (0.1, 0.1)
    assert fitted(ScoreDistillation(temperature=0.1), 1.0, 0.05) == (0.1, 0.05)
    assert ScoreDistillation().temperatures_in_use == (0.05, 0.05)


def test_a_loss_that_serves_a_second_student_forgets_the_first_ones_defaults():
    loss = ScoreDistillation()
    assert [fitted(loss, 1.0, 0.05), fitted(loss, 0.05)] == [(1.0, 0.05), (0.05, 0.05)]


def test_halving_the_temperature_doubles_the_slope_at_equal_shares():
    slopes = []
    for temperature in (0.1, 0.05):
        student = (STUDENT * temperature).requires_grad_()
        ScoreDistillation(temperature=temperature)(scored(student), scored(TEACHER * temperature)).backward()
        slopes.append(student.grad)
    torch.testing.assert_close(slopes[1], 2 * slopes[0])


OURS, THEIRS = torch.tensor([[3.0, 1.0, 2.5], [0.0, 1.0, -1.0]]), torch.tensor([[10.0, 9.0, 4.0], [5.0, 5.0, 7.0]])


def test_margins_to_the_first_candidate():
    # ours 2 0.5, -1 1; theirs 1 6, 0 -2
    by_hand = (1.0**2 + 5.5**2 + 1.0**2 + 3.0**2) / 4
    assert MarginMSE()(scored(OURS), scored(THEIRS)).item() == pytest.approx(by_hand, rel=1e-6)
    assert MarginMSE()(scored(OURS + 7), scored(THEIRS)).item() == pytest.approx(by_hand, rel=1e-6)


def test_squared_differences_of_scores():
    by_hand = (7.0**2 + 8.0**2 + 1.5**2 + 5.0**2 + 4.0**2 + 8.0**2) / 6
    assert ScoreMSE()(scored(OURS), scored(THEIRS)).item() == pytest.approx(by_hand, rel=1e-6)


def test_slopes_of_squared_differences():
    student = OURS.clone().requires_grad_()
    (margin,) = torch.autograd.grad(MarginMSE()(scored(student), scored(THEIRS)), student)
    # 2 / 4 times each difference of margins: 1 -5.5, -1 3; the first candidate takes their sum
    torch.testing.assert_close(margin, torch.tensor([[-2.25, -0.5, 2.75], [1.0, 0.5, -1.5]]))
    (score,) = torch.autograd.grad(ScoreMSE()(scored(student), scored(THEIRS)), student)
    torch.testing.assert_close(score, (OURS - THEIRS) / 3)
