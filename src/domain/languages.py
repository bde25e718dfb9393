"""The names by which clients call languages."""

import re
import unicodedata
from types import MappingProxyType

_NAMES = MappingProxyType(
    {
        # ISO 639-1: the English name in small letters, then ISO 639-2 and 639-3, then other names, the language's own
        # among them.
        "bg": ("bulgarian", "bul", "български"),
        "cs": ("czech", "ces", "cze", "čeština", "česky", "český"),
        "da": ("danish", "dan", "dansk"),
        "de": ("german", "deu", "ger", "deutsch"),
        "el": ("greek", "ell", "gre", "modern greek", "ελληνικά", "ελληνική"),
        "en": ("english", "eng"),
        "es": ("spanish", "spa", "castilian", "español", "castellano"),
        "et": ("estonian", "est", "ekk", "eesti", "eesti keel"),
        "fi": ("finnish", "fin", "suomi", "suomen kieli"),
        "fr": ("french", "fra", "fre", "français", "langue française"),
        "hr": ("croatian", "hrv", "hrvatski", "hrvatski jezik"),
        "hu": ("hungarian", "hun", "magyar", "magyar nyelv"),
        "it": ("italian", "ita", "italiano"),
        "lt": ("lithuanian", "lit", "lietuvių", "lietuvių kalba"),
        "lv": ("latvian", "lav", "lvs", "latviešu", "latviešu valoda", "lettish"),
        "mt": ("maltese", "mlt", "malti"),
        "nl": ("dutch", "nld", "dut", "flemish", "nederlands", "vlaams"),
        "pl": ("polish", "pol", "polski", "język polski"),
        "pt": ("portuguese", "por", "português"),
        "ro": ("romanian", "ron", "rum", "moldavian", "moldovan", "mo", "mol", "română", "limba română"),
        "ru": ("russian", "rus", "русский", "русский язык"),
        "sk": ("slovak", "slk", "slo", "slovenčina", "slovenský"),
        "sl": ("slovenian", "slv", "slovene", "slovenščina", "slovenski"),
        "sv": ("swedish", "swe", "svenska"),
        "uk": ("ukrainian", "ukr", "українська", "українська мова"),
    }
)
_UNSAID = frozenset(
    (
        "",
        "*",
        "-",
        "all",
        "any",
        "auto",
        "autodetect",
        "automatic",
        "default",
        "detect",
        "detection",
        "false",
        "mul",
        "multi",
        "multilingual",
        "nan",
        "nil",
        "none",
        "null",
        "und",
        "undef",
        "undefined",
        "undetermined",
        "unknown",
        "unspecified",
    )
)
"""What clients send when they, or their users, mean no language in particular; all but the first two as one word."""


def _plain(text: str) -> str:
    """In small letters, without accents, which not everybody types."""
    parts = unicodedata.normalize("NFKD", text.strip().strip("\"'").casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


_CODES = MappingProxyType({_plain(name): code for code, names in _NAMES.items() for name in (code, *names)})
_PARTS = re.compile(r"[-_.@\s()\[\]/]+")


def code_of(language: str) -> str:
    """The ISO 639-1 code that a client means; empty where it means no language in particular.

    It may be a code of two or three letters (``en``, ``eng``), a name in English or in the language itself
    (``German``, ``Deutsch``), or either with a region (``en-US``, ``en_US.UTF-8``, ``English (US)``). What is none of
    them comes back in small letters, without what follows: no model writes it.
    """
    small = _plain(language)
    parts = [part for part in _PARTS.split(small) if part]
    if small in _UNSAID or not parts or parts[0] in _UNSAID:
        return ""
    if code := _CODES.get(small) or _CODES.get(parts[0]):
        return code
    # As in "British English"; but the end of a locale is a region or a script, some of which look like languages.
    last = parts[-1] if len(parts[-1]) > _LONGEST_CODE else ""
    return _CODES.get(last, parts[0])


_LONGEST_CODE = 3


def name_of(code: str) -> str:
    """The English name of a language in small letters, as Whisper writes it; the code itself if there is none."""
    return _NAMES[code][0] if code in _NAMES else code
