"""When requests are sent: in turns, after waits that double, after as long as a server asks for."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from distill.records import BadInput
from distill.teachers import endpoint
from distill.teachers.endpoint import Endpoint, Pace, is_address, seconds_from_header


def test_ranks_share_the_requests_of_a_minute(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    assert Pace(120).interval == 2.0


def test_turns_are_apart_over_all_threads():
    pace, taken, lock = Pace(6000), [], threading.Lock()

    def take() -> None:
        for _ in range(5):
            pace.wait_for_turn(threading.Event())
            with lock:
                taken.append(time.monotonic())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 20
    assert max(taken) - min(taken) > 19 * 0.01 * 0.9


def test_waits_double(monkeypatch):
    waits = []

    class Recorder(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    monkeypatch.setattr(endpoint, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(endpoint, "LONGEST_WAIT", 20.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens there
        server = Endpoint(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", "embeddings")
        server._stopped = Recorder()
        with pytest.raises(BadInput, match="gave up after 8 tries"):
            server.post({}, bytes)
    # up to a second of chance is added, so that threads which failed together do not come back together
    assert [min(20, 2**i) <= wait <= min(20, 2**i + 1) for i, wait in enumerate(waits)] == [True] * 7


@pytest.mark.parametrize("address", ["http://", "https:///v1", "localhost:8080/v1"])
def test_an_address_has_a_host(address):
    with pytest.raises(BadInput, match=f"{address}: not the address of a server"):
        Endpoint(address, "embeddings")


def test_seconds_of_a_date_and_of_nothing():
    assert seconds_from_header("7") == 7
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert seconds_from_header(format_datetime(soon)) == pytest.approx(30, abs=2)
    assert seconds_from_header(format_datetime(soon - timedelta(days=1))) == 0
    assert seconds_from_header(None) is None
    assert seconds_from_header("soon") is None


def test_an_endpoint_maps_in_order_and_stops_at_the_first_error(monkeypatch):
    """What was not begun is not begun any more; the endpoint can be used again."""
    server, begun, lock = Endpoint("http://127.0.0.1:9/v1", "embeddings"), [], threading.Lock()

    def double(number: int) -> int:
        with lock:
            begun.append(number)
        if number == 3:
            raise BadInput("three")
        time.sleep(0.02)
        return 2 * number

    with pytest.raises(BadInput, match="three"):
        list(server.map(double, range(100)))
    assert len(begun) < 20
    assert list(server.map(double, [5, 4])) == [10, 8]


@pytest.mark.parametrize(("teacher", "expected"), [("http://a/v1", True), ("https://a", True), ("models/http", False), (len, False)])
def test_an_address_is_told_from_a_folder(teacher, expected):
    assert is_address(teacher) == expected
