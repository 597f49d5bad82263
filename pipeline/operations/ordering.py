"""Orders: what was asked for on a command line, and the jobs that it puts into the queue.

A job in the queue is run by its builder's `work`. Where the policy has a branch's builders commit before
they reveal, jobs for several of them are ordered as a round, in one transaction: each is in it before it can
begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.edge.credentials import split_credentials
from pipeline.errors import PipelineError, Refused, SecretRefused, UsageError
from pipeline.operations import site as sites
from pipeline.operations.prepare import Prepared, Wanted, prepare
from pipeline.operations.queue import archived
from pipeline.operations.report import Report
from pipeline.operations.site import Site
from pipeline.records.names import check_name

#: What `on` may be beside builders: whichever is first, or each that builds.
_ANY, _ALL = "any", "all"


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line. `on` are builders with commas, `all`, `any`, or None for this
    machine; `job` is one that this machine has in the queue already.

    `after` are jobs that have to succeed first; `retries` maps a failure class to its number of retries.
    """

    branch: str
    commit: str | None = None
    source: str | None = None
    on: str | None = None
    priority: int = 5
    timeout_minutes: int | None = None
    wait_seconds: float | None = None
    packages: bool = True
    keep_going: bool = False
    recipe: str | None = None
    dry_run: bool = False
    after: tuple[str, ...] = ()
    retries: Mapping[str, int] = field(default_factory=dict)
    job: str | None = None


def wanted_by(site: Site, order: Order) -> Wanted:
    """Returns what an order asks for. Raises UsageError for what cannot be asked for."""
    if not order.branch:
        raise UsageError("Which branch?", remedy="`invoke build --branch ExternalNew`")
    if not 1 <= order.priority <= 9:
        raise UsageError(f"{order.priority} is no priority.", remedy="1 is the most urgent, 9 the least.")
    if order.timeout_minutes is not None and order.timeout_minutes < 1:
        raise UsageError(
            f"{order.timeout_minutes} minutes is no timeout.",
            remedy="Give 1 or more, or leave --timeout out: then the recipe's counts.",
        )
    if order.wait_seconds is not None and order.wait_seconds < 0:
        raise UsageError(
            f"{order.wait_seconds:g} seconds cannot be waited.", remedy="Give 0 or more, or leave --wait out."
        )
    return Wanted(
        branch=check_name("branch", order.branch),
        commit=order.commit or None,
        source=order.source or site.settings.source,
        recipe=_whole(order.recipe) or site.settings.recipe,
        packages=order.packages,
        keep_going=order.keep_going,
        timeout_seconds=order.timeout_minutes * 60 if order.timeout_minutes else None,
        resume_from=None,
    )


def _whole(recipe: str | None) -> str | None:
    """Returns a recipe file's whole path: whoever runs the job later may start in another directory."""
    return str(Path(recipe).absolute()) if recipe and Path(recipe).is_file() else recipe


def commit_of(site: Site, order: Order) -> str:
    """Returns the commit that an order means, as the source has it now. Raises SourceError."""
    return prepare(site, wanted_by(site, order), check=False).resolved.commit


def request_for(
    site: Site, wanted: Wanted, prepared: Prepared, job_id: str, order: Order, target: str | None
) -> dict[str, Any]:
    """Returns an order. Its `target` stays when it is lost or tried again: each builder builds for itself."""
    return {
        "id": job_id,
        "priority": order.priority,
        "branch": wanted.branch,
        "commit": prepared.resolved.commit,
        "target": target,
        "source": prepared.recipe.source,
        "requested_by": site.builder,
        "options": wanted.options(),
        "timeout_seconds": prepared.recipe.timeout_seconds,
        "depends_on": list(order.after),
        "retries": dict(order.retries),
    }


