"""What is raised around a build, as the build's failure.

Every failure passes `shown` before anything is made of it: result, terminal, JSON, message and logs say the
same, and none of them a secret that a program has printed.
"""

from __future__ import annotations

import errno

from pipeline.errors import BuildFailed, PipelineError, SourceError
from pipeline.records.builds import Failure, FailureClass
from pipeline.records.secrets import mask, mask_record


def shown(failure: Failure) -> Failure:
    """Returns a failure as everybody may read it."""
    return mask_record(failure)


def failure_of(error: PipelineError) -> Failure:
    """Returns an error as a build's failure."""
    kind = FailureClass.TOOLCHAIN
    if isinstance(error, BuildFailed | SourceError):
        kind = FailureClass(error.failure_class)
    return shown(Failure(failure_class=kind, message=error.message, remedy=error.remedy))


def of_os_error(error: OSError) -> Failure:
    """Returns a failed file operation as a build's failure."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Failure(
        failure_class=FailureClass.DISK if full else FailureClass.UNKNOWN,
        message=mask(f"{error.filename or 'a file'}: {error.strerror}"),
        remedy="Free space where `work`, `cache` and `artifacts` lie." if full else None,
    )


def of_defect(error: Exception) -> Failure:
    """Returns what nobody expected, a mistake in the pipeline itself, as a build's failure."""
    words = mask(f"{type(error).__name__}: {error}").strip().splitlines()[0][:300]
    return Failure(
        failure_class=FailureClass.UNKNOWN,
        message=f"A defect of the pipeline, {words}",
        remedy="Report it with the lines that the build printed about it.",
    )
