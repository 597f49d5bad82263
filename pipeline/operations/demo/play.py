"""The scenes: two builders at work, one killed, one frozen, the remote gone; and the verdict on all of it.

    1. both build side by side, and one writes to the other
    2. one is killed with SIGKILL in the middle of a build; restarted, it proves the death and builds again
    3. one is frozen; its lock is broken; thawed, it reports under a token that is void
    4. the remote is away while builds end and a message is sent; when it is back, all of it arrives
    5. the whole chain is computed again, and judged

Every wait is for something that the ledger or a process shows, and ends with CheckFailed if it does not come.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.edge.children import Child, Children
from pipeline.edge.clock import Clock
from pipeline.edge.ref_store import RefStore
from pipeline.errors import CheckFailed, Interrupted
from pipeline.operations.demo.cast import Builder, Onlooker, waiting_for
from pipeline.operations.demo.stage import BRANCH, Stage
from pipeline.operations.demo.story import Event, Narrator, Source, short
from pipeline.operations.demo.verdict import Facts, JobStory, Promise, judge, replay
from pipeline.records.base import load
from pipeline.records.builds import Manifest

_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 120.0
#: The module of three in which a build is struck.
_MIDDLE = 2
#: How long the remote stays away after both builds have ended.
_AWAY_SECONDS = 2.0


@dataclass(frozen=True)
class Performance:
    """What was played, and what it showed. `folder` is where all of it lies, if it was kept."""

    seconds: float
    events: list[Event]
    jobs: list[JobStory]
    promises: list[Promise]
    transactions: int
    tip: str
    folder: str | None = None

    @property
    def holds(self) -> bool:
        return all(promise.held for promise in self.promises)


class Play:
    """One performance. `tell` is told each event as it happens, `interrupted` gives a reason to stop."""

    def __init__(
        self,
        stage: Stage,
        children: Children,
        refs: RefStore,
        clock: Clock,
        reducer: int,
        tell: Callable[[Event], None],
        interrupted: Callable[[], str | None],
    ) -> None:
        self._stage = stage
        self._children = children
        self._clock = clock
        self._tell = tell
        self._interrupted = interrupted
        self._begun = clock.boottime()
        self._ledger = Onlooker(refs, reducer)
        self._narrator = Narrator()
        self._events: list[Event] = []
        self._sent: list[str] = []
        self._builders = [
            Builder(name, children, env, stage.outputs(name)) for name, env in stage.environments.items()
        ]

    def perform(self) -> Performance:
        """Plays all scenes. Raises CheckFailed for what did not come about, Interrupted for a signal."""
        one, two = self._builders
        names = ",".join(builder.name for builder in self._builders)
        self._say(
            f"{one.name} and {two.name}, in {self._stage.folder}, have nothing in common but a git branch."
        )
        self._run(one, "ledger.init", "--builders", names)
        self._side_by_side(one, two)
        self._killed(one)
        self._frozen(two, by=one)
        self._cut_off(one, two)
        return self._judged(one)

    # -- scenes --------------------------------------------------------------------------------------

    def _side_by_side(self, one: Builder, two: Builder) -> None:
        self._say("1. Both build, side by side.")
        jobs = self._order(one, "all")
        self._until("both builders build", lambda: all(self._is("running", job) for job in jobs))
        text = "The branch is yours."
        self._run(one, "message.send", "--to", two.name, "--subject", text, "--body", "Both of us build it.")
        unread = json.loads(self._run(two, "message.list", "--unread", "--json"))
        mine = [message["id"] for message in unread if message["subject"] == text]
        self._sent += mine
        self._run(two, "message.read", ",".join(mine))
        self._until_ended(jobs)

    def _killed(self, victim: Builder) -> None:
        self._say(f"2. {victim.name} is killed in the middle of a build.")
        self._stage.hold_builds()
        jobs = self._order(victim, "all")
        mine = next(job for job in jobs if self._ledger.job(job).target == victim.name)
        self._until_building(victim, mine)
        token = self._ledger.job(mine).token or ""
        killed = self._clock.boottime()
        below = victim.kill()
        self._stage.let_builds_go()
        name = self._narrator.name(mine)
        self._say(
            f"kill -9: {victim.name} is gone, and {name} with token {short(token)} still says that it runs."
        )
        self._until("nothing of its build is left", lambda: not self._children.living(below))
        seconds = self._clock.boottime() - killed
        self._say(f"Its watchdog has ended the {len(below)} processes of the build within {seconds:.1f} s.")
        self._run(victim, "recover")
        self._until(f"{name} is put back", lambda: self._ledger.job(mine).token != token)
        victim.up = True
        self._until_ended(jobs)

    def _frozen(self, victim: Builder, by: Builder) -> None:
        self._say(f"3. {victim.name} freezes, and its lock is broken.")
        self._stage.hold_builds()
        (job,) = self._order(by, victim.name)
        self._until_building(victim, job)
        token = self._ledger.job(job).token or ""
        victim.freeze()
        self._stage.let_builds_go()
        name = self._narrator.name(job)
        self._say(f"SIGSTOP: {victim.name} falls silent, holding {name} under token {short(token)}.")
        lock = f"builder/{victim.name}"
        self._run(by, "lock.break", lock, "--token", token, "--reason", "it does not answer")
        self._until("the job waits again", lambda: self._is("queued", job))
        self._say(f"SIGCONT: {victim.name} wakes up and knows nothing of it.")
        victim.thaw()
        self._until("its result comes late", lambda: self._came_late(job))
        self._until_ended([job])

    def _cut_off(self, one: Builder, two: Builder) -> None:
        self._say("4. The remote goes away while both build.")
        self._stage.hold_builds()
        jobs = self._order(two, "all")
        for builder in (one, two):
            self._until_building(builder, next(j for j in jobs if self._ledger.job(j).target == builder.name))
        self._stage.take_ledger_away()
        self._stage.let_builds_go()
        self._say(
            "The remote is gone. Who builds builds on; who has something to say keeps it in the outbox."
        )
        words = (
            "message.send",
            "--to",
            two.name,
            "--subject",
            "Can you hear me?",
            "--body",
            "Sent while cut off.",
        )
        sending = one.command(*words)
        self._say(f"invoke {' '.join(words[:3])} … (no answer yet)", one.name, "process")
        self._until("both builds have ended", lambda: one.made and two.made)
        self._rest(_AWAY_SECONDS)
        self._stage.bring_ledger_back()
        self._say("The remote is back.")
        self._sent.append(self._finish(one, sending, words).strip())
        self._until_ended(jobs)

    def _judged(self, one: Builder) -> Performance:
        self._say("5. The whole chain, computed again.")
        self._until("both builders rest", lambda: all(b.work is None for b in self._builders))
        waiting = {b.name: json.loads(self._run(b, "status", "--json"))["waiting"] for b in self._builders}
        checked = json.loads(self._run(one, "ledger.check", "--json", expected=(0, CheckFailed.exit_code)))
        self._look()
        stories = replay(self._ledger.records)
        facts = Facts(
            jobs=self._ledger.jobs(),
            messages=self._ledger.messages(),
            sent=self._sent,
            digests=self._digests(),
            waiting=waiting,
            processes=self._children.left(),
            transactions=checked["transactions"],
            chain_holds=checked["holds"],
        )
        return Performance(
            seconds=round(self._clock.boottime() - self._begun, 1),
            events=self._events,
            jobs=stories,
            promises=judge(stories, facts),
            transactions=checked["transactions"],
            tip=checked["tip"],
        )

    def _digests(self) -> dict[str, str]:
        """Returns each job's package's SHA-256, as its manifest in the ledger has it."""
        view = self._ledger.view()
        found = {}
        for job in self._ledger.jobs():
            path = job.manifest or ""
            data = view.read(path) if view and path else None
            for artifact in load(Manifest, data, path).artifacts if data else []:
                if artifact.name.endswith(".deb"):
                    found[job.id] = artifact.checksums["sha256"]
        return found

    # -- what scenes are made of ---------------------------------------------------------------------

    def _order(self, by: Builder, on: str) -> list[str]:
        """Orders the branch on one builder, or on all; returns the jobs' ids once they are seen."""
        answer = json.loads(self._run(by, "build", "--branch", BRANCH, "--on", on, "--json"))
        ids = [str(each["job_id"]) for each in answer.get("jobs", [answer])]
        self._until("the order is seen", lambda: set(ids) <= {job.id for job in self._ledger.jobs()})
        return ids

    def _is(self, status: str, id: str) -> bool:
        return self._ledger.job(id).status == status

    def _came_late(self, id: str) -> bool:
        """Says whether a late result is there; an accepted one is the verdict's business."""
        job = self._ledger.job(id)
        return job.late_results > 0 or job.ended

    def _until_ended(self, ids: list[str]) -> None:
        names = " and ".join(self._narrator.name(id) for id in ids)
        self._until(f"{names} ended", lambda: all(self._ledger.job(id).ended for id in ids))

    def _until_building(self, builder: Builder, id: str) -> None:
        """Waits until a builder is in the middle of a job's build."""

        def there() -> bool:
            job = self._ledger.job(id)
            if job.ended:
                why = job.failure.message if job.failure else "it was too quick"
                raise CheckFailed(f"{self._narrator.name(id)} ended before its time ({job.outcome}): {why}")
            return job.status == "running" and builder.module >= _MIDDLE

        self._until(f"{builder.name} is in the middle of {self._narrator.name(id)}", there)

    def _run(self, builder: Builder, *words: str, expected: tuple[int, ...] = (0,)) -> str:
        """Runs a command on a builder to its end, while everything goes on; returns what it printed."""
        shown = shlex.join(word if len(word) < 36 else f"{word[:10]}…" for word in words if word != "--json")
        self._say(f"invoke {shown}", builder.name, "process")
        return self._finish(builder, builder.command(*words), words, expected)

    def _finish(
        self, builder: Builder, child: Child, words: tuple[str, ...], expected: tuple[int, ...] = (0,)
    ) -> str:
        self._until(f"`invoke {words[0]}` has ended", lambda: child.status() is not None)
        said = child.news()
        output = child.output().decode(errors="replace")
        if (status := child.status()) not in expected:
            raise CheckFailed(
                f"`invoke {words[0]}` on {builder.name} ended with {status}: {' '.join(said)[-500:]}"
            )
        if words[0] == "recover":
            for line in output.splitlines():
                self._say(line, builder.name, "process")
        return output

    def _until(self, what: str, true: Callable[[], bool]) -> None:
        """Looks round until something is true. Raises CheckFailed when patience is over."""
        until = self._clock.boottime() + _PATIENCE_SECONDS
        self._look()
        while not true():
            if self._clock.boottime() > until:
                said = "; ".join(
                    f"{b.name}: {[*b.failures, b.last][-1] or 'nothing'}" for b in self._builders
                )
                raise CheckFailed(
                    f"{_PATIENCE_SECONDS:.0f} s were not enough until {what}. Last heard: {said}.",
                    remedy="Look at what is in the scratch folder: run it again with --keep.",
                )
            self._clock.sleep(_LOOK_SECONDS)
            self._look()

    def _rest(self, seconds: float) -> None:
        until = self._clock.boottime() + seconds
        self._until("time has passed", lambda: self._clock.boottime() >= until)

    def _look(self) -> None:
        """Sees what is new in the ledger and at the builders, and tells it. Raises Interrupted."""
        if (reason := self._interrupted()) is not None:
            raise Interrupted(f"{reason[0].upper()}{reason[1:]}.")
        for commit, record in self._ledger.look():
            for who, text in self._narrator.tell(record):
                self._say(text, who, "ledger", commit)
        jobs = self._ledger.jobs()
        for builder in self._builders:
            for text in builder.watch(waiting_for(jobs, builder.name)):
                self._say(text, builder.name, "process")

    def _say(self, text: str, who: str = "", source: Source = "demo", commit: str | None = None) -> None:
        event = Event(round(self._clock.boottime() - self._begun, 1), who, source, text, commit)
        self._events.append(event)
        self._tell(event)
