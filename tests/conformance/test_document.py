"""What the OpenAPI document allows, and what it forbids, is answered as the document says; never by a defect.

Through schemathesis itself, for its plugin does not run under our pytest.
"""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from parakeet_service.adapters.scripted_model import ScriptedModel
from tests.conformance.calls import SPEECH
from tests.conformance.serving import Served, make_app

OPERATIONS = {
    operation.label: operation
    for result in schemathesis.openapi.from_dict(make_app(ScriptedModel()).openapi()).get_all_operations()
    for operation in [result.ok()]
}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_the_document_can_be_read_whole() -> None:
    assert {"POST /v1/audio/transcriptions", "POST /v1/audio/translations", "GET /v1/models"} <= set(OPERATIONS)


# What has no body can be asked for in one way only.
ASKED = [(label, GenerationMode.POSITIVE) for label in OPERATIONS]
ASKED += [(label, GenerationMode.NEGATIVE) for label in OPERATIONS if label.startswith("POST")]


@pytest.mark.parametrize(("label", "mode"), ASKED)
def test_every_operation(service: Served, label: str, mode: GenerationMode) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(OPERATIONS[label].as_strategy(generation_mode=mode), st.booleans(), st.booleans())
    def ask(case: schemathesis.Case, served: bool, audible: bool) -> None:  # noqa: FBT001
        # What is made up is seldom a model's name or a recording: then little would be looked at behind them.
        if isinstance(case.body, dict):
            more = {"model": "whisper-1"} if served else {}
            more |= {"file": SPEECH} if audible else {}
            case.body = {**case.body, **more}
        statuses[case.call_and_validate(base_url=service.url, checks=CHECKS).status_code] += 1

    statuses = Counter[int]()
    ask()
    assert mode is GenerationMode.NEGATIVE or statuses[200] or label.endswith("/{model_id}"), statuses
