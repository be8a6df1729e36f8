"""A campaign as data: its `state`, the `events` that change it, the `rules` and the `journal`."""
