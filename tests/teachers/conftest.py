import pytest

from distill.teachers import endpoint, http_client


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(http_client, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.delenv(endpoint.KEY, raising=False)
