"""Which engine computes the model on this machine, and in which precision."""

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from ..adapters.inference.checkpoint import Precision
from ..config.settings import Settings
from ..domain.errors import ModelLoadError

EngineName: TypeAlias = Literal["mlx", "onnx"]

_CPU = "CPUExecutionProvider"
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of a machine.

    Attributes:
        has_mlx: Whether MLX is installed.
        has_gpu: Whether MLX would compute on a GPU: Apple silicon, or NVIDIA with the back end for it.
    """

    has_mlx: bool
    has_gpu: bool

    @classmethod
    def this(cls) -> "Machine":
        """This one. MLX is not imported: that binds its BLAS, and its GPU to a thread."""
        has_mlx = find_spec("mlx") is not None and find_spec("parakeet_mlx") is not None
        is_apple_silicon = sys.platform == "darwin" and platform.machine() == "arm64"
        return cls(has_mlx, has_mlx and (is_apple_silicon or (_NVIDIA_DRIVER.exists() and _has_cuda_back_end())))


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
            raise ModelLoadError("ENGINE: MLX is not installed on this machine; use ENGINE=onnx.")
        return ChosenEngine(name, settings.model_precision or "bf16", on_gpu=machine.has_gpu)
    if settings.model_precision == "int4":
        raise ModelLoadError("MODEL_PRECISION: int4 needs ENGINE=mlx; the ONNX engine has int8, bf16 and fp32.")
    on_cpu = settings.onnx_providers[0] == _CPU
    if settings.onnx_providers != (_CPU,):
        _check_providers(settings)
    # Only CPUs multiply the engine's int8.
    return ChosenEngine(name, settings.model_precision or ("int8" if on_cpu else "fp32"), on_gpu=not on_cpu)


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
