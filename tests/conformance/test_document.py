"""What the OpenAPI document allows, and what it forbids, is answered as the document says; never by a defect.

Through schemathesis itself, for its plugin does not run under our pytest.
"""

from collections import Counter
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.conformance.calls import SPEECH
from tests.conformance.serving import Served, make_app
from tests.scripted_model import ScriptedModel

# Its types are generics whose parameters it leaves open.
_LIBRARY: Any = schemathesis
_CHECKS: Any = checks
_OPENAPI: Any = openapi_checks

OPERATIONS: dict[str, Any] = {
    operation.label: operation
    for result in _LIBRARY.openapi.from_dict(make_app(ScriptedModel()).openapi()).get_all_operations()
    for operation in [result.ok()]
}
CHECKS = [
    _CHECKS.not_a_server_error,
    _OPENAPI.status_code_conformance,
    _OPENAPI.content_type_conformance,
    _OPENAPI.response_schema_conformance,
]
_SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
_WHISPER_ASR = ("POST /asr", "POST /detect-language")
ASKED: list[tuple[str, schemathesis.GenerationMode]] = [
    (label, mode)
    for label in OPERATIONS
    for mode in schemathesis.GenerationMode
    # What has no body can be asked for in one way only.
    if mode is schemathesis.GenerationMode.POSITIVE or label.startswith("POST")
]


def test_the_document_can_be_read_whole() -> None:
    assert {"POST /v1/audio/transcriptions", "POST /v1/audio/translations", "GET /v1/models"} <= set(OPERATIONS)


@pytest.mark.parametrize(("label", "mode"), ASKED)
def test_every_operation(service: Served, label: str, mode: schemathesis.GenerationMode) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=_SLOW, database=None)
    @given(OPERATIONS[label].as_strategy(generation_mode=mode), st.booleans(), st.booleans())
    def ask(case: Any, served: bool, audible: bool) -> None:  # noqa: FBT001
        # What is made up is seldom a model's name or a recording: then little would be looked at behind them.
        more: dict[str, object] = {"model": "whisper-1"} if served else {}
        if audible:
            # Most of what is made up for these has no recording that it fits.
            more |= {"audio_file": SPEECH} if label in _WHISPER_ASR else {"file": SPEECH, "track": 1}
        if served and audible and "/audio/" in label:
            more |= {"language": "en", "min_cue_duration": 0}
        if label == "POST /v1/listen" and audible:
            case.body = SPEECH
        if isinstance(case.body, dict) and "/realtime/" not in label:
            case.body = {**cast("dict[str, object]", case.body), **more}
        statuses[case.call_and_validate(base_url=service.url, checks=CHECKS).status_code] += 1

    statuses = Counter[int]()
    ask()
    assert mode is schemathesis.GenerationMode.NEGATIVE or statuses[200] or label.endswith("/{model_id}"), statuses
