import json
from typing import get_args

import openai
import pytest
from openai.types import AudioModel

from tests.conformance.calls import Callers, strict_model


def test_the_list_has_the_loaded_model(client: Callers) -> None:
    models = client.sync.models.list()
    assert [strict_model(model.to_json()).id for model in models.data] == ["scripted"]
    raw = json.loads(client.sync.models.with_raw_response.list().http_response.content)
    assert raw["object"] == "list"


@pytest.mark.parametrize("name", sorted(set(get_args(AudioModel)) - {"gpt-4o-transcribe-diarize"}))
def test_every_name_that_the_client_knows_means_it(client: Callers, name: str) -> None:
    model = strict_model(client.sync.models.retrieve(name).to_json())
    assert (model.id, model.object, model.owned_by) == ("scripted", "model", "parakeet-service")
    assert client.transcribe({"model": name})


def test_but_not_the_one_that_tells_speakers_apart(client: Callers) -> None:
    with pytest.raises(openai.NotFoundError):
        client.transcribe({"model": "gpt-4o-transcribe-diarize"})
