"""The compiled engine of the exact partition: a network read into a program, and the kernels that run it."""

from splinelib.errors import SettingError

try:
    import numba as numba
except ModuleNotFoundError as error:
    raise SettingError(
        "exact partitions are compiled by the package numba, which is not installed: pip install numba"
    ) from error
