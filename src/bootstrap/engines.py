"""Which engine computes the model on this machine, and in which precision."""

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from ..adapters.inference.checkpoint import Precision
from ..adapters.inference.cores import usable_cores
from ..adapters.onnx.providers import CPU
from ..config.settings import Settings
from ..domain.errors import ModelLoadError

EngineName: TypeAlias = Literal["mlx", "onnx"]

_HOW_TO_GET_MLX = " On Linux: pip install 'parakeet-service[mlx]'." if sys.platform == "linux" else ""
_CORES_PER_DETECTOR, _MOST_DETECTORS = 4, 4
"""A process scores about 2,000 seconds of audio in a second."""
_CORES_PER_BLOCK, _MOST_BLOCKS = 4, 4
"""With four blocks at once, what goes from frame to frame is the limit; with more it stays that."""
_MANY_CORES, _MOST_FRONTS = 8, 8
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of a machine.

    Attributes:
        has_mlx: Whether MLX is installed.
        has_gpu: Whether MLX would compute on a GPU: Apple silicon, or NVIDIA with the back end for it.
        has_cuda: Whether that is NVIDIA's.
        cores: How many may be used.
    """

    has_mlx: bool
    has_gpu: bool
    has_cuda: bool = False
    cores: int = 1

    @classmethod
    def this(cls) -> "Machine":
        """This one. MLX is not imported: that binds its BLAS, and its GPU to a thread."""
        has_mlx = find_spec("mlx") is not None and find_spec("parakeet_mlx") is not None
        is_apple_silicon = sys.platform == "darwin" and platform.machine() == "arm64"
        has_cuda = has_mlx and _NVIDIA_DRIVER.exists() and _has_cuda_back_end()
        return cls(has_mlx, has_mlx and (is_apple_silicon or has_cuda), has_cuda, usable_cores())


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """An engine, the precision of the weights, and whether it computes on a GPU."""

    name: EngineName
    precision: Precision
    on_gpu: bool = False


def chosen_engine(settings: Settings, machine: Machine | None = None) -> ChosenEngine:
    """What the settings ask for, or what suits the machine.

    Raises:
        ModelLoadError: The machine does not have it; the message names the setting.
    """
    machine = machine or Machine.this()
    name = _name(settings, machine)
    if name == "mlx":
        if not machine.has_mlx:
            raise ModelLoadError(f"ENGINE: MLX is not installed on this machine; use ENGINE=onnx.{_HOW_TO_GET_MLX}")
        return ChosenEngine(name, settings.model_precision or "bf16", on_gpu=machine.has_gpu)
    if settings.model_precision == "int4":
        how = "" if machine.has_mlx else _HOW_TO_GET_MLX
        raise ModelLoadError(f"MODEL_PRECISION: int4 needs MLX; the ONNX engine has int8, bf16 and fp32.{how}")
    on_cpu = settings.onnx_providers[0] == CPU
    if settings.onnx_providers != (CPU,):
        _check_providers(settings)
    # Only CPUs multiply the engine's int8.
    return ChosenEngine(name, settings.model_precision or ("int8" if on_cpu else "fp32"), on_gpu=not on_cpu)


def vad_processes(settings: Settings, machine: Machine | None = None) -> int:
    """How many processes run the detector: where a GPU reads so fast that one Python's lock would hold it up."""
    if settings.vad_processes is not None:
        return settings.vad_processes
    if settings.http_processes > 1:
        # They score what they receive: that is as many locks, and no way between processes.
        return 0
    machine = machine or Machine.this()
    return min(machine.cores // _CORES_PER_DETECTOR, _MOST_DETECTORS) if _is_fast(settings, machine) else 0


def advice(settings: Settings, machine: Machine | None = None) -> str | None:
    """What would be gained by more processes that speak HTTP, where one of them holds up the GPU.

    Raises:
        ModelLoadError: The machine does not have the engine.
    """
    machine = machine or Machine.this()
    has_one = settings.http and settings.http_processes == 1
    can_have_more = not settings.mcp and sys.platform != "win32"
    if not (has_one and can_have_more and machine.cores >= _MANY_CORES and _is_fast(settings, machine)):
        return None
    return (
        f"One process speaks HTTP, which cannot keep a fast GPU busy: HTTP_PROCESSES={min(machine.cores // 2, _MOST_FRONTS)} "
        "has an H100 with 16 cores read 64 uploads at once 2.5 times as fast. See docs/operations.md."
    )


def _is_fast(settings: Settings, machine: Machine) -> bool:
    return machine.has_cuda and chosen_engine(settings, machine).name == "mlx"


def blocks_heard(cores: int | None = None) -> int:
    """How many blocks of one recording are heard at once: as many as leave cores for others."""
    cores = usable_cores() if cores is None else cores
    return min(max(cores // _CORES_PER_BLOCK, 1), _MOST_BLOCKS)


def _name(settings: Settings, machine: Machine) -> EngineName:
    if settings.engine != "auto":
        return settings.engine
    if machine.has_gpu:
        return "mlx"
    # Decision 0040 has the figures.
    return "mlx" if machine.has_mlx and settings.model_precision == "int4" else "onnx"


def _check_providers(settings: Settings) -> None:
    from ..adapters.onnx.sessions import check_providers  # noqa: PLC0415 - imports ONNX Runtime

    try:
        check_providers(settings.onnx_providers)
    except ModelLoadError as error:
        raise ModelLoadError(f"ONNX_PROVIDERS: {error.message}") from error


def _has_cuda_back_end() -> bool:
    return any(str(found.metadata["Name"]).startswith("mlx-cuda") for found in distributions())
