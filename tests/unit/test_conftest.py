import socket
import subprocess

import pytest


def test_no_process_can_be_started() -> None:
    with pytest.raises(AssertionError, match="tests/integration"):
        subprocess.run(["true"], check=True)


def test_nobody_can_be_connected_to() -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match="tests/integration"):
        client.connect(("127.0.0.1", 9))
