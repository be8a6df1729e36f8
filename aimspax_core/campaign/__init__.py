"""A campaign as data: `state`, the `events` that change it, the `rules` that decide, the `journal` that lasts."""
