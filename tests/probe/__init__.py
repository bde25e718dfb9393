"""An entrypoint of its own: a line-based TCP server, to show that a new one needs no change anywhere else."""
