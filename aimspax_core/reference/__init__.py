"""Labels: `base` (what an engine is), one file an engine, `gate` (what may pass)."""
