"""What a transcript warns of, as a header."""

from starlette.responses import Response

from ....domain.transcript import Transcript

WARNINGS_HEADER = "x-warnings"
"""What of a recording was passed over, a sentence each, separated by " | "."""


def add_warnings(response: Response, transcript: Transcript) -> None:
    """Tell what was passed over; a header has no other characters than those of ASCII."""
    if transcript.warnings:
        text = " | ".join(warning.message for warning in transcript.warnings)
        response.headers[WARNINGS_HEADER] = "".join(one if " " <= one <= "~" else "?" for one in text)
