"""What is made from the settings: the schema, the page of all keys, files to begin with."""
