"""Greedy decoders of transducers: one meaning, and an implementation for each kind of device.

`transducer` says what they do; `host` is for CPUs, `cuda` for NVIDIA, `lockstep` for any device that MLX runs on.
"""
