"""The loops inside the flows: what is launched, what comes back, when all is over."""
