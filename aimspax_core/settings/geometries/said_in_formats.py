"""What files of other programs say of a system that ASE's readers pass over, by patterns.

Charge and multiplicity are taken, with a note: what a file says of itself holds before settings, a
neutral singlet too. What changes the system and is not read, such as a field, is a
reason to refuse the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from aimspax_core.settings.reading.fortran import fortran_number
from aimspax_core.text import and_list

_NUMBER = r"([+-]?\d*\.?\d+(?:[EeDd][+-]?\d+)?)"

_ELECTRONS: Mapping[str, Mapping[str, str]] = {
    "abinit-in": {"charge": rf"^[^#!\n]*\b(?:cell)?charge\s+{_NUMBER}"},
    "aims-output": {"charge": rf"Charged system requested: Charge =\s*{_NUMBER}"},
    "castep-castep": {"charge": rf"net charge of system\s*:\s*{_NUMBER}"},
    "cjson": {
        "charge": rf'"total ?Charge"\s*:\s*{_NUMBER}',
        "spin": rf'"total ?Spin ?Multiplicity"\s*:\s*{_NUMBER}',
    },
    "cp2k-restart": {
        "charge": rf"^\s*CHARGE\s+{_NUMBER}",
        "spin": rf"^\s*MULTIPLICITY\s+{_NUMBER}",
    },
    "dftb": {"charge": rf"^\s*Charge\s*=\s*{_NUMBER}"},
    "espresso-in": {"charge": rf"^[^!\n]*\btot_charge\s*=\s*{_NUMBER}"},
    "gamess-us-out": {
        "charge": rf"CHARGE OF MOLECULE\s*=\s*{_NUMBER}",
        "spin": rf"SPIN MULTIPLICITY\s*=\s*{_NUMBER}",
    },
    "gaussian-out": {
        "charge": rf"^\s*Charge\s*=\s*{_NUMBER}\s+Multiplicity",
        "spin": rf"^\s*Charge\s*=.*Multiplicity\s*=\s*{_NUMBER}",
    },
    "nwchem-in": {"charge": rf"^\s*charge\s+{_NUMBER}"},
    "nwchem-out": {
        "charge": rf"^\s*Charge\s*:\s*{_NUMBER}",
        "spin": rf"^\s*Spin multiplicity\s*:\s*{_NUMBER}",
    },
    "octopus-in": {"charge": rf"^\s*ExcessCharge\s*=\s*{_NUMBER}"},
    "onetep-in": {"charge": rf"^\s*charge\s*:?\s*{_NUMBER}"},
    "orca-output": {
        "charge": rf"Total Charge\s+Charge\s+\.+\s*{_NUMBER}",
        "spin": rf"Multiplicity\s+Mult\s+\.+\s*{_NUMBER}",
    },
}
"""Where formats say charge (e) and multiplicity."""

_UNTAKEN: Mapping[str, str] = {
    "abinit-in": rf"^[^#!\n]*\b(?P<said>spinmagntarget\s+{_NUMBER})",
    "dftb": rf"^\s*UnpairedElectrons\s*=\s*{_NUMBER}",
    "espresso-in": rf"^[^!\n]*\b(?P<said>tot_magnetization\s*=\s*{_NUMBER})",
    "nwchem-in": (
        r"^\s*(?:(?:mult|nopen)\s+-?\d+"
        r"|(?:singlet|doublet|triplet|quartet|quintet|sextet|septet|octet)\b)"
    ),
    "onetep-in": rf"^\s*spin\s*[:=]?\s*{_NUMBER}",
}
"""Where formats say unpaired electrons in ways of their own, which are noted and not taken."""

_FIELD = "which is not read; geometry.in has fields as homogeneous_field"
_SYMMETRY = "so that not all atoms are written; write the structure with all of them"
_OTHERWISE = "write the structure in another format, such as x.xyz"

_NO_UNITS = f"the unit of '{{}}' is not read; {_OTHERWISE}"
_NOT_ANGSTROM = r"(?:\[(?!\s*A(?:A|ngstrom)\b)[^\]]*\]\s*)?"
"""A unit of DFTB+ that is not Å, or none: bohr."""

_REFUSED: Mapping[str, Mapping[str, str]] = {
    "abinit-in": {
        r"^[^#!\n]*\b(?:natrd|spgroup)\b": f"it has {{}}, {_SYMMETRY}",
        r"^[^#!\n]*\b(?:natfix\w?|iatfix\w?)\b": f"its {{}} is not read; {_OTHERWISE}",
        r"^[^#!\n]*\b(?:efield|zeemanfield)\b": f"it has {{}}, {_FIELD}",
    },
    "abinit-out": {
        r"^.*of ABINIT": f"lengths of ABINIT's output ('{{}}') are not read; {_OTHERWISE}"
    },
    "aims-output": {r"^\s*homogeneous_field\b": f"it is of a system with {{}}, {_FIELD}"},
    "castep-cell": {
        r"^\s*%BLOCK\s+EXTERNAL_EFIELD": f"it has {{}}, {_FIELD}",
        r"^\s*%BLOCK\s+NONLINEAR_CONSTRAINTS": "its {} is not read; leave it out",
    },
    "cfg": {
        r"^\s*A\s*=\s*(?!1(?:\.0*)?(?:\s|$))\S+": (
            f"its unit of length '{{}}' is not read; {_OTHERWISE}"
        )
    },
    "cp2k-restart": {
        r"^\s*&(?:PERIODIC_)?EFIELD\b": f"it has {{}}, {_FIELD}",
        r"^\s*&FIXED_ATOMS\b": f"its {{}} are not read; {_OTHERWISE}",
    },
    "dftb": {
        rf"^\s*(?:TypesAndCoordinates|LatticeVectors)\s*{_NOT_ANGSTROM}=?\s*\{{": (
            f"'{{}}' is not in Å, and other units are not read; {_OTHERWISE}"
        ),
        r"^\s*ElectricField\b": f"it has {{}}, {_FIELD}",
    },
    "dmol-car": {
        r"^PBC\s[^(\n]*\((?!P ?1\))[^)\n]+": f"its space group is that of '{{}}', {_SYMMETRY}"
    },
    "espresso-in": {
        r"^[^!\n]*\b(?:tefield|lelfield|gate)\s*=\s*\.t": f"it has '{{}}…', {_FIELD}",
        r"^[^!\n]*\bspace_group\s*=": f"it has '{{}}', {_SYMMETRY}",
    },
    "nwchem-in": {
        r"^\s*geometry\b.*\b(?:au|atomic|bohr|nm|nanometers|pm|picometers)\b": _NO_UNITS,
        r"^\s*(?:zmatrix|symmetry(?!\s+(?:group\s+)?c1\b))\b": (
            f"it has {{}}, which is not read; {_OTHERWISE}"
        ),
        r"(?-i:^\s*[a-z]{1,2}\d*(?:\s+[+-]?\d*\.\d+){3})": (
            f"elements in lower case are not read ('{{}}'); {_OTHERWISE}"
        ),
    },
    "octopus-in": {r"^\s*%?StaticElectricField\b": f"it has {{}}, {_FIELD}"},
    "onetep-in": {r"^\s*constant_efield\b": f"it has {{}}, {_FIELD}"},
    "turbomole": {
        r"^\s*\$periodic\s+[123]": f"{{}} is not read from Turbomole's coord; {_OTHERWISE}",
        r"^\s*\$coord\s+(?:ang|frac)\w*": _NO_UNITS,
    },
    "xsd": {r'NumImageMappings="(?!0")\d+"': f"it has {{}}, {_SYMMETRY}"},
}
"""What is refused of formats: patterns, and why, with a place for what they have found."""


def electrons_of(kind: str, text: str) -> dict[str, float]:
    """Return `charge` (e) and `spin` (2S+1) as a file says them.

    What is left out is what engines take anyway, so that it does not change the keys of labels.

    Args:
        kind: The format as ASE calls it.
        text: The content of the file.
    """
    found = {}
    said = _directly_in_dft(text) if kind == "cp2k-restart" else text
    for name, pattern in _ELECTRONS.get(kind, {}).items():
        match = re.search(pattern, said, re.MULTILINE | re.IGNORECASE)
        value = None if match is None else fortran_number(match[1])
        if value is not None and (name == "charge" or value >= 1):  # CP2K: 0 stands for none
            found[name] = value
    return found


def notes_on_electrons(kind: str, text: str, taken: Mapping[str, float]) -> Iterator[str]:
    """Yield notes on what is taken of charge and multiplicity, and on what is not.

    Args:
        kind: The format as ASE calls it.
        text: The content of the file.
        taken: What `electrons_of` has found.
    """
    words = [f"charge {taken['charge']:+g}"] if "charge" in taken else []
    words += [f"multiplicity {taken['spin']:g}"] if "spin" in taken else []
    if words:
        yield f"its {and_list(words)} {'are' if len(words) > 1 else 'is'} taken"
    pattern = _UNTAKEN.get(kind)
    other = None if pattern is None else re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
    if other is not None:
        unpaired = " ".join(other.groupdict().get("said", other[0]).split())
        yield f"its '{unpaired}' is not taken; spin (2S+1) in x.xyz, or REFERENCE, would say it"


def _directly_in_dft(text: str) -> str:
    """Return the lines of a CP2K input that stand in `&DFT`, and in no section of it."""
    inside: list[str] = []
    found = []
    for line in text.splitlines():
        word = line.strip().upper()
        if word.startswith("&END"):
            del inside[-1:]
        elif word.startswith("&"):
            inside.append(word.split()[0])
        elif inside[-1:] == ["&DFT"]:
            found.append(line)
    return "\n".join(found)


def refused_of(kind: str, text: str) -> str | None:
    """Return why a file is refused for what no reader takes of it; None if it is not."""
    for pattern, why in _REFUSED.get(kind, {}).items():
        match = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
        if match is not None:
            return why.format(" ".join(match[0].split())[-60:])
    return None


def has_electrons(kind: str) -> bool:
    """Whether files of a format may say a charge or multiplicity that ASE passes over."""
    return kind in _ELECTRONS


def may_be_refused(kind: str) -> bool:
    """Whether files of a format may say what no reader takes."""
    return kind in _REFUSED
