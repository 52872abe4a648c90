"""Every error that splinelib raises on purpose. Each message names the object, its value and the remedy."""


class SplineError(Exception):
    """Base of all errors raised by splinelib."""


class SettingError(SplineError, ValueError):
    """A setting or an argument has a value that cannot be used."""


class UnsupportedModuleError(SplineError, TypeError):
    """A model holds a module, or a structure, that the requested computation cannot handle."""


class DataError(SplineError, RuntimeError):
    """A data set cannot be had, or what was had is not what it should be."""


class RecordError(SplineError, RuntimeError):
    """A record, checkpoint or store is damaged, missing or of another schema."""


class DamagedError(RecordError):
    """A file can be read, but does not hold what was once written under its name."""


class LostError(RecordError):
    """What a run starts from was there when it was planned, and is not now: computing it again mends that."""


class FileError(SplineError, OSError):
    """The operating system does not let a file be read or written."""


class TrainingError(SplineError, RuntimeError):
    """Training cannot go on, for instance because the loss is no longer finite."""


class LimitError(SplineError, RuntimeError):
    """A limit on size, memory or time has been reached: one that the caller set, or the machine's memory."""
