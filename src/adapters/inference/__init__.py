"""What every engine under the SpeechModel port shares: jobs, scheduling, buffered streams, checkpoints."""
