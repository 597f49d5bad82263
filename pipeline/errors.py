"""Every error that the pipeline raises on purpose. This room imports nothing.

    PipelineError                      1   a defect of the pipeline; an option that invoke does not know
    ├── UsageError                     2   an argument that cannot be taken
    ├── ConfigInvalid                 10   a setting is wrong
    ├── IdentityUnknown               11   this machine does not know which builder it is
    ├── RecordInvalid                 12   a state file cannot be read
    ├── RecordTooNew                  13   a state file was written by a newer version
    ├── LedgerError                   20
    │   ├── LedgerUnreachable         21   no answer from the remote
    │   ├── LedgerRefused             22   a hook or a policy of the remote said no
    │   ├── LedgerUnauthorised        23   the remote wants other credentials
    │   ├── LedgerNoSpace             24   the remote's disk is full
    │   ├── LedgerRefLocked           25   a ref lock was left behind on the remote
    │   ├── LedgerRewound             26   the remote lacks commits that were seen before
    │   ├── LedgerMissing             27   an empty repository: `ledger.init` makes it one
    │   ├── NotALedger                28   a repository of something else
    │   ├── OutcomeUnknown            29   sent, but the answer did not come; kept in the outbox
    │   ├── LedgerBusy                30   the compare-and-swap was lost too often
    │   ├── LedgerTooLarge            34   what lies on the remote is larger than what is read
    │   └── LedgerReplaced            35   the branch is gone from the remote, or is another ledger's
    ├── StoreError                    31   the local outbox cannot be used
    │   └── StoreCloned               32   this builder is at work elsewhere: a copy of it, or a namesake
    ├── FileFailed                    33   a file of this machine cannot be read or written
    ├── Refused                       40   the ledger's rules say no
    │   ├── NotFound                  41   no such job, lock or message
    │   ├── LeaseHeld                 42   somebody else holds it
    │   ├── Fenced                    43   the token presented is no longer the current one
    │   └── SecretRefused             44   a password or a key was to be written; nothing was
    ├── MachineBusy                   45   another build runs on this machine, or waits for it
    ├── SourceError                   50   the source repository cannot be used
    │   ├── BranchNotFound            51
    │   └── CommitNotFound            52
    ├── PreflightFailed               60   something the build needs is missing; nothing was recorded
    ├── BuildFailed                   70   carries its failure class; see FAILURE_EXIT_CODES
    ├── NotReported                   80   built, not yet reported: the next command reports it
    ├── ArtifactsInvalid              85   files differ from their manifest
    ├── CheckFailed                   86   the ledger's chain or files, or a demonstration's promises, fail
    ├── ComparisonIncomplete          87   a side cannot be read; see VERDICT_EXIT_CODES
    │   ├── HostUnreachable           92   no SSH connection to a side, or it broke off
    │   ├── HostRefused               93   a machine that is not known, or not the one that is
    │   ├── LoginRefused              94   a side takes neither this user nor these keys
    │   ├── ReaderMissing             95   no Python 3.8 or later on a side
    │   └── NotRevealed               96   builders that commit first have not all revealed what they made
    ├── CommandFailed                 90   a program that was needed failed
    │   └── CommandTimedOut           91
    ├── TrustError                   100   what is signed, or has to be, does not hold
    │   ├── PolicyInvalid            101   there is no policy here, or it is not the root's
    │   ├── SignatureInvalid         102   not signed, or not by whom it has to be, or other bytes
    │   ├── PromotionRefused         103   the rules say that this is not promoted
    │   ├── PromotionInvalid         104   a promoted set is not what its entry says
    │   ├── Outdated                 105   a number below the highest that this machine has seen
    │   ├── InstallFailed            106   the packages cannot be installed
    │   └── ReemissionRefused        107   files cannot be made the bytes that a comparison proved equal
    └── Interrupted                  130   Ctrl-C

The number is the process's exit code; a test proves them unique. A message says what failed, on which
object and what was expected; `remedy` says what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class PipelineError(Exception):
    """The root. `message` is for a person; `remedy` is the next step, or None where there is none."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}\n  Remedy: {self.remedy}"


class UsageError(PipelineError):
    exit_code = 2


class ConfigInvalid(PipelineError):
    exit_code = 10


class IdentityUnknown(PipelineError):
    exit_code = 11


class RecordInvalid(PipelineError):
    """A state file that cannot be read. `path` names the file, `field` the place in it."""

    exit_code = 12

    def __init__(self, path: str, field: str, problem: str, *, remedy: str | None = None) -> None:
        where = f"`{path}`" if not field else f"`{path}`, field `{field}`"
        super().__init__(f"{where}: {problem}", remedy=remedy)
        self.path = path
        self.field = field
        self.problem = problem


class RecordTooNew(PipelineError):
    exit_code = 13


class LedgerError(PipelineError):
    exit_code = 20


class LedgerUnreachable(LedgerError):
    exit_code = 21


class LedgerRefused(LedgerError):
    exit_code = 22


class LedgerUnauthorised(LedgerError):
    exit_code = 23


class LedgerNoSpace(LedgerError):
    exit_code = 24


class LedgerRefLocked(LedgerError):
    exit_code = 25


class LedgerRewound(LedgerError):
    exit_code = 26


class LedgerMissing(LedgerError):
    exit_code = 27


class NotALedger(LedgerError):
    exit_code = 28


class OutcomeUnknown(LedgerError):
    exit_code = 29


class LedgerBusy(LedgerError):
    exit_code = 30


