"""Where a model's files are: in this package, in a directory, in the Hub's cache, or still on the Hub."""

import json
import logging
import re
import shutil
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import structlog

from ...assets import EMBEDDED_MODEL
from ...domain.errors import ModelLoadError
from .progress import Progress

EMBEDDED = "embedded"
Precision = Literal["bf16", "fp32", "int8", "int4"]
"""Format of the weights once they are loaded."""

_log = structlog.stdlib.get_logger(__name__)

_HUB_NAME = r"[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"(?!.*(?:--|\.\.)){_HUB_NAME}/{_HUB_NAME}", re.ASCII)
_HUB_TIMEOUT_S = 5.0
"""The Hub answers within a second, or not at all."""
_HUB_HINT = (
    "Behind a proxy, set HTTPS_PROXY; for a mirror, HF_ENDPOINT. Or run `hf download {id}` on a machine that reaches it, "
    "and copy what it prints to this one: MODEL_ID may be a directory."
)
_LONGEST_HEADER_BYTES = 100_000_000
"""As safetensors itself has it."""
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


class _Tensor(msgspec.Struct):
    """Where a tensor lies, as the header of safetensors has it."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk: its NeMo-style configuration, what that says to us, and the path of its weights."""

    model_id: str
    config: dict[str, Any]
    card: ModelCard
    weights: Path


def locate(model_id: str, *, offline: bool, progress: Progress | None = None) -> Checkpoint:
    """Find the files of `model_id`, fetching them from the Hub only if they are nowhere else.

    Args:
        model_id: ``embedded``, a directory, or a Hub id such as ``mlx-community/parakeet-tdt-0.6b-v2``.
        offline: Never ask the Hub.
        progress: Is told how far a download is.

    Raises:
        ModelLoadError: It is nowhere, or its files cannot be read; the message says what was tried.
    """
    directory = local_directory(model_id)
    if directory is None and offline:
        raise ModelLoadError(f"{model_id!r} is not in the cache, and downloads are disabled.")
    return _read(model_id, directory or _from_hub(model_id, progress or Progress()))


def examine(model_id: str, directory: Path) -> Checkpoint:
    """The model in a directory, with all that can be seen to be wrong without loading it.

    Raises:
        ModelLoadError: Its configuration cannot be read, or its weights are damaged.
    """
    return _read(model_id, directory)


def size_on_hub(model_id: str) -> int | None:
    """How many bytes must be downloaded, if the Hub says so; asks it, and waits five seconds at most.

    Raises:
        ModelLoadError: The Hub cannot be reached, or does not give the model.
    """
    from httpx2 import HTTPError, HTTPStatusError  # noqa: PLC0415 - see _from_hub
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError  # noqa: PLC0415

    try:
        info = HfApi().model_info(model_id, files_metadata=True, timeout=_HUB_TIMEOUT_S)
    except GatedRepoError as error:
        raise _gated(model_id) from error
    except RepositoryNotFoundError as error:
        raise _missing(model_id) from error
    except (HfHubHTTPError, HTTPStatusError, KeyError, TypeError, ValueError):
        # A mirror may have the files and nothing else; they say themselves what is wrong with them.
        return None
    except (HTTPError, OSError) as error:
        raise _out_of_reach(model_id, error) from error
    sizes = [file.size for file in info.siblings or () if file.rfilename in _FILES]
    return None if len(sizes) < len(_FILES) or None in sizes else sum(size or 0 for size in sizes)


def require_room(directory: Path, size_bytes: int) -> None:
    """See that so much fits on the disk of `directory`, which need not exist yet.

    Raises:
        ModelLoadError: It does not.
    """
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < size_bytes:
        raise ModelLoadError(
            f"The model takes about {size_bytes / 1e9:.1f} GB, and the disk of {directory} has {free_bytes / 1e9:.1f} GB "
            "left; HF_HOME may name another place."
        )


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
    card = _card(path, config.get("parakeet_service", {}))
    weights = directory / _WEIGHTS
    names = _tensors(weights)
    if "quantization" in config or any(name.endswith(".scales") for name in names):
        raise ModelLoadError(
            f"{model_id!r} has quantised weights, which cannot be loaded: use the model that it was made of, and "
            "MODEL_PRECISION=int8 or int4."
        )
    return Checkpoint(model_id, config, card, weights)


def _tensors(weights: Path) -> Set[str]:
    """The names of the tensors, once it is clear that all of their bytes are there: copies and downloads break off."""
    try:
        size_bytes = weights.stat().st_size
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: object = json.loads(file.read(length)) if length <= _LONGEST_HEADER_BYTES else None
        if isinstance(header, dict):
            cast("dict[str, object]", header).pop("__metadata__", None)
        tensors = msgspec.convert(header, dict[str, _Tensor])
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{weights} is damaged or no safetensors file: copy or download it again.") from error
    expected_bytes = 8 + length + max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if size_bytes != expected_bytes:
        raise ModelLoadError(
            f"{weights} has {size_bytes} bytes, and not the {expected_bytes} that its header states: copy or download "
            "it again."
        )
    return tensors.keys()


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


def _from_hub(model_id: str, progress: Progress) -> Path:
    # Imported here: it takes a third of a second, and the embedded model does not need it.
    from httpx2 import HTTPError  # noqa: PLC0415 - what a broken download ends with
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  # pyright: ignore[reportUnknownVariableType]
    from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415

    class Bar(tqdm):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
        """Tells `progress`, and shows nothing: it would be drawn between the lines of the log."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
            progress.add(int(options.get("initial") or 0))

        def update(self, n: float | None = 1) -> bool | None:
            progress.add(int(n or 0))
            return None

    # Its lines reach our log anyway; its own handler would say them a second time.
    logging.getLogger("huggingface_hub").handlers.clear()
    size_bytes = size_on_hub(model_id)
    if size_bytes is not None:
        require_room(Path(HF_HUB_CACHE), size_bytes)
    progress.begin("downloading", model_id, size_bytes)
    try:
        paths = [Path(hf_hub_download(model_id, name, etag_timeout=_HUB_TIMEOUT_S, tqdm_class=Bar)) for name in _FILES]
    except LocalEntryNotFoundError as error:
        raise _out_of_reach(model_id, error.__cause__ or error) from error
    except GatedRepoError as error:
        raise _gated(model_id) from error
    except RepositoryNotFoundError as error:
        raise _missing(model_id) from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise ModelLoadError(f"{model_id!r} could not be downloaded: {error}") from error
    finally:
        progress.end()
    return paths[0].parent


def _out_of_reach(model_id: str, error: BaseException) -> ModelLoadError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    hint = _HUB_HINT.format(id=model_id)
    return ModelLoadError(f"{model_id!r} is not in the cache, and the Hub cannot be reached ({reason}). {hint}")


def _gated(model_id: str) -> ModelLoadError:
    return ModelLoadError(f"{model_id!r} is gated: accept its terms on the Hub, and set HF_TOKEN.")


def _missing(model_id: str) -> ModelLoadError:
    return ModelLoadError(f"The Hub has no model {model_id!r}, or it is private: then HF_TOKEN must be set.")
