"""Words and phrases that a request wants to be favoured."""

from collections.abc import Iterable

from ....application.ports.speech_model import Decoding
from ....domain.errors import InvalidRequestError


def listed(given: Iterable[str]) -> tuple[str, ...]:
    """Each part of the comma lists once, in order."""
    parts = (part.strip() for listed in given for part in listed.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def decoding_of(keywords: Iterable[str], *, beam_size: int = 1) -> Decoding:
    """How to read where these comma lists of keywords are favoured.

    Raises:
        InvalidRequestError: They are too many or too long; the parameter is called ``keywords``.
    """
    try:
        return Decoding(beam_size=beam_size, phrases=listed(keywords))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"keywords: {error.message}", param="keywords") from error
