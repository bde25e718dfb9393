"""Training on any number of GPUs, by the clock: ``torchrun --nproc-per-node N -m training.train ...``.

The learning rate, the strength of augmentation and the turn from CTC to TDT follow the share of the given minutes that
is spent. A run that was stopped goes on from its last checkpoint.
"""

import argparse
import copy
import dataclasses
import json
import math
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from .augmentation import Augmentation, Strength
from .batches import END_S, Batch, Corpus, items_of
from .convert import from_mlx, read_weights
from .distillation import distance
from .drawing import Drawing
from .features import HOP, RATE, LogMel
from .hearing import Heard, Hearing, rounded
from .loss import token_and_duration_loss
from .network import Attention, Shape, Transducer, encoded_length
from .schedule import LENGTHS_S, Plan
from .teacher import Teacher
from .vocabulary import Vocabulary
from .watching import words_wrong

_LOST = 0.06
"""So much more of the words wrong than at best is no accident."""
_BOUND_EVERY = 8


class _Losses(NamedTuple):
    """Sums over a batch, and the teacher's mean."""

    ctc: Tensor
    tdt: Tensor
    teacher: Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class _Best:
    """The state that read the voices held out best."""

    wrong: float
    model: dict[str, Any]
    optimiser: dict[str, Any]
    average: dict[str, Tensor]


