"""Checks, retrains and jobs by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.table import Table

from monitor.asking import ask_retrain
from monitor.assessment import said
from monitor.check import run_check
from monitor.commands import Context, Outcome, known
from monitor.commands.models import stages
from monitor.jobs import Job, JobRefused, claim, list_jobs
from monitor.retrain import Workshop, run_job
from monitor.story import powers


def jobs(context: Context, *, name: str | None) -> Outcome:
    """List retraining jobs, newest first."""
    data = [asdict(job) for job in list_jobs(context.db, known(context, name))]
    table = Table("job", "model", "trigger", "state", "stage", "from → to", "verdict")
    for job in data:
        verdict = job["verdict"]
        said = "–" if verdict is None else ("promoted" if verdict.get("promote") else "refused")
        shown = (str(job[key]) for key in ("id", "model", "trigger", "state"))
        versions = f"{job['base_version'] or '–'} → {job['candidate'] or '–'}"
        table.add_row(*shown, str(job["progress"].get("stage", "–")), versions, job["error"] or said)
    return Outcome(data={"jobs": data}, view=(table if data else "No retraining jobs.",))


def check(context: Context, *, name: str) -> Outcome:
    """Run one check now; status 1 when it pages."""
    known(context, name)
    settings = context.settings
    result = run_check(context.db, context.home, name, settings.model(name), settings.monitor)
    judged = [asdict(one) for one in result.checks]
    data = {
        "model": name,
        "version": result.version,
        "checks": judged,
        "paged": result.paged,
        "job": result.job,
    }
    table = Table("check", "rows", "labels", "accuracy", "e-value / page line", "state", "decision")
    for one in result.checks:
        line = f"10^{powers(one.log_e) or 0:.1f} / 10^{powers(one.log_page_line) or 0:.1f}"
        accuracy = "–" if one.accuracy is None else f"{one.accuracy:.3f}"
        decision = f"{one.decision.action}: {' '.join(one.decision.reasons)}"
        shown = accuracy if one.quality is None else said(one.quality)
        table.add_row(str(one.id), str(one.rows), str(one.labelled), shown, line, one.state, decision)
    nothing = f"Nothing new: fewer than {settings.model(name).window} predictions since the last check."
    view = (table if judged else nothing, *([f"Retrain queued: job {result.job}"] if result.job else []))
    return Outcome(data=data, view=view, status=int(result.paged))


def retrain(context: Context, *, name: str, wait: bool, quiet: bool) -> Outcome:
    """Queue a retrain, and run it here unless --no-wait."""
    known(context, name)
    settings = context.settings
    decision, queued = ask_retrain(context.db, name, settings.model(name), settings.monitor, asked="manual")
    if queued is None:
        raise JobRefused(name, " ".join(decision.reasons))
    if not wait:
        return Outcome(data={"job": queued, "state": "queued"}, view=(f"Job {queued} is queued.",))
    with stages(quiet) as show:
        job = run_here(context, name, queued, show)
    data = asdict(job)
    promoted = bool(job.verdict and job.verdict.get("promote"))
    reasons = " ".join((job.verdict or {}).get("reasons", [])) or job.error or job.state
    view = f"Job {job.id}: {'promoted ' + str(job.candidate) if promoted else 'not promoted'}. {reasons}"
    return Outcome(data=data, view=(view,), status=int(not promoted))


def run_here(context: Context, name: str, queued: int, show: Callable[[dict[str, Any]], None]) -> Job:
    """Claim and run the job `queued` in this process, attempt by attempt; return how it ended."""
    settings = context.settings
    shop = Workshop(
        db=context.db,
        home=context.home,
        settings=settings.model(name),
        monitor=settings.monitor,
        trainer=settings.trainer,
        watch=show,
    )
    while True:
        claimed = claim(context.db, f"cli-{os.getpid()}", lease_s=settings.monitor.job_lease_s, only=queued)
        if claimed is not None:
            run_job(shop, claimed)
        job = next(one for one in list_jobs(context.db, name) if one.id == queued)
        if job.state not in ("queued", "running"):
            return job
        time.sleep(1.0)
