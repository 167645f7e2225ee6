"""Prints the version and the executable of the Python that runs it, if it is one to test on."""

import ensurepip  # noqa: F401  # an environment needs it
import sys
import sysconfig

if sys.implementation.name == "cpython" and sys.version_info[:2] >= (3, 11):
    threading = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print(f"{sys.version_info[0]}.{sys.version_info[1]}{threading}", sys.executable)
