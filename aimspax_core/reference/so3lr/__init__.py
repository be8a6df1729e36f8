"""SO3LR as a teacher: a foundation model that labels in place of DFT."""
