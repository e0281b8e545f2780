from __future__ import annotations

import os
import socket

import pytest

from mlxplatform import ports
from mlxplatform.core.errors import Conflict, Invalid


@pytest.fixture
def held():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_free_port_is_taken():
    with ports.take("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_taken_port_says_by_whom_and_what_to_do(held, monkeypatch):
    monkeypatch.setattr(ports, "PATIENCE", 0.0)
    with pytest.raises(Conflict) as refusal:
        ports.take("127.0.0.1", held)
    assert f"(process {os.getpid()})" in refusal.value.message
    assert f"--port {held + 1}" in refusal.value.hint


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_wrong_address_is_refused(host):
    with pytest.raises(Invalid):
        ports.take(host, 0)
