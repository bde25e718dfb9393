"""What `lint-imports`, which `make check` runs, has no contract for."""

import sys

import grimp
import pytest


@pytest.mark.parametrize("layer", ["domain", "application"])
def test_core_imports_the_standard_library_and_numpy_alone(layer: str) -> None:
    graph = grimp.build_graph("parakeet_service", include_external_packages=True, cache_dir=None)
    core = {f"parakeet_service.{layer}"} | graph.find_descendants(f"parakeet_service.{layer}")
    imported = {name.partition(".")[0] for module in core for name in graph.find_modules_directly_imported_by(module)}

    assert imported - sys.stdlib_module_names <= {"parakeet_service", "numpy"}
