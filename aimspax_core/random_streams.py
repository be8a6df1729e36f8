"""First numbers of the paths of random streams: streams of different kinds share no numbers.

A stream follows from a seed and a path (`numpy.random.SeedSequence`, `spawn_key`); paths that begin
with different numbers give independent streams, also if their seeds are the same.
"""

SAMPLING_STREAM = 0
"""Noise and velocities of sampling trajectories."""

EXPLORING_STREAM = 1
"""Noise and velocities of exploring trajectories."""

CHOOSING_STREAM = 2
"""Which structures `selection: random` takes."""

HEATING_STREAM = 3
"""Velocities where a sampling step is hotter or colder than the one before."""

RATTLING_STREAM = 4
"""Rattled copies that exploring trajectories begin with."""

RESTARTING_STREAM = 5
"""Velocities of exploring trajectories that begin anew from a label."""

LABELLED_STREAM = 6
"""Velocities where a sampling step begins anew from a label."""

SAMPLING_DRAW_STREAM = 7
"""Whether a sampling step begins anew from a label, and from which."""

EXPLORING_DRAW_STREAM = 8
"""Whether an exploring trajectory begins anew from a label, and from which."""
