"""What the use-cases need from the outside, one protocol a module; the docstrings are the contracts."""
