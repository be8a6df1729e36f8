"""How good models are on structures that they have not seen: `aimspax evaluate`."""
