"""TensorBoard on a disk that takes no more: one error that says so, whoever notices it."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator

import pytest

from distill.callbacks.tracking import make_tracker

pytest.importorskip("tensorboard")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than 4 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_the_disk_refuses_is_an_error_of_the_disk(tmp_path, small_files, capfd):
    logger = make_tracker("tensorboard", tmp_path, "run", 0)
    assert logger is not None

    def log_much() -> None:
        for step in range(10_000):
            logger.log_metrics({"loss": 1.0}, step)

    for call in (log_much, logger.save, lambda: logger.finalize("failed"), lambda: logger.finalize("failed")):
        with pytest.raises(OSError, match="tensorboard") as error:
            call()
        assert error.value.errno == errno.EFBIG
    assert capfd.readouterr().err == ""


def test_another_error_is_left_as_it_is(tmp_path):
    logger = make_tracker("tensorboard", tmp_path, "run", 0)
    assert logger is not None
    with pytest.raises(ValueError, match="currently not supported"):
        logger.log_metrics({"loss": object()}, 1)  # type: ignore[dict-item]
    logger.finalize("success")
