import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training import train
from training.augmentation import Augmentation
from training.batches import Corpus
from training.convert import to_mlx
from training.hearing import Hearing
from training.schedule import Plan
from training.shards import Entry, read_shard, write_shard
from training.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="for CPUs")


def write_vocabulary(path: Path, last: str = ".") -> None:
    vocabulary = ["<unk>", "▁", "a", "b", "c", "d", "B", last]
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


def write_voices(path: Path, voices: dict[str, int]) -> None:
    """Utterances of a second, each silent at a level of its own, so many of each voice."""
    entries = [Entry(16_000, "corpus", voice, "Bad.") for voice, count in voices.items() for _ in range(count)]
    write_shard(path, [(np.full(16_000, level, np.int16), entry) for level, entry in enumerate(entries, 1)])


def voices_of(item: torch.Tensor, voices: dict[str, int]) -> list[str]:
    """Who speaks in an item, of the voices that `write_voices` wrote."""
    names = [voice for voice, count in voices.items() for _ in range(count)]
    levels = torch.unique_consecutive((item * 32768).round().int()).tolist()
    return [names[level - 1] for level in levels if level]


def test_one_voice_speaks_half_of_the_items_if_it_has_enough_to_say(tmp_path: Path) -> None:
    voices = {"anna": 20, "ben": 20, "carl": 2}
    write_voices(tmp_path / "one", voices)
    write_vocabulary(tmp_path / "config.json")
    corpus = Corpus(tmp_path, Vocabulary(tmp_path / "config.json"), torch.device("cpu"))
    corpus.refresh()

    def spoken(share: float) -> list[list[str]]:
        batch = corpus.draw(np.random.default_rng(0), 8.0, 800.0, silent=0.0, one_voice=share)
        return [voices_of(item, voices) for item in batch.signal]

    always = [item for item in spoken(1.0) if item[0] != "carl"]
    assert all(len(set(item)) == 1 for item in always)
    assert max(map(len, always)) > 3
    assert any(len(set(item)) > 1 for item in spoken(1.0) if item[0] == "carl"), "who says little would repeat it"
    assert any(len(set(item)) > 1 for item in spoken(0.0) if item[0] != "carl")


def test_other_corpora_are_drawn_in_the_last_part_of_the_time(given: list[str], tmp_path: Path) -> None:
    write_shard(tmp_path / "shards" / "two", [(np.zeros(16_000, np.int16), Entry(16_000, "late", "ben", "Dad."))] * 2)
    trainer = train.Trainer(
        train.options().parse_args([*given, "--weight", "late=0", "--late-weight", "corpus=0", "late=1"])
    )

    def labels() -> set[int]:
        return set(trainer.corpus.draw(trainer.chance, 3.0, 30.0, silent=0.0).lengths_here.unique().tolist())

    trainer._one_step(0.5)
    early = labels()
    trainer._one_step(0.7)
    assert early.isdisjoint(labels())


def test_frames_are_known_without_asking_the_gpu(given: list[str]) -> None:
    trainer = train.Trainer(train.options().parse_args(given))
    batch = trainer.corpus.draw(trainer.chance, 5.0, 20.0)
    for strength in (0.0, 1.0):
        heard = trainer.hearing(batch, strength, magnitude=False)
        assert torch.equal(heard.frames, heard.frames_here)
    assert torch.equal(batch.lengths, batch.lengths_here)


