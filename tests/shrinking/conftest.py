"""Jobs of shrink are small here and export no ONNX graphs; those of README and docs do (tests/test_docs.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import small_jobs


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    with small_jobs():
        yield