class Trainer:
    """Model, optimiser, moving average and clock of one process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        if self.world > 1:
            dist.init_process_group("nccl" if on_gpu else "gloo")
        self.arguments = arguments
        self.out: Path = arguments.out
        torch.manual_seed(1)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.vocabulary = Vocabulary(arguments.vocabulary)
        shape = json.loads(arguments.shape) if arguments.shape else {}
        self.shape = Shape(**{**shape, "vocabulary": len(self.vocabulary), "dropout": arguments.dropout})
        self.model = Transducer(self.shape).to(self.device)
        self.plan = Plan(peak=arguments.peak, transducer_from=arguments.transducer_from)
        if arguments.checkpoint:
            # It reads already: no clean, short beginnings; and a CTC head that knows nothing must not unmake its encoder.
            self.plan = Plan(
                peak=arguments.peak,
                clean_until=0.0,
                augmented_from=0.05,
                short_until=0.0,
                transducer_from=0.0,
                shared_from=0.05,
            )
        decayed = [value for value in self.model.parameters() if value.ndim > 1]
        others = [value for value in self.model.parameters() if value.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=on_gpu)
        if on_gpu:
            self._capture()
        self.average = {name: value.detach().clone().float() for name, value in self.model.state_dict().items()}
        self.step, self.spent_s = 0, 0.0
        self._steep = torch.zeros(())
        self._best: _Best | None = None
        self._resume()
        weights = dict(arguments.weight)
        self.late = {**weights, **dict(arguments.late_weight)}
        self._is_late = self._turned = False
        self.corpus = Corpus(arguments.data, self.vocabulary, self.device, weights)
        self.corpus.refresh()
        if not self.corpus.texts:
            raise SystemExit(f"{arguments.data}: no shard of speech other than dev")
        if self.rank == 0 and (absent := self.late.keys() - set(self.corpus.corpora)):
            print(f"--weight: no shard has {', '.join(sorted(absent))} so far", flush=True)
        self.features = LogMel(self.device, self.shape.mels)
        self.chance = np.random.default_rng([self.step, self.rank])
        self.drawing = Drawing(self.corpus, arguments.batch_s, [self.step, self.rank, 1], self.device)
        teacher = Teacher(arguments.teacher, self.device) if arguments.teacher else None
        augmentation = Augmentation(self.device, 1000 * self.step + self.rank)
        self.hearing = Hearing(self.features, augmentation, teacher, self.device)

    def _capture(self) -> None:
        """Prepare the encoder for the batches that there will be: before NCCL's first call, whose thread disturbs it."""
        fastest = (1 - Strength().speed) * (1 - Strength().tempo)
        sizes: dict[int, int] = {}
        for seconds in LENGTHS_S:
            frames = rounded(math.ceil((seconds + END_S) * RATE / HOP / fastest) + 1)
            sizes[items_of(seconds, self.arguments.batch_s)] = int(encoded_length(torch.tensor(frames)))
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            self.model.encoder.capture(sizes)

    def _resume(self) -> None:
        path = self.out / "state.pt"
        if path.exists():
            saved = torch.load(path, map_location=self.device, weights_only=True)
            self._same_pieces(saved["vocabulary"], path)
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.average = saved["average"]
            self.step, self.spent_s = saved["step"], saved["spent_s"]
        elif self.arguments.checkpoint or self.arguments.encoder_from:
            if self.arguments.checkpoint:
                beside = self.arguments.checkpoint.with_name("config.json")
                self._same_pieces(Vocabulary(beside).pieces, beside)
            weights = from_mlx(read_weights(self.arguments.checkpoint or self.arguments.encoder_from))
            kept = {
                name: value
                for name, value in weights.items()
                if self.arguments.checkpoint or name.startswith("encoder.")
            }
            self.model.load_state_dict(kept, strict=False)
            self.average.update({name: value.to(self.device) for name, value in kept.items()})

    def _same_pieces(self, pieces: list[str], path: Path) -> None:
        # Of another vocabulary of the same size the weights would load, and mean nothing.
        if pieces != self.vocabulary.pieces:
            raise SystemExit(
                f"{path} has another vocabulary ({len(pieces)} pieces) than --vocabulary {self.arguments.vocabulary} "
                f"({len(self.vocabulary)} pieces)"
            )

    def save(self) -> None:
        """Write the whole state, and the moving average alone, each in one step."""
        if self.world > 1:
            for name, value in self.model.state_dict().items():
                if "running" in name:
                    dist.all_reduce(value)
                    value.div_(self.world)
        if self.rank == 0:
            kept = {
                "average": self.average,
                "shape": dataclasses.asdict(self.shape),
                "vocabulary": self.vocabulary.pieces,
                "step": self.step,
            }
            whole = {
                **kept,
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "spent_s": self.spent_s,
            }
            half = {name: value.half() if value.is_floating_point() else value for name, value in self.average.items()}
            for name, content in (("state.pt", whole), ("average.pt", {**kept, "average": half})):
                torch.save(content, self.out / f".{name}")
                (self.out / f".{name}").rename(self.out / name)

    def run(self) -> None:
        """Train until the minutes, or those of this call, are over."""
        begun, before = time.monotonic(), self.spent_s
        total_s = self.arguments.minutes * 60
        stop_s = min(total_s, before + self.arguments.call_minutes * 60)
        reported = saved = 0.0
        heard_s = 0.0
        sums, steps = torch.zeros(3, device=self.device), 0
        while self.spent_s < stop_s:
            losses, seconds = self._one_step(self.spent_s / total_s)
            heard_s += seconds
            sums += losses
            steps += 1
            now = time.monotonic() - begun
            self.spent_s = self._agreed(before + now)
            if now - reported > self.arguments.report_s and self.rank == 0:
                ctc, tdt, teacher = (sums / steps).tolist()
                fast = heard_s * self.world / (now - reported)
                print(
                    f"{self.spent_s:6.0f} s  step {self.step}  ctc {ctc:.3f}  tdt {tdt:.3f}  teacher {teacher:.3f}  "
                    f"{fast:.0f} x  "
                    f"{self.corpus.hours:.0f} h  rate {self.optimiser.param_groups[0]['lr']:.1e}  "
                    f"gradient {float(self._steep):.2f}",
                    flush=True,
                )
            if now - reported > self.arguments.report_s:
                reported, heard_s, steps = now, 0.0, 0
                sums.zero_()
                self.drawing.changed(self.corpus.refresh)
            if self.spent_s - before - saved > self.arguments.save_s:
                saved = self.spent_s - before
                self.save()
                self._guard(self.watch())
        self.drawing.close()
        self.save()
        self.watch()
        if self.world > 1:
            dist.destroy_process_group()

    def _agreed(self, own: float) -> float:
        """The clock of the first process, so that all stop and save after the same step."""
        if self.world == 1:
            return own
        if self.step % 16 == 0:
            clock = torch.tensor([own], device=self.device, dtype=torch.float64)
            dist.broadcast(clock, 0)
            return float(clock)
        return self.spent_s

    def _one_step(self, spent: float) -> tuple[Tensor, float]:
        plan = self.plan
        if spent >= plan.late_from and not self._is_late:
            self._is_late = True
            self.drawing.changed(lambda: self.corpus.weigh(self.late))
        batch = self.drawing.batch(plan.longest(spent))
        magnitude = bool(self.chance.random() < 0.5)
        heard = self.hearing(batch, plan.strength(spent), magnitude=magnitude)
        self.model.train()
        with_tdt = spent >= plan.transducer_from
        if with_tdt and not self._turned:
            # The turn costs CTC something: what was best before is no measure of it.
            self._turned, self._best = True, None
        share = plan.share(spent)
        shared = not with_tdt or share > 0
        ctc, tdt, teacher = self._losses(heard, batch, shared=shared, with_tdt=with_tdt)
        # One more for each item, for its end: a batch of silence must not weigh like one of speech.
        number = (batch.lengths + 1).sum()
        # Without a share the encoder does not feel the CTC head; it is only there to watch by.
        loss = ((share or 1.0) * ctc + tdt) / number if with_tdt else ctc / number
        loss = loss + self.arguments.teacher_weight * plan.taught(spent) * teacher
        loss.backward()
        rate = plan.rate(spent)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self._share_gradients()
        self._steep = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        if self.step % _BOUND_EVERY == 0:
            self._bound()
        self.optimiser.zero_grad()
        self._follow()
        self.step += 1
        return torch.stack([ctc / number, tdt / number, teacher]).detach(), float(batch.samples.sum()) / 16_000

    def _losses(self, heard: Heard, batch: Batch, *, shared: bool, with_tdt: bool) -> _Losses:
        """CTC's, which the encoder feels if it is shared, the transducer's from its turn on, and the teacher's."""
        on_gpu = self.device.type == "cuda"
        nothing = torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu):
            whole = self.model.encoder(heard.mel, heard.frames)
            lengths, lengths_here = whole.lengths, encoded_length(heard.frames_here)
            encoded, middle = (part[:, : int(lengths_here.max())] for part in (whole.frames, whole.middle))
            scores = self.model.ctc(encoded if shared else encoded.detach())
            logits = self.model.joint(encoded, self.model.decoder(batch.labels)) if with_tdt else None
            guess = self.model.pupil(middle) if heard.lesson else None
        teacher = nothing
        if guess is not None and heard.lesson is not None:
            features, known = heard.lesson
            inside = torch.arange(guess.shape[1], device=self.device)[None] < lengths[:, None]
            teacher = distance(guess, features, known & inside)
        blank = self.shape.vocabulary
        written = scores.float().log_softmax(-1).transpose(0, 1)
        # Lengths on the CPU: those on the GPU would be fetched, and the whole queue waited for.
        ctc = functional.ctc_loss(
            written,
            batch.labels,
            lengths_here,
            batch.lengths_here,
            blank=blank,
            reduction="sum",
            zero_infinity=True,
        )
        if logits is None:
            return _Losses(ctc, nothing, teacher)
        tdt = token_and_duration_loss(
            logits,
            batch.labels,
            lengths,
            batch.lengths,
            durations=self.shape.durations,
            sigma=0.02,
            earliest=heard.earliest,
        )
        return _Losses(ctc, torch.where(tdt < 1e8, tdt, 0.0).sum(), teacher)

    def _share_gradients(self) -> None:
        weights = list(self.model.parameters())
        flat = torch.cat(
            [(torch.zeros_like(value) if value.grad is None else value.grad).reshape(-1) for value in weights]
        )
        if self.world > 1:
            dist.all_reduce(flat)
            flat /= self.world
        # One broken batch must not cost the run: it teaches nothing.
        flat = flat * torch.isfinite(flat).all()
        flat = torch.nan_to_num(flat, nan=0.0, posinf=0.0, neginf=0.0)
        for value, gradient in zip(weights, flat.split([value.numel() for value in weights]), strict=True):
            value.grad = gradient.view_as(value)

    @torch.no_grad()
    def _bound(self) -> None:
        """Keep the scores of attention small, by the norms of what makes them.

        Without it the two uppermost layers ran away in one run (queries and keys from a norm of 18 to 290 in 5,000
        steps at a rate of 8e-4) and the model forgot everything. In a healthy one they are 10 to 18, positions 20 to 90.
        """
        for attention in self.model.modules():
            if not isinstance(attention, Attention):
                continue
            for value, most in (
                (attention.linear_q.weight, 22.0),
                (attention.linear_k.weight, 22.0),
                (attention.linear_pos.weight, 95.0),
                (attention.pos_bias_u, 4.0),
                (attention.pos_bias_v, 4.0),
            ):
                value.mul_((most / value.norm().clamp(min=1e-6)).clamp(max=1.0))

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the moving average follow the model."""
        decay = min(self.arguments.average, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        names = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in names], [state[name] for name in names], 1 - decay)

    @torch.no_grad()
    def _guard(self, wrong: float) -> None:
        """Go back to the best state, at half the rate, when the model comes apart."""
        shared = torch.tensor([wrong], device=self.device)
        if self.world > 1:
            dist.broadcast(shared, 0)
        wrong = float(shared)
        if self._best is None or wrong <= self._best.wrong:
            self._best = _Best(
                wrong,
                *(copy.deepcopy(item) for item in (self.model.state_dict(), self.optimiser.state_dict(), self.average)),
            )
        elif wrong > self._best.wrong + _LOST:
            self.model.load_state_dict(self._best.model)
            self.optimiser.load_state_dict(self._best.optimiser)
            self.average = copy.deepcopy(self._best.average)
            self.plan = dataclasses.replace(self.plan, peak=self.plan.peak / 2)
            if self.rank == 0:
                print(f"back to {100 * self._best.wrong:.1f} %, at half the rate", flush=True)

    @torch.no_grad()
    def watch(self) -> float:
        """Print the CTC error rate of the moving average on the voices held out; 0 where there are none."""
        if self.rank != 0:
            return 0.0
        held = Corpus(self.arguments.data, self.vocabulary, self.device)
        if not held.refresh("dev"):
            return 0.0
        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        wrong, words = words_wrong(self.model, held, self.vocabulary, self.features)
        shares = [
            f"{corpus} {100 * wrong[corpus] / words[corpus]:.1f} % of {words[corpus]}" for corpus in sorted(words)
        ]
        print(f"dev: words wrong (CTC): {', '.join(shares)}", flush=True)
        self.model.load_state_dict(kept)
        return wrong.total() / max(1, words.total())


def _weight(given: str) -> tuple[str, float]:
    corpus, factor = given.split("=")
    return corpus, float(factor)


def options() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory of shards")
    parser.add_argument("--vocabulary", type=Path, required=True, help="sentencepiece model, or config.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60, help="of the whole run")
    parser.add_argument("--call-minutes", type=float, default=1e9, help="of this call")
    parser.add_argument("--batch-s", type=float, default=400, help="seconds of audio a step and process")
    parser.add_argument("--peak", type=float, default=8e-4)
    parser.add_argument("--transducer-from", type=float, default=0.14)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument(
        "--weight", type=_weight, nargs="*", default=[], help="corpus=factor: draw its utterances so much oftener"
    )
    parser.add_argument(
        "--late-weight", type=_weight, nargs="*", default=[], help="the same, in the last two fifths of the time"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="model.safetensors to go on from; --vocabulary is the config.json beside it"
    )
    parser.add_argument("--teacher", type=Path, help="what training.teacher wrote: an encoder to hear by")
    parser.add_argument("--teacher-weight", type=float, default=1.0)
    parser.add_argument("--encoder-from", type=Path, help="model.safetensors whose encoder to begin with")
    parser.add_argument("--shape", help="sizes of the network, as JSON, where they are not the default")
    parser.add_argument("--save-s", type=float, default=120, help="what is killed goes on from the last time")
    parser.add_argument("--report-s", type=float, default=10)
    return parser


def main(given: list[str] | None = None) -> Any:
    """Train."""
    arguments = options().parse_args(given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments)
    trainer.run()
    return trainer


if __name__ == "__main__":
    main()
