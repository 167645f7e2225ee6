"""Builds the extension module; everything else is in pyproject.toml.

Switches, in the environment, for those who work on it:

    POSIX_SHM_DEBUG=1          assertions, no optimisation
    POSIX_SHM_WERROR=1         every warning that we ask for, as an error
    POSIX_SHM_SANITIZE=LIST    compile with -fsanitize=LIST
"""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"]

compile_args = ["-std=c11", "-fvisibility=hidden", "-pthread"]
link_args = ["-pthread"]
# Where shm_open and dlsym are in glibc before 2.34.
libraries = ["rt", "dl"] if sys.platform == "linux" else []
macros: list[tuple[str, str | None]] = []
options: dict[str, dict[str, str]] = {}

if FREE_THREADED:  # where the limited API does not exist
    limited = False
else:
    limited = True
    # Of the Python that builds: its headers are right for itself and later ones only, whatever
    # version they are asked for.  So 3.11 builds the wheel for all.
    major, minor = sys.version_info[:2]
    macros.append(("Py_LIMITED_API", f"0x{major:02X}{minor:02X}0000"))
    options["bdist_wheel"] = {"py_limited_api": f"cp{major}{minor}"}

if os.environ.get("POSIX_SHM_DEBUG"):
    compile_args += ["-O0", "-g3", "-UNDEBUG"]
if os.environ.get("POSIX_SHM_WERROR"):
    compile_args += [*WARNINGS, "-Werror"]
if sanitizers := os.environ.get("POSIX_SHM_SANITIZE"):
    flags = [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g"]
    compile_args += [*flags, "-fno-sanitize-recover=all"]
    link_args += flags

setup(
    ext_modules=[
        Extension(
            "posix_shm._shm",
            sources=sorted(str(path) for path in Path("csrc").glob("*.c")),
            depends=sorted(str(path) for path in Path("csrc").glob("*.h")),
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            libraries=libraries,
            py_limited_api=limited,
        )
    ],
    options=options,
)
