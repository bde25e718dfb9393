import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training import train
from training.batches import Corpus
from training.shards import Entry, read_shard, write_shard
from training.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="for CPUs")


def write_vocabulary(path: Path) -> None:
    vocabulary = ["<unk>", "▁", "a", "b", "c", "d", "B", "."]
    path.write_text(json.dumps({"joint": {"vocabulary": vocabulary}}), encoding="utf-8")


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    chance = np.random.default_rng(0)
    (tmp_path / "shards").mkdir()
    for name in ("one", "dev"):
        items = [
            ((chance.standard_normal(16_000) * 3000).astype(np.int16), Entry(16_000, "corpus", "anna", "Bad dad cab."))
            for _ in range(6)
        ]
        write_shard(tmp_path / "shards" / name, items)
    write_vocabulary(tmp_path / "config.json")
    shape = {"width": 16, "layers": 1, "heads": 2, "channels": 4}
    return [
        *("--data", str(tmp_path / "shards"), "--vocabulary", str(tmp_path / "config.json")),
        *("--out", str(tmp_path / "out"), "--shape", json.dumps(shape), "--batch-s", "6", "--transducer-from", "0.3"),
    ]


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = [Entry(3, "corpus", "anna", "One two.", (0, 2)), Entry(1, "corpus", "anna", "One.")]
    write_shard(
        tmp_path / "a",
        [(np.array(samples, np.int16), entry) for samples, entry in zip(([1, 2, 3], [4]), given, strict=True)],
    )
    audio, entries = read_shard(tmp_path / "a.tsv")
    assert audio.tolist() == [1, 2, 3, 4]
    assert entries == given


def test_labels_of_joined_utterances_do_not_come_before_their_words(tmp_path: Path) -> None:
    entries = [Entry(16_000, "corpus", "anna", "Bad dad.", (1000, 8000)), Entry(16_000, "corpus", "anna", "Cab.")]
    write_shard(tmp_path / "two", [(np.zeros(16_000, np.int16), entry) for entry in entries])
    write_vocabulary(tmp_path / "config.json")
    corpus = Corpus(tmp_path, Vocabulary(tmp_path / "config.json"), torch.device("cpu"))
    corpus.refresh()

    batch = corpus.gather([[0, 1], [1]], [[0.5, 0.25], [0.0]], np.zeros(2))

    # ▁ B a d ▁ d a d . ▁ C a b . : the vocabulary has no C, but a c.
    first = [9000] * 4 + [16_000] * 5 + [28_000] * 5
    assert batch.bounds.tolist() == [first, [0] * 14]


def test_goes_on_where_it_was_stopped(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    call = [*given, "--minutes", "1000", "--call-minutes", "0.001"]
    first = train.main(call)
    assert first.step > 0
    second = train.main(call)
    assert second.step > first.step
    assert second.spent_s > first.spent_s
    saved = torch.load(second.out / "state.pt", weights_only=True)
    assert saved["step"] == second.step
    assert "dev:" in capsys.readouterr().out


def test_scores_of_attention_stay_bounded(given: list[str]) -> None:
    trainer = train.main([*given, "--minutes", "0.01"])
    attention = trainer.model.encoder.layers[0].self_attn
    with torch.no_grad():
        attention.linear_q.weight.mul_(1e4)
    trainer._bound()
    assert attention.linear_q.weight.norm() <= 22.1


def test_goes_back_to_the_best_state_when_the_model_comes_apart(given: list[str]) -> None:
    trainer = train.main([*given, "--minutes", "0.01"])
    weight = trainer.model.encoder.layers[0].self_attn.linear_q.weight
    best, rate = weight.detach().clone(), trainer.plan.rate(0.2)

    trainer._guard(0.3)
    with torch.no_grad():
        weight.zero_()
    trainer._guard(0.35)
    assert not weight.any(), "a little worse is no reason"
    trainer._guard(0.4)

    assert torch.equal(weight, best)
    assert trainer.plan.rate(0.2) == rate / 2


def test_the_encoder_does_not_feel_a_new_ctc_head_at_first() -> None:
    plan = train.Plan(shared_from=0.05)
    assert plan.share(0.04) == 0
    assert plan.share(0.05) == plan.ctc_share


def test_augmentation_rises_and_is_halved_towards_the_end() -> None:
    plan = train.Plan()
    assert [plan.strength(spent) for spent in (0.0, 0.12, 0.5, 0.8, 0.9)] == [0, 1, 1, 1, 0.75]
    assert plan.strength(1.0) == 0.5
