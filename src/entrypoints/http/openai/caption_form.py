"""How captions are cut, as fields of a form; none of it is OpenAI's."""

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from fastapi import Form
from pydantic import Field

from ....domain.captions import DEFAULT_STYLE, CaptionStyle
from ..recordings.form_fields import UNSAID

_RANGES = {one.name: one.metadata["range"] for one in fields(CaptionStyle) if "range" in one.metadata}


def _in_range(name: str) -> Any:
    least, most = _RANGES[name]
    return Field(ge=least, le=most)


@dataclass(frozen=True, slots=True)
class CaptionForm:
    """How `srt` and `vtt` are cut."""

    max_line_width: Annotated[int, _in_range("max_line_width"), Form(description="srt, vtt: characters per line")] = (
        DEFAULT_STYLE.max_line_width
    )
    max_line_count: Annotated[int, _in_range("max_line_count"), Form(description="srt, vtt: lines per cue")] = (
        DEFAULT_STYLE.max_line_count
    )
    max_words_per_line: Annotated[
        Annotated[int, _in_range("max_words_per_line")] | None, UNSAID, Form(description="srt, vtt: words per line")
    ] = None
    highlight_words: Annotated[bool, Form(description="srt, vtt: underline each word while it is spoken")] = False
    max_cue_duration: Annotated[float, _in_range("max_cue_duration"), Form(description="srt, vtt: seconds")] = (
        DEFAULT_STYLE.max_cue_duration
    )
    min_cue_duration: Annotated[float, _in_range("min_cue_duration"), Form(description="srt, vtt: seconds")] = (
        DEFAULT_STYLE.min_cue_duration
    )
    min_gap: Annotated[float, _in_range("min_gap"), Form(description="srt, vtt: seconds between cues")] = (
        DEFAULT_STYLE.min_gap
    )

    def style(self) -> CaptionStyle:
        """The same, checked.

        Raises:
            InvalidRequestError: A value is out of range.
        """
        return CaptionStyle(**asdict(self))
