"""How unsure a committee is of a structure, and how unsure is too unsure."""
