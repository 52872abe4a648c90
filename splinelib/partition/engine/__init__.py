"""The compiled engine of the exact partition: a network read into a program, and the kernels that run it."""

from pathlib import Path

from splinelib.errors import SettingError

try:
    import numba as numba
except ModuleNotFoundError as error:
    raise SettingError(
        "exact partitions are compiled by the package numba, which is not installed: pip install numba"
    ) from error

from splinelib.partition.engine.stale import drop_stale

_HERE = Path(__file__).parent
for _folder in (_HERE, _HERE.parent):
    drop_stale(_folder, _HERE.parent.rglob("*.py"))
