"""What is installed from a release is what stands in `src/`, and it runs."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .processes import started, wait_until_ok

ROOT = Path(__file__).parents[2]
# `uv run` says where it is; without it the Makefile's own is there.
UV = os.environ.get("UV", str(ROOT / ".tools" / "bin" / "uv"))


def uv(*arguments: str | Path, cwd: Path) -> None:
    ran = subprocess.run([UV, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def files_below(directory: Path) -> set[str]:
    files = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {str(path) for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built through the source distribution, from a copy: setuptools leaves things behind where it builds."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    uv("build", "--python", sys.executable, "--out-dir", "dist", cwd=tree)
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and what it needs as it is locked."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    requirements = environment.parent / "requirements.txt"
    uv("venv", "--python", sys.executable, environment, cwd=environment.parent)
    uv("export", "--frozen", "--no-dev", "--no-emit-project", "--output-file", requirements, cwd=ROOT)
    uv("pip", "install", "--python", environment, "--no-deps", "--requirements", requirements, cwd=environment.parent)
    uv("pip", "install", "--python", environment, wheel, cwd=environment.parent)
    return environment


def test_wheel_has_the_files_of_the_source_tree(installed: Path) -> None:
    (package,) = installed.glob("lib/python*/site-packages/parakeet_service")

    assert files_below(package) == files_below(ROOT / "src")


def test_the_command_is_installed(installed: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [installed / "bin" / "parakeet-service", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert ran.stdout.startswith("parakeet-service ")


def test_uvicorn_serves_the_installed_application(installed: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (installed / "bin" / "uvicorn", "parakeet_service.main:app", "--host", "127.0.0.1", "--port", str(port))

    with started(command, cwd=tmp_path, MODEL_ID="embedded") as server:
        assert wait_until_ok(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok"}
        assert wait_until_ok(f"http://127.0.0.1:{port}/readyz").is_success
        assert server.stop() == 0
