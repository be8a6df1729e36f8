"""Models of any family: members in training (`member`), committees of them, what a worker keeps."""
