"""What is found out before a build, for a job that is built at once and for one that comes from the queue."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from pipeline.operations.attempt import wanted_of
from pipeline.operations.prepare import Wanted, prepare
from pipeline.operations.site import Site
from pipeline.records.jobs import Job
from tests.operations.conftest import MakeSite

NOT_THE_SAME = {"source", "build_path", "resumed_from"}


def ordered(site: Site, wanted: Wanted) -> Job:
    """Returns the job that an order on this builder puts into the queue."""
    made = prepare(site, wanted, check=False)
    return Job(
        id="job_a",
        branch=wanted.branch,
        commit=made.resolved.commit,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        source=made.recipe.source,
        options=wanted.options(),
        timeout_seconds=made.recipe.timeout_seconds,
    )


def test_the_sample_from_the_queue_is_built_like_the_sample(make_site: MakeSite) -> None:
    """A retried job of the sample runs its unit tests like the first one, wherever that one was ordered."""
    one, two = make_site("build1"), make_site("build2")
    wanted = Wanted("fails-test", None, None, None)
    first = prepare(one, wanted, check=False).recipe
    job = ordered(one, wanted)
    shutil.rmtree(one.settings.cache)
    again = prepare(two, wanted_of(job), check=False).recipe
    assert not first.skip_tests
    assert again.model_dump(exclude=NOT_THE_SAME) == first.model_dump(exclude=NOT_THE_SAME)
    assert again.source.startswith(str(two.settings.cache))
