"""What a campaign shows: a line for each event (`narrative`), `progress`, `figures`, and the `results` folder."""
