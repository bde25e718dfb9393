"""ONNX Runtime's sessions: which graph is run by how many threads of what device."""

from collections.abc import Sequence
from pathlib import Path

from onnxruntime import InferenceSession, SessionOptions, get_available_providers
from onnxruntime.capi.onnxruntime_pybind11_state import (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as OperatorMissing

from ...domain.errors import ModelLoadError
from .providers import CPU

_CANNOT_LOAD = (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    OperatorMissing,
    RuntimeException,
)


def open_session(path: Path, *, threads: int, providers: Sequence[str] = (CPU,)) -> InferenceSession:
    """Load a graph.

    Args:
        path: Of the graph; its constants lie beside it.
        threads: How many compute one operator, the calling one among them.
        providers: ONNX Runtime's names of what may run it, the preferred first; the CPU takes what is left.

    Raises:
        ModelLoadError: It cannot be loaded.
    """
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads would burn the core that the event loop and the detector need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Patterns are kept for each shape, and every length of audio is another.
    options.enable_mem_pattern = False
    try:
        return InferenceSession(path, options, providers=list(providers))
    except _CANNOT_LOAD as error:
        raise ModelLoadError(f"ONNX Runtime cannot load {path}: {error}") from error


def check_providers(wanted: Sequence[str]) -> None:
    """Refuse providers that this ONNX Runtime does not have.

    Raises:
        ModelLoadError: It names them, and those that there are.
    """
    available = get_available_providers()
    if missing := [name for name in wanted if name not in available]:
        raise ModelLoadError(f"This ONNX Runtime has no {', '.join(missing)}; it has {', '.join(available)}.")
