"""Sampling: molecular dynamics that explores, driven by a committee of models."""
