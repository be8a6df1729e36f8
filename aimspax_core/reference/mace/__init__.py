"""Teachers: MACE models that label in place of DFT."""
