"""Serving: rate, errors, duration, and where the time goes."""

# ruff: noqa: E501 (queries and sentences stay whole, to be found and pasted)
from __future__ import annotations

from grafana.board import CHAMPION, MODEL, Board, Row
from grafana.panels import BAD, OK, WARN, Query, buckets, lines, number, states

RATE = "[$__rate_interval]"
PREDICT = 'route="/v1/predict"'
ERRORS = f'(sum(rate(trueup_requests_total{{status=~"5.."}}{RATE})) or vector(0)) / sum(rate(trueup_requests_total{RATE}))'


def quantile(share: float, metric: str, selector: str, by: str = "") -> str:
    """A quantile of a histogram over the rate interval."""
    return f"histogram_quantile({share}, sum by (le{by}) (rate(trueup_{metric}_bucket{{{selector}}}{RATE})))"


BOARD = Board(
    uid="trueup-serving",
    title="trueup / Serving",
    meaning="Requests and texts of the exporters: rate, errors, duration, queue, versions.",
    range="now-3h",
    rows=(
        Row(
            "Now",
            (
                number("Texts per second", "Answered texts.", f"sum(rate(trueup_predictions_total{{{CHAMPION}}}{RATE}))", unit="cps"),
                number("p95 of a request", "POST /v1/predict, all models.", quantile(0.95, "request_seconds", PREDICT),
                       unit="s", steps=((None, OK), (0.25, WARN), (1.0, BAD))),
                number("Failed requests", "Share answered 5xx, all models.", ERRORS, unit="percentunit",
                       steps=((None, OK), (0.01, WARN), (0.05, BAD))),
                number("Texts waiting", "In the queues of all exporters.", "sum(trueup_queue_texts)", unit="short"),
                number("Ledger behind", "Since a ledger was wholly in the database, the worst exporter.",
                       "max(trueup_ledger_lag_seconds)", unit="s", steps=((None, OK), (10.0, WARN), (60.0, BAD))),
                number("Versions refused", "Versions that an exporter could not load, in this range.",
                       f"sum(increase(trueup_versions_refused_total{{{MODEL}}}[$__range]))", steps=((None, OK), (1.0, BAD))),
            ),
        ),
        Row(
            "Rate, errors, duration",
            (
                lines("Texts per second", "By model and version: a swap moves them from one line to the next.",
                      Query(f"sum by (model, version) (rate(trueup_predictions_total{{{CHAMPION}}}{RATE}))", "{{model}} {{version}}"),
                      unit="cps", smallest=0, stacked=True),
                lines("Requests", "By route and status.",
                      Query(f"sum by (route, status) (rate(trueup_requests_total{RATE}))", "{{route}} {{status}}"), unit="reqps", smallest=0),
                lines("Duration of predictions", "POST /v1/predict as the server sees it.",
                      *(Query(quantile(share, "request_seconds", PREDICT), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
                      unit="s", smallest=0),
                buckets("Duration of predictions, all of them", "How many requests took how long.",
                        f"sum by (le) (increase(trueup_request_seconds_bucket{{{PREDICT}}}{RATE}))"),
                lines("Failed requests", "Share answered 5xx, all models.", Query(ERRORS, "5xx"), unit="percentunit", smallest=0),
                lines("Where the time goes", "p95 of a micro-batch's wait in the queue, its tokens, its run, and its ledger write.",
                      Query(quantile(0.95, "part_seconds", "", ", part"), "{{part}}"), unit="s", smallest=0),
            ),
        ),
        Row(
            "Engine and versions",
            (
                lines("Engine run by model", "p95 of one micro-batch.",
                      Query(quantile(0.95, "engine_run_seconds", MODEL, ", model"), "{{model}}"), unit="s", smallest=0),
                lines("Texts per micro-batch", "Mean: it grows with the load.",
                      Query(f"sum(rate(trueup_engine_batch_texts_sum{RATE})) / sum(rate(trueup_engine_batch_texts_count{RATE}))", "texts"),
                      unit="short", smallest=0),
                lines("Tokens per micro-batch", "Mean, without padding.",
                      Query(f"sum(rate(trueup_engine_batch_tokens_sum{RATE})) / sum(rate(trueup_engine_batch_tokens_count{RATE}))", "tokens"),
                      unit="short", smallest=0),
                lines("Tokens of language models", "Read in prompts, and said in answers.",
                      Query(f"sum by (model) (rate(trueup_prompt_tokens_total{{{MODEL}}}{RATE}))", "{{model}} read"),
                      Query(f"sum by (model) (rate(trueup_answer_tokens_total{{{MODEL}}}{RATE}))", "{{model}} said"), unit="cps", smallest=0),
                lines("Texts waiting", "In the queue of each exporter; beyond queue_limit requests are answered 429.",
                      Query("max by (instance) (trueup_queue_texts)", "{{instance}}"), unit="short", smallest=0),
                lines("Texts without a shadow's answer", "Texts that a shadow version should have answered too and did not: it yields to traffic.",
                      Query(f"sum by (instance) (rate(trueup_shadow_texts_dropped_total{RATE}))", "{{instance}}"), unit="cps", smallest=0),
                lines("Memory of the exporters", "Resident set.",
                      Query('max by (instance) (process_resident_memory_bytes{job="trueup-exporter"})', "{{instance}}"), unit="bytes", smallest=0),
                lines("Memory of loaded versions", "Measured while each was loaded; 0 once it made room under memory_limit_mb.",
                      Query(f"max by (model, version, instance) (trueup_version_memory_bytes{{{MODEL}}})", "{{model}} {{version}} {{instance}}"),
                      unit="bytes", smallest=0),
                lines("What runs the versions", "Loaded versions by ONNX Runtime's provider, as it says itself.",
                      Query("count by (provider, instance) (trueup_version_provider)", "{{provider}} {{instance}}"), unit="short", smallest=0),
                lines("Records that are not whole", "Answered without a record, damages of the ledger, texts not kept because a pattern was slow. All should be 0.",
                      Query(f"sum by (instance) (increase(trueup_predictions_unrecorded_total{RATE}))", "unrecorded {{instance}}"),
                      Query(f"sum by (kind) (increase(trueup_ledger_damages_total{RATE}))", "ledger {{kind}}"),
                      Query(f"sum by (instance) (increase(trueup_redaction_timeouts_total{RATE}))", "slow pattern {{instance}}"),
                      unit="short", smallest=0),
                lines("Swaps", "Times that an exporter began to serve another version, or unloaded one to make room.",
                      Query(f"sum by (model) (increase(trueup_version_swaps_total{{{MODEL}}}{RATE}))", "{{model}}"),
                      Query(f"sum by (model) (increase(trueup_version_unloads_total{{{MODEL}}}{RATE}))", "unloaded {{model}}"), unit="short", smallest=0),
                states("Serving version", "Which version each exporter has loaded.",
                       Query(f"max by (model, version, instance) (trueup_version_serving{{{CHAMPION}}})", "{{model}} {{version}} {{instance}}"),
                       (("not serving", "#808080"), ("serving", OK)), width=12),
            ),
        ),
    ),
)  # fmt: skip
