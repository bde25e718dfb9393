"""Manifests: which audio file says what, and who speaks."""

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path

UNKNOWN = "unknown"
"""The speaker where a manifest names none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and its words."""

    file: Path
    seconds: float
    corpus: str
    speaker: str
    text: str

    @property
    def voice(self) -> str:
        """The speaker, told apart from those of other corpora."""
        return f"{self.corpus}/{self.speaker}"


def read_manifest(path: Path, *, audio: Path | None = None) -> list[Utterance]:
    """Utterances of a tab-separated file with the columns file, seconds, text and, optionally, corpus and speaker.

    Args:
        path: The file; its first line names the columns.
        audio: Where the audio lies; by default the directory of the file itself.

    Raises:
        ValueError: A column is missing, or a duration is no number.
    """
    directory = audio or path.parent
    found: list[Utterance] = []
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [name for name in ("file", "seconds", "text") if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: the first line names no column {', '.join(missing)}")
        for row in rows:
            try:
                seconds = float(row["seconds"])
            except ValueError as error:
                raise ValueError(f"{path}, line {rows.line_num}: {error}") from error
            corpus = row.get("corpus") or row.get("source") or path.stem
            found.append(
                Utterance(directory / row["file"], seconds, corpus, row.get("speaker") or UNKNOWN, row["text"])
            )
    return found


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write what `read_manifest` reads; files are named relative to the manifest where they lie below it."""
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerow(["file", "seconds", "corpus", "speaker", "text"])
        for item in utterances:
            below = item.file.is_relative_to(path.parent)
            name = item.file.relative_to(path.parent) if below else item.file
            writer.writerow([name, f"{item.seconds:.2f}", item.corpus, item.speaker, item.text])
