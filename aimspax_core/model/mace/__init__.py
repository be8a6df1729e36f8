"""The MACE family. Nothing outside this package imports the package `mace`."""

import contextlib as _contextlib
import io as _io
import warnings as _warnings

# MACE's import prints a line about a package that only some GPUs need, and e3nn's warns about a
# variable that MACE itself has set; both would appear once for every worker.
with _contextlib.redirect_stdout(_io.StringIO()), _warnings.catch_warnings():
    _warnings.filterwarnings("ignore", "Environment variable TORCH_FORCE", UserWarning)
    import mace.tools as _mace_tools  # noqa: F401
