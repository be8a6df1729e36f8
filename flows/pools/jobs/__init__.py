"""Workers inside batch jobs: asked for, watched, cancelled."""
