"""What tells two checkpoints apart, whatever they are called and wherever they are."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def fingerprint(config: Mapping[str, Any], weights: Path, memo: Path, *further: object) -> str:
    """A hash over a checkpoint's configuration and weights, and over whatever else counts.

    The weights are read to the end, but only once: their hash is remembered together with the file's place, size and
    time of change.

    Args:
        config: The contents of ``config.json``.
        weights: The path of ``model.safetensors``.
        memo: The directory in which hashes are remembered; made if need be.
        further: Is part of the hash, by its ``repr``.

    Raises:
        OSError: The weights cannot be read, or nothing can be remembered.
    """
    parts = [_remembered(weights, memo), json.dumps(config, sort_keys=True), *map(repr, further)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _remembered(weights: Path, memo: Path) -> str:
    found = weights.resolve()
    stat = found.stat()
    identity = f"{found}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    path = memo / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.sha256"
    if path.is_file() and len(known := path.read_text(encoding="ascii")) == hashlib.sha256().digest_size * 2:
        return known
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    memo.mkdir(parents=True, exist_ok=True)
    path.write_text(digest, encoding="ascii")
    return digest
