"""What the user may set of each family of models, and what can be checked without building one."""
