"""Reference engines, which compute labels: the interface, the registry, a folder for each kind."""
