"""Sentences as espeak-ng says them, by the one that the wheel `piper-tts` carries."""

import argparse
import re
from pathlib import Path

from piper.phonemize_espeak import EspeakPhonemizer


def phonemes(phonemizer: EspeakPhonemizer, voice: str, text: str) -> str:
    """The phonemes of one sentence, its punctuation kept; `voice` is one of espeak-ng's, such as ``en-us``."""
    said = " ".join("".join(sentence) for sentence in phonemizer.phonemize(voice, text))
    return re.sub(r"\s+", " ", said)


def main() -> None:
    """``python -m training.phonemes``: lines of `text` to lines of `text, American, British`, tab-separated."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("text", type=Path, help="one sentence a line")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    phonemizer = EspeakPhonemizer()
    with arguments.text.open(encoding="utf-8") as lines, arguments.out.open("w", encoding="utf-8") as out:
        for line in lines:
            text = line.strip()
            spoken = [phonemes(phonemizer, voice, text) for voice in ("en-us", "en")]
            out.write("\t".join([text, *spoken]) + "\n")


if __name__ == "__main__":
    main()
