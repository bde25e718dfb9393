"""`POST /transcribe`, and what every route that takes a recording shares."""
