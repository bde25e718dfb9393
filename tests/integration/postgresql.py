"""A PostgreSQL of the test's own, from Debian's package; nothing of the machine's own server is touched."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return None if on_path is None else Path(on_path).resolve().parent


def _someone_else() -> str | None:
    """Whom to run it as, where we are root, which PostgreSQL refuses."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("needs a user other than root for PostgreSQL")


@contextmanager
def postgresql() -> Generator[str]:
    """The URL of an empty database; skips without the programs, unless REQUIRE_POSTGRESQL=1."""
    programs = _programs()
    if programs is None:
        if os.environ.get("REQUIRE_POSTGRESQL") == "1":
            pytest.fail("REQUIRE_POSTGRESQL=1, and there is no PostgreSQL: apt-get install postgresql")
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    user = _someone_else()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Its path must be short, for there is a Unix socket in it, and open to the other user.
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    if user is not None:
        shutil.chown(directory, user)
    data = directory / "data"

    def run(*command: str) -> None:
        subprocess.run(command, user=user, cwd="/", check=True, capture_output=True, timeout=120)

    try:
        run(str(programs / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {directory} -c fsync=off"
        run(str(programs / "pg_ctl"), "-D", str(data), "-l", str(directory / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
