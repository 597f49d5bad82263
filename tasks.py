"""The pipeline's tasks: flags in, one operation, results out. `invoke --list` shows them all.

Only invoke is imported here; everything else inside the bodies, so that listing tasks stays quick.
Results go to stdout, progress to stderr; every task that reads has --json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from invoke import Collection, Context, task

from pipeline.console.terminal import collect_from_now_on, put, put_log, say, told

JSON = "print one JSON value on standard output instead of text"


def site(say: Callable[[str], None] = say, live: Callable[[Mapping[str, Any]], None] | None = None) -> Any:
    """Puts this machine's Site together."""
    from pipeline.runtime import make_site

    collect_from_now_on()
    return make_site(say, live)


@contextmanager
def shown() -> Iterator[Any]:
    """Yields this machine's Site to a task that only shows. Ends with 21 if that was what was seen last."""
    here = site()
    here.shows = True
    yield here
    if here.away is not None:
        sys.exit(type(here.away).exit_code)


def number(name: str, text: str, default: int) -> int:
    """Reads an option's number."""
    from pipeline.console.input import whole_number

    found = whole_number(name, text, default)
    return default if found is None else found


# ---------------------------------------------------------------- the main job


@task(
    help={
        "branch": "branch to build, for instance ExternalNew",
        "commit": "commit to build, 7 to 40 digits; by default the branch's newest",
        "source": "source repository; by default the configured one, or the embedded sample",
        "on": "builders with commas, 'all', or 'any' for whichever is first; by default this machine builds",
        "after": "job ids with commas: it runs when all of them have succeeded",
        "retries": "how often it is tried again: 2 for what may pass then, or by class: test=2,dependency=3",
        "priority": "1 is the most urgent, 9 the least; 5 by default",
        "timeout": "minutes after which the build is ended; the recipe's by default",
        "wait": "seconds to wait for a busy machine; 0 leaves at once; by default as long as it takes",
        "no-packages": "stop after Maven, with `install`",
        "keep-going": "let Maven build all it can after a failure (--fail-at-end)",
        "recipe": "recipe file, or a shipped one's name, laid over the ledger's build_config.json",
        "dry-run": "resolve and check everything, show the recipe, record nothing",
        "json": JSON,
    }
)
@told
def build(
    c: Context,
    branch: str = "",
    commit: str = "",
    source: str = "",
    on: str = "",
    after: str = "",
    retries: str = "",
    priority: str = "",
    timeout: str = "",
    wait: str = "",
    no_packages: bool = False,
    keep_going: bool = False,
    recipe: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Build a branch completely: Maven, Debian packages, manifest, report.

    The exit code tells how it ended: docs/reference/exit-codes.md.
    """
    from pipeline.console.build import show_build
    from pipeline.console.input import whole_number, words
    from pipeline.console.live import screen
    from pipeline.operations.build import Order, build
    from pipeline.operations.conditions import read_retries

    order = Order(
        branch=branch,
        commit=commit or None,
        source=source or None,
        on=on or None,
        priority=number("priority", priority, 5),
        timeout_minutes=whole_number("timeout", timeout),
        wait_seconds=whole_number("wait", wait),
        packages=not no_packages,
        keep_going=keep_going,
        recipe=recipe or None,
        dry_run=dry_run,
        after=tuple(words(after)),
        retries=read_retries(retries),
    )
    with screen() as seen:
        reports = build(site(seen.say, seen.live), order)
    sys.exit(show_build(reports, json))


@task(help={"once": "take one job and end (the only mode yet)", "json": JSON})
@told
def work(c: Context, once: bool = False, json: bool = False) -> None:
    """Take the next job that this builder may run, and run it."""
    from pipeline.console.build import show_build
    from pipeline.console.live import screen
    from pipeline.operations.build import work_once

    with screen() as seen:
        reports = work_once(site(seen.say, seen.live))
    sys.exit(show_build(reports, json))


@task(help={"json": JSON})
@told
def status(c: Context, json: bool = False) -> None:
    """Show the builders, what runs, what waits. Looking changes nothing."""
    from pipeline.console.views import show_status
    from pipeline.operations.overview import overview

    with shown() as here:
        show_status(overview(here), json)


@task(help={"json": JSON})
@told
def recover(c: Context, json: bool = False) -> None:
    """Clean up after a crash: end what is left running, report what was built, requeue what was lost."""
    from pipeline.console.views import show_recovery
    from pipeline.operations.recover import recover

    show_recovery(recover(site()), json)


@task(
    help={
        "install": "install what is missing (Debian and Ubuntu; needs root or sudo)",
        "remote": "probe what the ledger's git host allows",
        "json": JSON,
    }
)
@told
def doctor(c: Context, install: bool = False, remote: bool = False, json: bool = False) -> None:
    """Check that this machine can build, and say how to mend what is missing."""
    from pipeline.console.views import show_checks
    from pipeline.operations.doctor import examine

    sys.exit(show_checks(examine(site, install=install, remote=remote, say=say), json))


@task(help={"json": JSON})
@told
def config(c: Context, json: bool = False) -> None:
    """Show every setting with its value and where it came from."""
    from pipeline.console.views import show_settings
    from pipeline.operations.configuration import explain
    from pipeline.runtime import origin_of_home, origin_of_name, read_settings

    sys.exit(show_settings(explain(read_settings(), origin_of_home(), site, origin_of_name), json))


# ---------------------------------------------------------------- jobs


@task(name="list", help={"all": "also jobs that were archived", "json": JSON})
@told
def job_list(c: Context, all: bool = False, json: bool = False) -> None:
    """List jobs in commit order."""
    from pipeline.console.views import show_jobs
    from pipeline.operations.queue import list_jobs

    with shown() as here:
        show_jobs(list_jobs(here, everything=all), json)


@task(name="show", help={"id": "job id", "json": JSON})
@told
def job_show(c: Context, id: str, json: bool = False) -> None:
    """Show everything about one job."""
    from pipeline.console.views import show_job
    from pipeline.operations.queue import show

    with shown() as here:
        show_job(show(here, id), json)


@task(name="cancel", help={"id": "job id", "reason": "why, for the record", "json": JSON})
@told
def job_cancel(c: Context, id: str, reason: str = "", json: bool = False) -> None:
    """Cancel a queued or a running job."""
    from pipeline.console.views import show_job
    from pipeline.operations.queue import cancel

    job = cancel(site(), id, reason)
    if json:
        show_job(job, json)
        return
    print(f"{job.id} {'is cancelled' if job.ended else 'will end: its builder was asked to stop'}")


@task(
    name="retry",
    help={
        "id": "job id",
        "resume": "go on after Maven, from what the failed build left",
        "on": "builder to run it; by default whom it was ordered for, with --resume the one that built",
        "json": JSON,
    },
)
@told
def job_retry(c: Context, id: str, resume: bool = False, on: str = "", json: bool = False) -> None:
    """Order a new job that repeats an ended one; `invoke work --once` runs it."""
    from pipeline.console.views import show_job
    from pipeline.operations.ordering import say_if_alone
    from pipeline.operations.queue import retry

    here = site()
    job = retry(here, id, resume=resume, on=on or None)
    say_if_alone(here, job.branch)
    if json:
        show_job(job, json)
        return
    print(job.id)


@task(
    name="log",
    help={"id": "job id", "follow": "show the raw log while the job runs on this machine", "json": JSON},
)
@told
def job_log(c: Context, id: str, follow: bool = False, json: bool = False) -> None:
    """Print a job's log."""
    from pipeline.console.views import show_log
    from pipeline.errors import UsageError
    from pipeline.operations.logs import follow_log
    from pipeline.operations.queue import log_of

    if follow and json:
        raise UsageError("A log that is followed is no JSON value.", remedy="Leave --follow or --json out.")
    if follow:
        for chunk in follow_log(site(), id):
            put_log(chunk)
        return
    with shown() as here:
        show_log(id, log_of(here, id).decode(errors="replace"), json)


# ---------------------------------------------------------------- locks


@task(name="list", help={"json": JSON})
@told
def lock_list(c: Context, json: bool = False) -> None:
    """List held locks, and who waits for them."""
    from pipeline.console.views import show_locks
    from pipeline.operations.locks import list_locks

    with shown() as here:
        show_locks(list_locks(here), json)


@task(
    name="run",
    help={
        "name": "lock's name, or several with commas: all or none",
        "ttl": "seconds for which the locks are trusted without a renewal; 60 by default, at least 10",
        "wait": "seconds to wait for the turn; 0 leaves at once; by default as long as it takes",
        "purpose": "what for: shown to those who wait",
        "command": "the program and its arguments as one text, instead of after `--`; no shell reads it",
        "shell": "let /bin/sh read --command",
    },
)
@told
def lock_run(
    c: Context,
    name: str,
    ttl: str = "",
    wait: str = "",
    purpose: str = "",
    command: str = "",
    shell: bool = False,
) -> None:
    """Run a program while holding locks: `invoke lock.run NAME -- PROGRAM ARGUMENT...`.

    Its output and exit code are passed on; $PIPELINE_LOCK_TOKEN is the fencing token. When the lease is lost
    the program is ended in time (exit code 43). A wait that was too short is 42.
    """
    import os

    from pipeline.console.input import program_words, whole_number, words
    from pipeline.operations.guarded import Order, run

    order = Order(
        names=words(name),
        command=program_words(command, shell, sys.argv),
        ttl=number("ttl", ttl, 60),
        wait=whole_number("wait", wait),
        purpose=purpose,
    )
    sys.exit(run(site(), order, os.environ))


@task(
    name="break",
    help={
        "name": "lock's name",
        "token": "its exact token, from lock.list",
        "reason": "why, for the record",
    },
)
@told
def lock_break(c: Context, name: str, token: str = "", reason: str = "") -> None:
    """Free a lock by force; says who held it. A job that holds it is lost and waits again."""
    from pipeline.operations.locks import break_lock

    put(break_lock(site(), name, token, reason))


# ---------------------------------------------------------------- messages


@task(
    name="send",
    help={
        "to": "a builder, several with commas, or 'all'",
        "subject": "one line, up to 100 characters",
        "body": "the text; '-' reads standard input",
        "file": "read the text from a file",
        "type": "info, warning, error or request",
        "reply-to": "id of the message that this answers",
    },
)
@told
def message_send(
    c: Context, to: str, subject: str, body: str = "", file: str = "", type: str = "info", reply_to: str = ""
) -> None:
    """Send a message to builders."""
    from pipeline.console.input import read_text, words
    from pipeline.operations.messages import send

    text = read_text(body, file)
    for id in send(site(), words(to), subject, text, type=type, in_reply_to=reply_to or None):
        print(id)


@task(
    name="list",
    help={
        "unread": "only what this builder has not read",
        "all": "also archived ones",
        "limit": "how many of the newest; 50 by default",
        "json": JSON,
    },
)
@told
def message_list(
    c: Context, unread: bool = False, all: bool = False, limit: str = "", json: bool = False
) -> None:
    """List messages, oldest first; `message.show` has the whole text."""
    from pipeline.console.views import show_messages
    from pipeline.operations.messages import listed

    most = number("limit", limit, 50)
    with shown() as here:
        show_messages(listed(here, unread=unread, everything=all, limit=most), json)


@task(name="show", help={"id": "message id", "json": JSON})
@told
def message_show(c: Context, id: str, json: bool = False) -> None:
    """Show one message with its whole text; it stays unread."""
    from pipeline.console.views import show_message
    from pipeline.operations.messages import show

    with shown() as here:
        show_message(show(here, id), json)


@task(name="read", positional=["ids"], help={"ids": "message ids, with commas"})
@told
def message_read(c: Context, ids: str) -> None:
    """Mark messages as read by this builder."""
    from pipeline.console.input import words
    from pipeline.operations.messages import mark

    mark(site(), words(ids), acknowledge=False)
    print(f"Read: {', '.join(words(ids))}")


@task(name="ack", positional=["ids"], help={"ids": "message ids, with commas"})
@told
def message_ack(c: Context, ids: str) -> None:
    """Acknowledge messages, as this builder."""
    from pipeline.console.input import words
    from pipeline.operations.messages import mark

    mark(site(), words(ids), acknowledge=True)
    print(f"Acknowledged: {', '.join(words(ids))}")


@task(
    aliases=["sendmessages"],
    positional=["to", "text"],
    help={
        "to": "2 is build2, 12 are build1 and build2, all is everybody",
        "text": "the message; '-' reads standard input",
    },
)
@told
def sm(c: Context, to: str, text: str) -> None:
    """Send a short message; its first line becomes the subject."""
    from pipeline.console.input import read_text
    from pipeline.operations.messages import recipients, send, split_subject

    here = site()
    subject, body = split_subject(read_text(text, ""))
    for id in send(here, recipients(here, to), subject, body):
        print(id)


# ---------------------------------------------------------------- comparing


@task(
    help={
        "left": "a file or folder here, a builder, or [USER@]HOST:/PATH",
        "right": "what to hold against it, written in the same way",
        "commit": "compare builds of this commit, 7 to 40 digits; by default the newest that two have built",
        "job": "compare this job's build with the others' of its commit; or those of several, with commas",
        "branch": "compare the newest builds of this branch",
        "build": "have every builder that lacks it build it first, and wait",
        "rebuild": "build what differs again, one thing changed at a time, to tell what makes the difference",
        "watch": "compare whenever there are new builds to compare, until Ctrl-C",
        "list": "list the comparisons that the ledger keeps instead",
        "timings": "set the times of stages and modules side by side instead",
        "show": "show what differs: of 5 files, of so many, or of those with this in their path",
        "environment": "compare what builders state of their environments, before any build",
        "markdown": "file for a report that fits a message or a pull request; '-' prints it instead of text",
        "html": "file for a report as one page for a browser; '-' prints it instead of text",
        "json": JSON,
    },
    optional=["show"],
    auto_shortflags=False,  # -h is help
)
@told
def compare(
    c: Context,
    left: str = "",
    right: str = "",
    commit: str = "",
    job: str = "",
    branch: str = "",
    build: bool = False,
    rebuild: bool = False,
    watch: bool = False,
    list: bool = False,
    timings: bool = False,
    show: str = "",
    environment: bool = False,
    markdown: str = "",
    html: str = "",
    json: bool = False,
) -> None:
    """Say whether two builders made the same packages of a commit, and if not, exactly where they differ.

    With --left and --right it says so of two folders or files, of which nothing else is known.
    """
    from pipeline.compare.showing import wanted as shown_leaves
    from pipeline.console.comparison import reports_wanted, show_comparison
    from pipeline.console.environment import show_environments, show_timings
    from pipeline.console.input import insist_on_one, words
    from pipeline.console.live import screen
    from pipeline.console.views import show_comparisons
    from pipeline.edge.output_file import OutputFile
    from pipeline.operations import comparisons, everywhere, stating
    from pipeline.operations.choosing import Asked
    from pipeline.runtime import comparison as runtime

    asked = Asked(tuple(words(job)), commit, branch)
    paths = bool(left or right)
    instead = {"--left": paths, "--environment": environment, "--list": list}
    ways = {**instead, "--watch": watch, "--timings": timings}
    insist_on_one({**instead, "--commit, --job or --branch": asked != Asked()})
    insist_on_one({**ways, "--build": build})
    insist_on_one({**ways, "--rebuild": rebuild})
    insist_on_one({**ways, "--left": False, "--show": bool(show)})
    displays = shown_leaves(show)
    if environment:
        sys.exit(show_environments(stating.compare_stated(site()), json))
    if list:
        with shown() as here:
            show_comparisons(comparisons.kept(here.state().view), json)
        return
    if timings:
        sys.exit(show_timings(everywhere.timings(site(), asked), json))
    wanted = reports_wanted(json, markdown=markdown, html=html)
    files = {form: OutputFile(place).write for form, place in wanted.files.items()}
    if paths:
        sys.exit(show_comparison(runtime.compare_here(left, right, say, displays), wanted.printed, files))
    collect_from_now_on()
    if watch:
        for found in runtime.watch_builds(asked, say):
            show_comparison(found, wanted.printed, files)
        return
    with screen() as seen:
        found = runtime.compare_builds_here(
            asked, seen.say, seen.live, build=build, rebuild=rebuild, shown=displays
        )
    sys.exit(show_comparison(found, wanted.printed, files))


# ---------------------------------------------------------------- artifacts


@task(name="list", help={"json": JSON})
@told
def artifacts_list(c: Context, json: bool = False) -> None:
    """List the finished builds that this machine keeps."""
    from pipeline.console.views import show_sets
    from pipeline.operations.artifacts import kept

    show_sets(kept(site()), json)


@task(name="verify", help={"id": "job id; by default every build kept here", "json": JSON})
@told
def artifacts_verify(c: Context, id: str = "", json: bool = False) -> None:
    """Check files against their manifests: flipped bytes, missing and extra files."""
    from pipeline.console.views import show_problems
    from pipeline.operations.artifacts import check

    sys.exit(show_problems(check(site(), id or None), json))


@task(
    name="prune",
    help={
        "keep": "how many builds of each branch stay; 5 by default",
        "yes": "really remove; otherwise only show",
        "json": JSON,
    },
)
@told
def artifacts_prune(c: Context, keep: str = "", yes: bool = False, json: bool = False) -> None:
    """Remove old builds, never one that is referred to. Shows what it would do unless --yes."""
    from pipeline.console.views import show_pruned
    from pipeline.operations.artifacts import prune

    show_pruned(prune(site(), keep=number("keep", keep, 5), really=yes), yes, json)


# ---------------------------------------------------------------- policy and promotion

KEY = "file of the private key, or the .pub of one that an agent holds"


@task(
    name="init",
    iterable=["builder", "promoter", "check", "normaliser"],
    help={
        "k": "how many builders must have made the same bytes; 2 by default",
        "builder": "NAME=MACHINE=FILE.pub, once for each builder",
        "promoter": "NAME=FILE.pub, once for each who may promote",
        "check": "what is done before promotion: install",
        "normaliser": "what may be normalised, by a comparison's name for it, once for each",
        "json": JSON,
    },
)
@told
def policy_init(
    c: Context,
    builder: Any,
    promoter: Any,
    check: Any,
    normaliser: Any,
    k: str = "",
    json: bool = False,
) -> None:
    """Draft the operator's policy of promotion, or the one after the present. It is not in force yet."""
    from pipeline.console.promotion import show_draft
    from pipeline.operations.policy import Order, init
    from pipeline.runtime import make_trust

    order = Order(number("k", k, 0), builder, promoter, check, normaliser)
    show_draft(init(site(), make_trust(), order), json)


@task(name="sign", help={"key": f"the root key: {KEY}", "json": JSON})
@told
def policy_sign(c: Context, key: str = "", json: bool = False) -> None:
    """Sign the draft with the root key, and put it in force on this machine."""
    from pipeline.console.promotion import show_policy
    from pipeline.operations.policy import show, sign
    from pipeline.runtime import make_signer, make_trust

    trust = make_trust()
    sign(trust, make_signer(key, "--key"))
    show_policy(show(site(), trust), json)


@task(name="show", help={"machine": "show only this machine's id, as a policy names it", "json": JSON})
@told
def policy_show(c: Context, machine: bool = False, json: bool = False) -> None:
    """Show the policy in force here, and the keys that are revoked."""
    from pipeline.console.promotion import show_policy
    from pipeline.console.terminal import show_json
    from pipeline.operations.policy import show
    from pipeline.runtime import make_trust

    with shown() as here:
        if machine:
            show_json({"machine": here.machine()}) if json else put(here.machine())
            return
        show_policy(show(here, make_trust()), json)


@task(
    iterable=["comparison"],
    help={
        "id": "job id; by default the build that was compared, or the newest that is kept here",
        "comparison": "what `compare --json` said, as a file, or a job compared here: signs what comes of it",
        "json": JSON,
    },
)
@told
def attest(c: Context, comparison: Any, id: str = "", json: bool = False) -> None:
    """Sign what this builder made, with the key of the setting `signing_key`, and publish that.

    With --comparison, one that is AGREE-NORMALISED, also what that comes to when it is normalised.
    """
    from pipeline.console.promotion import show_attested
    from pipeline.operations.attest import attest
    from pipeline.runtime import make_signer, make_trust

    here = site()
    signer = make_signer(here.settings.signing_key or "", "the setting `signing_key`")
    if not comparison:
        show_attested(attest(here, make_trust(), signer, id or None), json)
        return
    from pipeline.operations.comparisons import find_comparison
    from pipeline.operations.reemission import Normalising, attest_normalised
    from pipeline.runtime.comparison import open_here

    how = Normalising([find_comparison(here, each) for each in comparison], open_here)
    show_attested(attest_normalised(here, make_trust(), signer, how, id or None), json)


@task(help={"id": "job id; by default every build that is sealed here", "json": JSON})
@told
def reveal(c: Context, id: str = "", json: bool = False) -> None:
    """Say what was built to those who have committed as well: once all have, never before."""
    from pipeline.console.promotion import show_revealed
    from pipeline.operations.secret import reveal, sealed

    here = site()
    show_revealed([reveal(here, each) for each in ([id] if id else sealed(here))], json)


@task(
    name="round",
    positional=["jobs"],
    help={"jobs": "job ids with commas: one for each builder, none begun", "json": JSON},
)
@told
def job_round(c: Context, jobs: str, json: bool = False) -> None:
    """Have queued jobs of one commit commit to what they make before any of them reveals it."""
    from pipeline.console.input import words
    from pipeline.console.promotion import show_round
    from pipeline.operations.secret import open_round

    here = site()
    show_round(open_round(here, f"round_{here.random.op()}", words(jobs)), json)


@task(
    iterable=["comparison"],
    help={
        "job": "whose build; by default the newest that is kept here",
        "comparison": "what `compare --json` said, as a file, or a job compared here; by default it compares",
        "folder": "where the packages lie; by default where this builder keeps them",
        "key": f"a promoter's key: {KEY}",
        "json": JSON,
    },
)
@told
def promote(
    c: Context, comparison: Any, job: str = "", folder: str = "", key: str = "", json: bool = False
) -> None:
    """Promote a build about which enough builders agree; shows how it differs from the last one.

    They are compared first, unless --comparison says what came of that already.
    """
    from pathlib import Path

    from pipeline.console.promotion import show_promoted
    from pipeline.edge.scratch_root import install_packages
    from pipeline.operations.comparisons import find_comparison
    from pipeline.operations.promote import Order, promote
    from pipeline.runtime import make_signer, make_trust
    from pipeline.runtime.comparison import compare_job, open_here

    here, promoter = site(), make_signer(key, "--key")
    found = [find_comparison(here, each) for each in comparison] or [compare_job(here, job or None)]
    order = Order(found, job or None, Path(folder) if folder else None, open_here)
    show_promoted(promote(here, make_trust(), promoter, order, install_packages), json)


@task(
    help={
        "branch": "whose promotions",
        "number": "the promotion to go back to",
        "key": f"a promoter's key: {KEY}",
        "json": JSON,
    }
)
@told
def rollback(c: Context, branch: str, number: str, key: str = "", json: bool = False) -> None:
    """Promote again what an earlier promotion had, under the next number and by the rules of today."""
    from pipeline.console.input import whole_number
    from pipeline.console.promotion import show_promoted
    from pipeline.edge.scratch_root import install_packages
    from pipeline.operations.promote import rollback
    from pipeline.runtime import make_signer, make_trust

    wanted = whole_number("number", number, 0) or 0
    promoter = make_signer(key, "--key")
    show_promoted(rollback(site(), make_trust(), promoter, branch, wanted, install_packages), json)


@task(
    help={
        "folder": "the promoted set",
        "policy": "folder with policy and seen numbers; by default this machine's",
        "root-key": "file with the operator's public root key; by default the setting `root_key`",
        "json": JSON,
    }
)
@told
def verify(c: Context, folder: str, policy: str = "", root_key: str = "", json: bool = False) -> None:
    """Verify a promoted set offline, with nothing but its files, a policy and the root key."""
    from pathlib import Path

    from pipeline.console.promotion import show_verified
    from pipeline.operations.promoted import verify_set
    from pipeline.runtime import make_trust

    show_verified(verify_set(Path(folder).absolute(), make_trust(policy, root_key)), json)


@task(
    help={
        "which": "fingerprint, FILE.pub, or a name of the policy for all of its keys",
        "reason": "why, for the record",
        "key": f"the root key: {KEY}",
        "json": JSON,
    }
)
@told
def revoke(c: Context, which: str, reason: str = "", key: str = "", json: bool = False) -> None:
    """Revoke a key: what it signed counts for nothing any more, whenever that was."""
    from pipeline.console.promotion import show_revocations
    from pipeline.operations.policy import revoke
    from pipeline.runtime import make_signer, make_trust

    show_revocations(revoke(site(), make_trust(), make_signer(key, "--key"), which, reason), json)


# ---------------------------------------------------------------- a cluster to look at


@task(
    help={
        "demo": "show two builders at work on this machine, one broken and healed; about a minute",
        "keep": "keep the scratch folder with ledger, logs and packages, and say where it is",
        "folder": "where the scratch folder is made; by default where temporary files go",
        "json": JSON,
    }
)
@told
def cluster(c: Context, demo: bool = False, keep: bool = False, folder: str = "", json: bool = False) -> None:
    """Show two builders at work, in a scratch folder: `invoke cluster --demo`. Touches nothing else."""
    from pipeline.console.demo import show_forms, show_performance, tell_event
    from pipeline.errors import UsageError
    from pipeline.operations.demo.perform import perform
    from pipeline.runtime import make_theatre

    if not demo and (keep or folder):
        raise UsageError("--keep and --folder belong to --demo.", remedy="`invoke cluster --demo --keep`")
    if not demo:
        show_forms(json)
        return
    collect_from_now_on()
    sys.exit(show_performance(perform(make_theatre(), tell_event, keep=keep, parent=folder), json))


# ---------------------------------------------------------------- the ledger


@task(name="init", help={"builders": "names of the builders, with commas"})
@told
def ledger_init(c: Context, builders: str = "build1,build2") -> None:
    """Make the configured, empty repository a ledger. One that is a ledger already is left as it is."""
    from pipeline.console.input import words
    from pipeline.records.builders import Builder
    from pipeline.records.builds import BuildConfig
    from pipeline.records.names import check_name
    from pipeline.runtime import init_ledger

    names = dict.fromkeys(check_name("builder", name) for name in words(builders))
    made = init_ledger([Builder(name=name) for name in names], BuildConfig())
    say(f"{made.origin}.")
    print(made.value)


@task(
    name="raise-epoch",
    help={"abandon": "the tip that is given up, as the refusal names it: the confirmation", "json": JSON},
)
@told
def ledger_raise_epoch(c: Context, abandon: str = "", json: bool = False) -> None:
    """Go on from a ledger that was rewound, giving up what it lacks. Only after looking for a clone of it."""
    from pipeline.console.views import show_raised
    from pipeline.operations.epoch import raise_epoch

    show_raised(raise_epoch(site(), abandon), json)


@task(name="check", help={"json": JSON})
@told
def ledger_check(c: Context, json: bool = False) -> None:
    """Compute every transaction again and validate every file."""
    from pipeline.console.views import show_checked
    from pipeline.operations.history import check

    sys.exit(show_checked(check(site()), json))


@task(name="log", help={"limit": "how many of the newest commits; 50 by default", "json": JSON})
@told
def ledger_log(c: Context, limit: str = "", json: bool = False) -> None:
    """Tell the ledger's history in words."""
    from pipeline.console.views import show_history
    from pipeline.operations.history import log

    with shown() as here:
        show_history(log(here, number("limit", limit, 50)), json)


def _group(name: str, *members: Any) -> Collection:
    group = Collection(name)
    for member in members:
        group.add_task(member)
    return group


namespace = Collection(
    *(build, work, compare, status, recover, doctor, config, sm, cluster),
    *(attest, reveal, promote, rollback, verify, revoke),
)
namespace.add_collection(_group("policy", policy_init, policy_sign, policy_show))
namespace.add_collection(_group("job", job_list, job_show, job_cancel, job_retry, job_round, job_log))
namespace.add_collection(_group("lock", lock_list, lock_run, lock_break))
namespace.add_collection(
    _group("message", message_send, message_list, message_show, message_read, message_ack)
)
namespace.add_collection(_group("artifacts", artifacts_list, artifacts_verify, artifacts_prune))
namespace.add_collection(_group("ledger", ledger_init, ledger_check, ledger_log, ledger_raise_epoch))
