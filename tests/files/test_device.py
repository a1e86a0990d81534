import pytest
import torch

from distill.files import device
from distill.files.device import autocast, best_device, computing_on, exact_matmul_precision, fp32_products, resolve_precision

CPU = torch.device("cpu")


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("is_fast", [True, False])
def test_auto_is_bf16_where_that_is_fast(is_fast, monkeypatch):
    monkeypatch.setattr(device, "has_fast_bf16", lambda _: is_fast)
    assert resolve_precision("auto", "cpu") == ("bf16" if is_fast else "fp32")
    assert (resolve_precision("bf16", "cpu"), resolve_precision("fp32", "cpu")) == ("bf16", "fp32")


def test_products_are_exact_within_and_as_they_were_set_afterwards(tf32):
    left, right = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
    exact = (left.double() @ right.double()).float()
    with torch.autocast("cpu", torch.bfloat16), fp32_products(CPU):
        assert torch.get_float32_matmul_precision() == exact_matmul_precision(CPU)
        torch.testing.assert_close(left @ right, exact, atol=1e-4, rtol=0)
    assert torch.get_float32_matmul_precision() == "high"
    with pytest.raises(RuntimeError, match="within"), fp32_products(CPU):
        raise RuntimeError("within")
    assert torch.get_float32_matmul_precision() == "high"


def test_autocast_rounds_on_request_alone():
    ones = torch.ones(2, 2)
    with autocast("bf16", CPU):
        assert (ones @ ones).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (ones @ ones).dtype == torch.float32


def test_a_machine_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == CPU


@pytest.mark.parametrize(
    ("variables", "index"),
    [({}, 0), ({"LOCAL_RANK": "3"}, 3), ({"SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"}, 1), ({"LOCAL_RANK": "5"}, 1)],
)
def test_each_process_of_a_machine_has_its_own_gpu(variables, index, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("RANK", "LOCAL_RANK", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert best_device() == torch.device("cuda", index)


def test_the_device_that_a_training_chose_wins_until_it_ends(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert best_device() == torch.device("cuda", 0)
    with computing_on(torch.device("cuda", 3)):
        assert best_device() == torch.device("cuda", 3)
        with pytest.raises(RuntimeError, match="within"), computing_on(CPU):
            assert best_device() == CPU
            raise RuntimeError("within")
        assert best_device() == torch.device("cuda", 3)
    assert best_device() == torch.device("cuda", 0)
