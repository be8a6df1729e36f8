"""What can be seen of geometries and devices while the settings files have mistakes of their own.

So that whoever mends those does not meet the next ones only afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from aimspax_core.errors import StructureError
from aimspax_core.settings.geometries.files import read_files
from aimspax_core.settings.geometries.folders import geometry_files
from aimspax_core.settings.geometries.own_electrons import NAMES
from aimspax_core.settings.reading.yaml_lines import UNSAID, YamlFile

_GEOMETRY = "geometry.in"


def first_look(
    directory: Path,
    project: YamlFile,
    model: YamlFile,
    wrong: Collection[str],
    missing_device: Callable[[str], str | None],
) -> Iterator[str]:
    """Yield a line for everything that is wrong with start geometries, and with the device.

    What the settings say of them is taken as it is written.

    Args:
        directory: The run directory.
        project: `aimsPAX.yaml`.
        model: `mace.yaml`.
        wrong: Keys that are mistakes themselves: of what they name nothing is said.
        missing_device: Returns why a device cannot be used on this machine.
    """
    named = project.value(("MISC", "path_to_geometry"))
    named = _GEOMETRY if named is UNSAID else named
    if project.readable and isinstance(named, str) and "MISC.path_to_geometry" not in wrong:
        try:
            read_files(geometry_files(directory / named), _electron_names(project, wrong))
        except StructureError as error:
            yield from (f"  {line}" for line in str(error).splitlines())
    device = model.value(("MISC", "device"))
    here = project.value(("CLUSTER", "ml", "slurm_str")) is UNSAID
    if model.readable and here and isinstance(device, str) and "MISC.device" not in wrong:
        missing = missing_device(device)
        if missing is not None:
            line = model.line(("MISC", "device"))
            yield f"  {model.name}{f':{line}' if line else ''}  MISC.device: {missing}"


def _electron_names(project: YamlFile, wrong: Collection[str]) -> dict[str, str]:
    """Return what files call `charge` and `spin`, as far as the settings can be read."""
    names = dict(NAMES)
    for name in NAMES:
        key = f"total_{name}_key"
        said = project.value(("MISC", key))
        if isinstance(said, str) and f"MISC.{key}" not in wrong:
            names[name] = said
    return names
