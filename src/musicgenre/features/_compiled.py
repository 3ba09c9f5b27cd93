"""numba behind one typed decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` on its first call and keep the machine code on disk for every later process."""
    made: Any = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    return cast(Function, made)
