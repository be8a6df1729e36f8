"""MACE models of the ensemble: built, trained, saved and loaded."""
