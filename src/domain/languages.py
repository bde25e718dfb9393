"""The names by which clients call languages."""

import re
from types import MappingProxyType

_NAMES = MappingProxyType(
    {
        "bg": "bulgarian",
        "cs": "czech",
        "da": "danish",
        "de": "german",
        "el": "greek",
        "en": "english",
        "es": "spanish",
        "et": "estonian",
        "fi": "finnish",
        "fr": "french",
        "hr": "croatian",
        "hu": "hungarian",
        "it": "italian",
        "lt": "lithuanian",
        "lv": "latvian",
        "mt": "maltese",
        "nl": "dutch",
        "pl": "polish",
        "pt": "portuguese",
        "ro": "romanian",
        "ru": "russian",
        "sk": "slovak",
        "sl": "slovenian",
        "sv": "swedish",
        "uk": "ukrainian",
    }
)
_CODES = MappingProxyType({name: code for code, name in _NAMES.items()})
_SUBTAG = re.compile("[-_]")


def code_of(language: str) -> str:
    """The ISO 639-1 code behind a code (``en``), an English name (``English``) or a locale (``en-US``, ``en_US``).

    What is none of them comes back in small letters: no model writes it.
    """
    small = language.strip().lower()
    return _CODES.get(small) or _SUBTAG.split(small)[0]


def name_of(code: str) -> str:
    """The English name of a language in small letters, as Whisper writes it; the code itself if there is none."""
    return _NAMES.get(code, code)
