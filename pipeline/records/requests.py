"""What can be asked of the ledger: one frozen record per request, told apart by `kind`.

A request is written into the commit that carries it out, so it holds facts only, and no field that is not
named here: an older reducer must not pass over what a newer asker meant.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from pipeline.errors import RecordInvalid
from pipeline.records.base import Record
from pipeline.records.builders import Builder, Heartbeat, System
from pipeline.records.builds import BuildConfig, Environment, Failure, FailureClass
from pipeline.records.comparison import ComparisonSummary
from pipeline.records.messages import MAXIMUM_BODY, MAXIMUM_SUBJECT, MessageType
from pipeline.records.names import BranchName, BuilderName, JobId, LockName, Oid

MessageId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
TokenText = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$")]
HolderId = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Request(Record):
    """One request; `kind` tells what for."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_enum_values=True)

    kind: str


class Asked(Request):
    """A request of a builder: `builder` is the one in whose name it is asked."""

    builder: BuilderName


class Facts(Record):
    """What a builder says of itself beside a request; None leaves what is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ip: str | None = None
    manager: str | None = None
    system: System | None = None
    toolchain: str | None = None
    environment: Environment | None = None
    heartbeat: Heartbeat | None = None


class Order(Asked):
    """A job as it is ordered. `retries` maps a failure class to how often it is tried again."""

    id: JobId
    type: Literal["build", "test", "deploy"] = "build"
    priority: int = Field(default=5, ge=1, le=9)
    branch: BranchName
    commit: Oid
    source: str = ""
    target: BuilderName | None = None
    requested_by: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    depends_on: list[JobId] = Field(default_factory=list)
    timeout_seconds: int | None = Field(default=None, gt=0)
    maximum_losses: int = Field(default=3, ge=0, le=100)
    retries: dict[FailureClass, Annotated[int, Field(ge=0, le=20)]] = Field(default_factory=dict)


class JobCreate(Order):
    """Puts a job into the queue."""

    kind: Literal["job.create"]


class JobStart(Order):
    """Creates a job and claims it at once; with `wait`, a busy builder leaves it in the queue."""

    kind: Literal["job.start"]
    holder: HolderId
    wait: bool = False
    facts: Facts | None = None


class JobClaim(Asked):
    """Claims `job_id`, or the next job that fits the builder."""

    kind: Literal["job.claim"]
    holder: HolderId
    job_id: JobId | None = None
    facts: Facts | None = None


class JobComplete(Asked):
    """Reports how an attempt ended. Payloads: `manifest`, `log`, `summary`, `structured`, each optional."""

    kind: Literal["job.complete"]
    job_id: JobId
    token: TokenText
    outcome: Literal["succeeded", "failed", "cancelled"]
    duration_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    artifacts: list[str] = Field(default_factory=list)
    failure: Failure | None = None
    facts: Facts | None = None

    @model_validator(mode="after")
    def _has_its_reason(self) -> JobComplete:
        if (self.outcome == "failed") > (self.failure is not None):
            raise ValueError("a failed build says why: `failure` is missing")
        if self.outcome == "succeeded" and self.failure is not None:
            raise ValueError("a build that succeeded has no `failure`")
        return self


class JobCancel(Asked):
    """Ends a queued job; asks the holder of a running one to end it."""

    kind: Literal["job.cancel"]
    job_id: JobId
    reason: str = ""


class JobRequeue(Asked):
    """Gives up an attempt whose process is gone.

    Observations: `process_dead` (how the builder's own recovery proved it), or `silence_seconds` (for how
    long another builder saw no change).
    """

    kind: Literal["job.requeue"]
    job_id: JobId
    token: TokenText
    reason: str = ""


class JobRetry(Asked):
    """Orders by hand a new job `id` that repeats `job_id`. `archive` is where that is sealed, if it is."""

    kind: Literal["job.retry"]
    id: JobId
    job_id: JobId
    archive: str | None = None
    resume: bool = False
    target: BuilderName | None = None
    requested_by: str = ""


class Lease(Asked):
    """The terms of a lease that is asked for. `holder` is the asking process's random id."""

    holder: HolderId
    ttl_seconds: Seconds
    interval_seconds: Seconds
    purpose: str = Field(default="", max_length=200)


class LockAcquire(Lease):
    """Asks for all of `names` or none; with `wait`, joins the queue of each."""

    kind: Literal["lock.acquire"]
    names: list[LockName] = Field(min_length=1, max_length=20)
    wait: bool = False


class LockTakeover(Lease):
    """Puts a silent holder aside. Observation: `silence_seconds`, with `nonce` seen all the while."""

    kind: Literal["lock.takeover"]
    name: LockName
    token: TokenText
    nonce: str | None = None


class LockRelease(Asked):
    """Gives back locks: name -> token. `waited`: the holder had waited for its predecessor to be gone."""

    kind: Literal["lock.release"]
    locks: dict[LockName, TokenText] = Field(min_length=1)
    waited: bool = False


class LockBreak(Asked):
    """Frees a lock by force. `token` is None for a lock that an older tool wrote without one."""

    kind: Literal["lock.break"]
    name: LockName
    token: str | None
    reason: str = ""


class LockReady(Asked):
    """The holder has waited for its predecessor to be gone."""

    kind: Literal["lock.ready"]
    name: LockName
    token: TokenText


class LockLeave(Asked):
    """Leaves the queue, or gives back what was granted meanwhile. `op` names the waiter."""

    kind: Literal["lock.leave"]
    op: str


