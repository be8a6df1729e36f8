"""Geometry files as people have them: told apart, read line by line, nothing of them lost."""
