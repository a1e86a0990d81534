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


def test_other_modes_are_refused():
    with pytest.raises(BadInput, match="pooling 'max' is not supported: only cls or mean"):
        Pooling("max")


def test_padding_gets_no_gradient():
    states = STATES.clone().requires_grad_()
    mean_pool(states, MASK).sum().backward()
    torch.testing.assert_close(states.grad[0], torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]))


def test_a_text_without_tokens_is_zero_not_nan():
    assert mean_pool(STATES, torch.zeros_like(MASK)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_mean_keeps_the_number_format():
    assert mean_pool(STATES.bfloat16(), MASK).dtype == torch.bfloat16
