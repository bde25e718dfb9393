"""What makes one recording sound like many: speed, rooms, noise, other voices, lines and codecs; all on the GPU."""

import dataclasses
import math

import torch
from torch import Tensor

from .features import HOP, RATE, Variation


@dataclasses.dataclass(frozen=True, slots=True)
class Strength:
    """How often and how strongly; the defaults are what the checkpoint was trained with."""

    speed: float = 0.15
    tempo: float = 0.12
    warp: float = 0.2
    room: float = 0.35
    noise: float = 0.6
    music: float = 0.12
    babble: float = 0.12
    line: float = 0.15
    telephone: float = 0.2
    filters: float = 0.5
    masks: int = 2

    def scaled(self, factor: float) -> "Strength":
        """So much of everything, 0 to 1."""
        values = {item.name: getattr(self, item.name) * factor for item in dataclasses.fields(self)}
        return Strength(**{**values, "masks": round(values["masks"])})


class Augmentation:
    """Draws and applies variations; one instance a process."""

    def __init__(self, device: torch.device, seed: int, *, rooms: int = 256) -> None:
        self._device = device
        self._chance = torch.Generator(device=device).manual_seed(seed)
        # What lengths depend on is drawn on the CPU, so that nothing waits for the GPU.
        self._here = torch.Generator().manual_seed(seed)
        self._rooms = self._impulses(rooms)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._chance, device=self._device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._chance, device=self._device)

    def _often(self, batch: int, probability: float) -> Tensor:
        return self._uniform(batch) < probability

    def _factor(self, batch: int, most: float) -> Tensor:
        """Factors about 1, on the CPU; a quarter of them is 1."""
        factor = 1 + most * (2 * torch.rand(batch, generator=self._here) - 1)
        return torch.where(torch.rand(batch, generator=self._here) < 0.75, factor, torch.ones_like(factor))

    def _impulses(self, count: int) -> Tensor:
        """Impulse responses of shape ``(count, 8000)``: a direct sound, few reflections, and a tail of noise."""
        time = torch.arange(8000, device=self._device) / RATE
        decay = 0.08 + 0.6 * self._uniform(count, 1) ** 2
        tail = self._normal(count, 8000) * torch.exp(-6.9 * time / decay)
        tail = tail * (time > 0.002 + 0.02 * self._uniform(count, 1))
        early = (self._uniform(count, 8000) < 0.002) * self._normal(count, 8000) * torch.exp(-6.9 * time / decay) * 4
        rest = tail + early
        # The energy of direct sound over that of all else, from -3 to 15 dB.
        ratio = 10 ** ((-3 + 18 * self._uniform(count, 1)) / 20)
        rest = rest / rest.square().sum(1, keepdim=True).sqrt() / ratio
        rest[:, 0] = 1.0
        return rest / rest.square().sum(1, keepdim=True).sqrt()

    def speed(self, signal: Tensor, lengths: Tensor, strength: Strength) -> tuple[Tensor, Tensor]:
        """Play faster or slower, pitch and formants along with it; by cubic interpolation."""
        factor = self._factor(len(signal), strength.speed)
        shorter = (lengths / factor).long()
        here = factor.to(self._device, non_blocking=True)
        place = torch.arange(int(shorter.max()), device=self._device) * here[:, None]
        whole = place.long()
        part = place - whole
        a, b, c, d = (signal.gather(1, (whole + step).clamp(0, signal.shape[1] - 1)) for step in (-1, 0, 1, 2))
        value = b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)))
        return value * (place < lengths.to(self._device, non_blocking=True)[:, None]), shorter

    def surroundings(self, signal: Tensor, lengths: Tensor, strength: Strength) -> Tensor:
        """Add rooms, noise and other voices, then send some of it over a bad line; the shape stays."""
        batch, samples = signal.shape
        lengths = lengths.to(self._device, non_blocking=True)
        size = 2 ** math.ceil(math.log2(samples + 8000))
        inside = torch.arange(samples, device=self._device)[None] < lengths[:, None]
        spectrum = torch.fft.rfft(signal, n=size)
        room = self._rooms[torch.randint(len(self._rooms), (batch,), generator=self._chance, device=self._device)]
        wet = torch.fft.irfft(spectrum * torch.fft.rfft(room, n=size), n=size)[:, :samples]
        signal = torch.where(self._often(batch, strength.room)[:, None], wet, signal)
        level = ((signal.square() * inside).sum(1) / lengths).sqrt()[:, None]
        # What has no speech shall have noise: it is there to be read as nothing.
        level = torch.where(level < 1e-4, torch.full_like(level, 0.05), level)
        noise = self._noise(batch, samples, size)
        # The items of a batch are drawn at random: the first are as good as any.
        if musical := int(batch * strength.music):
            noise[:musical] = self._music(musical, samples)
        signal = signal + level * noise * (
            self._often(batch, strength.noise)[:, None] * 10 ** (-(3 + 32 * self._uniform(batch, 1)) / 20)
        )
        others = torch.stack([signal.roll(step, 0).roll(step * 7919, 1) for step in (1, 2, 3)]).sum(0)
        others = others / (others.square().mean(1, keepdim=True).sqrt() + 1e-6)
        signal = signal + level * others * (
            self._often(batch, strength.babble)[:, None] * 10 ** (-(8 + 20 * self._uniform(batch, 1)) / 20)
        )
        peak = signal.abs().amax(1, keepdim=True) + 1e-6
        signal = torch.where(self._often(batch, strength.line)[:, None], _mu_law(signal), signal)
        loud = 10 ** (-1.4 * self._uniform(batch, 1)) / peak
        signal = signal * loud * inside
        # As with music; the last ones, so that it is not the same items that have both.
        if called := int(batch * strength.telephone):
            signal[-called:] = self._telephone(signal[-called:], size) * inside[-called:]
        return signal

    def _telephone(self, signal: Tensor, size: int) -> Tensor:
        """What is left of recordings that were sampled at 8 kHz and then raised to 16 kHz.

        In the band of a line, mostly by mu-law; above 4 kHz the mirrored image that the resampler let pass, and in half
        of them the noise of 16 bits. Nothing else may be left there: a band that is only fainter is as clear as before
        once it is normalised.
        """
        batch, samples = signal.shape
        signal = torch.where(self._often(batch, 0.6)[:, None], _mu_law(signal), signal)
        spectrum = torch.fft.rfft(signal, n=size)
        frequency = torch.arange(spectrum.shape[1], device=self._device) / size * RATE
        low, steep = 320 * self._uniform(batch, 1), 50 + 200 * self._uniform(batch, 1)
        edge, slope = 3200 + 750 * self._uniform(batch, 1), 50 + 400 * self._uniform(batch, 1)
        below = ((low - frequency) / steep).clamp(0, 1.5) * self._often(batch, 0.6)[:, None]
        above = ((frequency - edge) / slope).clamp(0, 1)
        gain = 10 ** (-(40 * below + 60 * above) / 20)
        middle = len(frequency) // 2
        gain[:, middle:] = 0.0
        called = spectrum * gain
        # The image falls to nothing within so many Hz of 4 kHz.
        rest, within = 10 + 50 * self._uniform(batch, 1), 50 + 900 * self._uniform(batch, 1)
        image = (frequency[:middle] / within).clamp(0, 1)
        image = 10 ** (-(rest + (110 - rest) * image) / 20)
        called[:, middle + 1 :] = called[:, :middle].flip(1).conj() * image
        called = torch.fft.irfft(called, n=size)[:, :samples]
        coarse = (called * 32768).round() / 32768
        return torch.where(self._often(batch, 0.5)[:, None], coarse, called)

    def _noise(self, batch: int, samples: int, size: int) -> Tensor:
        """Noise of any colour from white to brown, of effective value 1; at times swelling."""
        shape = torch.fft.rfft(self._normal(batch, size))
        frequency = torch.arange(shape.shape[1], device=self._device) / size * RATE
        slope = 1.2 * self._uniform(batch, 1)
        noise = torch.fft.irfft(shape / (frequency + 50.0) ** slope, n=size)[:, :samples]
        time = torch.arange(samples, device=self._device) / RATE
        swell = 1 + 0.9 * self._uniform(batch, 1) * torch.sin(
            time * 6 * self._uniform(batch, 1) + 6 * self._uniform(batch, 1)
        )
        noise = noise * swell
        return noise / (noise.square().mean(1, keepdim=True).sqrt() + 1e-6)

    def _music(self, batch: int, samples: int) -> Tensor:
        """Three notes at a time, struck and fading, with overtones, of effective value 1; each item at its own pace."""
        time = torch.arange(samples, device=self._device) / RATE
        lasting = 0.12 + 0.6 * self._uniform(batch, 1)
        place = (time / lasting).long()
        since = time - place * lasting
        fading = torch.exp(-8 * self._uniform(batch, 1) * since)
        total = torch.zeros(batch, samples, device=self._device)
        for _ in range(3):
            notes = (36 * self._uniform(batch, int(samples / RATE / 0.12) + 2)).floor()
            angle = 2 * math.pi * 110 * since * 2 ** (notes.gather(1, place) / 12)
            for overtone in range(1, 5):
                total = total + torch.sin(overtone * angle) / overtone
        total = total * fading
        return total / (total.square().mean(1, keepdim=True).sqrt() + 1e-6)

    def variation(self, batch: int, strength: Strength) -> Variation:
        """How features are to differ: tempo, vocal tract, and the microphone's frequency response."""
        # One tempo for all: frames at even distances are cut without a copy.
        hop = round(HOP * float(self._factor(1, strength.tempo)))
        warp = 1 + strength.warp * (2 * self._uniform(batch) - 1)
        frequency = torch.linspace(0, RATE / 2, 257, device=self._device)
        waves = torch.arange(1, 5, device=self._device)[None, :, None]
        curve = torch.cos(math.pi * (waves * frequency / 8000 + 2 * self._uniform(batch, 4, 1)))
        decibels = (self._normal(batch, 4, 1) * 3.0 * curve).sum(1)
        decibels = decibels * self._often(batch, strength.filters)[:, None]
        low = 3000 + 4500 * self._uniform(batch, 1)
        closed = self._often(batch, strength.filters * 0.5)[:, None] * (frequency > low)
        high = 400 * self._uniform(batch, 1)
        opened = self._often(batch, strength.filters * 0.4)[:, None] * (frequency < high)
        decibels = decibels - (30.0 + 50.0 * self._uniform(batch, 1)) * closed - 30.0 * opened
        return Variation(hop, warp, 10 ** (decibels / 20))

    def masked(self, mel: Tensor, lengths: Tensor, strength: Strength) -> Tensor:
        """SpecAugment (Park et al. 2019): bands and times at their mean, which is zero."""
        if strength.masks == 0:
            return mel
        batch, frames, mels = mel.shape
        most = 1 + frames // 120
        width = self._uniform(batch, strength.masks, 1) * 22
        start = self._uniform(batch, strength.masks, 1) * (mels - width)
        band = torch.arange(mels, device=self._device)
        hidden = ((band >= start) & (band < start + width)).any(1)[:, None]
        number = 1 + lengths // 120
        many = most
        width = self._uniform(batch, many, 1) * torch.clamp(lengths * 0.12, max=32)[:, None, None]
        start = self._uniform(batch, many, 1) * (lengths[:, None, None] - width)
        time = torch.arange(frames, device=self._device)
        used = (torch.arange(many, device=self._device) < number[:, None])[..., None]
        gone = ((time >= start) & (time < start + width) & used).any(1)[..., None]
        return mel.masked_fill(hidden | gone, 0.0)


def _mu_law(signal: Tensor) -> Tensor:
    """Samples after 8 bits of G.711's mu-law, the loudest of each item at its full scale."""
    peak = signal.abs().amax(1, keepdim=True) + 1e-6
    coded = signal / peak
    coded = coded.sign() * torch.log1p(255 * coded.abs()) / math.log(256)
    coded = (coded * 127).round() / 127
    return coded.sign() * (torch.exp(coded.abs() * math.log(256)) - 1) / 255 * peak
