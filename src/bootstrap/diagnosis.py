"""What `doctor` tells about the parts that the service is made of."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile

from ..adapters.decoders.ffmpeg import find_ffmpeg
from ..adapters.inference.checkpoint import EMBEDDED, examine, local_directory, require_room, size_on_hub
from ..adapters.parakeet_mlx import blas
from ..adapters.vad.silero import SileroVad
from ..config.settings import Settings
from ..domain.errors import DecoderUnavailableError, ModelLoadError
from .engines import advice, chosen_engine


def facts_about(settings: Settings) -> Mapping[str, Callable[[], str]]:
    """The facts by name; each raises a `FaultError` if it keeps the service from working."""
    try:
        on_mlx = chosen_engine(settings).name == "mlx"
        gain = advice(settings)
    except ModelLoadError:
        # The line about the engine says so.
        on_mlx, gain = False, None
    return {
        "engine": partial(_engine, settings),
        # Before MLX: the import of MLX binds the BLAS.
        **({"BLAS": _blas, "MLX": _mlx} if on_mlx else {}),
        "ffmpeg": _ffmpeg,
        "VAD": partial(_vad, settings),
        **({} if gain is None else {"speed": lambda: gain}),
        "memory": _memory,
        "disk": _disk,
        "model": partial(_model, settings),
    }


def changed(settings: Settings) -> dict[str, str]:
    """The settings that differ from their defaults, by their environment names; keys stay hidden."""
    fields = type(settings).model_fields
    return {
        name.upper(): _key_names(settings) if name == "api_keys" else str(value)
        for name, value in settings
        if value != fields[name].get_default(call_default_factory=True)
    }


def _key_names(settings: Settings) -> str:
    names = [name for name, _ in settings.named_keys]
    return f"{len(names)} ({', '.join(names)})"


def _engine(settings: Settings) -> str:
    chosen = chosen_engine(settings)
    runtime = f", ONNX Runtime {version('onnxruntime')}, {', '.join(settings.onnx_providers)}"
    return f"{chosen.name}, {chosen.precision}{runtime if chosen.name == 'onnx' else ''}"


def _blas() -> str:
    chosen = blas.preload()
    if chosen is None:
        return "provided by the platform"
    return (
        f"{chosen.name}: slow; install the wheel scipy-openblas32 or the system's libopenblas"
        if chosen.slow
        else chosen.name
    )


def _mlx() -> str:
    try:
        import mlx.core as mx  # noqa: PLC0415 - see facts_about
    except ImportError as error:
        raise ModelLoadError(f"MLX cannot be imported: {error}") from error
    kind = mx.default_device().type
    device = "cpu" if kind == mx.DeviceType.cpu else f"gpu ({'Metal' if mx.metal.is_available() else 'CUDA'})"
    return f"{version('mlx')} on {device}, parakeet-mlx {version('parakeet-mlx')}"


def _ffmpeg() -> str:
    path = find_ffmpeg()
    origin = "from the system" if shutil.which("ffmpeg") == str(path) else "from the imageio-ffmpeg wheel"
    try:
        ran = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=20)  # noqa: S603 - no shell
    except (OSError, subprocess.SubprocessError) as error:
        raise DecoderUnavailableError(f"{path} does not run: {error}") from error
    return f"{ran.stdout.partition(' Copyright')[0].removeprefix('ffmpeg version ')}, {path}, {origin}"


def _vad(settings: Settings) -> str:
    if settings.vad == "none":
        return "none: everything is transcribed, silence and noise too"
    SileroVad()
    return f"silero, on ONNX Runtime {version('onnxruntime')}"


def _memory() -> str:
    if not hasattr(os, "sysconf"):
        return "not known: this system does not tell"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"


def _disk() -> str:
    cache = _cache()
    return f"{shutil.disk_usage(_existing(cache)).free / 1e9:.1f} GB free for models, in {cache}"


def _model(settings: Settings) -> str:
    name = settings.model_id
    directory = local_directory(name)
    if directory is not None:
        small = "the small model, " if name == EMBEDDED else ""
        size_gb = examine(name, directory).weights.stat().st_size / 1e9
        return f"{name}: {small}{size_gb:.2g} GB, in {directory}"
    if settings.offline:
        raise ModelLoadError(f"{name} is not in the cache, and OFFLINE forbids downloading it.")
    cache = _cache()
    _require_writable(name, cache)
    size_bytes = size_on_hub(name)
    if size_bytes is None:
        return f"{name}: not downloaded yet; the first start does that"
    require_room(cache, size_bytes)
    return f"{name}: not downloaded yet; the first start does that (about {size_bytes / 1e9:.1f} GB)"


def _cache() -> Path:
    # Imported here: it takes a third of a second that the other commands need not wait for.
    from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415

    return Path(HF_HUB_CACHE)


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.parents) if path.exists())


def _require_writable(name: str, directory: Path) -> None:
    # Not `os.access`: root may write everywhere, and yet not to a file system that takes nothing.
    try:
        with TemporaryFile(dir=_existing(directory)):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ModelLoadError(
            f"{name} must be downloaded, but {directory} is not writable: {reason} (see HF_HOME)."
        ) from error
