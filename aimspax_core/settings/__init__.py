"""What the user wrote, validated.

`project` is `aimsPAX.yaml`, `model` is `mace.yaml`; `load` reads both and reports every mistake.
"""