class LockEvict(Asked):
    """Removes a waiter that no longer renews itself. Observation: `silence_seconds`."""

    kind: Literal["lock.evict"]
    op: str


class MessageSend(Asked):
    """Sends a message from `builder`. `thread` counts only where the message replied to is sealed."""

    kind: Literal["message.send"]
    id: MessageId
    to: str
    type: MessageType = "info"
    subject: str = Field(max_length=MAXIMUM_SUBJECT)
    body: str = Field(default="", max_length=MAXIMUM_BODY)
    in_reply_to: str | None = None
    thread: str | None = None
    auto: bool = False


class MessageRead(Asked):
    """Marks messages as read by `builder`. `archives` maps an id to where it is sealed, if not indexed."""

    kind: Literal["message.read"]
    ids: list[str] = Field(min_length=1, max_length=1000)
    archives: dict[str, str] = Field(default_factory=dict)


class MessageAck(Asked):
    """Marks messages as read and acknowledged by `builder`."""

    kind: Literal["message.ack"]
    ids: list[str] = Field(min_length=1, max_length=1000)
    archives: dict[str, str] = Field(default_factory=dict)


class StatusSet(Asked):
    """Records what a builder says of itself."""

    kind: Literal["status.set"]
    facts: Facts


class ComparisonRecord(Asked):
    """Records what came of a comparison of builds."""

    kind: Literal["comparison.record"]
    summary: ComparisonSummary


class ConfigSet(Asked):
    """Replaces the whole configuration of builds."""

    kind: Literal["config.set"]
    config: BuildConfig


class RegistrySet(Asked):
    """Adds or changes a builder of the registry, or removes it."""

    kind: Literal["registry.set"]
    entry: Builder
    remove: bool = False


class RoundOpen(Asked):
    """Has jobs, one of each builder and none begun, commit before any reveals. `jobs`: builder -> job."""

    kind: Literal["round.open"]
    id: JobId
    branch: BranchName
    commit: Oid
    jobs: dict[BuilderName, JobId] = Field(min_length=2, max_length=100)


class RoundOrder(Order):
    """Orders a job of each builder and makes a round of them. `id` is the round's; `jobs`: builder -> job."""

    kind: Literal["round.order"]
    jobs: dict[BuilderName, JobId] = Field(min_length=2, max_length=100)


class BuildReveal(Asked):
    """Reveals what a builder had committed to. Payloads: `opening`, `manifest`, and as of a report `log`,
    `summary`, `structured`. `archive` is where the job is sealed, if it is.
    """

    kind: Literal["build.reveal"]
    job_id: JobId
    archive: str | None = None


class AttestationPublish(Asked):
    """Publishes what `builder` states of its job. `archive` is where that is sealed, if it is.

    Payloads: `statement`, an attestation's canonical bytes, and `signature`.
    """

    kind: Literal["attestation.publish"]
    job_id: JobId
    archive: str | None = None


class RevocationPublish(Asked):
    """Publishes a list of revoked keys. Payloads: `statement` and `signature`."""

    kind: Literal["revocation.publish"]


class PromotionEnter(Asked):
    """Writes a branch's next promotion or rollback. Payloads: `statement` and `signature`.

    `basis` is the digest of what the decision rested on: with anything new there, it is refused.
    """

    kind: Literal["promotion.enter"]
    branch: BranchName
    basis: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Withdraw(Request):
    """Undoes, in the state as it is now, what the operation `op` was granted; `builder` is whose it was."""

    kind: Literal["withdraw"]
    op: str = Field(min_length=1)
    builder: BuilderName | None = None


class RaiseEpoch(Asked):
    """Repairs a rewind. `seen` are epochs met anywhere, `abandoned_locks` the locks that were held in the
    abandoned tips: name -> ttl in seconds.
    """

    kind: Literal["ledger.raise_epoch"]
    abandoned_tips: list[Oid] = Field(min_length=1)
    seen: list[int] = Field(default_factory=list)
    abandoned_locks: dict[LockName, float] = Field(default_factory=dict)


AnyRequest = Annotated[
    JobCreate
    | JobStart
    | JobClaim
    | JobComplete
    | JobCancel
    | JobRequeue
    | JobRetry
    | LockAcquire
    | LockTakeover
    | LockRelease
    | LockBreak
    | LockReady
    | LockLeave
    | LockEvict
    | MessageSend
    | MessageRead
    | MessageAck
    | StatusSet
    | ComparisonRecord
    | ConfigSet
    | RegistrySet
    | RoundOpen
    | RoundOrder
    | BuildReveal
    | AttestationPublish
    | RevocationPublish
    | PromotionEnter
    | Withdraw
    | RaiseEpoch,
    Field(discriminator="kind"),
]

#: Kind -> its record. Each is compiled when it is first used: most commands ask for one kind or two.
_BY_KIND: dict[str, type[Request]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(get_args(AnyRequest)[0])
}


@cache
def _any_request() -> TypeAdapter[Request]:
    return TypeAdapter(AnyRequest)


def parse_request(value: Any) -> Request:
    """Makes a request of parsed JSON. Raises RecordInvalid that names the field."""
    kind = value.get("kind") if isinstance(value, dict) else None
    model = _BY_KIND.get(kind) if isinstance(kind, str) else None
    try:
        return _any_request().validate_python(value) if model is None else model.model_validate(value)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part != kind)
        raise RecordInvalid(f"request {kind}" if kind else "request", field, first["msg"]) from exc
