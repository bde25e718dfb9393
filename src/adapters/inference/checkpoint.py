"""Where a model's files are: in this package, in a directory, in the Hub's cache, or still on the Hub."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from ...assets import EMBEDDED_MODEL
from ...domain.errors import ModelLoadError

EMBEDDED = "embedded"
Precision = Literal["bf16", "fp32", "int8", "int4"]
"""Format of the weights once they are loaded."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = "model.safetensors"
_FILES = ("config.json", _WEIGHTS)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a configuration says of its model under ``parakeet_service``; every entry is optional.

    Attributes:
        languages: ISO 639-1 codes of the languages that it writes.
        max_window_s: The longest window that it transcribes well, in seconds.
        note: What a user must know before trusting the text.
    """

    languages: tuple[str, ...] | None = None
    max_window_s: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk: its NeMo-style configuration, what that says to us, and the path of its weights."""

    model_id: str
    config: dict[str, Any]
    card: ModelCard
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
        raise ModelLoadError(f"{model_id!r} is not in the cache, and downloads are disabled.")
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
            raise ModelLoadError(f"The model directory {model_id!r} has no {' and no '.join(missing)}.")
        return directory
    if not _HUB_ID.fullmatch(model_id):
        raise ModelLoadError(f"{model_id!r} is neither a directory nor a Hub id (owner/name) nor 'embedded'.")
    return _cached(model_id)


def _read(model_id: str, directory: Path) -> Checkpoint:
    path = directory / "config.json"
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path} holds no JSON object.")
    config = cast("dict[str, Any]", content)
    return Checkpoint(model_id, config, _card(path, config.get("parakeet_service", {})), directory / _WEIGHTS)


def _card(path: Path, section: object) -> ModelCard:
    try:
        card = msgspec.convert(section, ModelCard)
    except msgspec.ValidationError as error:
        raise ModelLoadError(f"{path}: parakeet_service: {error}") from error
    if card.max_window_s is not None and not card.max_window_s > 0:
        raise ModelLoadError(f"{path}: parakeet_service: max_window_s must be more than 0, not {card.max_window_s:g}.")
    return card


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
        raise ModelLoadError(f"{model_id!r} is not in the cache, and the Hub cannot be reached.") from error
    except GatedRepoError as error:
        raise ModelLoadError(f"{model_id!r} is gated: accept its terms on the Hub, and log in.") from error
    except RepositoryNotFoundError as error:
        raise ModelLoadError(f"The Hub has no model {model_id!r}, or it is private.") from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise ModelLoadError(f"{model_id!r} could not be downloaded: {error}") from error
    return paths[0].parent
