from __future__ import annotations

import threading

from tests.training.runs import wait
from training.alive import sign_off, sign_on, worker_is_alive
from training.worker import Worker


def test_a_second_worker_waits_for_the_first():
    first = sign_on()
    assert worker_is_alive()
    second, got = Worker(), []
    thread = threading.Thread(target=lambda: got.append(second._only_one()))
    thread.start()
    thread.join(timeout=0.6)
    assert got == []
    sign_off(first)
    thread.join(timeout=5)
    assert got[0] is not None
    sign_off(got[0])


def test_a_waiting_worker_can_be_asked_to_end():
    first = sign_on()
    second, got = Worker(), []
    thread = threading.Thread(target=lambda: got.append(second._only_one()))
    thread.start()
    second._on_signal()
    wait(lambda: got, 5)
    assert got == [None]
    sign_off(first)
