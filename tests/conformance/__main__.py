"""Writes the table of `docs/conformance.md`."""

from tests.conformance.table import DOCUMENT, document

if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
