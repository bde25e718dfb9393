"""Manifests of corpora as they are unpacked: LibriSpeech and Common Voice."""

import argparse
import csv
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile

from .manifests import Utterance, write_manifest


def librispeech(directory: Path) -> Iterator[tuple[Path, str, str]]:
    """File, speaker and text of each utterance below a directory such as ``LibriSpeech/train-clean-100``.

    Its texts are capitals without punctuation: they become a sentence of small letters. `training.prepare
    --names-from` gives names their capitals back.
    """
    for transcript in sorted(directory.rglob("*.trans.txt")):
        for line in transcript.read_text(encoding="utf-8").splitlines():
            name, text = line.split(" ", 1)
            small = re.sub(r"\bi\b", "I", text.lower())
            yield transcript.parent / f"{name}.flac", name.split("-")[0], f"{small[0].upper()}{small[1:]}."


def common_voice(directory: Path) -> Iterator[tuple[Path, str, str]]:
    """File, speaker and text of each utterance that was validated, of a directory such as ``cv-corpus-21.0/en``."""
    with (directory / "validated.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield directory / "clips" / row["path"], row["client_id"][:16], row["sentence"].strip('"')


_KINDS = {"librispeech": librispeech, "common-voice": common_voice}


def main() -> None:
    """``python -m training.corpora``: the manifest of a corpus; its audio stays where it is."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kind", choices=_KINDS)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="file.tsv")
    arguments = parser.parse_args()
    found = list(_KINDS[arguments.kind](arguments.directory.resolve()))
    if not found:
        raise SystemExit(f"{arguments.directory}: nothing of {arguments.kind}")
    with ThreadPoolExecutor(8) as pool:
        seconds = list(pool.map(lambda item: float(soundfile.info(item[0]).duration), found))
    utterances = [
        Utterance(file, length, arguments.kind, speaker, text)
        for (file, speaker, text), length in zip(found, seconds, strict=True)
    ]
    write_manifest(arguments.out, utterances)
    print(f"{len(utterances)} utterances, {sum(seconds) / 3600:.1f} h")


if __name__ == "__main__":
    main()
