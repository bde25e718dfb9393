"""For which platforms the locked packages have wheels, the ones that no test runs on included; asks PyPI."""

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]
# `uv run` says where it is; without it the Makefile's own is there.
UV = os.environ.get("UV", str(ROOT / ".tools" / "bin" / "uv"))
MLX = {"mlx", "parakeet-mlx"}
INTEL_MAC = "x86_64-apple-darwin"


@dataclass(frozen=True, slots=True)
class Platform:
    """A target as uv calls it.

    Attributes:
        name: The triple, or the oldest C library.
        pythons: Versions for which everything must be there.
        extra: Of the package.
        built: Packages that pip builds from source there.
        has_mlx: Whether MLX comes along.
    """

    name: str
    pythons: tuple[str, ...] = ("3.11", "3.12", "3.13", "3.14")
    extra: str | None = None
    built: tuple[str, ...] = ()
    has_mlx: bool = False


PLATFORMS = (
    # RHEL 8 and 9, Amazon Linux 2023, Debian 10 and whatever is newer.
    Platform("x86_64-manylinux_2_28"),
    Platform("aarch64-manylinux_2_28"),
    Platform("x86_64-manylinux_2_35", extra="mlx", has_mlx=True),
    Platform("aarch64-manylinux_2_35", extra="mlx", has_mlx=True),
    Platform("x86_64-manylinux_2_35", extra="cuda", has_mlx=True),
    Platform("aarch64-apple-darwin", has_mlx=True),
    Platform(INTEL_MAC, pythons=("3.11", "3.12", "3.13"), built=("dependency-injector",)),
    Platform("x86_64-pc-windows-msvc"),
)


@cache
def locked(extra: str | None) -> str:
    """What is installed with the package, each with its version and where it is needed."""
    command = [UV, "export", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--no-header"]
    command += ["--extra", extra] if extra else []
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def resolve(platform: Platform, python: str) -> "subprocess.CompletedProcess[str]":
    """Find a wheel of each locked package; on its standard output stands what would be installed."""
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-platform", platform.name]
    command += ["--python-version", python, "--only-binary", ":all:"]
    for name in platform.built:
        command += ["--no-binary", name]
    with TemporaryDirectory() as directory:
        requirements = Path(directory) / "requirements.txt"
        requirements.write_text(locked(platform.extra), encoding="utf-8")
        return subprocess.run(
            [*command, requirements],
            cwd=directory,
            # The oldest macOS of the README.
            env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.parametrize(
    ("platform", "python"),
    [
        pytest.param(
            platform,
            python,
            id=f"{platform.name}-{platform.extra or 'plain'}-{python}",
            # Each asks for what is new of sixty packages.
            marks=() if python == platform.pythons[-1] and platform.extra is None else pytest.mark.soak,
        )
        for platform in PLATFORMS
        for python in platform.pythons
    ],
)
def test_every_package_can_be_installed(platform: Platform, python: str) -> None:
    found = resolve(platform, python)
    assert found.returncode == 0, found.stderr
    names = set(re.findall(r"(?m)^([\w.-]+)(?:\[.*\])?==", found.stdout))
    assert {"onnxruntime", "onnx", "numpy", "fastapi", "imageio-ffmpeg"} <= names
    assert names & MLX == (MLX if platform.has_mlx else set())
    assert ("uvloop" in names) == ("windows" not in platform.name)


@pytest.mark.parametrize(
    ("platform", "python", "missing"),
    [
        # Should one of them be found one day, docs/engines.md promises too little.
        pytest.param(Platform("x86_64-manylinux_2_34", extra="mlx"), "3.12", "mlx", marks=pytest.mark.soak),
        pytest.param(
            Platform(INTEL_MAC, built=("dependency-injector",)), "3.14", "onnxruntime", marks=pytest.mark.soak
        ),
        (Platform(INTEL_MAC), "3.12", "dependency-injector"),
    ],
)
def test_where_something_is_missing_that_is_what_the_documentation_names(
    platform: Platform, python: str, missing: str
) -> None:
    found = resolve(platform, python)
    assert found.returncode != 0
    assert missing in found.stderr
