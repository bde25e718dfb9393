import shutil
from pathlib import Path

import pytest

from parakeet_service.assets import EMBEDDED_MODEL
from parakeet_service.bootstrap.diagnosis import changed, facts_about
from parakeet_service.domain.errors import ModelLoadError
from tests.unit.entrypoints.world import a_settings


def model_fact(model_id: str, **settings: object) -> str:
    return facts_about(a_settings(model_id=model_id, **settings))["model"]()


def test_a_whole_model_is_good() -> None:
    assert model_fact("embedded").startswith("embedded: the small model, 0.041 GB, in ")


@pytest.mark.parametrize("damage", ["weights", "config"])
def test_a_damaged_model_is_found_without_loading_it(damage: str, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(EMBEDDED_MODEL / name, tmp_path)
    if damage == "weights":
        with (tmp_path / "model.safetensors").open("r+b") as file:
            file.truncate(1 << 20)
    else:
        (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"states: copy|cannot be read"):
        model_fact(str(tmp_path))


@pytest.mark.parametrize("name", ["./nowhere", ".hidden/model", "models//tdt", "a--b/c", "a/b..c"])
def test_a_mistyped_directory_is_one_sentence(name: str) -> None:
    with pytest.raises(ModelLoadError, match="neither a directory nor a Hub id"):
        model_fact(name)


def test_a_model_that_may_not_be_downloaded_is_missing() -> None:
    with pytest.raises(ModelLoadError, match="OFFLINE forbids"):
        model_fact("owner/name", offline=True)


def test_memory_and_disk_are_looked_at() -> None:
    facts = facts_about(a_settings())
    assert facts["memory"]().endswith(" GB")
    assert " GB free for models, in " in facts["disk"]()


def test_a_system_may_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Windows.
    monkeypatch.delattr("os.sysconf")
    assert "not known" in facts_about(a_settings())["memory"]()


def test_keys_are_shown_by_their_names() -> None:
    shown = changed(a_settings(api_keys="alice:s3cret,other", port=9))
    assert (shown["API_KEYS"], shown["PORT"]) == ("2 (alice, key-2)", "9")
