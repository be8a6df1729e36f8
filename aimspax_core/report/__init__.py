"""What a campaign shows: `narrative`, `progress`, `figures`, `plan`, and the `results` folder."""
