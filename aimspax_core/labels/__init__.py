"""Labels: what one is, where it is kept, what is let through, and how often it is tried."""