def test_learns_what_a_teacher_hears(given: list[str]) -> None:
    class Loud:
        """Hears nothing but how loud it is."""

        def __call__(self, signal: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            assert signal.shape[1] >= int(lengths.max())
            power = torch.nn.functional.avg_pool1d(signal.square()[:, None], 320, ceil_mode=True).transpose(1, 2)
            return (power + 1e-6).log().expand(-1, -1, 512)

    # The bounds of attention apart nothing keeps so small a network from it in so few steps.
    trainer = train.Trainer(train.options().parse_args([*given, "--peak", "1e-2", "--teacher-weight", "10"]))
    augmentation = Augmentation(torch.device("cpu"), 1, rooms=4)
    trainer.hearing = Hearing(trainer.features, augmentation, Loud(), torch.device("cpu"))
    losses = [float(trainer._one_step(0.025)[0][2]) for _ in range(60)]
    assert 0.7 < losses[0] < 3
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


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


def test_what_is_killed_goes_on_from_the_last_step_that_was_saved(given: list[str]) -> None:
    class Interrupted(train.Trainer):
        def _guard(self, wrong: float) -> None:
            """What is called whenever the state has been saved."""
            raise KeyboardInterrupt(wrong)

    trainer = Interrupted(train.options().parse_args([*given, "--minutes", "1000", "--save-s", "0"]))
    trainer.out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert train.main([*given, "--minutes", "1000", "--call-minutes", "0.001"]).step > trainer.step == 1


def test_trains_on_nothing_but_speech(given: list[str], tmp_path: Path) -> None:
    for path in (tmp_path / "shards").glob("one.*"):
        path.unlink()
    with pytest.raises(SystemExit, match="no shard of speech"):
        train.main(given)


def test_says_what_is_no_shard(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "shards" / "list.tsv").write_text("file\tseconds\tcorpus\tspeaker\ttext\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"list\.tsv, line 1: not of a shard"):
        train.main(given)


def test_says_which_weights_have_no_corpus(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    train.Trainer(train.options().parse_args([*given, "--weight", "corpus=2", "other=3"]))
    assert capsys.readouterr().out == "--weight: no shard has other so far\n"


def test_refuses_a_weight_without_a_factor(given: list[str]) -> None:
    with pytest.raises(SystemExit):
        train.main([*given, "--weight", "corpus"])


def test_goes_on_with_no_other_vocabulary_of_the_same_size(given: list[str], tmp_path: Path) -> None:
    short = [*given, "--minutes", "0.001"]
    trainer = train.main(short)
    finished = tmp_path / "model"
    finished.mkdir()
    save_file(to_mlx(trainer.average), finished / "model.safetensors")
    write_vocabulary(finished / "config.json")
    from_it = ["--out", str(tmp_path / "further"), "--checkpoint", str(finished / "model.safetensors")]
    assert train.main([*short, *from_it]).step > 0

    write_vocabulary(tmp_path / "config.json", last="!")
    with pytest.raises(SystemExit, match=r"state\.pt has another vocabulary"):
        train.main(short)
    with pytest.raises(SystemExit, match=r"model.config\.json has another vocabulary"):
        train.main([*short, *from_it[2:], "--out", str(tmp_path / "new")])


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
    plan = Plan(shared_from=0.05, transducer_from=0.0)
    assert plan.share(0.04) == 0
    assert plan.share(0.05) == plan.ctc_share


def test_at_the_turn_to_tdt_ctc_still_has_the_say() -> None:
    plan = Plan(transducer_from=0.2, turning=0.1)
    assert plan.share(0.2) == 1
    assert plan.share(0.25) == pytest.approx(0.65)
    assert plan.share(0.3) == pytest.approx(plan.ctc_share)
    assert plan.share(0.9) == plan.ctc_share


def test_what_the_turn_costs_is_not_undone(given: list[str]) -> None:
    trainer = train.Trainer(train.options().parse_args(given))
    trainer._guard(0.3)
    trainer._one_step(trainer.plan.transducer_from)
    peak = trainer.plan.peak
    trainer._guard(0.5)
    assert trainer.plan.peak == peak


def test_augmentation_rises_and_is_halved_towards_the_end() -> None:
    plan = Plan()
    assert [plan.strength(spent) for spent in (0.0, 0.12, 0.5, 0.8, 0.9)] == [0, 1, 1, 1, 0.75]
    assert plan.strength(1.0) == 0.5
