"""Weights that others have trained become a model folder, or one sentence says what doesn't fit."""
