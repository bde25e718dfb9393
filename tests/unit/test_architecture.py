"""The hexagon, guarded by whoever runs the tests."""

import sys
from pathlib import Path

import grimp
import pytest
from importlinter import configuration
from importlinter.application.use_cases import lint_imports

ROOT = Path(__file__).parents[2]


def test_keeps_the_import_contracts(capfd: pytest.CaptureFixture[str]) -> None:
    # Not `importlinter.cli`: it configures logging anew, which silences every logger that there is.
    configuration.configure()

    kept = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None)

    assert kept, capfd.readouterr().out


@pytest.mark.parametrize("layer", ["domain", "application"])
def test_core_imports_the_standard_library_and_numpy_alone(layer: str) -> None:
    graph = grimp.build_graph("parakeet_service", include_external_packages=True, cache_dir=None)
    core = {f"parakeet_service.{layer}"} | graph.find_descendants(f"parakeet_service.{layer}")
    imported = {name.partition(".")[0] for module in core for name in graph.find_modules_directly_imported_by(module)}

    assert imported - sys.stdlib_module_names <= {"parakeet_service", "numpy"}
