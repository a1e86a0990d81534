import pytest
import torch

from distill.encoders.pooling import Pooling, mean_pool
from distill.records import BadInput

STATES = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[4.0, 0.0], [2.0, 2.0], [0.0, 7.0]]])  # [2, 3, 2]
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_mean_leaves_padding_out():
    torch.testing.assert_close(mean_pool(STATES, MASK), torch.tensor([[2.0, 4.0], [2.0, 3.0]]))


def test_cls_is_the_first_token():
    torch.testing.assert_close(Pooling("cls")(STATES, MASK), torch.tensor([[1.0, 2.0], [4.0, 0.0]]))


def test_mean_is_chosen_by_name():
    torch.testing.assert_close(Pooling("mean")(STATES, MASK), mean_pool(STATES, MASK))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("max", [[3.0, 6.0], [4.0, 7.0]]),
        ("lasttoken", [[3.0, 6.0], [0.0, 7.0]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, 8 / 2**0.5], [6 / 3**0.5, 9 / 3**0.5]]),
        ("weightedmean", [[7 / 3, 14 / 3], [8 / 6, 25 / 6]]),
    ],
)
def test_other_modes(mode, expected):
    torch.testing.assert_close(Pooling(mode)(STATES, MASK), torch.tensor(expected))


def test_several_modes_are_joined_in_their_order():
    pooling = Pooling("max", "cls")
    assert pooling(STATES, MASK).tolist() == [[3.0, 6.0, 1.0, 2.0], [4.0, 7.0, 4.0, 0.0]]
    assert pooling.output_width(2) == 4 and pooling.mode == "max+cls"


@pytest.mark.parametrize("modes", [("sum",), ()])
def test_other_names_are_refused(modes):
    with pytest.raises(BadInput, match="is not supported: only cls, max"):
        Pooling(*modes)


def test_places_are_weighed_in_full_precision():
    """Halves hold whole numbers up to 256 alone."""
    states, mask = torch.zeros(1, 400, 1, dtype=torch.bfloat16), torch.ones(1, 400, dtype=torch.int64)
    states[0, 300:] = 1.0
    expected = sum(range(301, 401)) / sum(range(1, 401))
    assert Pooling("weightedmean")(states, mask).item() == pytest.approx(expected, rel=0.004)


def test_padding_gets_no_gradient():
    states = STATES.clone().requires_grad_()
    mean_pool(states, MASK).sum().backward()
    torch.testing.assert_close(states.grad[0], torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]))


def test_a_text_without_tokens_is_zero_not_nan():
    assert mean_pool(STATES, torch.zeros_like(MASK)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_mean_keeps_the_number_format():
    assert mean_pool(STATES.bfloat16(), MASK).dtype == torch.bfloat16
