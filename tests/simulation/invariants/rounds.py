"""Commit and reveal: who commits to what, when it is to be seen, and what may be called witnessed.

See `promotions`, which has the rest of these rules, for what is known of keys and builds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipeline.records import paths
from tests.simulation.invariants.base import Step, fail

if TYPE_CHECKING:
    pass
from tests.simulation.invariants.promotions import entered, find_job, read, round_before, sha256

_TRUST = paths.TRUST + "/"
_ROUNDS = f"{_TRUST}rounds/"
_DIGEST = re.compile(rb"[0-9a-f]{64}")


def commitments_are_ones_own(step: Step) -> None:
    """A commitment is of the job that runs on its builder, under its token; no two of a round are alike."""
    for path, data in step.changed.items():
        if not path.startswith(_ROUNDS) or "/commitments/" not in path or path.endswith(".sig"):
            continue
        said, id = read(data or b"{}"), path.split("/")[3]
        its = read(step.tree.read(paths.round(id)) or b"{}")
        builder = path.rpartition("/")[2].removesuffix(".json")
        job = find_job(step.before.jobs.jobs, said["job"])
        if its["participants"].get(builder) != said["job"] or said["builder"] != builder:
            return fail("commitments-are-ones-own", step, f"{path} is {said['builder']}'s of {said['job']}")
        known = [value for name, value in its["committed"].items() if name != builder]
        if its["committed"].get(builder) != said["sha256"] or said["sha256"] in known:
            return fail("commitments-are-ones-own", step, f"{path} was made before by another")
        runs = job is not None and job.status == "running" and job.assigned_to == builder
        if not step.by_hand and (job is None or not runs or job.token != said["token"]):
            state = (job.status, job.assigned_to, job.token) if job else None
            return fail("commitments-are-ones-own", step, f"{path} of {said['token']}, and its job {state}")
    return None


def nobody_commits_late(step: Step) -> None:
    """Once somebody has revealed, or one's job has ended, nobody commits any more."""
    for path in step.changed:
        if not path.startswith(_ROUNDS) or not path.endswith("/round.json"):
            continue
        before, after = round_before(step, path), read(step.changed[path] or b"{}")
        if before is None:
            continue
        news = after["committed"].keys() - before["committed"].keys()
        if news and before["revealed"]:
            return fail("nobody-commits-late", step, f"{path}: {news} after {list(before['revealed'])}")
        for builder in news:
            job = find_job(step.before.jobs.jobs, before["participants"].get(builder, ""))
            if job is not None and job.ended:
                return fail("nobody-commits-late", step, f"{path}: {builder}, whose job had ended")
    return None


def reveal_matches_commitment(step: Step) -> None:
    """What is revealed is what its builder had committed to: opening, names in it, and manifest."""
    for path, data in step.changed.items():
        if not path.startswith(_ROUNDS) or "/openings/" not in path or data is None:
            continue
        id, builder = path.split("/")[3], path.rpartition("/")[2].removesuffix(".json")
        its, opening = read(step.tree.read(paths.round(id)) or b"{}"), read(data)
        said = read(step.tree.read(paths.commitment(id, builder)) or b"{}")
        if said.get("sha256") != sha256(data) or its["committed"].get(builder) != sha256(data):
            return fail("reveal-matches-commitment", step, f"{path} is not what {builder} committed to")
        names = {"builder": builder, "job": its["participants"][builder], "commit": its["commit"]}
        if any(opening[name] != value for name, value in names.items()) or opening["token"] != said["token"]:
            return fail("reveal-matches-commitment", step, f"{path} is {opening['builder']}'s")
        shown = its["revealed"].get(builder)
        manifest = step.tree.read(shown["manifest"]) if shown else None
        if manifest is None or not sha256(manifest) == opening["manifest"] == shown["sha256"]:
            return fail("reveal-matches-commitment", step, f"{path} has another manifest")
    return None


def no_digest_before_all_committed(step: Step) -> None:
    """While one of a round can still commit, nothing of its builds is in what the ledger takes of them."""
    notary = step.notary
    if notary is None:
        return None
    for path in step.changed:
        if path.startswith(_ROUNDS) and path.endswith("/round.json") and path not in step.existed:
            step.history.rounds[path] = step.position
    for path in list(step.history.rounds):
        data = step.tree.read(path)
        its = read(data) if data else None
        if its is None or not _waits(step, its):
            continue
        for job in its["participants"].values():
            digests = {d.encode() for made in notary.built.get(job, {}).values() for d in made.values()}
            for place, content in step.changed.items():
                about = job in place or its["id"] in place
                about = about or (place.startswith(_TRUST) and job.encode() in (content or b""))
                if about and content and any(digest in content for digest in digests):
                    return fail("no-digest-before-all-committed", step, f"{place} tells what {job} made")
    return None


def _waits(step: Step, its: Any) -> bool:
    """Says whether one of a round has not committed, and still may."""
    missing = its["participants"].keys() - its["committed"].keys()
    jobs = (find_job(step.after.jobs.jobs, its["participants"][builder]) for builder in missing)
    return any(job is not None and not job.ended for job in jobs)


def witnessed_is_true(step: Step) -> None:
    """Of what an entry calls witnessed, no digest was anywhere in the ledger before the last of its round had
    committed; its builds are of one round; and all of that who committed have revealed.
    """
    notary = step.notary
    if notary is None:
        return None
    for path, data in step.changed.items():
        if "/commitments/" in path and path.startswith(_ROUNDS) and not path.endswith(".sig"):
            step.history.commitments.setdefault(path, step.position)
        for digest in _DIGEST.findall(data or b""):
            step.history.digests.setdefault(digest, step.position)
    for data, _, _ in entered(step):
        entry = read(data)
        if not entry["witnessed"]:
            continue
        where = f"{entry['branch']} {entry['number']}"
        pointers = [step.tree.read(paths.round_of(each["job"])) for each in entry["counted"]]
        ids = {str(read(each)["round"]) if each else "" for each in pointers}
        if len(ids) != 1 or "" in ids:
            return fail("witnessed-is-true", step, f"{where} counts builds of the rounds {ids}")
        its = read(step.tree.read(paths.round(ids.pop())) or b"{}")
        if hidden := its["committed"].keys() - its["revealed"].keys():
            return fail("witnessed-is-true", step, f"{where}: {hidden} committed and never revealed")
        of = {each["builder"]: each["job"] for each in entry["counted"]}
        if any(its["participants"].get(builder) != job for builder, job in of.items()):
            return fail("witnessed-is-true", step, f"{where} counts builds that its round does not have")
        last = max(
            step.history.commitments.get(paths.commitment(its["id"], builder), 0)
            for builder in its["committed"]
        )
        for each in entry["artifacts"]:
            first = step.history.digests.get(each["sha256"].encode(), last)
            if first < last:
                words = f"{each['name']} was to be seen at position {first}, the last commitment at {last}"
                return fail("witnessed-is-true", step, f"{where}: {words}")
    return None


INVARIANTS = (
    nobody_commits_late,
    commitments_are_ones_own,
    reveal_matches_commitment,
    no_digest_before_all_committed,
    witnessed_is_true,
)
