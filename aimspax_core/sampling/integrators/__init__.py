"""Integrators of MD, a file a family; `aimspax_core.settings.ensembles` has the table of all."""
