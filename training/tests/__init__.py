"""Tests of the recipe, with its own dependencies: ``make check-training``."""
