"""MACE as a family of models."""
