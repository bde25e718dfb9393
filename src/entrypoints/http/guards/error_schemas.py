"""The bodies of errors: the service's own envelope, OpenAI's, and Deepgram's."""

from pydantic import BaseModel


class ErrorBody(BaseModel):
    """What went wrong. Some errors carry further facts beside these, such as the limit that was passed."""

    model_config = {"extra": "allow"}

    code: str
    message: str


class ProblemBody(BaseModel):
    """The envelope of an error."""

    error: ErrorBody


class OpenAIErrorBody(BaseModel):
    """What went wrong, and with which field."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIProblemBody(BaseModel):
    """The envelope of an error."""

    error: OpenAIErrorBody


class DeepgramErrorBody(BaseModel):
    """What went wrong."""

    err_code: str
    err_msg: str
    request_id: str