class LedgerTooLarge(LedgerError):
    """Something on the remote that is not read. `size_bytes` is how large it is, as far as that is known."""

    exit_code = 34

    def __init__(self, message: str, size_bytes: int, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.size_bytes = size_bytes


class LedgerReplaced(LedgerError):
    exit_code = 35


class StoreError(PipelineError):
    exit_code = 31


class StoreCloned(StoreError):
    exit_code = 32


class FileFailed(PipelineError):
    """What the operating system said no to, when it got as far as the command line."""

    exit_code = 33


class Refused(PipelineError):
    """The ledger's rules say no. `reason` is one stable word for programs."""

    exit_code = 40

    def __init__(self, message: str, *, reason: str = "refused", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class NotFound(Refused):
    exit_code = 41


class LeaseHeld(Refused):
    exit_code = 42


class Fenced(Refused):
    exit_code = 43


class SecretRefused(Refused):
    """A request that holds a secret. `field`, `line` (1-based) and `rule` say where; the value is nowhere."""

    exit_code = 44

    def __init__(self, field: str, line: int, rule: str, excerpt: str) -> None:
        super().__init__(
            f"`{field}`, line {line}: this looks like a password or a key (rule `{rule}`): {excerpt}\n"
            "  Nothing was written: the ledger would keep it for ever.",
            reason="secret",
            remedy="Take it out and say where it is kept instead. If others may have seen it, change it.",
        )
        self.field = field
        self.line = line
        self.rule = rule


class MachineBusy(PipelineError):
    exit_code = 45


class SourceError(PipelineError):
    """The source cannot be used. `failure_class` is what a build fails of that meets it."""

    exit_code = 50

    def __init__(self, message: str, *, failure_class: str = "source", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.failure_class = failure_class


class BranchNotFound(SourceError):
    exit_code = 51


class CommitNotFound(SourceError):
    exit_code = 52


class PreflightFailed(PipelineError):
    exit_code = 60


#: Exit codes of a build that ended without success, by failure class.
FAILURE_EXIT_CODES: dict[str, int] = {
    "source": 71,
    "toolchain": 72,
    "dependency": 73,
    "compile": 74,
    "test": 75,
    "package": 76,
    "disk": 77,
    "timeout": 78,
    "cancelled": 79,
    "lost": 81,
    "unknown": 70,
}


class BuildFailed(PipelineError):
    """A build that ended without success; its exit code follows from `failure_class`."""

    exit_code = 70

    def __init__(self, message: str, *, failure_class: str = "unknown", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.failure_class = failure_class


class NotReported(PipelineError):
    exit_code = 80


class ArtifactsInvalid(PipelineError):
    exit_code = 85


class CheckFailed(PipelineError):
    exit_code = 86


class ComparisonIncomplete(PipelineError):
    """A side of a comparison cannot be read or reached: nothing is said about its artifacts."""

    exit_code = 87


class HostUnreachable(ComparisonIncomplete):
    """There is no connection to a side. `step`: connect, login, start, or talk for one that broke off."""

    exit_code = 92

    def __init__(self, message: str, step: str, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.step = step


class HostRefused(ComparisonIncomplete):
    """A machine whose key or id is not what is known of it. `reason`: unknown, changed, revoked, machine."""

    exit_code = 93

    def __init__(self, message: str, reason: str, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class LoginRefused(ComparisonIncomplete):
    exit_code = 94


class ReaderMissing(ComparisonIncomplete):
    exit_code = 95


class NotRevealed(ComparisonIncomplete):
    """Builders have committed to what they made, and said nothing yet. `waiting` are those waited for."""

    exit_code = 96

    def __init__(self, message: str, waiting: list[str], *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.waiting = waiting


#: Exit codes by verdict of a comparison. Only 0 and 3 are agreement.
VERDICT_EXIT_CODES: dict[str, int] = {
    "AGREE": 0,
    "AGREE-NORMALISED": 3,
    "DIFFER": 88,
    "INCOMPARABLE": 89,
    "INCOMPLETE": 87,
}


class CommandFailed(PipelineError):
    """A program failed. `stderr_tail` holds its last words."""

    exit_code = 90

    def __init__(
        self, message: str, *, returncode: int = -1, stderr_tail: str = "", remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.returncode = returncode
        self.stderr_tail = stderr_tail


class CommandTimedOut(CommandFailed):
    exit_code = 91


class TrustError(PipelineError):
    """What is signed, or has to be, does not hold. `reason` is one stable word for programs."""

    exit_code = 100

    def __init__(self, message: str, *, reason: str = "invalid", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class PolicyInvalid(TrustError):
    exit_code = 101


class SignatureInvalid(TrustError):
    """A signature that shows nothing. `reason`: unsigned, bad-signature, unknown-key."""

    exit_code = 102


class PromotionRefused(TrustError):
    exit_code = 103


class PromotionInvalid(TrustError):
    exit_code = 104


class Outdated(TrustError):
    exit_code = 105


class InstallFailed(TrustError):
    exit_code = 106


class ReemissionRefused(TrustError):
    """Files that cannot be made the bytes that a comparison proved equal.

    `reason`: rewrites, normaliser, comparison, unreadable, other-bytes, changed.
    """

    exit_code = 107


class Interrupted(PipelineError):
    exit_code = 130


def exit_code_of(error: PipelineError) -> int:
    """Returns the process's exit code for an error."""
    if isinstance(error, BuildFailed):
        return FAILURE_EXIT_CODES.get(error.failure_class, BuildFailed.exit_code)
    return type(error).exit_code