def order_elsewhere(site: Site, order: Order, wanted: Wanted) -> list[Report]:
    """Puts a job into the queue for one builder, for whichever is first, or one each for several.

    For several of a branch where builders commit first, all jobs and their round are one transaction. Raises
    PolicyInvalid and Outdated where this machine has a policy that cannot be believed.
    """
    if order.source and (access := split_credentials(order.source)).is_secret:
        raise SecretRefused("source", 1, "url_credentials", access.address)
    targets = _targets(site, order)
    prepared = prepare(site, wanted, check=False)
    if order.dry_run:
        names = " and ".join(target or "any builder" for target in targets)
        site.say(f"Note: whether {names} can build it only shows there.")
        return [planned(target or "any builder", wanted, prepared, order) for target in targets]
    if wanted.recipe and "/" in wanted.recipe:
        site.say(f"Note: the recipe {wanted.recipe} is read there, from that machine's own disk.")
    together = [target for target in targets if target is not None]
    if len(together) > 1 and site.commits_first(wanted.branch):
        return _queue_round(site, order, wanted, prepared, together)
    if len(together) < 2:
        say_if_alone(site, wanted.branch)
    return [queue(site, order, wanted, prepared, target) for target in targets]


def _targets(site: Site, order: Order) -> list[str | None]:
    known = sites.registry(site.state().view).builders
    if order.on == _ALL:
        return [each.name for each in known if each.builds]
    if order.on == _ANY:
        return [None]
    names = dict.fromkeys(check_name("builder", name.strip()) for name in (order.on or "").split(","))
    for name in names:
        if name not in [each.name for each in known]:
            raise Refused(
                f"No builder `{name}` is registered.",
                reason="unknown-builder",
                remedy=f"Use one of: {', '.join(each.name for each in known)}.",
            )
    return list(names)


def queue(site: Site, order: Order, wanted: Wanted, prepared: Prepared, target: str | None) -> Report:
    """Puts a job into the queue that somebody's `work` runs when its time has come."""
    request = request_for(site, wanted, prepared, new_job_id(site), order, target)
    value = site.ask({"kind": "job.create", **request})
    return _queued(order, wanted, prepared, str(value["job_id"]), target or "any builder")


def _queue_round(
    site: Site, order: Order, wanted: Wanted, prepared: Prepared, builders: Sequence[str]
) -> list[Report]:
    """Orders a job for each builder, and their round: ONE commit. One that is open already is joined."""
    _say_what_is_known(site, wanted.branch, prepared.resolved.commit)
    request = request_for(site, wanted, prepared, f"round_{site.random.op()}", order, None)
    jobs = {builder: new_job_id(site) for builder in builders}
    value = site.ask({"kind": "round.order", **request, "jobs": jobs})
    if value["there"]:
        site.say(f"That is ordered already, as round {value['round']}.")
    made = {str(builder): str(id) for builder, id in value["jobs"].items()}
    return [_queued(order, wanted, prepared, made[name], name, str(value["round"])) for name in sorted(made)]


def _say_what_is_known(site: Site, branch: str, commit: str) -> None:
    """Says whose build of a commit can be read already: what equals it shows nothing any more."""
    view = site.state(fresh=False).view
    every = [*sites.jobs(view).jobs, *(job for _, job in archived(view))]
    known = {j.assigned_to for j in every if (j.branch, j.commit) == (branch, commit) and j.manifest}
    if known:
        site.say(
            f"Note: what {' and '.join(sorted(str(each) for each in known))} made of {branch} at"
            f" {commit[:12]} stands in the ledger already. Equal files will be `unwitnessed`: to promote on"
            " this branch, build another commit."
        )


def say_if_alone(site: Site, branch: str) -> None:
    """Says of a build outside of any round that it will not count on a branch where builders commit first."""
    with suppress(PipelineError):  # whoever promotes is told what is wrong with the policy
        if site.commits_first(branch):
            site.say(
                f"Note: on {branch} only builds of a round count, and this one is reported at once."
                " `invoke build --on all` or `invoke compare --build` orders a round."
            )


def _queued(
    order: Order, wanted: Wanted, prepared: Prepared, job_id: str, builder: str, round_id: str | None = None
) -> Report:
    return Report(
        job_id,
        "queued",
        wanted.branch,
        prepared.resolved.commit,
        builder,
        depends_on=list(order.after),
        retries=dict(order.retries),
        round=round_id,
    )


def planned(builder: str, wanted: Wanted, prepared: Prepared, order: Order) -> Report:
    """Returns what would be built, where nothing is to be recorded."""
    return Report(
        "",
        "planned",
        wanted.branch,
        prepared.resolved.commit,
        builder,
        recipe=prepared.recipe,
        depends_on=list(order.after),
        retries=dict(order.retries),
    )


def new_job_id(site: Site) -> str:
    """Returns a random id that sorts by time."""
    return f"job_{site.random.op()}"
