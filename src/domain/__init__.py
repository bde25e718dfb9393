"""Speech-to-text in plain terms: audio, tokens, words, windows, captions. Standard library and numpy only."""
