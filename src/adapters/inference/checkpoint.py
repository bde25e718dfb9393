"""Where a model's files are: in this package, in a directory, in the Hub's cache, or still on the Hub."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...assets import EMBEDDED_MODEL
from ...domain.errors import ModelLoadError

EMBEDDED = "embedded"
Precision = Literal["bf16", "fp32", "int8", "int4"]
"""Format of the weights once they are loaded."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ("config.json", "model.safetensors")
_HINT = "Set MODEL_ID to a directory, or to 'embedded' for the small built-in model."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk: its NeMo-style configuration and the path of its weights."""

    model_id: str
    config: dict[str, Any]
    weights: Path


def locate(model_id: str, *, offline: bool) -> Checkpoint:
    """Find the files of `model_id`, fetching them from the Hub only if they are nowhere else.

    Args:
        model_id: ``embedded``, a directory, or a Hub id such as ``mlx-community/parakeet-tdt-0.6b-v2``.
        offline: Never ask the Hub.

    Raises:
        ModelLoadError: It is nowhere, or its files cannot be read; the message says what was tried.
    """
    directory = local_directory(model_id)
    if directory is None and offline:
        raise ModelLoadError(f"MODEL_ID: {model_id} is not in the cache and OFFLINE is set. {_HINT}")
    return _read(model_id, directory or _from_hub(model_id))


def local_directory(model_id: str) -> Path | None:
    """Where the files of `model_id` are on this machine; ``None`` if they would have to be fetched.

    Raises:
        ModelLoadError: It is the name of nothing, or a directory without the files.
    """
    directory = EMBEDDED_MODEL if model_id == EMBEDDED else Path(model_id).expanduser()
    if directory.is_dir():
        missing = [name for name in _FILES if not (directory / name).is_file()]
        if missing:
            raise ModelLoadError(f"MODEL_ID: {model_id} has no {' and no '.join(missing)}.")
        return directory
    if not _HUB_ID.fullmatch(model_id):
        raise ModelLoadError(f"MODEL_ID: {model_id!r} is neither a directory nor a Hub id (owner/name) nor 'embedded'.")
    return _cached(model_id)


def _read(model_id: str, directory: Path) -> Checkpoint:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"MODEL_ID: {path} cannot be read: {error}") from error
    return Checkpoint(model_id, config, directory / "model.safetensors")


def _cached(model_id: str) -> Path | None:
    # Not hf_hub_download(local_files_only=True): it calls the Hub for other purposes even then.
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - see _from_hub

    paths = [try_to_load_from_cache(model_id, name) for name in _FILES]
    return Path(str(paths[0])).parent if all(isinstance(path, str) for path in paths) else None


def _from_hub(model_id: str) -> Path:
    # Imported here: it takes a third of a second, and the embedded model does not need it.
    from httpx2 import HTTPError  # noqa: PLC0415 - what a broken download ends with
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType]
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    # Its lines reach our log anyway; its own handler would say them a second time.
    logging.getLogger("huggingface_hub").handlers.clear()
    try:
        paths = [Path(hf_hub_download(model_id, name)) for name in _FILES]
    except LocalEntryNotFoundError as error:
        message = f"MODEL_ID: {model_id} is not in the cache and the Hub is out of reach. {_HINT}"
        raise ModelLoadError(message) from error
    except GatedRepoError as error:
        raise ModelLoadError(f"MODEL_ID: {model_id} is gated: accept its terms and set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise ModelLoadError(f"MODEL_ID: the Hub has no model {model_id}, or it is private.") from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise ModelLoadError(f"MODEL_ID: {model_id} could not be fetched: {error}") from error
    return paths[0].parent
