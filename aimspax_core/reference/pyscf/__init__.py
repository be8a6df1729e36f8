"""The reference engine PySCF."""
