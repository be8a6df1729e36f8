"""What the user wrote, validated: `project` (aimsPAX.yaml), `model` (mace.yaml), `load` (both, with every mistake)."""
