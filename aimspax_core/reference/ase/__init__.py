"""The reference engine for calculators of ASE."""
