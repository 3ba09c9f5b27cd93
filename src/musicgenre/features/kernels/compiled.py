"""numba behind one typed decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` on its first call and keep the machine code on disk for every later process.

    numba compiles anew when the function's own file changes. After a change to a compiled function that another file
    calls, delete ``__pycache__``.
    """
    made: Any = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    return cast(Function, made)
